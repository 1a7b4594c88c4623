# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tells of files whose calls are not seen: paths and reasons come in, so many events in a while go
out, and sums of the rest.

Each account (see owners.py) has its own number of them: who presents many files hides nobody
else's.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import NamedTuple

from log.events import Unattached
from probes.host.looking.turns import ROOT

TOLD_NS = 60_000_000_000  # the while
# events in it: of root's files, of one other account's, of all others
MOST_OF_ROOT, MOST_OF_ONE, MOST_OF_OTHERS = 100, 20, 60


class _Rest(NamedTuple):
    """What was not told of an account: how many, and the last."""

    number: int
    path: str
    reason: str


class Refusals:
    """What can't be attached to, and why."""

    def __init__(self) -> None:
        self._events: list[Unattached] = []
        self._since = time.monotonic_ns()
        self._told: Counter[int] = Counter()
        self._once: set[tuple[int, str]] = set()
        self._rest: dict[int, _Rest] = {}

    def add(self, path: str, reason: str, account: int = ROOT, *, once: bool = False) -> None:
        """To be told, if the account has not had its share; `once`: of its files one stands for
        all that have this reason.
        """
        told = self._told
        full = (once and (account, reason) in self._once) or told[account] >= (
            MOST_OF_ROOT if account == ROOT else MOST_OF_ONE
        )
        if full or (account != ROOT and told.total() - told[ROOT] >= MOST_OF_OTHERS):
            if account not in self._rest and len(self._rest) >= MOST_OF_OTHERS:
                account = next(iter(self._rest))
            self._rest[account] = _Rest(
                self._rest[account].number + 1 if account in self._rest else 1, path, reason
            )
        else:
            told[account] += 1
            self._once.add((account, reason))
            self._events.append(Unattached(time.time_ns(), path, reason))

    def take(self, *, last: bool = False) -> list[Unattached]:
        """The events since the last time; after a while, and when it is the `last` time, with
        those of the rest.
        """
        now = time.monotonic_ns()
        if last or now > self._since + TOLD_NS:
            self._since = now
            self._told.clear()
            self._once.clear()
            for number, path, reason in self._rest.values():
                more = f" (and {number - 1} other files)" if number > 1 else ""
                self._events.append(Unattached(time.time_ns(), path, f"{reason}{more}"))
            self._rest.clear()
        events, self._events = self._events, []
        return events
