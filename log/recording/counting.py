# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events come in; those that a record keeps go out: what polling programs read all day is
counted, a line a minute, also where each question is a process of its own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from log.events import BEGUN, Call, Caller, Command, DomainEvent, Event, Reads, call_id
from log.values import Handle

FULL, COUNTED, NONE = MODES = ("full", "counted", "none")
EVERY_NS = 60_000_000_000
# of calls of a process that are alike; when there are more, all that was counted is written
MOST_GROUPS = 16384
MOST_PIDS = 32  # of processes that are counted together, which are told
# failed and slow reads of a group that are written out, between two times that it is
MOST_IN_FULL = 100
MOST_HELD = 65536  # events that wait for the call that they were made for
# ns: the span that is told is as many longer, as digits that differ on each line are half of what
# the lines take on disk
_ROUND = 1_000_000
_NEVER = 1 << 63  # ns
NO_PROBE = "no return probe"  # `unfinished` of all calls on some kernels


class _Group:
    """Calls that are alike."""

    def __init__(self, counting: Counting, call: Call, found: Handle | None) -> None:
        self.of: Counting | None = counting  # that it is one of yet
        self.caller: Caller = call.caller
        self.comm = call.comm
        self.client = call.client
        self.function = call.function
        self.object = found
        self.caused = call.parent is not None
        self.makers = 0
        self.pids: dict[int, None] = {}  # in order
        self.begin()

    def begin(self) -> None:
        """None is counted."""
        self.first, self.last = _NEVER, 0
        self.calls = self.failed = self.total = self.longest = self.in_full = 0

    def join(self, call: Call) -> None:
        """Another process image makes such calls, or has them made."""
        self.makers += 1
        self.alike: dict[str, Any] = {}
        pid = call.client.pid if call.client else None
        self.pids[call.caller.pid if pid is None else pid] = None
        caller = self.caller
        if caller is not call.caller and caller.cmdline != call.caller.cmdline:
            self.caller = caller._replace(cmdline=None)

    def add(self, begun: int, took: int) -> None:
        """Count one in that did not fail."""
        if begun < self.first:
            self.first = begun
        if begun + took > self.last:
            self.last = begun + took
        self.calls += 1
        self.total += took
        if took > self.longest:
            self.longest = took

    def event(self) -> Reads:
        """What is written of them."""
        several = len(self.pids) > 1
        client = self.client.in_common() if several and self.client else self.client
        return Reads(
            self.first // _ROUND * _ROUND,
            -(-self.last // _ROUND) * _ROUND,
            self.caller,
            self.comm,
            client,
            self.function,
            self.object,
            self.calls,
            self.failed,
            self.total,
            self.longest,
            self.caused,
            len(self.pids) if several else 1,
            tuple(self.pids)[:MOST_PIDS] if several else (),
            self.alike,
        )


class Counting:
    """What is counted between two lines."""

    def __init__(self, mode: str = COUNTED, slower_ns: int | None = None) -> None:
        """`slower_ns`: reads that took longer are written out."""
        self._mode = mode
        self._slower = slower_ns
        # those of one process image go on with the next minute: mostly that makes the same calls
        self._groups: dict[Hashable, _Group] = {}
        # the same by who makes them, by identity, as that is quick; both are held for that
        self._known: dict[Hashable, tuple[_Group, Caller, object]] = {}
        # by the id of the call that they were made for
        self._held: dict[str, list[Call | Command]] = {}
        self._held_count = 0
        self._held_since: int | None = None
        self._wanted: set[str] = set()  # ids of calls that caused what was written
        self._told = time.time_ns()
        self.left_out: Counter[str] = Counter()  # calls, with `none`

    def of(self, events: Sequence[Event], now: int) -> Sequence[Event]:
        """The events that are written, at the time `now` (ns)."""
        if self._mode == FULL:
            return events
        kept: list[Event] = []
        for event in events:
            if type(event) is Call:
                alike = event.alike
                known = None if alike is None else alike.get("counted")
                if known is None and alike and BEGUN in alike:
                    known = alike[BEGUN].get("counted")
                if known and known.of is self and not (self._held or self._wanted):
                    took = event.duration_ns or 0
                    if self._slower is None or took < self._slower:
                        known.add(event.time, took)
                        continue
                self._sort(event, kept)
            elif type(event) is Command:
                self._sort(event, kept)
            else:
                if type(event) is DomainEvent:
                    self._want(event.parent)
                kept.append(event)
        if len(self._known) >= MOST_GROUPS:
            self._tell(now, kept, ends=True)
        elif now >= self._told + EVERY_NS:
            self._tell(now, kept)
        return kept

    def due(self, now: int) -> list[Event]:
        """What is to be said of what was counted, if it is time."""
        kept: list[Event] = []
        if (self._groups or self._held) and now >= self._told + EVERY_NS:
            self._tell(now, kept)
        return kept

    def rest(self) -> list[Event]:
        """All that was counted and not said."""
        kept: list[Event] = []
        self._release(kept)
        kept += self._events(ends=True)
        return kept

    def _sort(self, event: Call | Command, kept: list[Event]) -> None:
        """Have it written, counted or held until it is known which."""
        if type(event) is Call and (event.parent is None or self._matters(event)):
            self._settle(event, self._matters(event) if event.parent is None else True, kept)
        elif event.parent is None or self._held_count >= MOST_HELD:
            kept.append(event)
        else:
            self._held.setdefault(event.parent, []).append(event)
            self._held_count += 1

    def _matters(self, call: Call) -> bool:
        """Whether it is written out for its own sake, or for what was done for it."""
        if call.write or (call.verdict is not None and call.verdict.action != "allow"):
            return True
        if call.unfinished is not None and call.unfinished != NO_PROBE:
            return True
        if self._wanted and call_id(call.tid, call.time) in self._wanted:
            return True
        slow = (
            self._slower is not None
            and call.duration_ns is not None
            and call.duration_ns >= self._slower
        )
        return bool(call.failed or slow) and self._has_room(call)

    def _want(self, cause: str | None) -> None:
        """The call that a written event was caused by is written, too."""
        if cause is not None:
            if len(self._wanted) >= MOST_HELD:
                self._wanted.clear()
            self._wanted.add(cause)

    def _settle(self, call: Call, full: bool, kept: list[Event]) -> None:
        """Write the call and what waited for it, or count them."""
        id = call_id(call.tid, call.time)
        self._wanted.discard(id)
        for event in self._held.pop(id, ()):
            self._held_count -= 1
            if type(event) is Call:
                self._settle(event, full, kept)
            elif full:
                kept.append(event)
        if full:
            self._want(call.parent)
            kept.append(call)
        else:
            group = self._group_of(call)
            group.add(call.time, call.duration_ns or 0)
            group.failed += bool(call.failed)
            if call.alike is not None:  # so are those that follow, at most slower
                call.alike.get(BEGUN, call.alike)["counted"] = group

    def _has_room(self, call: Call) -> bool:
        group = self._group_of(call)
        group.in_full += 1
        return group.in_full <= MOST_IN_FULL

    def _group_of(self, call: Call) -> _Group:
        found, about = _object(call)
        caller, client = call.caller, call.client
        rest = (call.comm, call.function, about, call.parent is None)
        quick = (id(caller), id(client), rest)
        known = self._known.get(quick)
        if known is None or known[0].of is None:
            maker = caller if client else caller._replace(pid=0, cmdline=None)
            key = (maker, client and client.in_common(), rest)
            group = self._groups.get(key)
            if group and not (group.calls or group.in_full):
                group.of = None  # another one made these calls, and has not called since
                group = None
            if group is None:
                group = self._groups[key] = _Group(self, call, found)
            group.join(call)
            known = self._known[quick] = (group, caller, client)
        return known[0]

    def _tell(self, now: int, kept: list[Event], *, ends: bool = False) -> None:
        if self._held_since is not None and now >= self._held_since + EVERY_NS:
            self._release(kept)
        kept += self._events(ends=ends)
        self._told = now
        self._held_since = now if self._held else None

    def _events(self, *, ends: bool) -> list[Event]:
        """What was counted, and begins anew; `ends`: nothing that is known goes on."""
        told: list[Event] = []
        going_on: dict[Hashable, _Group] = {}
        for key, group in self._groups.items():
            if group.calls and self._mode == NONE:
                self.left_out[group.function] += group.calls
            elif group.calls:
                told.append(group.event())
            if group.calls and group.makers == 1 and not ends:
                going_on[key] = group
                group.begin()
            else:
                group.of = None
        self._groups = going_on
        self._known = {quick: known for quick, known in self._known.items() if known[0].of}
        return told

    def _release(self, kept: list[Event]) -> None:
        """Write what has waited too long for its call."""
        for events in self._held.values():
            kept += events
        self._held, self._held_count = {}, 0


def _object(call: Call) -> tuple[Handle | None, Hashable]:
    """The object that the call is on, and what tells it from others; a connection is none."""
    if call.args is None:
        return None, None
    known = call.args.rendered.get("object")
    if known is None:
        handles = [
            item
            for item in call.args.values.values()
            if isinstance(item, Handle) and item.type != "connect"
        ]
        found = handles[0] if handles else None
        about = (
            None
            if found is None
            else (found.type, tuple((key, str(item)) for key, item in found.fields.items()))
        )
        known = call.args.rendered["object"] = (found, about)
    return known
