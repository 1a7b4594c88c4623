# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the kernel counted is told once, with whose it was, and sums up."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from probes.calls.losses import EVERY_NS, MOST_TOLD, SERVED, Losses
from probes.kernel import records

WIDTH = len(records.COUNTERS)


class Kernel:
    """The maps."""

    def __init__(self) -> None:
        self.users = bytearray(records.USER.size * records.MAX_USERS)
        self.settings = bytearray(records.SETTINGS.size)

    def add(self, place: int, uid: int, ring: int, counter: str, count: int = 1) -> None:
        """Counts."""
        _, *counters = records.USER.unpack_from(self.users, place * records.USER.size)
        counters[ring * WIDTH + records.COUNTERS.index(counter)] += count
        records.USER.pack_into(self.users, place * records.USER.size, uid, *counters)
        changes = int.from_bytes(self.settings[records.LOSSES : records.LOSSES + 8], "little") + 1
        self.settings[records.LOSSES : records.LOSSES + 8] = changes.to_bytes(8, "little")


def losses_of(kernel: Kernel) -> Losses:
    return Losses(kernel.users, kernel.settings, {0: "root", 1000: "alice"}.get)


def test_whose_calls_they_were():
    kernel = Kernel()
    losses = losses_of(kernel)
    assert losses.events(EVERY_NS) == []
    kernel.add(7, 1000, 1, "both", 3)
    kernel.add(7, 1000, 1, "private", 2)
    kernel.add(0, 0, 0, "chunk")
    kernel.add(records.USER_OTHERS, 0, 0, "thread")
    told = [
        (lost.count, lost.ring, lost.reason, lost.uid, lost.user, lost.details)
        for lost in losses.events(EVERY_NS)
    ]
    assert told == [
        (3, "write", "buffer full", 1000, "alice", 2),
        (1, "read", "no memory", None, None, 0),
        (0, "read", "buffer full", 0, "root", 1),
    ]


def test_what_daemons_lost_is_told_apart():
    kernel = Kernel()
    losses = losses_of(kernel)
    for uid, place in ((0, 0), (0, records.USER_SERVED)):
        kernel.add(place, uid, 0, "entry", 5)
        kernel.add(place, uid, 0, "both", 2)
    told = losses.events(EVERY_NS) + losses.final({(0, 0): 1, (0, SERVED): 3})
    assert [(lost.count, lost.reason, lost.uid) for lost in told] == [
        (2, "buffer full, in a daemon", None),
        (2, "buffer full", 0),
        (2, "buffer full", 0),
    ]


def test_a_number_that_is_read_while_it_changes_is_told_once():
    kernel = Kernel()
    losses = losses_of(kernel)
    kernel.add(0, 0, 0, "both", 0x1FF)
    assert [lost.count for lost in losses.events(EVERY_NS)] == [0x1FF]
    kernel.add(0, 0, 0, "both", 0x100 - 0x1FF)  # the upper byte of before, the lower one of 0x200
    assert losses.events(2 * EVERY_NS) == []
    kernel.add(0, 0, 0, "both", 0x100)
    assert [lost.count for lost in losses.events(3 * EVERY_NS)] == [1]


def test_once_a_second_at_most():
    kernel = Kernel()
    losses = losses_of(kernel)
    kernel.add(0, 0, 0, "both", 3)
    assert [lost.count for lost in losses.events(EVERY_NS)] == [3]
    kernel.add(0, 0, 0, "both", 4)
    assert losses.events(2 * EVERY_NS - 1) == []
    kernel.add(0, 0, 0, "both", 5)
    assert [lost.count for lost in losses.events(2 * EVERY_NS)] == [9]
    assert losses.final({}) == []


def test_events_about_processes_are_details():
    losses = losses_of(Kernel())
    losses.dropped(5)
    losses.dropped(2)
    losses.unseen(3)
    assert [(lost.count, lost.ring, lost.details) for lost in losses.events(EVERY_NS)] == [
        (0, "processes", 7),
        (0, "mappings", 3),
    ]
    assert losses.events(3 * EVERY_NS) == []


def test_many_users_are_told_in_one_sum():
    kernel = Kernel()
    losses = losses_of(kernel)
    for n in range(100):
        kernel.add(records.USER_FIRST + n, 2000 + n, n & 1, "both", n + 1)
    told = losses.events(EVERY_NS)
    assert len(told) == MOST_TOLD + 2
    assert sum(lost.count for lost in told) == sum(range(1, 101))
    assert {lost.uid for lost in told if lost.ring == "read"} >= {2098, None}


counts = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(0, 2)), max_size=60)


@given(counts)
def test_made_is_seen_and_lost(made):
    """Of each call whose begin was lost the end came (it was shown), was lost as well, or never
    was.
    """
    kernel = Kernel()
    losses = losses_of(kernel)
    shown: Counter[tuple[int, int]] = Counter()
    told = []
    for step, (user, ring, end) in enumerate(made):
        place, uid = (records.USER_OTHERS, 0) if user == 5 else (user, user)
        kernel.add(place, uid, ring, "entry")
        if end == 0:
            shown[ring, {5: 4242, records.USER_SERVED: SERVED}.get(user, uid)] += 1
        elif end == 1:
            kernel.add(place, uid, ring, "both")
        if step % 7 == 0:
            told += losses.events(step * EVERY_NS)
    told += losses.final(shown)
    for ring, name in enumerate(("read", "write")):
        expected = sum(end != 0 for _, which, end in made if which == ring)
        assert sum(lost.count for lost in told if lost.ring == name) == expected
    assert all(lost.count >= 0 for lost in told)
