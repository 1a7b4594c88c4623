# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens to processes has its place among their calls."""

from __future__ import annotations

import os
from typing import Any

import pytest

from log.events import Event
from probes.host.libraries.mapwatch import Mapped
from probes.host.looking.maps import ENFORCER
from probes.host.processes.lives import Exec, Exited, Forked
from probes.kernel.rings.reader import SETTLED_NS, time_of
from probes.tracing.in_order import InOrder
from tests.unit.probes.tracing.recorders import Recorder, Told

GONE = 1 << 22  # never given to a process
DAEMON = 7


def record(time: int) -> bytes:
    return bytes(8) + time.to_bytes(8, "little") + bytes(24)


class House:
    """Calls and all others, who keep what they are told."""

    def __init__(self, *, gives_up: bool = False) -> None:
        self.told: Told = []
        nothing: list[Event] = []
        answers: Any = {
            **dict.fromkeys(
                ("process_replaced", "thread_exited", "let_go", "give_up", "process_ended"),
                lambda *of: nothing,
            ),
            "feed": lambda raws: [time_of(raw) for raw in raws],
            "of": lambda events: events,
            "open_threads": lambda: [(os.getpid(), os.getpid()), (os.getpid(), GONE)],
            "debtors": lambda: {os.getpid(), GONE},
            "is_daemon": lambda pid: pid == DAEMON,
            "epoch": lambda when: when,
        }
        parts: list[Any] = [
            Recorder(name, self.told, answers)
            for name in (
                *("calls", "owing", "counts", "coverage", "daemons", "before", "guests"),
                *("processes", "clock"),
            )
        ]
        self.order = InOrder(*parts, gives_up=gives_up)

    def told_of(self, *names: str) -> Told:
        return [one for one in self.told if one[0] in names]


def test_a_program_is_another_one_between_its_calls() -> None:
    house = House()
    house.order.add([Exec(20, 5, "virsh"), Exec(99, 6, "later")])
    raws = [record(time) for time in (10, 19, 21, 30)]
    assert house.order.put_together(raws, 50) == [time_of(raw) for raw in raws]
    assert house.told_of("calls.feed", "calls.process_replaced", "coverage.replaced") == [
        ("calls.feed", raws[:2]),
        ("calls.process_replaced", 5, 20),
        ("coverage.replaced", 5),
        ("calls.feed", raws[2:]),
    ]
    assert house.told_of("calls.let_go") == [("calls.let_go", 50 - SETTLED_NS)]
    house.told.clear()
    house.order.put_together([], 100)
    assert house.told_of("calls.process_replaced") == [("calls.process_replaced", 6, 99)]


def test_what_happened_is_told_by_its_time_whenever_it_came() -> None:
    house = House()
    house.order.add([Exited(30, 5, 6, False), Forked(10, 8, 5)])
    house.order.add([Exited(20, 5, 7, True)])
    house.order.put_together([], 50)
    assert house.told_of(
        *("coverage.forked", "coverage.forget", "calls.thread_exited", "counts.thread_ended"),
        *("processes.ended", "owing.process_ended"),
    ) == [
        ("coverage.forget", 8),  # who had the number before
        ("coverage.forked", 8, 5),
        ("calls.thread_exited", 7),
        ("counts.thread_ended", 7, 20),
        ("coverage.forget", 5),
        ("processes.ended", 5, 20),
        ("owing.process_ended", 5, 20),
        ("calls.thread_exited", 6),
        ("counts.thread_ended", 6, 30),
    ]


def mapped(pid: int, path: str) -> Mapped:
    return Mapped(1, pid, pid, 0, 4096, 0, 0, 0, path)


def test_daemons_are_known_from_their_library_to_their_end() -> None:
    house, library = House(), "/usr/lib/libvirt.so.0"
    house.order.add([mapped(DAEMON, library), mapped(9, library), mapped(9, f"/x/{ENFORCER}")])
    house.order.put_together([], 50)
    assert house.order.servers == {DAEMON}
    assert house.told_of("coverage.loaded", "coverage.enforced", "guests.happens") == [
        ("coverage.loaded", DAEMON),
        ("coverage.loaded", 9),
        ("coverage.enforced", 9),
    ]
    house.order.add([Exited(60, DAEMON, DAEMON, True)])
    house.order.put_together([], 100)
    assert house.order.servers == set()


@pytest.mark.parametrize("gives_up", [True, False])
def test_calls_without_an_end_are_given_up_where_nothing_tells_it(gives_up: bool) -> None:
    house = House(gives_up=gives_up)
    house.order.put_together([], 50)
    assert bool(house.told_of("calls.give_up")) == gives_up


def test_threads_whose_end_was_not_told_are_looked_for() -> None:
    """A thread of a process that goes on, and a process that owes something."""
    house = House()
    house.order.look_for_ended(40)
    house.order.put_together([], 50)
    assert house.told_of("calls.thread_exited", "owing.process_ended") == [
        ("calls.thread_exited", GONE),
        ("calls.thread_exited", GONE),
        ("owing.process_ended", GONE, 40),
    ]
