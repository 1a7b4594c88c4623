# SPDX-License-Identifier: LGPL-2.1-or-later
"""Exporters, with targets that take everything, nothing, late, a part, or break: the tracer is
never held up, and what is not sent is counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from log.events import Call, End, Event
from log.sinks import exporter as module
from log.sinks.exporter import Exporter, Refused, Unsent, size_of
from log.values import CutText, Values, Xml
from tests.needs import PATIENCE
from tests.unit.log_samples import DESTROY, END, call_on

SOON = 20 * PATIENCE  # s


class Fake:
    """A target; `fails`: what it raises, one a call, then it takes all."""

    label = "the fake"
    resumes = True

    def __init__(self, *fails: Exception | None) -> None:
        self.fails = list(fails)
        self.taken: list[Event] = []
        self.calls = self.flushed = 0
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.held = 0
        self.closed = False

    def wants(self, event: Event) -> bool:
        return type(event) in (Call, End)

    def send(self, host: str | None, events: Sequence[Event]) -> None:
        assert host == "here"
        self.calls += 1
        self.entered.set()
        self.gate.wait(SOON)
        failure = self.fails.pop(0) if self.fails else None
        if isinstance(failure, Unsent):
            self.taken += events[: failure.taken]
        if failure is not None:
            raise failure
        self.taken += events

    def flush(self) -> None:
        self.flushed += 1
        self.held = 0

    def holds(self) -> int:
        return self.held

    def close(self) -> None:
        self.closed = True


class Said(list[str]):
    """What was complained of."""


def exporter_of(target: Fake) -> tuple[Exporter, Said]:
    said = Said()
    return Exporter("fake", target, said.append, "here"), said


def calls(count: int, *, write: bool = True) -> list[Event]:
    return [DESTROY._replace(time=DESTROY.time + at, write=write) for at in range(count)]


def finish(exporter: Exporter, seconds: float = SOON) -> int:
    return exporter.finish(time.monotonic() + seconds)


def test_everything_is_sent_in_order():
    target = Fake()
    exporter, said = exporter_of(target)
    events = calls(1500)
    for at in range(0, 1500, 100):
        exporter.write(events[at : at + 100])
    assert finish(exporter) == 0
    exporter.write([END])
    exporter.close()
    assert target.taken == [*events, END]
    assert target.calls >= 3 and target.flushed and target.closed and not said
    assert exporter.health() == ("fake", 1501, 0, 0, False)


def test_only_what_the_target_wants_is_kept():
    target = Fake()
    target.wants = lambda event: False  # type: ignore[method-assign]
    exporter, _ = exporter_of(target)
    exporter.write(calls(10))
    exporter.close()
    assert target.calls == 0 and target.closed


def test_what_was_not_taken_is_sent_again_and_what_was_is_not():
    target = Fake(Unsent("503", 0.0), Unsent("half", 0.0, taken=3), None)
    exporter, said = exporter_of(target)
    events = calls(10)
    exporter.write(events)
    assert finish(exporter) == 0
    exporter.close()
    assert target.taken == events and target.calls == 3 and not exporter.health().dropped
    assert said in ([], [said_once("half")], [said_once("503")])


def said_once(why: str) -> str:
    return f"the fake: {why}; tracing goes on, and events that can't be sent there are counted"


def test_refused_batch_is_counted_and_the_next_one_is_sent():
    target = Fake(Refused("400 bad"))
    exporter, said = exporter_of(target)
    exporter.write(calls(7))
    assert finish(exporter) == 7
    exporter.tick(0)
    exporter.write(calls(5))
    assert finish(exporter) == 7
    exporter.close()
    assert len(target.taken) == 5
    assert said == [said_once("400 bad"), "the fake: 7 events were not sent (400 bad)"]


def test_mistake_in_a_target_costs_its_batch_and_says_where():
    target = Fake(ValueError("secret"))
    exporter, said = exporter_of(target)
    exporter.write(calls(2))
    assert finish(exporter) == 2
    exporter.close()
    assert "internal error: ValueError in test_exporter.py" in said[-1]
    assert "secret" not in "".join(said)


def test_target_that_takes_nothing_holds_nobody_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST", 1000)
    target = Fake()
    target.gate.clear()
    exporter, said = exporter_of(target)
    exporter.write(calls(1))
    assert target.entered.wait(SOON)
    exporter.write(calls(5000))
    exporter.tick(0)
    health = exporter.health()
    assert (health.dropped, health.waiting) == (4000, 1001)
    assert said == [said_once("it does not keep up")]
    assert finish(exporter, 0) == 5001
    exporter.write([END])
    exporter.close()
    assert said[1:] == ["the fake: 5001 events were not sent (it does not keep up)"]
    target.gate.set()


def test_calls_that_only_read_make_room_for_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST", 1000)
    target = Fake()
    target.gate.clear()
    exporter, _ = exporter_of(target)
    exporter.write(calls(1))
    assert target.entered.wait(SOON)
    exporter.write(calls(2000, write=False))
    exporter.write(calls(400))
    assert exporter.health().dropped == 1500
    target.gate.set()
    assert finish(exporter) == 1500
    assert sum(event.write for event in target.taken if type(event) is Call) == 401
    exporter.close()


def test_what_waits_has_a_limit_in_bytes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "ROOM", 100_000)
    target = Fake()
    target.gate.clear()
    exporter, _ = exporter_of(target)
    exporter.write(calls(1))
    assert target.entered.wait(SOON)
    exporter.write([call_on("x" * 30_000) for _ in range(10)])
    assert exporter.health().dropped == 7
    target.gate.set()
    exporter.close()


def test_held_events_are_counted_where_the_end_gives_up():
    target = Fake(*(Unsent("down", 60.0) for _ in range(3)))
    exporter, _ = exporter_of(target)
    exporter.write(calls(3))
    target.held = 2
    assert target.entered.wait(SOON)
    assert finish(exporter, 0) == 5
    exporter.close()


def test_size_counts_long_values():
    plain = size_of(DESTROY)
    document = Xml("x" * 100, "y" * 5000, None)
    nested = {"a": [CutText("z" * 50, 99, "w" * 1000)]}
    long = DESTROY._replace(args=Values({"xml": document, "params": nested}))
    assert size_of(long) - 600 >= 6150 and plain < 1000
