# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which permissions libvirt's own access drivers are asked for: a function comes in, permissions
and the flags that they depend on go out.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_FILE = Path(__file__).with_name("api_access.tsv")


class Check(NamedTuple):
    """A permission that a function asks for."""

    permission: str  # "domain.start", as polkit's actions are called
    flags: tuple[str, ...] = ()  # only with one of these flags; none: in any case
    without: bool = False  # only with none of them instead

    def is_asked(self, flags: int, values: Mapping[str, int]) -> bool:
        """Whether a call with these flags asks for it; `values`: of the flags, by name."""
        bits = sum(values.get(flag, 0) for flag in self.flags)
        return not self.flags or (not flags & bits if self.without else bool(flags & bits))


@functools.cache
def checks() -> Mapping[str, tuple[Check, ...]]:
    """By function."""
    rows = [line.split("\t") for line in _FILE.read_text().splitlines() if line[:1] != "#"]
    return {row[0]: tuple(_check(text) for text in row[4].split(",") if text) for row in rows[1:]}


def only_reads(permission: str) -> bool:
    """Whether it is for looking at things, as far as anybody may who may connect."""
    kind = permission.partition(".")[2]
    return kind in ("getattr", "read") or kind.startswith("search-")


def _check(text: str) -> Check:
    permission, _, flags = text.partition("/")
    names = tuple(flags.removeprefix("!").split("|")) if flags else ()
    return Check(permission.replace(":", "."), names, flags.startswith("!"))
