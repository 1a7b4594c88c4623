# SPDX-License-Identifier: LGPL-2.1-or-later
"""The time of day at a moment, while somebody sets the clock and the host sleeps: the clocks
are made up.
"""

from __future__ import annotations

import os
import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from log.render import jsonl
from probes.host.clock import STEP_NS, WallClock

SECOND = 1_000_000_000


class Host:
    """Its clocks."""

    def __init__(self) -> None:
        self.mono, self.asleep, self.real_offset = 5 * SECOND, 0, 1_700_000_000 * SECOND

    def clock(self) -> WallClock:
        return WallClock(self.real, lambda: self.mono, lambda: self.mono + self.asleep)

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
