# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls that the kernel counts: its maps come in, numbers by function go out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from mmap import mmap

from log.counted import Counted
from log.events import UnderWay
from probes.calls.serving.tasks import Task
from probes.calls.serving.waits import CLIENT
from probes.host.looking.proc import read_status
from probes.kernel import records

_PROCESS = re.compile(rb"^Tgid:\t(\d+)$", re.M)


class KernelCounts:
    """What is in the maps of `count.bpf.h`.

    `names`: the functions that are counted, by their place, more at the end as time goes by.
    """

    def __init__(
        self,
        counts: mmap | bytearray,
        begun: mmap | bytearray,
        names: Sequence[str],
        stripes: int,
    ) -> None:
        self._counts, self._begun, self._names, self._stripes = counts, begun, names, stripes
        self._without_end: Counter[int] = Counter()  # calls whose thread ended, by place

    def thread_ended(self, tid: int, when: int) -> None:
        """At the time `when` (ns, CLOCK_MONOTONIC): the call that it was in has no end."""
        at = tid % records.MAX_BEGUN * records.BEGUN.size
        found, began, place = records.BEGUN.unpack_from(self._begun, at)
        if found == tid and began <= when:
            self._begun[at : at + 8] = bytes(8)
            self._without_end[place] += 1

    def under_way(
        self,
        find_task: Callable[[int, int, int], Task],
        epoch: Callable[[int], int],
        now: int,
        least: int = 0,
    ) -> list[UnderWay]:
        """Those that have lasted for `least` (ns) at the time `now` (ns, CLOCK_MONOTONIC), of which
        no more is known; `epoch`: that time since the epoch.
        """
        told = []
        for tid, began, place in records.BEGUN.iter_unpack(self._begun):
            if not tid or now - began < least or place >= len(self._names):
                continue
            process = _PROCESS.search(read_status(tid) or b"")
            if process is None:  # it has just ended
                continue
            task = find_task(0, int(process[1]), tid)
            name = self._names[place]
            told.append(
                UnderWay(
                    epoch(now), now - began, tid, task.comm, task.caller, None, name, None, CLIENT
                )
            )
        return told

    def found(self) -> list[Counted]:
        """All since tracing began; those that are under way have no end."""
        left = Counter(self._without_end)
        for tid, _, place in records.BEGUN.iter_unpack(self._begun):
            left[place] += tid != 0
        told = (self._of(place, name, left[place]) for place, name in enumerate(self._names))
        return [one for one in told if one.calls]

    def _of(self, place: int, name: str, left: int) -> Counted:
        total = longest = failed = 0
        durations: Counter[int] = Counter()
        for stripe in range(place * self._stripes, (place + 1) * self._stripes):
            at = stripe * records.COUNTS_SIZE
            took, most, fails, gone = records.COUNTS.unpack_from(self._counts, at)
            total, failed, left = total + took, failed + fails, left + gone
            longest = max(longest, most)
            if took:
                buckets = self._counts[at + records.COUNTS.size : at + records.COUNTS_SIZE]
                numbers = memoryview(buckets).cast("Q")
                durations.update({bucket: n for bucket, n in enumerate(numbers) if n})
        return Counted(name, durations.total() + left, failed, total, longest, durations)
