# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events of a record come in; what a page can show of them goes out: each domain's states, the
calls that matter, how long calls took. Its memory is limited, whatever happens.
"""

from __future__ import annotations

from typing import NamedTuple

from log.events import (
    Call,
    Clock,
    DomainEvent,
    Event,
    Gap,
    Lost,
    Reads,
    Removed,
    Unattached,
    call_id,
)
from log.filters.about import client_of, object_of
from log.recent import Recent
from log.report.bounded import Fair, Grid, Scale
from log.report.lines import STRING, Line, line_of, safe
from log.report.report import Key, cause_of, was_denied
from log.report.states import StateSpan, spans, state_after
from log.values import CutText, Handle

MOST_CALLS = 4000  # of a kind that are kept
MOST_EVENTS = 10_000  # of domains
MOST_NOTES = 1000
MOST_DOMAINS = 500
MOST_FUNCTIONS = 256
MOST_CAUSES = 65536
MOST_NAMES = 8  # of a domain
SLOTS = 240
DENIED, FAILED, WRITE = KINDS = ("denied", "failed", "write")
GAP, LOST, OTHER = NOTES = ("gap", "lost", "other")
_NOTES = (Gap, Lost, Clock, Unattached, Removed)


class Happening:
    """A change of a domain, and by what: known when the call has ended that did it."""

    __slots__ = ("by", "cause", "detail", "domain", "event", "line", "time")

    def __init__(self, event: DomainEvent, domain: Domain) -> None:
        self.time = event.time
        self.event, self.detail = event.event[:STRING], event.detail[:STRING]
        self.domain = domain
        self.line = line_of(event)
        self.cause = "" if event.parent is None else cause_of(event)  # else it is in the line
        self.by: Key = ()


class Domain:
    """What is known of a domain."""

    def __init__(self, host: str | None, key: str, scale: Scale) -> None:
        self.host = host
        self.key = key  # its UUID, or "name " and its name where that is not known
        self.names: list[str] = []  # in order; after a rename there are several
        self.calls = Grid(scale)  # the number is 0
        self.counts = dict.fromkeys((*KINDS, "endings"), 0)

    def is_called(self, name: str) -> None:
        """Note a name that it has."""
        if self.names[-1:] != [name] and len(self.names) < MOST_NAMES:
            self.names.append(name)


class DrawnCall(NamedTuple):
    """A call of the table."""

    time: int  # ns
    duration_ns: int | None
    kind: str
    domain: Domain | None
    host: str | None
    line: Line


class Note(NamedTuple):
    """What is to be known of the record itself."""

    time: int  # ns
    until: int  # ns
    host: str | None
    line: Line
    kind: str  # GAP, LOST, OTHER


class Story:
    """What is kept."""

    def __init__(self, *, both: bool = False, most: int = MOST_DOMAINS) -> None:
        """`both`: what daemons do for a call counts as calls of their own; `most`: domains."""
        self._both = both
        self._most = most
        self.scale = Scale(SLOTS)
        self.calls: dict[str, Fair[DrawnCall]] = {kind: Fair(MOST_CALLS) for kind in KINDS}
        self.events: Fair[Happening] = Fair(MOST_EVENTS)
        self.notes: Fair[Note] = Fair(MOST_NOTES)
        self.counts = dict.fromkeys(KINDS, 0)
        self.all = Grid(self.scale)
        self.functions: dict[str, Grid] = {}  # the number is that of `duration_step`; "": others
        self.domains: Recent[tuple[str | None, str], Domain] = Recent(most)
        self.domains_left_out = 0
        self._uuids: Recent[tuple[str | None, str], str] = Recent(4 * most)  # by name
        self._caused: Recent[str, list[Happening]] = Recent(MOST_CAUSES)

    def add(self, host: str | None, event: Event) -> None:
        """Take an event; `host` where there are several."""
        if type(event) is Call:
            for happening in self._caused.pop(call_id(event.tid, event.time)) or ():
                happening.cause = safe(event.function)
                happening.by = tuple(map(safe, client_of(event.comm, event.caller, event.client)))
            if event.parent is None or self._both:
                self._add_call(host, event)
        elif type(event) is Reads:
            if not event.caused or self._both:
                self._add_reads(host, event)
        elif type(event) is DomainEvent:
            self._add_change(host, event)
        elif isinstance(event, _NOTES):
            until = event.until if type(event) is Gap else event.time
            kind = GAP if type(event) is Gap else LOST if type(event) is Lost else OTHER
            self.notes.add(kind, host or "", Note(event.time, until, host, line_of(event), kind))

    def spans_of(
        self, domain: Domain, happenings: list[Happening], gaps: list[int]
    ) -> list[StateSpan]:
        """A domain's states by what has happened to it; both in order."""
        changes = [
            (one.time, state) for one in happenings if (state := state_after(one.event, one.detail))
        ]
        return spans(changes, gaps)

    def _add_call(self, host: str | None, call: Call) -> None:
        domain = self._domain_of(host, object_of(call))
        self.all.add(call.time, 0)
        if domain:
            domain.calls.add(call.time, 0)
        if call.duration_ns is not None and call.unfinished is None:
            self._grid(call.function).add(call.time, duration_step(call.duration_ns))
        kind = (
            DENIED
            if was_denied(call, both=self._both)
            else FAILED
            if call.failed
            else WRITE
            if call.write
            else None
        )
        if kind:
            self.counts[kind] += 1
            if domain:
                domain.counts[kind] += 1
            program, user = client_of(call.comm, call.caller, call.client)
            done = DrawnCall(call.time, call.duration_ns, kind, domain, host, line_of(call))
            self.calls[kind].add(user[:STRING], program[:STRING], done)

    def _add_reads(self, host: str | None, reads: Reads) -> None:
        middle = (reads.time + reads.until) // 2
        self.all.add(middle, 0, reads.calls)
        domain = self._domain_of(host, reads.object)
        if domain:
            domain.calls.add(middle, 0, reads.calls)
        if reads.calls:
            step = duration_step(reads.total_ns // reads.calls)
            self._grid(reads.function).add(middle, step, reads.calls)

    def _add_change(self, host: str | None, event: DomainEvent) -> None:
        domain = self._domain_of(host, event.domain)
        if domain is None:
            return
        self.scale.slot(event.time)
        if event.event in ("stopped", "crashed"):
            domain.counts["endings"] += 1
        happening = Happening(event, domain)
        self.events.add(domain.key, host or "", happening)
        if event.parent is not None:
            self._caused.learn(event.parent, lambda _: []).append(happening)

    def _grid(self, function: str) -> Grid:
        function = function[:STRING]
        grid = self.functions.get(function)
        if grid is None:
            key = function if len(self.functions) < MOST_FUNCTIONS else ""
            grid = self.functions.setdefault(key, Grid(self.scale))
        return grid

    def _domain_of(self, host: str | None, handle: Handle | None) -> Domain | None:
        if handle is None or handle.type != "domain":
            return None
        name, uuid = _text(handle.fields.get("name")), _text(handle.fields.get("uuid"))
        if uuid is not None:
            key = uuid
            if name is not None:
                self._uuids.put((host, name), uuid)
        elif name is not None:
            key = self._uuids.get((host, name)) or f"name {name}"
        else:
            return None
        domain = self.domains.get((host, key))
        if domain is None:
            self.domains_left_out += len(self.domains) >= self._most
            domain = self.domains.put((host, key), Domain(host, key, self.scale))
        if name is not None:
            domain.is_called(name)
        return domain


def duration_step(ns: int) -> int:
    """Which of two steps for each power of two a duration is in: step n begins at
    2^(n // 2 - 1) ns, or at one and a half times that.
    """
    bits = ns.bit_length()
    return 2 * bits + (ns >> (bits - 2) & 1 if bits > 1 else 0)


def _text(value: object) -> str | None:
    if isinstance(value, CutText):
        value = value.whole or value.text
    return value[:STRING] if isinstance(value, str) else None
