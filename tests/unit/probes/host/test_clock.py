# SPDX-License-Identifier: LGPL-2.1-or-later
"""The time of day at a moment, while somebody sets the clock and the host sleeps: the clocks
are made up.
"""

from __future__ import annotations

import os
import struct
import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from log.render import jsonl
from probes.host.clock import STEP_NS, WallClock
from probes.kernel import records

SECOND = 1_000_000_000
NOTICED = 5 * STEP_NS  # by the programs in the kernel


class Host:
    """Its clocks."""

    def __init__(self) -> None:
        self.mono, self.asleep, self.real_offset = 5 * SECOND, 0, 1_700_000_000 * SECOND
        self.tai_offset = 37 * SECOND

    def clock(self, seen: bytearray | None = None) -> WallClock:
        return WallClock(
            self.real,
            lambda: self.mono,
            lambda: self.mono + self.asleep,
            lambda: self.real() + self.tai_offset,
            seen,
        )

    def looks(self, seen: bytearray) -> None:
        """As a program in the kernel does, for a call that begins now."""
        told, found = records.CLOCK.unpack_from(seen, records.CLOCK_AT)
        if told and abs(self.real() + self.tai_offset - self.mono - told) > NOTICED and not found:
            struct.pack_into("<Q", seen, records.CLOCK_SET_AT, self.mono)

    def real(self) -> int:
        return self.mono + self.asleep + self.real_offset


def test_each_moment_has_the_time_by_the_clock_as_it_was() -> None:
    host = Host()
    clock = host.clock()
    expected = []
    for step in (3600 * SECOND, -7200 * SECOND, STEP_NS, -5 * SECOND):
        for _ in range(3):
            host.mono += SECOND // 3
            expected.append((host.mono, host.real()))
            assert clock.events() == []
        host.mono += 1
        host.real_offset += step
        (event,) = clock.events()
        assert (event.step_ns, event.time) == (step, host.real())
        assert f'"step_ns":{step}}}' in jsonl.line(event)
    assert [(when, clock.epoch(when)) for when, _ in expected] == expected
    assert clock.epoch(host.mono) == host.real()


def test_sleep_is_no_step() -> None:
    host = Host()
    clock = host.clock()
    before = host.mono, host.real()
    host.mono += SECOND
    host.asleep += 3600 * SECOND
    assert clock.events() == []
    assert clock.epoch(host.mono) == host.real()
    assert clock.epoch(before[0]) == before[1]
    host.asleep += 60 * SECOND
    host.real_offset -= 10 * SECOND  # set while it slept
    (event,) = clock.events()
    assert event.step_ns == -10 * SECOND


def test_small_steps_add_up() -> None:
    host = Host()
    clock = host.clock()
    steps = []
    for _ in range(25):
        host.mono += SECOND
        host.real_offset += STEP_NS // 10
        steps += [event.step_ns for event in clock.events()]
        assert abs(clock.epoch(host.mono) - host.real()) < STEP_NS
    assert steps == [STEP_NS, STEP_NS]


@given(st.lists(st.tuples(st.integers(1, SECOND), st.integers(-(10**18), 10**18)), max_size=1500))
def test_many_steps(steps: list[tuple[int, int]]) -> None:
    host = Host()
    clock = host.clock()
    for forward, step in steps:
        host.mono += forward
        host.real_offset += step
        clock.events()
        assert abs(clock.epoch(host.mono) - host.real()) < STEP_NS
    clock.epoch(0)


@given(st.lists(st.sampled_from(["call", "set", "sleep", "look", "tai"]), max_size=60))
def test_calls_before_anybody_was_told(what: list[str]) -> None:
    """Each has the time by the clock as it was, as the first one after the setting tells of it."""
    host, seen = Host(), bytearray(records.SETTINGS.size)
    clock = host.clock(seen)
    clock.check()
    made, steps, is_news = [], 0, False
    for number, happens in enumerate(what):
        host.mono += SECOND // 7
        if happens == "call":
            host.looks(seen)
            made.append((host.mono, host.real()))
        elif happens == "look" or is_news:  # one that follows another at once is not told apart
            clock.check()
            is_news = False
        elif happens == "set":
            host.real_offset += (-1) ** number * 3600 * SECOND
            steps, is_news = steps + 1, True
        elif happens == "sleep":
            host.asleep += 60 * SECOND
            is_news = True
        else:
            host.tai_offset += SECOND
            is_news = True
    assert len(clock.events()) == steps
    assert [(when, clock.epoch(when)) for when, _ in made] == made


def test_call_that_tells_when_it_is_known_already() -> None:
    host, seen = Host(), bytearray(records.SETTINGS.size)
    clock = host.clock(seen)
    clock.check()
    host.real_offset += 3600 * SECOND
    call = host.mono, host.real()
    host.mono += SECOND
    clock.check()
    struct.pack_into("<Q", seen, records.CLOCK_SET_AT, call[0])  # it was interrupted
    clock.check()
    assert clock.epoch(call[0]) == call[1]


def test_the_real_clocks() -> None:
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    clock = WallClock()
    clock.watch()
    assert clock.events() == []
    assert abs(clock.epoch(time.monotonic_ns()) - time.time_ns()) < 10_000_000
    clock.close()
    clock.close()
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
    assert clock.epoch(time.monotonic_ns())


def test_only_the_last_steps_are_known(monkeypatch) -> None:
    monkeypatch.setattr("probes.host.clock.MOST_STEPS", 3)
    host = Host()
    clock = host.clock()
    expected = []
    for _ in range(9):
        host.mono += SECOND
        host.real_offset += SECOND
        clock.check()
        host.mono += SECOND
        expected.append((host.mono, host.real()))
    assert len(clock._ends) == len(clock._offsets) == 3
    assert [(when, clock.epoch(when)) for when, _ in expected[-3:]] == expected[-3:]
