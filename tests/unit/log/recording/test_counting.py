# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads that are counted: those that are known to be alike are no less exact."""

from __future__ import annotations

import random

import pytest

from log.events import BEGUN, Call, Event, Reads, call_id
from log.recording.counting import EVERY_NS, Counting
from tests.unit.log_samples import CALLER, START, call_on

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


def test_each_minute_is_counted_as_if_it_were_the_first() -> None:
    """Whoever calls in it: the same processes, others of the same program, or both."""
    callers = [
        CALLER._replace(pid=pid, cmdline=(word,), exe=exe)
        for pid, word, exe in [(1, "a", "/x"), (2, "b", "/x"), (1, "c", "/x"), (3, "a", "/y")]
    ]
    reads = [
        call_on(name)._replace(write=False, failed=False, error=None, caller=caller, alike={})
        for name in ("vm1", "vm2")
        for caller in callers
    ]
    others = [call._replace(ret=7, alike={BEGUN: call.alike}) for call in reads]
    chance, going_on = random.Random(2), Counting()
    for minute in range(300):
        alone, now = Counting(), START + minute * EVERY_NS
        going_on._told = alone._told = now
        active = chance.sample(range(len(reads)), chance.randrange(1, 4))
        made = [
            chance.choice((reads, others))[chance.choice(active)]._replace(
                time=now + chance.randrange(SECOND),
                duration_ns=chance.randrange(1000),
            )
            for _ in range(chance.randrange(10))
        ]
        made += [call._replace(failed=True, alike=None) for call in made[:1]]
        apart = [*alone.of([call._replace(alike=None) for call in made], now), *alone.rest()]
        joined = [*going_on.of(made, now), *going_on.due(now + EVERY_NS)]
        assert sorted(map(str, map(shown, apart))) == sorted(map(str, map(shown, joined)))


def shown(event: Event) -> Event:
    if type(event) is Call or type(event) is Reads:
        return event._replace(alike=None)
    return event


def test_so_many_events_wait_for_the_call_that_they_were_made_for(monkeypatch) -> None:
    monkeypatch.setattr("log.recording.counting.MOST_HELD", 3)
    read = call_on("vm1")._replace(write=False, function="virDomainGetInfo")
    inner = [read._replace(tid=n, time=START + n, parent=call_id(1, START)) for n in range(2, 9)]
    counting = Counting()
    assert list(counting.of(inner, START)) == inner[3:], "the first three are held"
    assert list(counting.of([read._replace(tid=1)], START)) == []
    reads = [event for event in counting.rest() if type(event) is Reads]
    assert sorted((event.calls, event.caused) for event in reads) == [(1, False), (3, True)]
    assert list(counting.of(inner[:3], START)) == [], "there is room again"


def test_so_many_failed_reads_are_written_out_between_two_lines(monkeypatch) -> None:
    monkeypatch.setattr("log.recording.counting.MOST_IN_FULL", 2)
    read = call_on("vm1")._replace(write=False, function="virDomainGetInfo", failed=True, ret=-1)
    counting = Counting()
    counting._told = START
    made = [read._replace(time=START + number) for number in range(9)]
    assert list(counting.of(made, START)) == made[:2]
    (rest,) = counting.rest()
    assert type(rest) is Reads and (rest.calls, rest.failed) == (7, 7)
