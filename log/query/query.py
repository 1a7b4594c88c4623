# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is asked of a record: filters come in; which frames, lines and events may be meant goes
out, the cheapest test first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from log.client import UNKNOWN, Client
from log.events import Call, Caller, Command, DomainEvent, Event, Owed, Reads
from log.filters.about import (
    ended_so,
    is_about,
    is_one_of,
    matches,
    names_of,
    uuids_of,
    wants_function,
)
from log.recording.index import (
    DENIED,
    DOMAINS,
    FAILED,
    NOTICES,
    WRITES,
    FrameRow,
    Index,
    of_function,
    of_process,
)
from log.render import jsonl

Group = tuple[bytes, ...]  # a line that is meant holds one of them
_WILD = re.compile(r"[*?]|\[.*?\]", re.DOTALL)
_TOLD = b'"parent":null'  # in the lines of calls that nothing recorded has caused
CAUSED = b'"parent":"'  # in those of others
CALLS = (b'{"type":"call"', b'{"type":"unfinished"', b'{"type":"verdict"')
COMMANDS = (b'{"type":"monitor"', b'{"type":"agent"')
_CHANGE = b'{"type":"domain"'
_COUNTED = b'{"type":"reads"'
_SEVERAL = b'"pids":['  # in those of several processes


@dataclass(frozen=True)
class Query:
    """The user's choice; what is empty or None leaves everything in."""

    pids: tuple[int, ...] = ()
    users: tuple[str, ...] = ()  # names or numbers
    comms: tuple[str, ...] = ()  # names or globs
    functions: tuple[str, ...] = ()  # globs; "!" before one leaves out
    objects: tuple[str, ...] = ()  # globs
    uuids: tuple[str, ...] = ()
    renamed: tuple[str, ...] = ()  # UUIDs of domains that were once called as one of the objects
    clients: tuple[str, ...] = ()  # globs
    rules: tuple[str, ...] = ()  # globs
    grep: str | None = None  # in the line
    writes: bool = False
    failed: bool = False
    slower_ns: int | None = None
    nested: bool = False
    since: int | None = None  # ns
    until: int | None = None  # ns
    alone: bool = False  # what daemons do for a call is shown on lines of its own

    @cached_property
    def chooses(self) -> bool:
        """Whether anything is left out but inner calls."""
        return self != Query(
            nested=self.nested, alone=self.alone, since=self.since, until=self.until
        )

    @cached_property
    def is_of_calls(self) -> bool:
        """Whether it asks for some calls only by what they are: what was done for others is none
        of them.
        """
        return bool(
            self.functions
            or self.clients
            or self.rules
            or self.writes
            or self.failed
            or self.slower_ns is not None
        )

    @cached_property
    def orphans(self) -> bool:
        """Whether a change that is meant is shown, too, where the call that did it is not."""
        return not (self.is_of_calls or self.pids or self.users or self.comms)

    def may_hold(self, row: FrameRow) -> bool:
        """Whether a frame may hold what is meant by itself, by what is known but for its words."""
        if (self.since is not None and row.last < self.since) or (
            self.until is not None and row.first > self.until
        ):
            return False
        if row.holds & (NOTICES | self._changes):
            return True
        if self.writes and not row.holds & WRITES:
            return False
        return not self.failed or bool(row.holds & (FAILED | DENIED))

    def frames_of(self, index: Index) -> int | None:
        """The frames that may hold what is meant, by their words, as bits; None: all."""
        words = [
            names
            for names in (self._objects, self.uuids)
            if names and not any(map(_WILD.search, names))
        ]
        loose = []  # a change of a domain need not have these
        if self.pids:
            loose.append(tuple(map(of_process, self.pids)))
        if self.functions and not any(
            glob[0] == "!" or _WILD.search(glob) for glob in self.functions if glob
        ):
            loose.append(tuple(map(of_function, self.functions)))
        if not words and not loose:
            return None
        frames = (1 << len(index.rows)) - 1
        if loose:
            changes = _frames_that_hold(index, self._changes)
            for group in loose:
                frames &= index.frames_with(group) | changes
        for group in words:
            frames &= index.frames_with(group)
        return frames | _frames_that_hold(index, NOTICES)

    @cached_property
    def _changes(self) -> int:
        """What tells of a frame that it holds changes of domains, if those are shown."""
        return 0 if self.clients or self.rules else DOMAINS

    def may_keep(self, line: bytes) -> bool:
        """Whether a line may be meant by itself."""
        if not self.chooses:
            return True
        if line.startswith(CALLS):
            groups = (*self._named, *self._taking_part, *self._ended)
        elif line.startswith(_COUNTED):
            if self.writes or self.rules:
                return False
            groups = (*self._named, *self._said)
            if _SEVERAL not in line:
                groups = (*groups, *self._taking_part)
        elif line.startswith(COMMANDS):
            return not self.is_of_calls and not self._named and _TOLD in line
        elif line.startswith(_CHANGE):
            if not self._changes:
                return False
            groups = (*self._named, *self._said)
        else:
            return True
        return _holds_each(line, groups)

    def may_join(self, line: bytes) -> bool:
        """Whether a line may be told with the call that it was done for."""
        if line.startswith(CALLS) and not _holds_each(line, (*self._named, *self._taking_part)):
            return False
        return CAUSED in line

    @cached_property
    def parts(self) -> Group:
        """What one at least of is in each line that may be meant by itself, but for notices;
        nothing: it can't be told.
        """
        if self._named:
            return self._named[0]
        groups = [*self._ended, *self._taking_part]
        if not groups:
            return ()
        others: list[bytes] = []
        if self._changes:
            others.append(_CHANGE)
        if not (self.writes or self.rules):
            others.append(_COUNTED)
        if not self.is_of_calls:
            others += COMMANDS
        return (*groups[0], *others)

    def takes_part(self, call: Call) -> bool:
        """Whether it would have been traced with these filters: it is shown, or counts as done
        for one that is.
        """
        return (
            (self.nested or not call.depth)
            and (call.write or not self.writes)
            and self._wants(call.function)
            and self._of_process(call.caller, call.comm, call.client)
        )

    def keeps(self, event: Event) -> bool:
        """Whether an event by itself is shown."""
        if not self._in_time(event):
            return False
        if type(event) is Call:
            ended = ended_so(event, failed=self.failed, slower_ns=self.slower_ns)
            return ended and self._means(event) and self._says(event)
        if type(event) is Reads:
            return self._keeps_reads(event)
        if type(event) is DomainEvent:
            if (
                self.clients
                or self.rules
                or not (event.parent or self._of_process(event.caller, event.comm, None))
            ):
                return False
            return self.about(event) and self._says(event)
        if type(event) is Command:
            return bool(event.parent) or (
                not (self.is_of_calls or self.objects or self.uuids)
                and self._of_process(event.caller, event.comm, None)
            )
        if type(event) is Owed:
            return self._keeps_owed(event)
        return True

    def _keeps_owed(self, event: Owed) -> bool:
        pid, user, uid = (event.by.get(key) for key in ("pid", "user", "uid"))
        exe, address = event.by.get("exe"), event.by.get("address")
        program = os.path.basename(exe) if isinstance(exe, str) else ""
        said = [str(it) for it in (pid, user, uid, exe, program, address) if it is not None]
        return (
            not (self.functions or self.rules or self.failed or self.slower_ns is not None)
            and (not self.clients or any(matches(word, self.clients) for word in said))
            and (not self.pids or pid in self.pids)
            and (not self.users or str(uid) in self.users or user in self.users)
            and (not self.comms or is_one_of(program, self.comms))
            and self.about(event)
            and self._says(event)
        )

    def _means(self, call: Call) -> bool:
        """Whether it is meant by what it has in common with those that are alike."""
        alike = call.alike
        if alike is None:
            return self._means_alike(call)
        known: tuple[Query, bool] | None = alike.get("meant")
        if known is None or known[0] is not self:
            known = alike["meant"] = self, self._means_alike(call)
        return known[1]

    def _means_alike(self, call: Call) -> bool:
        if self.rules and (call.verdict is None or not matches(call.verdict.rule, self.rules)):
            return False
        return self.takes_part(call) and self._for(call.client) and self.about(call)

    def _keeps_reads(self, event: Reads) -> bool:
        if (
            self.writes
            or self.rules
            or (self.failed and not event.failed)
            or not self._wants(event.function)
        ):
            return False
        if self.slower_ns is not None and event.max_ns < self.slower_ns:
            return False
        asked = self
        if (
            self.pids
            and event.pids
            and (event.processes > len(event.pids) or not set(self.pids).isdisjoint(event.pids))
        ):
            asked = replace(self, pids=())  # one of them is meant, or may be
        of_process = asked._of_process(event.caller, event.comm, event.client)
        return of_process and self._for(event.client) and self.about(event) and self._says(event)

    def _in_time(self, event: Event) -> bool:
        if self.since is not None:
            until: int = getattr(event, "until", event.time)
            last = max(until, event.time + (getattr(event, "duration_ns", None) or 0))
            if last < self.since:
                return False
        return self.until is None or event.time <= self.until

    def _wants(self, function: str) -> bool:
        return wants_function(function, self.functions)

    def _of_process(self, caller: Caller, comm: str, client: Client | None) -> bool:
        known = _proved(client) or UNKNOWN
        return (
            (not self.pids or caller.pid in self.pids or known.pid in self.pids)
            and (
                not self.users
                or _is_user(caller.uid, caller.user, self.users)
                or _is_user(known.uid, known.user, self.users)
            )
            and (
                not self.comms
                or is_one_of(comm, self.comms)
                or is_one_of(known.program, self.comms)
            )
        )

    def _for(self, client: Client | None) -> bool:
        if not self.clients:
            return True
        client = _proved(client)
        if client is None:
            return False
        said = (client.pid, client.user, client.uid, client.sasl, client.x509, client.address)
        words = [str(word) for word in (*said, client.exe, client.program) if word is not None]
        return any(matches(word, self.clients) for word in words)

    def about(self, event: Event) -> bool:
        """Whether it is about one of the objects; where that can't be told, too."""
        if not (self.objects or self.uuids):
            return True
        uuids = uuids_of(event)
        called = is_about(names_of(event), self.objects)
        if not called and self.renamed and uuids is not None:
            uuids = list(uuids)
            called = not set(self.renamed).isdisjoint(uuids)
        return called and is_about(uuids, self.uuids)

    def _says(self, event: Event) -> bool:
        return self.grep is None or self.grep in jsonl.line(event)

    @cached_property
    def _objects(self) -> tuple[str, ...]:
        """What one of is in all that is about the objects."""
        return (*self.objects, *self.renamed)

    @cached_property
    def _named(self) -> list[Group]:
        """What holds for all that is shown, but for questions to monitors."""
        both = (self._objects, self.uuids)
        groups = [_parts(names, (b'"args":null',)) for names in both if names]
        return [group for group in groups if group]

    @cached_property
    def _taking_part(self) -> list[Group]:
        """What holds for calls, and for those that were made for them."""
        pids = [b'"pid":%d%b' % (pid, end) for pid in self.pids for end in (b",", b"}")]
        functions = _parts(tuple(glob for glob in self.functions if not glob.startswith("!")))
        writes = (b'"write":true',) if self.writes else ()
        return [group for group in (tuple(pids), functions, writes) if group]

    @cached_property
    def _said(self) -> list[Group]:
        return [] if self.grep is None else [(self.grep.encode(errors="surrogateescape"),)]

    @cached_property
    def _ended(self) -> list[Group]:
        """What holds for calls, and not for those that were made for them."""
        failed = (b'"failed":true', b'"action":"deny"') if self.failed else ()
        return [*self._said, *(group for group in (failed, _parts(self.rules)) if group)]


def _holds_each(line: bytes, groups: Iterable[Group]) -> bool:
    return all(any(part in line for part in group) for group in groups)


def _frames_that_hold(index: Index, what: int) -> int:
    """As bits."""
    if not what:
        return 0
    digits = "".join("1" if row.holds & what else "0" for row in reversed(index.rows))
    return int(digits or "0", 2)


def _parts(globs: tuple[str, ...], more: Group = ()) -> Group:
    """Of each glob the longest part that stands in the line as it is; nothing, if there is one
    without.
    """
    found = []
    for glob in globs:
        part = max(_WILD.split(glob), key=len)
        if not part or not re.fullmatch(r"[A-Za-z0-9_./:@-]+", part):
            return ()
        found.append(part.encode())
    return (*found, *more) if found else ()


def _proved(client: Client | None) -> Client | None:
    """The client, unless nothing but the word of anybody's program says who it is."""
    return None if client is None or client.unproved else client


def _is_user(uid: int | None, user: str | None, wanted: tuple[str, ...]) -> bool:
    return str(uid) in wanted or user in wanted
