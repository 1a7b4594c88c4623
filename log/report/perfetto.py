# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events of a record come in; a trace in Chrome's JSON form goes out, which Perfetto opens: a track
for each thread of each process, tracks for each domain (its state, its monitor, the agent in it),
and an arrow from each call to what it caused.

Times are microseconds since `base`, 7 days before the first event: exact to a nanosecond in a
double, and never negative.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from log.events import Call, Caller, Command, DomainEvent, Event, Gap, Lost, Reads, call_id
from log.filters.about import is_denied, object_of
from log.filters.asking import command_name
from log.moments import rfc3339
from log.query.linking import Found
from log.report.lines import line_of, safe, short
from log.report.states import state_after
from log.values import Handle

MOST = 2_000_000  # events of the trace
_MINUTE = 60 * 10**9  # ns
_DAYS = 7 * 86400 * 10**9  # ns
_FIRST_OWN = 1 << 22  # no kernel has a process of this number, or above
_STATE, _MONITOR, _AGENT = "state", "monitor", "agent"
_RECORD = "the record"
Fields = dict[str, Any]
Track = tuple[int, int]  # pid and tid


class Trace:
    """Makes the trace."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say` is told, in the end, what is not in it."""
        self._say = say
        self._base: int | None = None
        self._made: list[Fields] = []
        self._numbers: dict[Hashable, int] = {}  # of processes and threads, by what they are
        self._taken: set[int] = set()
        self._next = _FIRST_OWN
        self._counted: dict[tuple[Track, str], dict[int, int]] = {}
        self._states: dict[Track, tuple[int, str, Fields]] = {}  # since when, which, why
        self._flows = self._count = self._left_out = self._last = 0

    def parts(self, found: Iterable[Found]) -> Iterator[str]:
        """The file, in parts."""
        yield '{"displayTimeUnit":"ms","traceEvents":[\n'
        separator = ""
        for host, event, _ in found:
            self._add(host, event)
            for made in self._taken_out():
                yield f"{separator}{json.dumps(made, separators=(',', ':'))}"
                separator = ",\n"
        self._end()
        for made in self._taken_out():
            yield f"{separator}{json.dumps(made, separators=(',', ':'))}"
            separator = ",\n"
        if self._left_out:
            self._say(
                f"the trace is full: {self._left_out} events are left out; name a shorter time"
            )
        base = None if self._base is None else rfc3339(self._base)
        rest = {"times are since": base, "events left out": self._left_out}
        yield f'\n],"otherData":{json.dumps(rest)}}}\n'

    def _taken_out(self) -> list[Fields]:
        made, self._made = self._made, []
        return made

    def _add(self, host: str | None, event: Event) -> None:
        if self._base is None:
            self._base = event.time - _DAYS
        if self._count >= MOST:
            self._left_out += 1
            return
        self._last = max(self._last, event.time)
        if type(event) is Call:
            self._call(host, event)
        elif type(event) is Command:
            if event.parent is None:  # else it comes with its call
                self._command(host, event, None)
        elif type(event) is DomainEvent:
            self._change(host, event)
        elif type(event) is Reads:
            self._reads(host, event)
        elif type(event) is Gap or type(event) is Lost:
            until = event.until if type(event) is Gap else event.time
            words = "".join(words for _, words in line_of(event)).strip()
            track = self._track((host, _RECORD), (host, _RECORD), _RECORD, "gaps and losses")
            self._slice(track, event.time, until - event.time, type(event).__name__.lower(), words)

    # what is seen

    def _call(self, host: str | None, call: Call) -> None:
        track = self._thread(host, call.caller, call.comm, call.tid)
        words = "".join(words for _, words in line_of(call)).strip()
        kinds = ["write" if call.write else "read"]
        kinds += ["failed"] if call.failed else []
        kinds += ["denied"] if is_denied(call) else []
        name = safe(call.function)
        if call.unfinished is not None:
            name = f"{name} ({safe(call.unfinished)})"
        ns = None if call.unfinished is not None else call.duration_ns
        self._slice(
            track, call.time, ns, name, words, ",".join(kinds), call_id(call.tid, call.time)
        )
        if ns is None:
            return  # nothing is known to lie within it
        for child in call.children:
            self._arrow(track, call.time, ns, self._child(host, call, child), child.time)

    def _child(self, host: str | None, call: Call, child: Call | Command | DomainEvent) -> Track:
        """Where what a call caused is seen."""
        if type(child) is Call:
            return self._thread(host, child.caller, child.comm, child.tid)
        if type(child) is DomainEvent:
            return self._domain(host, child.domain, _STATE)
        assert type(child) is Command
        return self._command(host, child, object_of(call))

    def _command(self, host: str | None, command: Command, about: Handle | None) -> Track:
        if about is not None and about.type == "domain":
            track = self._domain(host, about, _AGENT if command.to_agent else _MONITOR)
        else:
            track = self._thread(host, command.caller, command.comm, command.tid)
        words = "".join(words for _, words in line_of(command._replace(parent=None))).strip()
        name = command_name(command.text)
        text = safe(name) if isinstance(name, str) else "?"
        self._slice(track, command.time, command.duration_ns, text, words, "monitor")
        return track

    def _change(self, host: str | None, event: DomainEvent) -> None:
        track = self._domain(host, event.domain, _STATE)
        words = "".join(words for _, words in line_of(event)).strip()
        state = state_after(event.event, event.detail)
        if state is None:
            self._slice(track, event.time, None, safe(f"{event.event}: {event.detail}"), words)
            return
        self._end_state(track, event.time)
        self._states[track] = (event.time, state, {"event": words})

    def _end_state(self, track: Track, ns: int) -> None:
        if before := self._states.pop(track, None):
            begun, state, why = before
            self._slice(track, begun, max(0, ns - begun), state, why["event"], "state")

    def _reads(self, host: str | None, reads: Reads) -> None:
        """Counted calls are known by the minute in which they were counted, over all objects."""
        track = self._thread(host, reads.caller, reads.comm, reads.caller.pid)
        several = " for several processes" if reads.processes > 1 else ""
        name = f"{safe(reads.function)}, counted{several}"
        minutes = self._counted.setdefault((track, name), {})
        minute = reads.until // _MINUTE * _MINUTE
        if minute not in minutes:
            self._count += 2
        minutes[minute] = minutes.get(minute, 0) + reads.calls

    def _end(self) -> None:
        for track in list(self._states):
            self._end_state(track, self._last)
        for ((pid, tid), name), minutes in self._counted.items():
            for minute in sorted({*minutes, *(minute + _MINUTE for minute in minutes)}):
                args = {"calls a minute": minutes.get(minute, 0)}
                self._put({"ph": "C", "ts": self._ts(minute), "pid": pid, "tid": tid,
                           "name": name, "args": args})  # fmt: skip

    # tracks

    def _thread(self, host: str | None, caller: Caller, comm: str, tid: int) -> Track:
        program = os.path.basename(caller.exe or "") or comm
        where = "" if host is None else f"{safe(host)}: "
        process = (host, caller.pid, short(caller.exe or ""))
        title = f"{where}{safe(program)}"
        return self._track(process, (*process, tid), title, safe(comm), caller.pid, tid)

    def _domain(self, host: str | None, domain: Handle, what: str) -> Track:
        uuid = domain.fields.get("uuid")
        label = domain.label if isinstance(domain.label, str) else "?"
        key = ("domain", host, short(uuid if isinstance(uuid, str) else label))
        where = "" if host is None else f"{safe(host)}: "
        return self._track(key, (*key, what), f"{where}domain {safe(label)}", what)

    def _track(
        self,
        process: tuple[Any, ...],
        thread: tuple[Any, ...],
        title: str,
        name: str,
        pid: int | None = None,
        tid: int | None = None,
    ) -> Track:
        number = self._numbers.get(process)
        if number is None:
            number = self._number(process, pid)
            self._meta("process_name", number, number, title)
        key = ("thread", *thread)
        line = self._numbers.get(key)
        if line is None:
            line = number if pid is not None and tid == pid else self._number(key, tid)
            self._numbers[key] = line
            self._meta("thread_name", number, line, name)
        return number, line

    def _number(self, key: Hashable, wanted: int | None) -> int:
        """Its own number, if it has one that is not another's, too: they are used again, and each
        host has them.
        """
        if wanted is None or wanted in self._taken or not 0 < wanted < _FIRST_OWN:
            self._next += 1
            wanted = self._next
        self._taken.add(wanted)
        self._numbers[key] = wanted
        return wanted

    # events of the trace

    def _slice(
        self,
        track: Track,
        ns: int,
        duration: int | None,
        name: str,
        words: str,
        category: str = "",
        id: str = "",
    ) -> None:
        """What took a time; without one, what happened at a moment."""
        fields: Fields = {"ph": "X" if duration is not None else "i", "ts": self._ts(ns)}
        if duration is None:
            fields["s"] = "t"
        else:
            fields["dur"] = duration / 1000
        args = {"line": words, "id": id} if id else {"line": words}
        self._put({**fields, "pid": track[0], "tid": track[1], "name": name,
                   "cat": category or "event", "args": args})  # fmt: skip

    def _arrow(self, begin: Track, begun: int, took: int, end: Track, ns: int) -> None:
        """From within a slice to the one that begins at `ns`."""
        self._flows += 1
        leaves = min(max(ns, begun), begun + took)
        common: Fields = {"name": "caused", "cat": "cause", "id": self._flows}
        self._put({"ph": "s", "ts": self._ts(leaves), "pid": begin[0], "tid": begin[1], **common})
        # a nanosecond later, so that it ends in what begins then and not in what ends
        self._put({"ph": "f", "bp": "e", "ts": self._ts(max(ns, leaves) + 1), "pid": end[0],
                   "tid": end[1], **common})  # fmt: skip

    def _meta(self, what: str, pid: int, tid: int, name: str) -> None:
        self._put({"ph": "M", "pid": pid, "tid": tid, "name": what, "args": {"name": name}})

    def _put(self, fields: Fields) -> None:
        self._count += 1
        self._made.append(fields)

    def _ts(self, ns: int) -> float:
        assert self._base is not None
        return max(0, ns - self._base) / 1000
