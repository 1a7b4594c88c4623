# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the system's log says of a record: its lines come in, the chain of each frame goes out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import NamedTuple

from log.errors import TraceError
from log.quote import name

_ANCHOR = re.compile(r"record: frame ([0-9]{1,18}) of (\S{1,255}), chain ([0-9a-f]{64})")


class Anchor(NamedTuple):
    """What the system's log says of the record."""

    frame: int
    segment: str
    chain: str


def anchors_of(source: str) -> list[Anchor]:
    """The anchors in the journal, or in a file of lines. TraceError where it can't be read."""
    if source == "-":
        text = sys.stdin.buffer.read().decode(errors="replace")
    elif source:
        try:
            with open(source, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError as error:
            raise TraceError(f"{name(source)}: {os.strerror(error.errno or 0).lower()}") from None
    else:
        command = [
            "journalctl",
            "--quiet",
            "--output=cat",
            "--identifier=libvirt-trace",
            "--grep=^record: frame",
        ]
        try:
            text = subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False
            ).stdout
        except OSError:
            raise TraceError(
                "there is no journalctl here: name the file with the system's log (--anchor FILE)"
            ) from None
    found = [Anchor(int(frame), segment, chain) for frame, segment, chain in _ANCHOR.findall(text)]
    if not found:
        raise TraceError(
            "the system's log says nothing of the record: name the file that it is in "
            "(--anchor FILE)"
        )
    return found
