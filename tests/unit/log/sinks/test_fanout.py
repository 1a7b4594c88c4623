# SPDX-License-Identifier: LGPL-2.1-or-later
"""The log's sinks: each gets everything, whatever becomes of the others, and all are closed at
the end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from log.events import End, Event, VerdictInfo
from log.render.notices import end_summary
from log.sinks import fanout
from log.sinks.fanout import READER_PATIENCE, Log
from log.sinks.files.sink import GivenUp
from tests.unit.log_samples import ATTACHED, DESTROY, HOSTILE, LOST


@dataclass
class Options:
    """What the user wants."""

    format: str | None = None
    tree: str | None = None
    both: bool = False
    summary: bool = False
    output: Path | None = None
    shared_output: bool = False


@dataclass
class Asked:
    """What the user has asked for meanwhile."""

    stop: int = 0
    terminate: bool = False
    impatient: bool = False

    def is_impatient(self) -> bool:
        return self.impatient


@dataclass
class Taker:
    """A sink that notes what it is told; `gone`: its reader is, which every method but the last
    says.
    """

    gone: bool = False
    events: list[Event] = field(default_factory=list)
    told: list[object] = field(default_factory=list)
    given_up: GivenUp | None = None

    def _say(self) -> None:
        if self.gone:
            raise BrokenPipeError

    def write(self, events: Sequence[Event]) -> None:
        self.events += events
        self._say()

    def tick(self, open_calls: int) -> None:
        self.told.append(open_calls)
        self._say()

    def reopen(self) -> None:
        self.told.append("reopen")

    def close(self, given_up: GivenUp) -> None:
        self.told.append("close")
        self.given_up = given_up


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is said on standard error."""
    said: list[bytes] = []

    class Errors:
        def __init__(self, fd: int) -> None:
            assert fd == 2

        def send(self, data: bytes, seconds: float) -> tuple[int, None]:
            said.append(data)
            return len(data), None

    monkeypatch.setattr(fanout, "Channel", Errors)
    return said


def log_with(*sinks: Taker, asked: Asked | None = None, options: Options | None = None) -> Log:
    log = Log(options or Options(), asked or Asked(), quiet=True)
    log.add(*sinks)
    return log


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_reader_that_is_gone_is_no_loss_of_the_others(errors: list[bytes], gone: int) -> None:
    sinks = [Taker(gone=number == gone) for number in range(3)]
    log = log_with(*sinks)
    with pytest.raises(BrokenPipeError):
        log.write([ATTACHED, DESTROY])
    with pytest.raises(BrokenPipeError):
        log.tick(5)
    log.reopen()
    log.close()
    for sink in sinks:
        assert sink.events[:2] == [ATTACHED, DESTROY]
        assert isinstance(sink.events[2], End)
        assert len(sink.events) == 3
        assert sink.told == [5, "reopen", "close"]
    assert errors == [(f"libvirt-trace: {end_summary(sinks[0].events[2])}\n").encode()]  # type: ignore[arg-type]  # it is an End


def test_the_last_event_has_the_sums_of_all_batches(errors: list[bytes]) -> None:
    sink = Taker()
    log = log_with(sink)
    log.write([ATTACHED, DESTROY, DESTROY._replace(failed=True)])
    log.write([LOST, DESTROY._replace(failed=True, verdict=VerdictInfo("deny", "no"))])
    log.close()
    end = sink.events[-1]
    assert isinstance(end, End)
    assert (end.calls, end.failed, end.denied, end.lost) == (3, 1, 1, 12)
    assert errors[0].startswith(b"libvirt-trace: 3 calls, 1 failed, 1 denied, 12 lost in ")


def test_a_sink_that_comes_later_gets_what_comes_from_then_on_and_is_first(
    errors: list[bytes],
) -> None:
    order: list[str] = []
    first, second = Taker(), Taker()
    log = log_with(first)
    log.write([ATTACHED])
    log.add(second)
    first.write = lambda events: order.append("first")  # type: ignore[method-assign]
    second.write = lambda events: order.append("second")  # type: ignore[method-assign]
    log.write([DESTROY])
    assert order == ["second", "first"]


def test_a_file_and_the_summary_get_the_same(errors: list[bytes], tmp_path: Path) -> None:
    log = log_with(options=Options(output=tmp_path / "log", summary=True))
    with log.starting(status=False):
        pass
    log.write([DESTROY, LOST])
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["type"] for line in lines] == ["call", "lost", "end"]
    assert (lines[-1]["calls"], lines[-1]["lost"]) == (1, 12)
    table, last = errors
    assert b"virDomainDestroyFlags" in table
    assert last.startswith(b"libvirt-trace: 1 call, ")


def test_complaints_are_one_line_each(errors: list[bytes]) -> None:
    log_with().complain(HOSTILE)
    (line,) = errors
    assert line.startswith(b"libvirt-trace: ")
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert not any((byte < 32 and byte != 10) or byte == 127 for byte in line)


# how long a reader is waited for


def given_up_of(asked: Asked, errors: list[bytes]) -> GivenUp:
    sink = Taker()
    log_with(sink, asked=asked).close()
    errors.clear()
    assert sink.given_up
    return sink.given_up


def again(asked: Asked) -> None:
    asked.stop += 1


def impatiently(asked: Asked) -> None:
    asked.impatient = True


@pytest.mark.parametrize("ask", [again, impatiently])
def test_a_reader_is_waited_for_until_somebody_asks_once_more(
    errors: list[bytes], ask: Callable[[Asked], None]
) -> None:
    asked = Asked(stop=1)
    given_up = given_up_of(asked, errors)
    assert [given_up(idle) for idle in (0, READER_PATIENCE + 1, 1000)] == [False] * 3
    # once
    assert errors == [b"libvirt-trace: waiting until what was logged is read: Ctrl-C ends that\n"]
    ask(asked)
    assert given_up(0)


def test_where_no_person_asked_a_reader_is_waited_for_a_while(errors: list[bytes]) -> None:
    given_up = given_up_of(Asked(stop=1, terminate=True), errors)
    assert [given_up(idle) for idle in (0, READER_PATIENCE, READER_PATIENCE + 0.1)] == [
        False,
        False,
        True,
    ]
    assert errors == []


def test_a_failure_while_starting_closes_the_screen(
    errors: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Taker()
    monkeypatch.setattr(fanout, "open_screen", lambda *args: screen)
    log = Log(Options(), Asked())
    with pytest.raises(KeyError), log.starting(status=True):
        raise KeyError
    assert screen.told == ["close"]
    assert screen.given_up
    assert screen.given_up(0)
