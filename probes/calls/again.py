# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls that a thread makes again: a call's records and its event come in; for records that tell
the same, what the event says but its time and duration goes out.

Most programs that poll ask the same of the same objects, thousands of times: of these calls
neither is it followed what is under way nor is anything decoded; but for their result, where that
is another each time.
"""

from __future__ import annotations

from typing import Any

from log.events import Call
from probes.calls.serving.domains import REMEMBERED
from probes.kernel import records
from probes.plans.plan import Constants, Key, PlanRow

MOST = 4096  # calls that are known, of all threads
WHOSE = slice(16, 28)  # of a record: a task and a thread
SEQ = slice(28, 32)
HEAD, KIND = slice(8), slice(4)  # KIND and row; kind, depth and flags
# of entries and returns that tell nothing but this, and that nobody is asked about
PLAIN = frozenset(
    bytes((kind, 0)) + flags.to_bytes(2, "little")
    for kind in (records.REC_ENTRY, records.REC_RETURN)
    for flags in (
        0,
        records.REC_WANTED,
        records.REC_WRITE_RING,
        records.REC_WANTED | records.REC_WRITE_RING,
    )
)

Alike = tuple[Any, ...]  # a Call but for its first two fields
_FUNCTION = Call._fields.index("function") - 2


class Ends:
    """How calls ended that began alike, by the key of the return record."""

    __slots__ = ("first", "key", "known", "last", "row", "tgid")

    def __init__(self, key: Key, row: int, tgid: int) -> None:
        self.key, self.row, self.tgid = key, row, tgid
        self.known: dict[object, Alike] = {}
        self.first: Alike | None = None  # that did not fail, for those with other results
        self.last: tuple[object, Alike] | None = None  # of these: the key, if others may share it


class Begins:
    """Calls of a function, by the key of the entry record."""

    __slots__ = ("key", "known")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.known: dict[object, Ends] = {}


class Repeating:
    """A thread and the calls that it makes again, by HEAD of their entry records."""

    __slots__ = ("calls", "constants", "ends", "tid", "version")

    def __init__(self, tid: int, constants: Constants) -> None:
        self.tid, self.constants, self.version = tid, constants, constants.version
        self.calls: dict[bytes, Begins] = {}
        self.ends = Ends(bytes, 0, 0)  # of the call that has begun


class Again:
    """All such threads, by WHOSE of their records."""

    def __init__(self) -> None:
        self.threads: dict[bytes, Repeating] = {}
        self._count = 0

    def learn(
        self, entry: bytes, raw: bytes, tid: int, constants: Constants, row: PlanRow, call: Alike
    ) -> None:
        """A call, by its records, that was made before."""
        ends = self.ends_of(entry, raw, tid, constants, row, call)
        if ends is not None:
            ends.known[ends.key(raw)] = call
            self._count += 1

    def learn_begin(
        self, entry: bytes, raw: bytes, tid: int, constants: Constants, row: PlanRow, call: Alike
    ) -> None:
        """A call that was made before, and returned something else, and did not fail."""
        ends = self.ends_of(entry, raw, tid, constants, row, call)
        if ends is not None and ends.first is None:
            ends.first = call
            self._count += 1

    def ends_of(
        self, entry: bytes, raw: bytes, tid: int, constants: Constants, row: PlanRow, call: Alike
    ) -> Ends | None:
        """How calls ended that began like this one; None: it is to be followed."""
        if entry[KIND] not in PLAIN or raw[KIND] not in PLAIN or call[_FUNCTION] in REMEMBERED:
            return None
        if self._count >= MOST:
            self.clear()
        thread = self.threads.get(raw[WHOSE])
        if thread is None or thread.version != constants.version:
            thread = self.threads[raw[WHOSE]] = Repeating(tid, constants)
        begins = thread.calls.get(entry[HEAD])
        if begins is None:
            begins = thread.calls[entry[HEAD]] = Begins(row.entry.key)
        ends = begins.known.get(begins.key(entry))
        if ends is None:
            _, _, _, number, _, _, _, _, _, tgid = records.HEAD.unpack_from(entry)
            made = Ends(row.ret.key if row.ret else bytes, number, tgid)
            ends = begins.known[begins.key(entry)] = made
        return ends

    def add(self, ends: Ends, key: object, call: Alike) -> None:
        """A result that came twice."""
        if self._count < MOST:
            ends.known[key] = call
            self._count += 1

    def clear(self) -> None:
        """None is known."""
        self.threads.clear()
        self._count = 0
