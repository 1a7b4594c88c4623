# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the kernel has counted, in all its parts, and calls that have no end."""

from __future__ import annotations

import struct
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from log.counted import Counted
from log.sinks.screen.summary import Durations
from probes.calls.counted import KernelCounts
from probes.kernel import records

NAMES = ["virDomainGetName", "virDomainGetInfo", "virDomainGetID"]
STRIPES = 2


class Kernel:
    """The maps."""

    def __init__(self) -> None:
        self.counts = bytearray(records.COUNTS_SIZE * STRIPES * len(NAMES))
        self.begun = bytearray(records.BEGUN.size * records.MAX_BEGUN)
        self.read = KernelCounts(self.counts, self.begun, NAMES, STRIPES)

    def add(self, place: int, stripe: int, took: int, *, failed: bool = False) -> None:
        """A call has returned."""
        at = (place * STRIPES + stripe) * records.COUNTS_SIZE
        total, longest, fails, left = records.COUNTS.unpack_from(self.counts, at)
        records.COUNTS.pack_into(
            self.counts, at, total + took, max(longest, took), fails + failed, left
        )
        exact = Durations()
        exact.add(took)
        (bucket,) = exact.buckets()
        at += records.COUNTS.size + 8 * bucket
        struct.pack_into("<Q", self.counts, at, struct.unpack_from("<Q", self.counts, at)[0] + 1)

    def begin(self, tid: int, when: int, place: int) -> None:
        """A call is under way."""
        at = tid % records.MAX_BEGUN * records.BEGUN.size
        records.BEGUN.pack_into(self.begun, at, tid, when, place)


TIMES = st.integers(1, (1 << 42) - 1)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), TIMES, st.booleans())))
def test_all_parts_are_one(calls: list[tuple[int, int, int, bool]]):
    kernel, exact = Kernel(), [Durations() for _ in NAMES]
    for place, stripe, took, failed in calls:
        kernel.add(place, stripe, took, failed=failed)
        exact[place].add(took)
    made, failures = Counter(call[0] for call in calls), Counter(c[0] for c in calls if c[3])
    assert kernel.read.found() == [
        Counted(name, made[i], failures[i], exact[i].total, exact[i].max, exact[i].buckets())
        for i, name in enumerate(NAMES)
        if made[i]
    ]


def test_calls_without_end():
    """Two threads have ended in one, a third is in one; the number of a fourth was another's."""
    kernel = Kernel()
    for tid, place in ((100, 0), (101, 0), (102, 2), (103, 1)):
        kernel.begin(tid, 5000, place)
    for tid, when in ((100, 6000), (101, 5000), (103, 4999), (104, 6000), (4096 + 102, 6000)):
        kernel.read.thread_ended(tid, when)
    assert [(one.function, one.calls) for one in kernel.read.found()] == [
        ("virDomainGetName", 2),
        ("virDomainGetInfo", 1),
        ("virDomainGetID", 1),
    ]
    assert not any(one.total_ns or one.durations for one in kernel.read.found())
