# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines come in, their events go out: as `parse`, which calls that differ from one before in no
more than when, how long and for which other call do not need again, nor counts of calls that differ
in times and numbers.

Such calls share what they have in common, so it is rendered once, too; those that nothing caused
have the same `alike`.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from log.events import Call, Event, Reads
from log.parsing.fields import moment
from log.parsing.parse import parse

MOST_KNOWN = 4096
LONGEST = 4096  # bytes of a line that is remembered
# of a call as the recorder writes it: its time, what comes before its duration, that, the call that
# it was made for, and the rest
_CALL = re.compile(
    rb'\{"type":"call","time":"([0-9T:.-]{29}Z)","id":"[0-9]+-[0-9]+"(,.*)'
    rb',"duration_ns":(0|[1-9][0-9]*|null),"parent":(null|"[0-9]+-[0-9]+")(,.*\})\n?',
    re.DOTALL,
).fullmatch
# of reads that were counted: their times, what comes before their numbers, these, and the rest
_READS = re.compile(
    rb'\{"type":"reads","time":"([0-9T:.-]{29}Z)","until":"([0-9T:.-]{29}Z)"(,.*)'
    rb',"calls":(0|[1-9][0-9]*),"failed":(0|[1-9][0-9]*),"total_ns":(0|[1-9][0-9]*)'
    rb',"max_ns":(0|[1-9][0-9]*)((?:,.*)?\})\n?',
    re.DOTALL,
).fullmatch
# in the parts that are remembered: that one of the others may be there once more, to be obeyed
_AGAIN = re.compile(rb'"(?:time|duration_ns|parent)"|,"type"|"\s+:|\\u').search
_READS_AGAIN = re.compile(
    rb'"(?:time|until|calls|failed|total_ns|max_ns)"|,"type"|"\s+:|\\u'
).search
_TIME, _DURATION, _PARENT = map(Call._fields.index, ("time", "duration_ns", "parent"))
assert (_TIME, _DURATION, Call._fields[-1]) == (0, 1, "alike")


class _Like(NamedTuple):
    """What calls have in common: the fields from the third to what has caused it, and behind it."""

    before: tuple[Any, ...]
    after: tuple[Any, ...]  # of those that something has caused
    of_its_own: tuple[Any, ...]  # of others


class LineParser:
    """What lines of one record were like."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], _Like] = {}
        self._reads: dict[tuple[bytes, bytes], Reads] = {}

    def parse(self, line: bytes) -> Event | None:
        """The event; None for a type that is not known here. ForeignLine for anything else."""
        found = _CALL(line) if len(line) <= LONGEST else None
        if found is None:
            return self._counted(line)
        time, before, took, parent, after = found.groups()
        known = self._known.get((before, after))
        if known is None:
            return self._learn(line, before, after)
        try:
            begun = moment(time.decode())
        except ValueError:
            return parse(line)  # which says so
        duration = None if took == b"null" else int(took)
        if parent == b"null":
            return tuple.__new__(Call, (begun, duration, *known.before, None, *known.of_its_own))
        cause = parent[1:-1].decode()
        return tuple.__new__(Call, (begun, duration, *known.before, cause, *known.after))

    def _counted(self, line: bytes) -> Event | None:
        found = _READS(line) if len(line) <= LONGEST else None
        if found is None:
            return parse(line)
        time, until, before, *numbers, after = found.groups()
        known = self._reads.get((before, after))
        if known is None:
            event = parse(line)
            if type(event) is Reads and not (_READS_AGAIN(before) or _READS_AGAIN(after)):
                if len(self._reads) >= MOST_KNOWN:
                    self._reads.clear()
                self._reads[before, after] = event._replace(alike={})
            return event
        try:
            begun, ended = moment(time.decode()), moment(until.decode())
        except ValueError:
            return parse(line)
        calls, failed, total, longest = map(int, numbers)
        return known._replace(
            time=begun, until=ended, calls=calls, failed=failed, total_ns=total, max_ns=longest
        )

    def _learn(self, line: bytes, before: bytes, after: bytes) -> Event | None:
        event = parse(line)
        if type(event) is Call and not (_AGAIN(before) or _AGAIN(after)):
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            after_cause = event[_PARENT + 1 :]
            alike: dict[str, Any] | None = None if event.one_of else {}
            known = _Like(event[_DURATION + 1 : _PARENT], after_cause, (*after_cause[:-1], alike))
            self._known[before, after] = known
        return event
