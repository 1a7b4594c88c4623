# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long to rest between two looks at the rings: how much came goes in."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Iterable
from typing import Protocol

from probes.kernel.rings.reader import SETTLED_NS

# s between two looks: short while much comes in, longer when nothing does
BUSY, IDLE = 0.005, 0.05
BUSY_EVENTS = 500  # of one look
# s after which nothing is looked for until the kernel tells of it, or so long: of processors, of
# events that it could not tell and of the end of who is in a call it does not tell
CALM, ASLEEP, ASLEEP_IN_CALLS = 0.04, 2.0, 0.25
SOON = SETTLED_NS / 1e9 + 0.002  # s that what comes first takes until it can be read
BEHIND = 1 << 18  # bytes in the rings that leave no time to sleep


class Looked(Protocol):
    """What is looked at: the session."""

    def wakers(self) -> Iterable[int]:
        """Descriptors that can be read when something has come."""

    def is_settled(self) -> bool:
        """Whether nothing is left to look at before one of these can be read."""

    def open_calls(self) -> int:
        """How many calls are under way."""


class Looks:
    """When to look again: soon while much comes in; when nothing has come for a while, as soon as
    something does, but not more often.
    """

    def __init__(self, session: Looked, signals: int, *, keys: bool = False) -> None:
        """`signals`: the pipe that signals write to, which is emptied here; `keys`: whether
        standard input has keys for us.
        """
        self._session, self._signals = session, signals
        self._poll, self._asked = select.epoll(), select.poll()
        self._asked.register(signals, select.POLLIN)
        # on edges: what is left in a ring has been looked at
        for fd in (*session.wakers(), signals):
            self._poll.register(fd, select.EPOLLIN | select.EPOLLET)
        if keys:
            self._poll.register(sys.stdin, select.EPOLLIN | select.EPOLLET)
        self._came = time.monotonic()

    def rest(self, events: int, longest: float) -> None:
        """After a look that found so many events; `longest`: s that there is time for."""
        looked = time.monotonic()
        if events:
            self._came = looked
        if looked < self._came + CALM or not self._session.is_settled():
            self._doze(min(BUSY if events > BUSY_EVENTS else IDLE, longest))
            return
        asleep = ASLEEP_IN_CALLS if self._session.open_calls() else ASLEEP
        if self._poll.poll(max(min(asleep, longest), 0)):
            self._doze(max(SOON, looked + IDLE - time.monotonic()))

    def _doze(self, seconds: float) -> None:
        """Only a signal ends it before."""
        if self._asked.poll(max(seconds, 0) * 1000):
            with contextlib.suppress(BlockingIOError):
                os.read(self._signals, 1 << 16)

    def close(self) -> None:
        """Looks no more."""
        self._poll.close()
