# SPDX-License-Identifier: LGPL-2.1-or-later
"""When files and processes are looked at, and what is told of files that can't be attached to: the files are made up."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from log.events import Event, Unattached
from probes import attachments
from probes.attachments import Attachments, Done, Job

SECOND = 1_000_000_000


class Files:
    """In place of Targets."""

    def __init__(self, took: float, now: list[float]) -> None:
        self.refused: list[tuple[str, str]] = []
        self.is_behind = False
        self.scans = 0
        self._took, self._now = took, now

    def scan(self) -> list[Any]:
        self.scans += 1
        self._now[0] += self._took
        return []


@pytest.fixture
def now(monkeypatch) -> list[float]:
    """Seconds."""
    at = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: at[0])
    monkeypatch.setattr(time, "monotonic_ns", lambda: round(at[0] * SECOND))
    return at


def paths(events: list[Event]) -> list[str]:
    """Of files that are told of."""
    return [event.path for event in events if isinstance(event, Unattached)]


def make(files: Files) -> Attachments:
    program: Any = SimpleNamespace(multi=True, programs={})
    targets: Any = files
    rows: Any = None
    return Attachments(program, rows, targets, list, "1.0")


@pytest.mark.parametrize("took", [0.001, 0.05, 0.5])
def test_a_storm_of_dropped_records_looks_at_the_processes_once_a_second_or_less(now, took: float) -> None:
    now[0] += 1000
    files = Files(took, now)
    held = make(files)
    begin = now[0]
    while now[0] < begin + 100:
        held.missed()
        held.check()
        now[0] += 0.005
    spent = now[0] - begin
    assert files.scans >= 3
    assert files.scans <= spent + 2
    assert files.scans * took <= 0.1 * spent + took


def test_nothing_is_looked_at_without_a_reason(now) -> None:
    files = Files(0.001, now)
    held = make(files)
    for _ in range(1000):
        now[0] += 0.05
        held.check()
    assert files.scans == 0
    files.is_behind = True
    held.check()
    assert files.scans == 1


def test_so_many_files_are_told_and_the_rest_is_a_sum(now) -> None:
    files = Files(0, now)
    held = make(files)
    events: list[Event] = []
    for number in range(100):
        files.refused.append((f"/{number}", "no"))
        events += held.check()
    assert paths(events) == [f"/{number}" for number in range(attachments.MOST_TOLD)]
    now[0] += attachments.TOLD_NS / SECOND + 1
    (rest,) = held.check()
    assert isinstance(rest, Unattached)
    assert (rest.path, rest.reason) == ("/99", f"no (and {100 - attachments.MOST_TOLD - 1} other files)")
    files.refused.append(("/next", "no"))
    assert paths(held.check()) == ["/next"]
    for number in range(30):
        files.refused.append((f"/more{number}", "no"))
    told = held.check()
    assert paths([*told, *held.last()])[-1] == "/more29"


def test_a_thread_that_has_nothing_to_do_is_not_waited_for(monkeypatch) -> None:
    held = make(Files(0, [0.0]))
    closed: list[int] = []
    links: Any = SimpleNamespace(close=lambda: closed.append(1))
    monkeypatch.setattr(held, "_try", lambda job, mapped: Done(job, links, None, "", 0, mapped))
    target: Any = object()
    held._later([Job(target, [], [])], None)
    while held._done.empty():
        time.sleep(0)  # lets the thread go on
    held.detach()
    assert held._thread and not held._thread.is_alive()
    assert closed == [1]
