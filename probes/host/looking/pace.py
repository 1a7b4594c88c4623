# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keeps work that others cause below a share of our time: what it took comes in, whether more
may begin comes out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

# for reading files that others than root own: of the time, and seconds at once
OTHERS_SHARE, OTHERS_BURST = 0.1, 0.5


class Pace:
    """Used as `if pace.ready(): with pace: work()`. At first, or after a rest, `burst` seconds
    of work may be done at once.
    """

    def __init__(
        self, share: float, burst: float, clock: Callable[[], float] = lambda: time.monotonic()
    ) -> None:
        self._share, self._burst, self._clock = share, burst, clock
        self._left = burst  # s; below 0: it took longer than it may
        self._filled = self._began = clock()

    def ready(self) -> bool:
        """Whether more may begin."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._filled) * self._share)
        self._filled = now
        return self._left >= 0

    def __enter__(self) -> None:
        self._began = self._clock()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left -= self._clock() - self._began
