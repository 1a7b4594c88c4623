# SPDX-License-Identifier: LGPL-2.1-or-later
"""Empties the rings and hands on their records in order of time, a batch at a time: rings come
in, records of calls and tasks go out.
"""

from __future__ import annotations

import bisect
import operator
from collections.abc import Mapping
from typing import NamedTuple

from probes.kernel.rings.ring import Ring

# of a record, as bytes that compare like the number: it is little-endian, and this is it backwards
time_of = operator.itemgetter(slice(15, 7, -1))
# a record is stamped before it is sent, and may sleep in between to fault a page in
SETTLED_NS = 10_000_000
STUCK_NS = 1_000_000_000  # so long a record that is being written is waited for
UNLIMITED = 1 << 63
AT_A_TIME = 1 << 18  # bytes of a ring in a batch: the rings must not run over meanwhile


class Records(NamedTuple):
    """Records up to a time, all that there are; each list in order of time."""

    calls: list[bytes]
    tasks: list[bytes]
    upto: int  # ns, CLOCK_MONOTONIC


class Reader:
    """The rings by name; those of tasks have a name that ends in "task"."""

    def __init__(self, rings: Mapping[str, Ring]) -> None:
        self._calls = [_Source(ring) for name, ring in rings.items() if not name.endswith("task")]
        self._tasks = [_Source(ring) for name, ring in rings.items() if name.endswith("task")]

    def waiting(self) -> int:
        """Bytes that were not handed on."""
        return sum(source.waiting() for source in (*self._calls, *self._tasks))

    def read(self, settled: int) -> Records:
        """The next batch: nothing after the time `settled`, as it may get company from before
        it.
        """
        # in this order: a call's task was sent before it
        for source in (*self._calls, *self._tasks):
            source.drain()
            source.wait(settled)
        behind = min(self._calls, key=lambda source: source.complete)
        for source in self._calls:
            source.fill(at_least=source is behind)
        held = [source for source in self._tasks if source.waits]
        return self._upto(min(settled, *(source.complete for source in (*self._calls, *held))))

    def rest(self) -> Records:
        """All that there is."""
        for source in (*self._calls, *self._tasks):
            source.drain()
            while source.ring.backlog():
                source.fill(at_least=True)
                source.drain()
        return self._upto(UNLIMITED - 1)

    def _upto(self, when: int) -> Records:
        for source in self._tasks:
            while source.complete <= when and source.ring.backlog():
                source.fill(at_least=True)
        return Records(_merged(self._calls, when), _merged(self._tasks, when), when)


class _Source:
    """A ring, and records of it that are not due."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.ready: list[bytes] = []
        self.waits = False  # for a record that is being written
        self._more = self._cut = False
        self._latest = SETTLED_NS  # time (ns) of the last record that was taken
        self._stuck = (-1, 0)  # at which position, and since when (ns)

    @property
    def complete(self) -> int:
        """Up to which time (ns) all records of the ring are in `ready`; as far as it was
        drained.
        """
        if not self._more and not self.waits:
            return UNLIMITED
        return self._latest - SETTLED_NS

    def waiting(self) -> int:
        """Bytes that were not handed on."""
        return self.ring.waiting() + sum(map(len, self.ready))

    def drain(self) -> None:
        """Moves what the ring holds into its backlog."""
        self._cut = self.ring.drain()
        self._more = self._cut or self.ring.backlog() > 0

    def wait(self, now: int) -> None:
        """Has the other rings wait, at the time `now` (ns), for a record that is being written:
        what is behind it may be of a thread that has gone on on another processor.
        """
        where = self.ring.stuck_at
        if where is not None and where != self._stuck[0]:
            self._stuck = where, now
        self.waits = where is not None and now < self._stuck[1] + STUCK_NS

    def fill(self, *, at_least: bool) -> None:
        """Takes some more of the backlog; unless `at_least`, only where nothing is ready."""
        if at_least or not self.ready:
            taken = self.ring.take(AT_A_TIME)
            self.ready += taken
            if taken:
                self._latest = int.from_bytes(time_of(taken[-1]), "big")
        self._more = self._cut or self.ring.backlog() > 0

    def until(self, when: int) -> list[bytes]:
        """What is due."""
        self.ready.sort(key=time_of)  # nearly so already
        end = bisect.bisect_right(self.ready, key_of(when), key=time_of)
        due, self.ready = self.ready[:end], self.ready[end:]
        return due


def _merged(sources: list[_Source], when: int) -> list[bytes]:
    found = [due for source in sources if (due := source.until(when))]
    if len(found) == 1:
        return found[0]
    merged = [raw for due in found for raw in due]
    merged.sort(key=time_of)
    return merged


def key_of(time_ns: int) -> bytes:
    """What `time_of` gives for this time."""
    return time_ns.to_bytes(8, "big")
