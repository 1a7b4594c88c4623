# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where in a TOML file something is: rule, key and value come in, a line number goes out.
tomllib doesn't tell.
"""

from __future__ import annotations

import re

_RULE = re.compile(r"\s*\[\[\s*rule\s*\]\]")


class Lines:
    """The lines of a policy."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines() or [""]
        self._rules = [i for i, line in enumerate(self._lines) if _RULE.match(line)]

    def find(self, rule: int, key: str | None, value: object) -> int:
        """The line of the rule (-1: before all), of the key in it, of the value behind that; as
        near as can be told, from 1.
        """
        start = self._rules[rule] if 0 <= rule < len(self._rules) else 0
        end = self._rules[rule + 1] if 0 <= rule < len(self._rules) - 1 else len(self._lines)
        if key is None:
            return start + 1
        pattern = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]")
        at = next((i for i in range(start, end) if pattern.match(self._lines[i])), None)
        if at is None:
            return start + 1
        if isinstance(value, str):
            at = next((i for i in range(at, end) if value in self._lines[i]), at)
        return at + 1
