# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shares out time for work that users cause: work comes in with whose it is; root's goes first,
then that of who had the least time.

Nobody waits behind another's flood, and nobody's work takes more than a share of the time. Who has
too much waiting is told so.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from probes.host.looking.pace import OTHERS_BURST, OTHERS_SHARE, Pace

ROOT = 0
ROOT_SHARE, ROOT_BURST = 0.3, 1.0  # of the time, and seconds at once
MOST_WAITING, MOST_ACCOUNTS = 1024, 256  # of an account, and accounts
ALL_OTHERS = -2  # the account of those that are more than that
HALF_LIFE = 1.0  # s, after which half of the time that was used is forgotten

T = TypeVar("T")


class Turns(Generic[T]):
    """Work that waits. Accounts are of users, see owners.py."""

    def __init__(self, clock: Callable[[], float] = lambda: time.monotonic()) -> None:
        self._clock = clock
        self._waiting: dict[int, OrderedDict[Hashable, T]] = {}
        self._used: dict[int, float] = {}  # s
        self._decayed = clock()
        self._root, self._others = (
            Pace(ROOT_SHARE, ROOT_BURST, clock),
            Pace(OTHERS_SHARE, OTHERS_BURST, clock),
        )

    def put(self, account: int, key: Hashable, work: T) -> bool:
        """Has it wait; False: too much of that account's does. The first of a key is kept."""
        if account not in self._waiting and len(self._waiting) >= MOST_ACCOUNTS and account != ROOT:
            account = ALL_OTHERS
        queue = self._waiting.setdefault(account, OrderedDict())
        if key not in queue and len(queue) >= MOST_WAITING:
            return False
        queue.setdefault(key, work)
        return True

    def run(self, do: Callable[[int, T], None], seconds: float) -> None:
        """Does what may be done now, for about so long at most. `do` gets the account, too."""
        began = self._clock()
        self._forget(began)
        while (account := self._next()) is not None:
            queue = self._waiting[account]
            _, work = queue.popitem(last=False)
            if not queue:
                del self._waiting[account]
            started = self._clock()
            with self._root if account == ROOT else self._others:
                do(account, work)
            now = self._clock()
            self._used[account] = self._used.get(account, 0) + now - started
            if now - began > seconds:
                return

    def __bool__(self) -> bool:
        """Whether any waits."""
        return bool(self._waiting)

    def rest(self) -> list[tuple[int, T]]:
        """What still waits, with whose it is; now forgotten."""
        left = [
            (account, work) for account, queue in self._waiting.items() for work in queue.values()
        ]
        self._waiting.clear()
        return left

    def _next(self) -> int | None:
        if ROOT in self._waiting and self._root.ready():
            return ROOT
        others = self._waiting.keys() - {ROOT}
        return (
            min(others, key=lambda account: self._used.get(account, 0))
            if others and self._others.ready()
            else None
        )

    def _forget(self, now: float) -> None:
        if now < self._decayed + HALF_LIFE / 4:
            return
        left = 0.5 ** ((now - self._decayed) / HALF_LIFE)
        self._decayed = now
        self._used = {
            account: used * left for account, used in self._used.items() if used * left > 1e-6
        }
