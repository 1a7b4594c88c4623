# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is asked of a record: filters come in; which frames, lines and events may be meant goes
out, the cheapest test first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from log.events import Call, Caller, Command, DomainEvent, Event, Reads, Value
from log.filter import (
    ended_so,
    is_about,
    is_one_of,
    matches,
    names_of,
    program_of,
    uuids_of,
    wants_function,
)
from log.recording.format import DENIED, FAILED, NOTICES, WRITES, Row, name_hash
from log.render import jsonl

Group = tuple[bytes, ...]  # a line that is meant holds one of them
_WILD = re.compile(r"[*?]|\[.*?\]")
_TOLD = b'"parent":null'  # in the lines of calls that nothing recorded has caused
_CAUSED = b'"parent":"'  # in those of others
_CALLS = (b'{"type":"call"', b'{"type":"unfinished"', b'{"type":"verdict"')
_COUNTED = b'{"type":"reads"'


@dataclass(frozen=True)
class Query:
    """The user's choice; what is empty or None leaves everything in."""

    pids: tuple[int, ...] = ()
    users: tuple[str, ...] = ()  # names or numbers
    comms: tuple[str, ...] = ()  # names or globs
    functions: tuple[str, ...] = ()  # globs; "!" before one leaves out
    objects: tuple[str, ...] = ()  # globs
    uuids: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()  # globs
    rules: tuple[str, ...] = ()  # globs
    grep: str | None = None  # in the line
    writes: bool = False
    failed: bool = False
    slower_ns: int | None = None
    nested: bool = False
    since: int | None = None  # ns
    until: int | None = None  # ns
    # what daemons do for a call is on lines of its own, and needed nowhere else
    alone: bool = False

    @cached_property
    def chooses(self) -> bool:
        """Whether anything is left out but inner calls."""
        return self != Query(
            nested=self.nested, alone=self.alone, since=self.since, until=self.until
        )

    def may_hold(self, row: Row) -> bool:
        """Whether a frame may hold what is meant."""
        if (self.since is not None and row.last < self.since) or (
            self.until is not None and row.first > self.until
        ):
            return False
        if row.holds & NOTICES:
            return True
        if self.writes and not row.holds & WRITES:
            return False
        if self.failed and not row.holds & (FAILED | DENIED):
            return False
        return row.names is None or all(not wanted.isdisjoint(row.names) for wanted in self._hashes)

    def may_mean(self, line: bytes) -> bool:
        """Whether a line may be meant. Those of calls need not be, alone or counted; what
        daemons did for a call goes with it.
        """
        if not line.startswith(_CALLS):
            return not line.startswith(_COUNTED) or all(
                any(part in line for part in group) for group in self._of_reads
            )
        if not self.alone and _TOLD not in line:
            return all(any(part in line for part in group) for group in self._named)
        return all(any(part in line for part in group) for group in (*self._named, *self._groups))

    @cached_property
    def needles(self) -> Group | None:
        """What one at least of a frame's bytes hold, if a call in it is meant; None: it can't
        be told.
        """
        groups = [*self._named, *(self._groups if self.alone else [])]
        return groups[0] if groups else None

    @cached_property
    def parts(self) -> Group:
        """What one at least of is in the line of each call that may be meant; nothing: it can't
        be told.
        """
        if self._named or not self._groups:
            return self._named[0] if self._named else ()
        return self._groups[0] if self.alone else (*self._groups[0], _CAUSED)

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
            return self.takes_part(event) and self._keeps_call(event)
        if type(event) is Reads:
            return self._keeps_reads(event)
        if type(event) is DomainEvent:
            if (
                self.clients
                or self.rules
                or not (event.parent or self._of_process(event.caller, event.comm, None))
            ):
                return False
            return self._about(event) and self._says(event)
        if type(event) is Command:
            return bool(event.parent) or self._of_process(event.caller, event.comm, None)
        return True

    def _keeps_call(self, call: Call) -> bool:
        if not ended_so(call, failed=self.failed, slower_ns=self.slower_ns):
            return False
        if self.rules and (call.verdict is None or not matches(call.verdict.rule, self.rules)):
            return False
        return self._for(call.client) and self._about(call) and self._says(call)

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
        of_process = self._of_process(event.caller, event.comm, event.client)
        return of_process and self._for(event.client) and self._about(event) and self._says(event)

    def _in_time(self, event: Event) -> bool:
        if self.since is not None:
            until: int = getattr(event, "until", event.time)
            last = max(until, event.time + (getattr(event, "duration_ns", None) or 0))
            if last < self.since:
                return False
        return self.until is None or event.time <= self.until

    def _wants(self, function: str) -> bool:
        return wants_function(function, self.functions)

    def _of_process(self, caller: Caller, comm: str, client: object) -> bool:
        known: dict[str, Value] = client if isinstance(client, dict) else {}
        return (
            (not self.pids or caller.pid in self.pids or known.get("pid") in self.pids)
            and (
                not self.users
                or _is_user(caller.uid, caller.user, self.users)
                or _is_client_user(known, self.users)
            )
            and (
                not self.comms
                or is_one_of(comm, self.comms)
                or is_one_of(program_of(known), self.comms)
            )
        )

    def _for(self, client: object) -> bool:
        if not self.clients:
            return True
        if not isinstance(client, dict):
            return False
        said = [
            str(client[key])
            for key in ("pid", "user", "uid", "sasl", "x509", "address", "exe")
            if client.get(key) is not None
        ]
        return any(matches(word, self.clients) for word in (*said, program_of(client)))

    def _about(self, event: Event) -> bool:
        """Whether it is about one of the objects; where that can't be told, too."""
        return is_about(names_of(event), self.objects) and is_about(uuids_of(event), self.uuids)

    def _says(self, event: Event) -> bool:
        return self.grep is None or self.grep in jsonl.line(event)

    @cached_property
    def _hashes(self) -> list[frozenset[int]]:
        """For each filter by name the hashes of which a frame holds one; none where there are
        wildcards.
        """
        literal = [
            names
            for names in (self.objects, self.uuids)
            if names and not any(_WILD.search(name) for name in names)
        ]
        return [frozenset(map(name_hash, names)) for names in literal]

    @cached_property
    def _named(self) -> list[Group]:
        """What holds for a call and for what daemons did for it."""
        groups = [_parts(names, (b'"args":null',)) for names in (self.objects, self.uuids) if names]
        return [group for group in groups if group]

    @cached_property
    def _of_reads(self) -> list[Group]:
        """What holds for calls that were counted."""
        return [group for group in (*self._named, self._of_pids, self._of_functions) if group]

    @cached_property
    def _of_pids(self) -> Group:
        return tuple(b'"pid":%d,' % pid for pid in self.pids) + tuple(
            b'"pid":%d}' % pid for pid in self.pids
        )

    @cached_property
    def _of_functions(self) -> Group:
        return _parts(tuple(glob for glob in self.functions if not glob.startswith("!")))

    @cached_property
    def _groups(self) -> list[Group]:
        groups: list[Group] = []
        if self.grep is not None:
            groups.append((self.grep.encode(errors="surrogateescape"),))
        if self.writes:
            groups.append((b'"write":true',))
        if self.failed:
            groups.append((b'"failed":true', b'"action":"deny"'))
        groups += [
            group for group in (self._of_pids, self._of_functions, _parts(self.rules)) if group
        ]
        return groups


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


def _is_user(uid: int, user: str | None, wanted: tuple[str, ...]) -> bool:
    return str(uid) in wanted or user in wanted


def _is_client_user(client: dict[str, Value], wanted: tuple[str, ...]) -> bool:
    return any(
        client.get(key) is not None and str(client[key]) in wanted for key in ("uid", "user")
    )
