# SPDX-License-Identifier: LGPL-2.1-or-later
"""Command lines: words come in; options, or one line that says what is wrong, go out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with where to look."""

    def error(self, message: str) -> NoReturn:
        """Ends with exit status 2."""
        words = message.partition("unrecognized arguments: ")[2]
        # "libvirt-trace virsh list" is what one types first
        hint = " (-- goes before a COMMAND)" if words and words[0] != "-" and self.prog == "libvirt-trace" else ""
        self.exit(2, f"libvirt-trace: {message}{hint}; see {self.prog} --help\n")


def split_command(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options, and the command behind the first "--"."""
    words = list(arguments)
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]
