# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long to rest between two looks at the rings: how much came goes in."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterable

# s between two looks: short while much comes in, longer when nothing does
BUSY, IDLE = 0.005, 0.05
BUSY_EVENTS = 500  # of one look
# s after which nothing is looked for until the kernel tells of it, or so long: libraries that are
# mapped, clocks and processors are not told of
CALM, ASLEEP = 1.0, 0.05
BEHIND = 1 << 18  # bytes in the rings that leave no time to sleep


class Looks:
    """When to look again: soon while much comes in; when nothing has come for a while, as soon as
    something does.
    """

    def __init__(self, wakers: Iterable[int], signals: int) -> None:
        """Descriptors that can be read when something has come: the session's, and the pipe that
        signals write to, which is emptied here.
        """
        self._poll, self._signals = select.epoll(), signals
        for fd in (*wakers, signals):
            self._poll.register(fd, select.EPOLLIN)
        self._came = time.monotonic()

    def rest(self, events: int, longest: float) -> None:
        """After a look that found so many events; `longest`: s that there is time for."""
        now = time.monotonic()
        if events:
            self._came = now
        if now < self._came + CALM:
            time.sleep(BUSY if events > BUSY_EVENTS else IDLE)
        elif self._poll.poll(max(min(ASLEEP, longest), 0)):
            self._came = time.monotonic()
            with contextlib.suppress(BlockingIOError):
                os.read(self._signals, 1 << 16)

    def close(self) -> None:
        """Looks no more."""
        self._poll.close()
