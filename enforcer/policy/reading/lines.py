# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where in a TOML file something is: a rule or test, key and value come in, a line number goes
out. tomllib doesn't tell.
"""

from __future__ import annotations

import bisect
import re

_HEADING = re.compile(r"\s*\[\[\s*(rule|test)\s*\]\]")


class Lines:
    """The lines of a policy."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines() or [""]
        found = [(i, _HEADING.match(line)) for i, line in enumerate(self._lines)]
        # where tables begin, all of them and by their kind
        self._tables = [i for i, match in found if match]
        self._starts: dict[str, list[int]] = {}
        for i, match in found:
            if match:
                self._starts.setdefault(match[1], []).append(i)

    def find(self, number: int, key: str | None, value: object, table: str = "rule") -> int:
        """The line of the rule or test (-1: before all), of the key in it, of the value behind
        that; as near as can be told, from 1.
        """
        starts = self._starts.get(table, [])
        start = starts[number] if 0 <= number < len(starts) else 0
        following = bisect.bisect_right(self._tables, start)
        end = self._tables[following] if following < len(self._tables) else len(self._lines)
        if key is None:
            return start + 1
        pattern = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]")
        at = next((i for i in range(start, end) if pattern.match(self._lines[i])), None)
        if at is None:
            return start + 1
        if isinstance(value, str):
            at = next((i for i in range(at, end) if value in self._lines[i]), at)
        return at + 1
