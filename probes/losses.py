# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the kernel could not hand over: its counters come in, events that tell how much and whose go out, one a second at most."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from mmap import mmap

from log.events import Lost
from probes import records

EVERY_NS = 1_000_000_000
SELDOM_NS = 10 * EVERY_NS  # pieces of long strings are no change of the settings' counter
MOST_TOLD = 16  # users, one by one; the others in one sum
REASONS = {"both": "buffer full", "thread": "no memory"}
DETAILS = ("chunk", "private", "task")
_RINGS = ("read", "write")
_WIDTH = len(records.COUNTERS)

Key = tuple[int | None, int, str]  # user, ring, reason; None: nobody knows whose


class Losses:
    """The counters of `users`, of which `settings` tell whether they have changed. `user_name`: of a user id."""

    def __init__(self, users: mmap | bytearray, settings: mmap | bytearray, user_name: Callable[[int], str | None]) -> None:
        self._users = users
        self._settings = settings
        self._user_name = user_name
        self._seen = 0
        self._told_at = self._looked_at = 0
        self._told: Counter[Key] = Counter()  # calls
        self._told_details: Counter[Key] = Counter()
        self._dropped = 0  # of the kernel's events about processes, not told

    def dropped(self, count: int) -> None:
        """So many events about processes were lost."""
        self._dropped += count

    def events(self, now: int) -> list[Lost]:
        """What was lost since the last time, `now` (ns) and then once a second."""
        if now < self._told_at + EVERY_NS:
            return []
        changes = int.from_bytes(self._settings[records.LOSSES : records.LOSSES + 8], "little")
        if changes == self._seen and not self._dropped and now < self._looked_at + SELDOM_NS:
            return []
        self._seen, self._told_at, self._looked_at = changes, now, now
        return self._tell(*self._count(Counter()))

    def final(self, shown_without_entry: Mapping[tuple[int, int], int]) -> list[Lost]:
        """The rest, with calls whose begin was lost and that never ended; of others with a lost begin some were shown, by ring and user."""
        return self._tell(*self._count(Counter(shown_without_entry), final=True))

    def _count(self, shown: Counter[tuple[int, int]], *, final: bool = False) -> tuple[Counter[Key], Counter[Key]]:
        calls: Counter[Key] = Counter()
        details: Counter[Key] = Counter()
        begun: Counter[tuple[int, int | None]] = Counter()
        for place, (uid, *counters) in enumerate(records.USER.iter_unpack(self._users)):
            if not any(counters):
                continue
            user = None if place == records.USER_OTHERS else uid
            for ring in range(len(_RINGS)):
                values = dict(zip(records.COUNTERS, counters[ring * _WIDTH :], strict=False))
                for name, reason in REASONS.items():
                    calls[user, ring, reason] += values[name]
                details[user, ring, REASONS["both"]] += sum(values[name] for name in DETAILS)
                begun[ring, user] += values["entry"] - values["both"]
        if final:
            for (ring, user), count in _without(begun, shown).items():
                calls[user, ring, REASONS["both"]] += count
        return calls, details

    def _tell(self, calls: Counter[Key], details: Counter[Key]) -> list[Lost]:
        new, new_details = calls - self._told, details - self._told_details
        self._told, self._told_details = calls, details
        now = time.time_ns()
        events = []
        most = sorted({*new, *new_details}, key=lambda key: (-new[key], -new_details[key]))
        for user, ring, reason in most[:MOST_TOLD]:
            key = user, ring, reason
            name = None if user is None else self._user_name(user)
            events.append(Lost(now, new[key], _RINGS[ring], reason, user, name, new_details[key]))
        for ring, ring_name in enumerate(_RINGS):
            for reason in REASONS.values():
                rest = [key for key in most[MOST_TOLD:] if key[1:] == (ring, reason)]
                if rest:
                    sums = sum(new[key] for key in rest), sum(new_details[key] for key in rest)
                    events.append(Lost(now, sums[0], ring_name, reason, None, None, sums[1]))
        if self._dropped:
            events.append(Lost(now, 0, "processes", REASONS["both"], None, None, self._dropped))
            self._dropped = 0
        return events


def _without(begun: Counter[tuple[int, int | None]], shown: Counter[tuple[int, int]]) -> Counter[tuple[int, int | None]]:
    """Calls without a begin that were not shown. Of those shown under another user's name, the others' are that many fewer."""
    left: Counter[tuple[int, int | None]] = Counter(begun)
    for key, count in shown.items():
        taken = min(left[key], count)
        left[key] -= taken
        for other in left:
            if other[0] == key[0] and taken < count:
                more = min(left[other], count - taken)
                left[other] -= more
                taken += more
    return +left
