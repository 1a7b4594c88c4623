# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads the values in a document's entries: what is under a key comes in; words, texts and globs go
out, and what is wrong with them, at its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from enforcer.policy.reading.lines import Lines
from enforcer.policy.rules import Globs, nearest
from log.quote import quote

Entry = Mapping[str, Any]


class Entries:
    """The entries of one document, and the mistakes that were found in them."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.errors: list[tuple[int, str]] = []
        self.number, self.kind = -1, "rule"  # where it is at

    def begin(self, number: int, kind: str) -> None:
        """What comes next is in that [[rule]] or [[test]]; -1: outside of them."""
        self.number, self.kind = number, kind

    @property
    def line(self) -> int:
        """Where the entry begins."""
        return self.lines.find(self.number, None, None, self.kind)

    def wrong(self, message: str, key: str | None = None, value: object = None) -> None:
        """Notes a mistake, at the place of that value."""
        self.errors.append((self.lines.find(self.number, key, value, self.kind), message))

    def word(self, entry: Entry, key: str, words: Sequence[str], default: str) -> str:
        """One of those words."""
        value = entry.get(key, default)
        if value not in words:
            hint = nearest(value, words) if isinstance(value, str) else ""
            self.wrong(f"{key} is {' or '.join(map(quote, words))}{hint}", key)
            return default
        return str(value)

    def strings(self, entry: Entry, key: str, what: str | None = None) -> tuple[str, ...] | None:
        """A list of texts, or one text; None: there is no such key."""
        value = entry.get(key)
        if value is None:
            return None
        values = value if isinstance(value, list) else [value]
        if not values or not all(
            isinstance(item, str) and item and "\0" not in item for item in values
        ):
            self.wrong(f"{what or key} is a list of texts that are not empty", key)
            return None
        return tuple(values)

    def globs(self, entry: Entry, key: str) -> Globs | None:
        """A list of globs, of which those with a "!" must not match."""
        values = self.strings(entry, key)
        if values is None:
            return None
        for value in values:
            self.check_sets(value, key, value)
            if value == "!":
                self.wrong('nothing is behind the "!"', key, value)
        return Globs(
            tuple(v for v in values if v[0] != "!"), tuple(v[1:] for v in values if v[0] == "!")
        )

    def check_sets(self, glob: str, key: str, value: str) -> None:
        """Notes a [set] in the glob that the library doesn't know."""
        if (wrong := bad_set(glob)) is not None:
            self.wrong(
                f"in a glob, {quote(wrong)} may have plain ASCII characters only", key, value
            )


def bad_set(glob: str) -> str | None:
    """A [set] in the glob with other than ASCII characters, of which the library knows only
    bytes.
    """
    return next(
        (found[0] for found in re.finditer(r"\[!?\]?[^\]]*\]", glob) if not found[0].isascii()),
        None,
    )
