# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event comes in; its line goes out, with what the index and the timing of frames must know
of it.
"""

from __future__ import annotations

from typing import NamedTuple

from log.events import Call, Command, DomainEvent, Event, Gap, Reads, Values
from log.filter import is_denied, names_of, uuids_of
from log.recording.format import (
    DENIED,
    DOMAINS,
    FAILED,
    MOST_NAMES,
    NOTICES,
    WRITES,
    Row,
    name_hash,
)
from log.render import jsonl

URGENT = WRITES | FAILED | DENIED | DOMAINS  # what is on disk soon


class Entry(NamedTuple):
    """A line of a record."""

    line: str
    first: int  # ns: the event's begin
    last: int  # ns: its end
    calls: int
    holds: int
    names: frozenset[int] | None  # hashes; None: it may be about anything


_NAMELESS: frozenset[int] = frozenset()


def entry_of(event: Event) -> Entry:
    """The line of an event."""
    line = jsonl.line(event)
    if type(event) is Call:
        last = event.time + (event.duration_ns or 0)
        return Entry(line, event.time, last, 1, _holds(event), _names_of_call(event))
    if type(event) is DomainEvent:
        return Entry(line, event.time, event.time, 0, DOMAINS, _hashes(event))
    if type(event) is Reads:
        return Entry(
            line,
            event.time,
            event.until,
            event.calls,
            FAILED if event.failed else 0,
            _hashes(event),
        )
    last = event.until if type(event) is Gap else event.time
    return Entry(line, event.time, last, 0, 0 if type(event) is Command else NOTICES, _NAMELESS)


def _holds(call: Call) -> int:
    if is_denied(call):
        return DENIED | (WRITES if call.write else 0)
    judged = DENIED if call.verdict is not None and call.verdict.action != "allow" else 0
    return (WRITES if call.write else 0) | (FAILED if call.failed else 0) | judged


def _names_of_call(call: Call) -> frozenset[int] | None:
    if call.args is None:
        return None
    if call.returns == "pointer" and call.ret is not None:
        return _hashes(call)
    return _names_of_values(call, call.args)


def _names_of_values(call: Call, values: Values) -> frozenset[int] | None:
    found: frozenset[int] | None = values.rendered.get("names")
    if found is None:
        found = values.rendered["names"] = _hashes(call)
    return found


def _hashes(event: Event) -> frozenset[int] | None:
    names, uuids = names_of(event), uuids_of(event)
    if names is None or uuids is None:
        return None
    return frozenset({name_hash(name) for name in (*names, *uuids)})


class Summing:
    """The index row of a frame, as it fills."""

    def __init__(self) -> None:
        self.first = self.last = self.calls = self.holds = self.events = 0
        self.names: set[int] | None = set()

    def add(self, entry: Entry) -> None:
        """Count a line in."""
        self.first = min(self.first or entry.first, entry.first)
        self.last = max(self.last, entry.last)
        self.calls += entry.calls
        self.holds |= entry.holds
        self.events += 1
        if self.names is not None:
            if entry.names is None or len(self.names) > MOST_NAMES:
                self.names = None
            else:
                self.names |= entry.names

    def row(self, offset: int, size: int, content: int) -> Row:
        """What the index says of the frame, which is there in the file."""
        names = (
            None
            if self.names is None or len(self.names) > MOST_NAMES
            else tuple(sorted(self.names))
        )
        return Row(
            offset, size, content, self.first, self.last, self.events, self.calls, self.holds, names
        )
