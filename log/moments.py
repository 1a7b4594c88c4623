# SPDX-License-Identifier: LGPL-2.1-or-later
"""Times, as lines have them: ns since the epoch come in, RFC 3339 in UTC goes out."""

from __future__ import annotations

import time
from functools import lru_cache

SECOND = 1_000_000_000  # ns


@lru_cache(maxsize=64)
def clock(second: int | str) -> str:
    """The time up to its second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(int(second)))


def rfc3339(ns: int) -> str:
    """The time, to the nanosecond."""
    second, ns = divmod(ns, SECOND)
    return f"{clock(second)}.{ns:09d}Z"
