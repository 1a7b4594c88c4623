# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads that are counted: those that are known to be alike are no less exact."""

from __future__ import annotations

import random

import pytest

from log.events import Call, Event, Reads
from log.recording.counting import EVERY_NS, Counting
from tests.unit.log_samples import START, call_on

SECOND = 10**9


@pytest.mark.parametrize("slower", [None, 900])
def test_calls_that_are_alike_are_counted_as_others(slower: int | None) -> None:
    """Over several minutes, between calls that are written out."""
    chance = random.Random(1)
    reads = [
        call_on(f"vm{number}")._replace(write=False, function=function, failed=False, error=None)
        for number in range(3)
        for function in ("virDomainGetInfo", "virDomainGetState")
    ]
    write = call_on("vm1")._replace(write=True)
    alike = [call._replace(alike={}) for call in reads]
    alone, together = Counting(slower_ns=slower), Counting(slower_ns=slower)
    written: list[tuple[list[Event], list[Event]]] = []
    for second in range(150):
        now = START + second * SECOND
        made: tuple[list[Call], list[Call]] = [], []
        for number in range(20):
            which, took = chance.randrange(len(reads)), chance.randrange(1000)
            begun = now + chance.randrange(SECOND)
            for calls, kinds in zip(made, (reads, alike), strict=True):
                call = write if number == 7 else kinds[which]
                calls.append(call._replace(time=begun, duration_ns=took))
        alone._told = together._told = min(together._told, now)
        written.append((list(alone.of(made[0], now)), list(together.of(made[1], now))))
    written.append((alone.rest(), together.rest()))
    for apart, joined in written:
        assert [shown(event) for event in apart] == [shown(event) for event in joined]
    told = [event for _, joined in written for event in joined]
    assert sum(event.calls if type(event) is Reads else 1 for event in told) == 150 * 20
    minutes = 150 * SECOND // EVERY_NS + 1
    assert sum(type(event) is Reads for event in told) == minutes * len(reads)


def shown(event: Event) -> Event:
    return event._replace(alike=None) if type(event) is Call else event
