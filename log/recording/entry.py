# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event comes in; its line goes out, with what the index and the timing of frames must know
of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from log.client import Client
from log.events import Call, Caller, Command, DomainEvent, Event, Gap, Reads, once
from log.filters.about import is_denied, names_of, uuids_of
from log.recording.index import (
    CAUSED,
    DENIED,
    DOMAINS,
    FAILED,
    NOTICES,
    WRITES,
    FrameRow,
    marks_of,
    of_function,
    of_process,
)
from log.render import jsonl
from log.values import Values

URGENT = WRITES | FAILED | DENIED | DOMAINS  # what is on disk soon
Marks = frozenset[int]


class Entry(NamedTuple):
    """A line of a record."""

    line: str
    first: int  # ns: the event's begin
    last: int  # ns: its end
    calls: int
    holds: int
    marks: tuple[Marks, ...] | None  # of its words; None: it may have any


_NO_MARKS: tuple[Marks, ...] = ()


def entry_of(event: Event) -> Entry:
    """The line of an event."""
    return entry_with(event, jsonl.line(event))


def entry_with(event: Event, line: str) -> Entry:
    """The same, where the line is known, or not asked for."""
    first = event.time
    if type(event) is Call:
        last = first + (event.duration_ns or 0)
        return Entry(line, first, last, 1, *once(event, "entry", _said_of_call))
    if type(event) is Command:
        holds = CAUSED if event.parent else 0
        return Entry(line, first, first, 0, holds, (_who(event.caller, None),))
    if type(event) is DomainEvent:
        holds = DOMAINS | (CAUSED if event.parent else 0)
        about, who = _names(event), _who(event.caller, None)
        return Entry(line, first, first, 0, holds, None if about is None else (about, who))
    if type(event) is Reads:
        failed = FAILED if event.failed else 0
        marks = once(event, "marks", _marks_of_reads)
        return Entry(line, first, event.until, event.calls, failed, marks)
    return Entry(line, first, event.until if type(event) is Gap else first, 0, NOTICES, _NO_MARKS)


def _said_of_call(call: Call) -> tuple[int, tuple[Marks, ...] | None]:
    """What it holds, and its marks."""
    return _holds(call), _marks_of_call(call)


def _holds(call: Call) -> int:
    holds = (WRITES if call.write else 0) | (CAUSED if call.parent else 0)
    if is_denied(call):
        return DENIED | holds
    judged = DENIED if call.verdict is not None and call.verdict.action != "allow" else 0
    return (FAILED if call.failed else 0) | judged | holds


def _marks_of_call(call: Call) -> tuple[Marks, ...] | None:
    about = _names_of_call(call)
    if about is None:
        return None
    return about, _of_function(call.function), _who(call.caller, call.client)


def _marks_of_reads(event: Reads) -> tuple[Marks, ...] | None:
    about = _names(event)
    if about is None or event.processes > max(len(event.pids), 1):
        return None
    who = _marks(map(of_process, event.pids)) or _who(event.caller, event.client)
    return about, _of_function(event.function), who


def _names_of_call(call: Call) -> Marks | None:
    if call.args is None:
        return None
    if call.returns == "pointer" and call.ret is not None:
        return _names(call)
    return _names_of_values(call, call.args)


def _names_of_values(call: Call, values: Values) -> Marks | None:
    found: Marks | None = values.rendered.get("marks")
    if found is None:
        found = values.rendered["marks"] = _names(call)
    return found


def _names(event: Event) -> Marks | None:
    names, uuids = names_of(event), uuids_of(event)
    if names is None or uuids is None:
        return None
    return _marks((*names, *uuids))


@lru_cache(maxsize=2048)
def _of_function(name: str) -> Marks:
    return _marks((of_function(name),))


def _who(caller: Caller, client: Client | None) -> Marks:
    pid = client.pid if client else None
    return _of_processes(caller.pid, caller.pid if pid is None else pid)


@lru_cache(maxsize=2048)
def _of_processes(caller: int, client: int) -> Marks:
    return _marks(map(of_process, (caller, client)))


def _marks(words: Iterable[str]) -> Marks:
    return frozenset({mark for word in words for mark in marks_of(word)})


class Summing:
    """The index row of a frame, as it fills."""

    def __init__(self) -> None:
        self.first = self.last = self.calls = self.holds = self.events = 0
        self.marks: set[int] | None = set()

    def add(self, entry: Entry) -> None:
        """Count a line in."""
        self.first = min(self.first or entry.first, entry.first)
        self.last = max(self.last, entry.last)
        self.calls += entry.calls
        self.holds |= entry.holds
        self.events += 1
        if entry.marks is None:
            self.marks = None
        elif self.marks is not None:
            self.marks.update(*entry.marks)

    def row(self, size: int, content: int) -> FrameRow:
        """What the index says of the frame."""
        return FrameRow(size, content, self.first, self.last, self.events, self.calls, self.holds)
