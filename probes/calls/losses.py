# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the kernel could not hand over: its counters come in, events that tell how much and
whose go out, one a second at most.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from mmap import mmap

from log.events import Lost
from probes.kernel import records

EVERY_NS = 1_000_000_000
SELDOM_NS = 10 * EVERY_NS  # pieces of long strings are no change of the settings' counter
MOST_TOLD = 16  # users, one by one; the others in one sum
FULL, IN_DAEMON, NO_MEMORY = "buffer full", "buffer full, in a daemon", "no memory"
REASONS = (FULL, IN_DAEMON, NO_MEMORY)
UNSEEN = (
    "buffer full: libraries that are new to the tracer are looked for, and calls through them are "
    "missed until they are found"
)
DETAILS = ("chunk", "private", "task")
_RINGS = ("read", "write")
_WIDTH = len(records.COUNTERS)
_EMPTY = bytes(64 * records.USER.size)  # users of whom nothing is known

# in place of a user: nobody knows whose; a daemon's, for whom is lost, so that it may not be wanted
SOMEBODY, SERVED = -1, -2

Key = tuple[int, int, str]  # user, ring, reason


class Losses:
    """The counters of `users`, of which `settings` tell whether they have changed. `user_name`:
    of a user id.
    """

    def __init__(
        self,
        users: mmap | bytearray,
        settings: mmap | bytearray,
        user_name: Callable[[int], str | None],
    ) -> None:
        self._users = users
        self._settings = settings
        self._user_name = user_name
        self._seen = 0
        self._told_at = self._looked_at = 0
        self._told: Counter[Key] = Counter()  # calls
        self._told_details: Counter[Key] = Counter()
        # of the kernel's events about processes and about what these map, not told
        self._dropped = self._unseen = 0

    def dropped(self, count: int) -> None:
        """So many events about processes were lost."""
        self._dropped += count

    def unseen(self, count: int) -> None:
        """So many events about what processes map were lost."""
        self._unseen += count

    def events(self, now: int) -> list[Lost]:
        """What was lost since the last time, `now` (ns) and then once a second."""
        if now < self._told_at + EVERY_NS:
            return []
        changes = int.from_bytes(self._settings[records.LOSSES : records.LOSSES + 8], "little")
        dropped = self._dropped or self._unseen
        if changes == self._seen and not dropped and now < self._looked_at + SELDOM_NS:
            return []
        self._seen, self._told_at, self._looked_at = changes, now, now
        return self._tell(*self._count(Counter()))

    def final(self, shown_without_entry: Mapping[tuple[int, int], int]) -> list[Lost]:
        """The rest, with calls whose begin was lost and that never ended; of others with a lost
        begin the end came, by ring and user.
        """
        return self._tell(*self._count(Counter(shown_without_entry), final=True))

    def _count(
        self, shown: Counter[tuple[int, int]], *, final: bool = False
    ) -> tuple[Counter[Key], Counter[Key]]:
        calls: Counter[Key] = Counter()
        details: Counter[Key] = Counter()
        begun: Counter[tuple[int, int]] = Counter()
        for place, (uid, *counters) in self._counted():
            user = _SPECIAL.get(place, uid)
            for ring in range(len(_RINGS)):
                values = dict(zip(records.COUNTERS, counters[ring * _WIDTH :], strict=False))
                calls[user, ring, _full(user)] += values["both"]
                calls[user, ring, NO_MEMORY] += values["thread"]
                details[user, ring, _full(user)] += sum(values[name] for name in DETAILS)
                begun[ring, user] += values["entry"] - values["both"]
        if final:
            for (ring, user), count in _without(begun, shown).items():
                calls[user, ring, _full(user)] += count
        # a number that changes while it is read may look smaller than it was
        return calls | self._told, details | self._told_details

    def _counted(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Users that something was lost of, and their places. Nearly all places are empty."""
        for start in range(0, len(self._users), len(_EMPTY)):
            some = self._users[start : start + len(_EMPTY)]
            if some == _EMPTY:
                continue
            for place, user in enumerate(
                records.USER.iter_unpack(some), start // records.USER.size
            ):
                if any(user[1:]):
                    yield place, user

    def _tell(self, calls: Counter[Key], details: Counter[Key]) -> list[Lost]:
        new, new_details = calls - self._told, details - self._told_details
        self._told, self._told_details = calls, details
        now = time.time_ns()
        events = []
        most = sorted({*new, *new_details}, key=lambda key: (-new[key], -new_details[key], key))
        for key in most[:MOST_TOLD]:
            user, ring, reason = key
            uid, name = (user, self._user_name(user)) if user >= 0 else (None, None)
            events.append(Lost(now, new[key], _RINGS[ring], reason, uid, name, new_details[key]))
        for ring, ring_name in enumerate(_RINGS):
            for reason in REASONS:
                rest = [key for key in most[MOST_TOLD:] if key[1:] == (ring, reason)]
                if rest:
                    sums = sum(new[key] for key in rest), sum(new_details[key] for key in rest)
                    events.append(Lost(now, sums[0], ring_name, reason, None, None, sums[1]))
        if self._dropped:
            events.append(Lost(now, 0, "processes", FULL, None, None, self._dropped))
        if self._unseen:
            events.append(Lost(now, 0, "mappings", UNSEEN, None, None, self._unseen))
        self._dropped = self._unseen = 0
        return events


_SPECIAL = {records.USER_SERVED: SERVED, records.USER_OTHERS: SOMEBODY}


def _full(user: int) -> str:
    return IN_DAEMON if user == SERVED else FULL


def _without(
    begun: Counter[tuple[int, int]], shown: Counter[tuple[int, int]]
) -> Counter[tuple[int, int]]:
    """Calls without a begin whose end did not come. Of those that ended under another user's
    name, the others' are that many fewer.
    """
    left: Counter[tuple[int, int]] = Counter(begun)
    for key, count in shown.items():
        taken = min(left[key], count)
        left[key] -= taken
        for other in left:
            if other[0] == key[0] and taken < count and SERVED not in (key[1], other[1]):
                more = min(left[other], count - taken)
                left[other] -= more
                taken += more
    return +left
