# SPDX-License-Identifier: LGPL-2.1-or-later
"""Follows what was begun and not ended: events come in, live or of a record; what is owed, and by
whom, goes out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from log.events import Call, DomainEvent, Event, Gap, Lost, Owed, Recording, call_id
from log.owing.pairs import BLOCK_JOB, CONNECTION, DISK, HOST, PAIRS, STREAM, Pair
from log.owing.references import References
from log.recent import Recent
from log.values import CutText, Flags, Handle, Value

MOST_OF_A_USER, MOST = 512, 8192  # that are owed
MOST_ENDED, MOST_DONE = 16384, 16384
_BY = ("pid", "exe", "uid", "user", "sasl", "x509", "address", "session")

_Space = tuple[str, int]  # where names of objects mean one: of a user's daemons, a process, ...
_Key = tuple[str, _Space, Value, Value]  # what; where; object; disk


class _Debt:
    """What is owed."""

    __slots__ = ("began", "gone", "is_local", "left", "owed", "pair")

    def __init__(self, pair: Pair, owed: Owed, began: int, *, is_local: bool) -> None:
        self.pair, self.owed, self.began = pair, owed, began  # ns since the epoch: the call's begin
        self.is_local = is_local  # in the process itself, with which it goes
        self.left = 0  # references
        self.gone = False


class _Place(NamedTuple):
    space: _Space
    is_local: bool


class _About(NamedTuple):
    """What there can be one of at a time, and what is told of it."""

    key: _Key
    object: Handle
    detail: str | None = None


class Owing:
    """All that is owed. `pairs`: those of which all is seen; `sure`: whether others could not end
    it unseen.
    """

    def __init__(self, pairs: Sequence[Pair] = PAIRS, *, sure: bool = True) -> None:
        self._begins: dict[str, list[Pair]] = {}
        self._ends: dict[str, list[Pair]] = {}
        self._changes = {change for pair in pairs for change in pair.changes}
        for pair in pairs:
            for name in pair.begins:
                self._begins.setdefault(name, []).append(pair)
            for name in pair.ends:
                self._ends.setdefault(name, []).append(pair)
        self._meant = frozenset({*self._begins, *self._ends})
        self._sure = sure
        self._debts: dict[_Key, _Debt] = {}
        self._of: dict[int, dict[_Key, None]] = {}  # a process has begun it, or it is in there
        self._users: Counter[Value] = Counter()
        self.more = 0  # that there was no room for
        self._ended: Recent[int, int] = Recent(MOST_ENDED)  # processes, and when, ns
        # calls for which a daemon has done it: what is told of them is told
        self._done: Recent[str, None] = Recent(MOST_DONE)
        has_all = any(pair.needs_all for pair in pairs)
        self._references = References() if has_all else None
        self._boot: str | None = None

    def of(self, events: list[Event]) -> list[Event]:
        """The events, in their order, and what they leave to owe of processes that have ended."""
        found: list[Event] | None = None
        meant, everything = self._meant, self._references is not None
        for at, event in enumerate(events):
            if type(event) is Call:
                if (event.function in meant or everything) and (owed := self._called(event)):
                    found = events[:at] if found is None else found
                    found += [event, *owed]
                    continue
            elif type(event) is DomainEvent:
                self._changed(event)
            elif type(event) is Gap or (type(event) is Lost and event.count):
                self._doubt()
            elif type(event) is Recording:
                self._booted(event.boot)
            elif type(event) is Owed:
                self._told(event)
            if found is not None:
                found.append(event)
        return events if found is None else found

    def process_ended(self, pid: int, time: int) -> list[Event]:
        """What a process owes that has ended, at that time (ns since the epoch)."""
        self._ended.put(pid, time)
        if self._references:
            self._references.forget(pid)
        gone: list[Event] = []
        for key in list(self._of.get(pid, ())):
            debt = self._debts[key]
            if key[1] == ("process", pid):
                self._end(key)
            if debt.owed.by.get("pid") != pid or debt.began > time or debt.gone:
                continue
            if debt.is_local or not debt.pair.outlives:
                self._end(key)
            else:
                debt.gone = True
                gone.append(self._state(debt, time))
        return gone

    def open(self, now: int) -> list[Owed]:
        """All that is owed at that time, the oldest first."""
        debts = sorted(self._debts.values(), key=lambda debt: debt.owed.since)
        return [self._state(debt, now) for debt in debts]

    def __len__(self) -> int:
        return len(self._debts)

    def left_out(self) -> str | None:
        """What the limits cost, in words."""
        if not self.more:
            return None
        return (
            f"{self.more} more that were begun are not followed: {MOST_OF_A_USER} of a user are, "
            f"and {MOST} in all"
        )

    def debtors(self) -> set[int]:
        """Processes that owe something, and are not known to have ended."""
        pids = {debt.owed.by.get("pid") for debt in self._debts.values() if not debt.gone}
        return {pid for pid in pids if isinstance(pid, int)}

    def _state(self, debt: _Debt, now: int) -> Owed:
        owed = debt.owed._replace(time=now, gone=debt.gone)
        pid, place = owed.by.get("pid"), owed.object
        if debt.pair.what == CONNECTION and self._references and place and isinstance(pid, int):
            refers = self._references.of(pid, place.address or 0, debt.left)
            return owed._replace(refers=tuple(map(str, refers)))
        return owed

    def _called(self, call: Call) -> list[Event]:
        if self._references and (freed := self._references.learn(call)):
            self._freed(call, freed)
        ends = self._ends.get(call.function)
        begins = self._begins.get(call.function)
        if not (ends or begins) or call.args is None or call.failed or call.unfinished:
            return []
        if call.failed is None or call.depth:
            return []
        place = _place(call)
        for pair in ends or ():
            if pair.what != CONNECTION or call.ret == 0:
                self._ends_with(pair, call, place)
        for pair in begins or ():
            if _is_meant(pair, call) and (pair.what != CONNECTION or call.ret != 0):
                return self._begin(pair, call, place)
        return []

    def _begin(self, pair: Pair, call: Call, place: _Place) -> list[Event]:
        own = call_id(call.tid, call.time)
        if place.space[0] == "daemon":
            for id in (call.parent, *call.one_of):
                if id is not None:
                    self._done.put(id, None)
        elif own in self._done:
            return []
        if (about := _about(pair, call, place)) is None:
            return []
        key, by = about.key, _by(call)
        ended = call.time + (call.duration_ns or 0)
        owed = Owed(ended, ended, pair.what, about.object, about.detail, by, False, own, self._sure)
        debt = _Debt(pair, owed, call.time, is_local=place.is_local)
        debt.left = call.ret if isinstance(call.ret, int) else 0
        self._end(key)
        user = by.get("uid")
        if self._users[user] >= MOST_OF_A_USER or len(self._debts) >= MOST:
            self.more += 1
            return []
        self._debts[key] = debt
        for concerned in _processes(key, owed):
            self._of.setdefault(concerned, {})[key] = None
        self._users[user] += 1
        pid = by.get("pid")
        gone = self._ended.get(pid) if isinstance(pid, int) else None
        if gone is None or gone < call.time:
            return []
        return self.process_ended(pid, max(gone, ended)) if isinstance(pid, int) else []

    def _ends_with(self, pair: Pair, call: Call, place: _Place) -> None:
        if (about := _about(pair, call, place)) is None:
            return
        key = about.key
        if key not in self._debts and pair.what == BLOCK_JOB:  # a disk has more than one name
            of_domain = [other for other in self._debts if other[:3] == key[:3]]
            if len(of_domain) == 1:
                key = of_domain[0]
        self._end(key)

    def _freed(self, call: Call, connection: int) -> None:
        key = (CONNECTION, ("process", call.caller.pid), connection, None)
        if debt := self._debts.get(key):
            debt.left -= 1
            if debt.left <= 0:
                self._end(key)

    def _changed(self, event: DomainEvent) -> None:
        if not self._debts or event.event not in self._changes:
            return
        uuid, caller = event.domain.fields.get("uuid"), event.caller
        for key, debt in list(self._debts.items()):
            if (
                event.event in debt.pair.changes
                and key[2] == uuid
                and key[1] in (("daemon", caller.uid), ("process", caller.pid))
            ):
                self._end(key)

    def _end(self, key: _Key) -> None:
        if debt := self._debts.pop(key, None):
            for pid in _processes(key, debt.owed):
                self._of[pid].pop(key)
                if not self._of[pid]:
                    del self._of[pid]
            user = debt.owed.by.get("uid")
            self._users[user] -= 1
            if not self._users[user]:
                del self._users[user]

    def _doubt(self) -> None:
        """Something was not seen: it may have been ended then."""
        for debt in self._debts.values():
            debt.owed = debt.owed._replace(sure=False)

    def _booted(self, boot: str | None) -> None:
        if self._boot is not None and boot != self._boot:  # no guest has outlived that
            for key in list(self._debts):
                self._end(key)
        self._boot = boot

    def _told(self, event: Owed) -> None:
        """A record says so."""
        for debt in self._debts.values():
            if (debt.owed.what, debt.owed.call) == (event.what, event.call):
                debt.gone = debt.gone or bool(event.gone)


def _processes(key: _Key, owed: Owed) -> set[int]:
    """Whose end matters to it."""
    where, number = key[1]
    pid = owed.by.get("pid")
    return ({number} if where == "process" else set()) | ({pid} if isinstance(pid, int) else set())


def _is_meant(pair: Pair, call: Call) -> bool:
    needed = pair.begins[call.function]
    flags = call.args.values.get("flags") if call.args else None
    return not needed or (isinstance(flags, Flags) and not set(needed).isdisjoint(flags.names))


def _handles(call: Call) -> Iterable[Handle]:
    assert call.args is not None
    return (one for one in (*call.args.values.values(), call.ret) if isinstance(one, Handle))


def _place(call: Call) -> _Place:
    """Where it is done: what anybody's own daemon does is about nothing of root's."""
    if call.client is not None:
        return _Place(("daemon", call.caller.uid), False)
    if any(one.fields.get("driver") == "remote" for one in _handles(call)):
        return _Place(("far", call.caller.uid), False)
    return _Place(("process", call.caller.pid), True)


def _about(pair: Pair, call: Call, place: _Place) -> _About | None:
    """None: it can't be told."""
    found = {one.type: one for one in reversed(list(_handles(call)))}
    own = ("process", call.caller.pid)
    if pair.about == HOST and (connection := found.get("connect")):
        return _About((pair.what, place.space, None, None), connection)
    if pair.about == CONNECTION and (connection := found.get("connect")):
        address = connection.address
        return _About((pair.what, own, address, None), connection) if address else None
    if pair.about == STREAM and (stream := found.get("stream")):
        shown = found.get("domain") or found.get("volume") or stream
        return _About((pair.what, own, stream.address, None), shown) if stream.address else None
    domain = found.get("domain")
    uuid = domain.fields.get("uuid") if domain else None
    if domain is None or not isinstance(uuid, str):
        return None
    disk = _text(call.args.values.get("disk")) if pair.about == DISK and call.args else None
    return _About((pair.what, place.space, uuid, disk), domain, disk)


def _text(value: Value) -> str | None:
    if isinstance(value, CutText):
        return value.whole or value.text
    return value if isinstance(value, str) else None


def _by(call: Call) -> Mapping[str, Value]:
    client = call.client
    if client is not None and not client.is_daemon:
        known = client.fields()
        return {key: known[key] for key in _BY if known.get(key) is not None}
    by = call.caller
    who: dict[str, Value] = {
        "pid": by.pid,
        "comm": call.comm,
        "exe": by.exe,
        "uid": by.uid,
        "user": by.user,
    }
    return who if by.session is None else {**who, "session": by.session.fields()}
