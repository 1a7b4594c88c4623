# SPDX-License-Identifier: LGPL-2.1-or-later
"""Times, time spans and counts, as people read them."""

from __future__ import annotations

import time
from functools import lru_cache


def duration(ns: int) -> str:
    """A time span with two or three digits and its unit: `850ns`, `4.1ms`, `212us`, `65s`."""
    if ns < 1000:
        return f"{ns}ns"
    if ns < 9950:
        return f"{ns / 1000:.1f}us"
    scaled, unit = float(ns), "ns"
    for unit in ("us", "ms", "s"):
        scaled /= 1000
        if scaled < 999.5 or unit == "s":
            break
    return f"{scaled:.1f}{unit}" if scaled < 9.95 else f"{scaled:.0f}{unit}"


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(second))


def clock(ns: int) -> str:
    """Local time of day, to the microsecond."""
    return f"{_second(ns // 1_000_000_000)}.{ns // 1000 % 1_000_000:06d}"


def day_line(ns: int) -> str:
    """A line that tells the day of those below it, in local time, as they have no date."""
    return time.strftime("-- %a %Y-%m-%d --\n", time.localtime(ns // 1_000_000_000))


def day_and_time(ns: int) -> str:
    """Local time, for what may be days ago."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ns // 1_000_000_000))


def plural(count: int, noun: str) -> str:
    """The noun as it stands behind that number."""
    return noun if count == 1 else noun + ("es" if noun.endswith("s") else "s")


def counted(count: int, noun: str) -> str:
    """The number and the noun."""
    return f"{count} {plural(count, noun)}"
