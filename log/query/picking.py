# SPDX-License-Identifier: LGPL-2.1-or-later
"""The content of a frame, or another piece of a record, comes in; the lines that an answer may
depend on go out, the others are not even cut out.

An answer is the same as if each line were looked at. It depends on lines that may be meant by
themselves; on the calls that those were done for, as what is shown waits for these; and on what was
done for calls that are meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from log.query.past import Closed, Past, Window
from log.query.query import CALLS, CAUSED, COMMANDS, Query
from log.recent import Recent
from log.recording.index import CAUSED as HAS_CAUSED
from log.recording.index import NOTICES

Lines = list[tuple[int, bytes]]  # where each begins, and its bytes
MOST_GIVEN = 1 << 17  # ids of lines that are remembered, not to give them twice
MOST_AWAITED = 65536  # calls
_FEW = 16
# the end of the line before one that is no call's
_OTHERS = re.compile(rb'\n(?!\{"type":"(?:call|unfinished|verdict)")')
_ID = rb'"([0-9]{1,20}-[0-9]{1,20})"'
_own = re.compile(rb'"id":' + _ID)
_parent = re.compile(rb'"parent":' + _ID)
_one_of = re.compile(rb'"one_of":\[([-0-9",]*)\]')


class Picker:
    """What of one host's record is still waited for, and what was given."""

    def __init__(self, query: Query) -> None:
        self._query, self.past = query, Past()
        self._awaited: set[bytes] = set()  # ids of calls
        self._latest = 0  # ns: when the last of them began
        self._given: Recent[bytes, None] = Recent(MOST_GIVEN)
        self._late: Lines = []  # with the lines that were picked last
        self._kin: set[bytes] = set()  # calls that these were done for

    def awaits(self, first: int) -> bool:
        """Whether a frame, of which the earliest begin is known, may hold a call that is waited
        for.
        """
        return bool(self._awaited) and first <= self._latest

    def frame(self, content: bytes, holds: int, source: Closed) -> Iterator[bytes]:
        """Of the frame that is read of a segment with an index; `holds`: as the index says."""
        if not self._query.chooses:
            lines = list(_all(content))
            source.read_whole()
        else:
            lines = self._picked(content, notices=bool(holds & NOTICES), joins=False)
        return self._given_with_kin(content if holds & HAS_CAUSED else b"", lines)

    def piece(self, content: bytes, window: Window) -> Iterator[bytes]:
        """Of what has no index: all that may have been done for others is given, too."""
        if not self._query.chooses:
            lines = list(_all(content))
        else:
            lines = self._picked(content, notices=True, joins=True)
            window.add(content)
        return self._given_with_kin(b"", lines)

    def _given_with_kin(self, content: bytes, lines: Lines) -> Iterator[bytes]:
        """The lines, and before them those of what was done for the calls among them. `content`:
        where there may be some of it, too.
        """
        if not lines:
            return
        before: list[Lines] = []
        # of those that are waited for, too: what was done for a call is shown in its order
        calls = _calls_among(lines) | self._kin
        if calls:
            if content:
                lines = sorted({*lines, *self._joining(content, calls)})
            first = min(map(_begin_of, calls))
            if self.past.has_caused(first):
                for past in self.past.caused(first):
                    before.append(self._joining(past, calls))
        for group in (*reversed(before), self._late, lines):
            for _, line in group:
                if self._query.chooses and (own := _own.search(line)):
                    self._given.put(own[1], None)
                yield line

    def _picked(self, content: bytes, *, notices: bool, joins: bool) -> Lines:
        """The lines that may be meant, or are waited for. `notices`: there may be some among them;
        `joins`: with all that may have been done for others.
        """
        query, parts = self._query, self._query.parts
        if parts and joins:
            parts = (*parts, CAUSED)
        found: dict[int, bytes] = {}
        causes: set[bytes] = set()  # calls that are waited for
        kin: set[bytes] = set()  # other calls that something was done for
        for begin, line in _with(content, parts, notices) if parts else _all(content):
            if query.may_keep(line):
                found[begin] = line
                causes.update(_causes_of(line))
            elif joins and query.may_join(line):
                found[begin] = line
                kin.update(_parent.findall(line))
        self._kin = kin | causes
        new = {cause for cause in causes if cause not in self._given}
        self._await(new)
        if self._awaited:
            found.update(self._arrived(content, found.values()))
        self._late = self._late_ones(new & self._awaited)
        return sorted(found.items())

    def _joining(self, content: bytes, calls: set[bytes]) -> Lines:
        """The lines of what was done for these calls, and for what was; those ids become more."""
        found = []
        for hit in reversed(list(_parent.finditer(content))):  # what is done for a call ends before
            if hit[1] in calls:
                begin, line = _around(content, hit.start())
                own = _own.search(line)
                if own and own[1] not in self._given and self._query.may_join(line):
                    found.append((begin, line))
                    calls.add(own[1])
        return found[::-1]

    def _await(self, calls: set[bytes]) -> None:
        if calls and len(self._awaited) < MOST_AWAITED:
            self._awaited |= calls
            self._latest = max(self._latest, *map(_begin_of, calls))

    def _arrived(self, content: bytes, found: Iterable[bytes]) -> Lines:
        """The lines of calls that were waited for."""
        for line in found:
            if own := _own.search(line):
                self._awaited.discard(own[1])
        arrived = []
        for id, at in _places(content, self._awaited):
            begin, line = _around(content, at)
            if (own := _own.search(line)) and own[1] == id and line.startswith(CALLS):
                self._awaited.discard(id)
                arrived.append((begin, line))
        return arrived

    def _late_ones(self, calls: set[bytes]) -> Lines:
        """Of these, those that had ended before what was done for them."""
        late: Lines = []
        if calls:
            for past in self.past.all(min(map(_begin_of, calls))):
                late += self._arrived(past, ())
                if not calls & self._awaited:
                    break
        return late


def _causes_of(line: bytes) -> Iterator[bytes]:
    """The calls that it was done for; those of commands are found before these are."""
    if not line.startswith(COMMANDS):
        if CAUSED in line:
            yield from _parent.findall(line)
        for ids in _one_of.findall(line):
            yield from ids.replace(b'"', b"").split(b",")


def _places(content: bytes, ids: set[bytes]) -> list[tuple[bytes, int]]:
    """Where lines with these ids may be."""
    if len(ids) > _FEW:
        return [(hit[1], hit.start()) for hit in _own.finditer(content) if hit[1] in ids]
    found = []
    for id in ids:
        at = content.find(b'"id":"%b"' % id)
        while at >= 0:
            found.append((id, at))
            at = content.find(b'"id":"%b"' % id, at + 1)
    return found


def _calls_among(lines: Lines) -> set[bytes]:
    """Their ids."""
    found = (_own.search(line) for _, line in lines if line.startswith(CALLS))
    return {own[1] for own in found if own}


def _begin_of(call: bytes) -> int:
    """When it began, ns, as its id says."""
    digits = call.rpartition(b"-")[2]
    return int(digits) if digits.isdigit() else 0


def _around(content: bytes, at: int) -> tuple[int, bytes]:
    """The line that is there."""
    begin = content.rfind(b"\n", 0, at) + 1
    end = content.find(b"\n", at)
    return begin, content[begin : end if end >= 0 else None]


def _all(content: bytes) -> Iterator[tuple[int, bytes]]:
    begin = 0
    for line in content.split(b"\n"):
        if line:
            yield begin, line
        begin += len(line) + 1


def _with(content: bytes, parts: tuple[bytes, ...], notices: bool) -> Iterator[tuple[int, bytes]]:
    """The lines that hold one of the parts, and all that are not of calls if there may be
    notices.
    """
    begins = {0, *(found.end() for found in _OTHERS.finditer(content))} if notices else set()
    for part in parts:
        at = content.find(part)
        while at >= 0:
            begins.add(content.rfind(b"\n", 0, at) + 1)
            end = content.find(b"\n", at)
            at = content.find(part, end + 1) if end >= 0 else -1
    for begin in sorted(begins):
        end = content.find(b"\n", begin)
        line = content[begin : end if end >= 0 else None]
        if line:
            yield begin, line
