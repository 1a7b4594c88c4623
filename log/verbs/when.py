# SPDX-License-Identifier: LGPL-2.1-or-later
"""Words for a point in time come in, as one writes them; nanoseconds since the epoch go out."""

from __future__ import annotations

import datetime
import re

_UNITS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_ago = re.compile(r"-([0-9]{1,9})(s|min|m|h|d|w)").fullmatch
_epoch = re.compile(r"@([0-9]{1,12})(?:\.([0-9]{1,9}))?").fullmatch
_DAYS = {"today": 0, "yesterday": 1}
EXAMPLES = "write 2026-11-25 21:30, 21:30, yesterday, -2h or @1795600000"


def parse_time(text: str, now: datetime.datetime | None = None) -> int:
    """Local time, unless a zone is given. ValueError for what is no time."""
    now = now or datetime.datetime.now()
    words = text.strip()
    if words == "now":
        return _ns(now)
    if found := _ago(words):
        return _ns(now) - int(found[1]) * _UNITS[found[2]] * 10**9
    if found := _epoch(words):
        return int(found[1]) * 10**9 + int((found[2] or "0").ljust(9, "0"))
    day, _, clock = words.partition(" ")
    if day in _DAYS:
        midnight = datetime.datetime.combine(
            now.date() - datetime.timedelta(_DAYS[day]),
            datetime.time.fromisoformat(clock or "00:00"),
        )
        return _ns(midnight)
    try:
        return _ns(datetime.datetime.combine(now.date(), datetime.time.fromisoformat(words)))
    except ValueError:
        return _ns(datetime.datetime.fromisoformat(words))


def _ns(moment: datetime.datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1000
