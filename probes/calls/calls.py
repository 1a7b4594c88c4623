# SPDX-License-Identifier: LGPL-2.1-or-later
"""Puts calls together: records in order of time come in, events go out."""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import NamedTuple

from log.asking import only_asks
from log.events import (
    BY_CALL,
    NO_CALL,
    NO_VALUES,
    Call,
    CallError,
    Command,
    DomainEvent,
    Event,
    Handle,
    Value,
    Values,
    VerdictInfo,
)
from log.redact.json import redact_message, without_newline
from probes.api import undescribed
from probes.api.table import ApiTable, Function, is_write_call
from probes.calls import clients as serving
from probes.calls.clients import Message, Origins, Sent
from probes.calls.domains import Lifecycle, found_by, is_told, uuid_of, with_true_name
from probes.calls.errors import MOST_THREADS, RaisedErrors
from probes.calls.losses import SERVED
from probes.calls.open import Extra, Open, OpenCalls, Pieces
from probes.calls.shown import Choice
from probes.calls.tasks import Task
from probes.calls.verdicts import NOT_ENFORCED, Said, error_of, read_verdict
from probes.host.recent import Recent
from probes.internals.private import AGENT, CHECK, LIFECYCLE, MONITOR, SEND
from probes.kernel import records
from probes.plans import values
from probes.plans.plan import Constants, Plan, Row, u64
from probes.plans.walk import is_whole

CACHED = 16384  # decoded arguments and results kept, by their bytes
NO_RETURN = "no return probe"
MOST_SENT = 64  # messages of a call that answers are expected to; a call sends one and waits
MOST_PENDING = 256  # changes of domains of which it isn't known yet what caused them
MOST_CAUSES = 64  # of a change, that can't be told apart
SHORT = 2048  # bytes of a record that is worth keeping

_NO_PIECES: Mapping[int, list[values.Piece]] = {}
_ALL = Choice()
_SPECIAL = records.REC_ONCE | records.REC_SERVING  # flags of few entry records
_RETURN = struct.Struct("<8xQ24xQ")  # of a return record: its time, the entry's


class Returned(NamedTuple):
    """A call that has returned, while the rest of a long string is still to come."""

    call: Open
    raw: bytes  # its return record
    pieces: Pieces


class Denial(NamedTuple):
    """A call that the enforcer sent back, while the rest of its arguments is still to come."""

    call: Open
    raw: bytes  # its record
    pieces: Pieces
    extra: Extra
    result: Value


class Pending(NamedTuple):
    """A change of a domain, while it may be told yet which of the calls under way does it."""

    event: DomainEvent
    uuid: Value
    task: Task
    flags: int
    causes: set[tuple[int, int]]  # threads and numbers of calls


class Calls:
    """The calls under way, by thread, and how they end.

    `find_task`: describes the thread (task id, pid, tid) of a record.
    `epoch`: the time since the epoch (ns) of a time on CLOCK_MONOTONIC.
    `covered`: numbers of the functions that a policy covers for a process; `covered_here`: those of which no daemon is asked instead.
    `unseen`: whether calls of which nothing is known may be under way in a process.
    `redact`: whether secrets are hidden in what monitors are told and in messages of errors.
    `is_own`: whether libvirt's code is at an address of a process: calls by one of its modules are inner ones.
    `nested`: whether inner calls are wanted.
    """

    def __init__(
        self,
        rows: list[Row],
        table: ApiTable,
        find_task: Callable[[int, int, int], Task],
        epoch: Callable[[int], int],
        covered: Callable[[int], frozenset[int]] = lambda pid: frozenset(),
        covered_here: Callable[[int], frozenset[int]] = lambda pid: frozenset(),
        choice: Choice = _ALL,
        unseen: Callable[[int], bool] = lambda pid: False,
        *,
        redact: bool = True,
        is_own: Callable[[int, int], bool] = lambda pid, address: False,
        nested: bool = True,
    ) -> None:
        self.rows = rows
        self._epoch = epoch
        self.ended_without_entry: Counter[tuple[int, int]] = Counter()  # by ring and user
        self._find_task = find_task
        self._covered, self._covered_here = covered, covered_here
        self._choice, self._unseen = choice, unseen
        self._is_own, self._with_inner = is_own, nested
        self.covering = True  # whether there may be a policy anywhere
        self._said: Recent[int, Said] = Recent(MOST_THREADS)  # verdicts by thread: the call is still to come
        self._errors = RaisedErrors(table, redact=redact)
        self._show_command = redact_message if redact else without_newline
        self._open = OpenCalls(epoch)
        self._origins = Origins()
        self._pending: list[Pending] = []
        self._lifecycle = Lifecycle(table)
        self._waiting: dict[int, Returned | Denial] = {}
        self._constants: dict[int, Constants] = {}
        self._gone: set[int] = set()  # processes, the last time that it was looked
        self._cache: dict[tuple[int, int, Hashable], tuple[Values, bool, Values]] = {}
        self._keys: dict[int, tuple[Callable[[bytes], Hashable], Callable[[bytes], Hashable]]] = {}  # of plans, by row
        self._alike: dict[Hashable, tuple[object, ...]] = {}

    def feed(self, raws: Iterable[bytes]) -> list[Event]:
        """The calls that these records end, and what else they tell."""
        ended: list[Event] = []
        unpack, rows, opened, waiting = records.HEAD.unpack_from, self.rows, self._open.stacks, self._waiting
        new = tuple.__new__  # the constructor costs twice as much
        chunk, begins, aside = records.REC_CHUNK, records.REC_ENTRY, records.REC_VERDICT
        for raw in raws:
            kind, depth, flags, row, _, task, tid, seq, _, tgid = unpack(raw)
            if kind == chunk:
                self._add_piece(raw, row, tid, seq, ended)
                continue
            if waiting and tid in waiting:
                self._settle(tid, ended)
            if kind >= aside or rows[row][1] is not None:
                self._aside(kind, raw, row, ended)
                continue
            stack = opened[tid]
            if kind == begins:
                self._begin(
                    new(Open, (raw, row, seq, depth, task, tgid, flags >> records.REC_LEVEL & records.REC_LEVELS)), flags, tid, stack, ended
                )
                continue
            while stack and stack[-1].seq > seq:
                self._unfinished(stack.pop(), tid, "result lost", ended)
            if stack and stack[-1].seq == seq:
                call = stack.pop()
            elif flags & records.REC_ENTRY_LOST:
                call = Open(None, row, seq, depth, task, tgid, 0)
                whose = self._find_task(task, tgid, tid).caller.uid if flags & records.REC_WANTED else SERVED
                self.ended_without_entry[flags & records.REC_WRITE_RING, whose] += 1
            else:
                continue
            if flags & records.REC_LONG:
                waiting[tid] = Returned(call, raw, {})
            else:
                self._finish(call, raw, None, tid, ended)
        return ended

    def _begin(self, call: Open, flags: int, tid: int, stack: list[Open], ended: list[Event]) -> None:
        """A call has begun, inside those of the thread's `stack` that are still under way."""
        while stack and stack[-1].level >= call.level:
            self._unfinished(stack.pop(), tid, "result lost", ended)
        if call.depth or flags & records.REC_CALLER:
            call = self._nested(call, flags, stack)
            if call.depth and not self._with_inner:
                self._learn_once(call, flags)
                return
        self._open.begin(call, tid, stack)
        if flags & _SPECIAL or self._said or self.covering or self._choice.asks:
            self._began(call, flags, tid)

    def _nested(self, call: Open, flags: int, stack: list[Open]) -> Open:
        """The call with its true depth: one by a driver of libvirt's is an inner call, and so are those inside of it."""
        assert call.raw is not None
        depth = call.depth
        if flags & records.REC_CALLER and self._is_own(call.tgid, u64(call.raw, records.ENTRY_CALLER)):
            depth = 1
        if depth and stack:
            depth = max(depth, stack[-1].depth + 1)
        return call._replace(depth=depth)

    def _learn_once(self, call: Open, flags: int) -> None:
        if flags & records.REC_ONCE:
            assert call.raw is not None
            self._decode(self.rows[call.row].entry, call.raw, None, call.row, call.tgid, False)

    def _began(self, call: Open, flags: int, tid: int) -> None:
        self._learn_once(call, flags)
        if verdict := self._verdict_on(call, tid):
            extra = self._open.extra(tid, call)
            extra.verdict = verdict
            own = self.rows[call.row].stub in self._covered_here(call.tgid)
            extra.is_past = own or verdict.note is not None
        if flags & records.REC_SERVING or self._choice.asks:
            self._choose(call, flags, tid)

    def _choose(self, call: Open, flags: int, tid: int) -> None:
        """Whether the call is wanted because of who makes it: as much as the call that caused it, or the one around it."""
        origins: list[Sent] = []
        task = self._find_task(call.task, call.tgid, tid)
        if not call.depth and task.served:
            caused = self._origins.of(task.served, task.caller.uid)
            origins = [origin for origin in caused if not self._open.is_hidden(origin.tid, origin.number)]
            if origins:
                self._open.extra(tid, call).origins = origins
        outermost = self._open.stacks[tid][0]
        if self._open.is_hidden(tid, outermost.seq) if outermost is not call else not origins and not self._passes(flags, task):
            self._open.extra(tid, call).hidden = True

    def _passes(self, flags: int, task: Task) -> bool:
        """Whether what a thread does is wanted because of who it is, or whom it does it for; `flags`: of its record."""
        return self._choice.passes is None or self._choice.passes(bool(flags & records.REC_WANTED), task)

    def thread_exited(self, tid: int) -> list[Event]:
        """The calls that the thread did not come back from."""
        self._errors.forget(tid)
        self._said.pop(tid)
        ended: list[Event] = []
        if tid in self._waiting:
            self._settle(tid, ended)
        for call in self._open.forget(tid):
            self._unfinished(call, tid, "process exited", ended)
        return ended

    def process_replaced(self, pid: int, when: int) -> list[Event]:
        """The calls of all its threads that began before it became another program, at the time `when` (ns)."""
        ended: list[Event] = []
        for tid, stack in self._open.began_before(when, pid):
            while stack:
                self._unfinished(stack.pop(), tid, "process exited", ended)
        self._said.pop(pid)  # all other threads have ended
        self._errors.forget(pid)
        self.process_exited(pid)
        return ended

    def process_exited(self, pid: int) -> None:
        """Nothing more comes from it, or from what it was."""
        self._constants.pop(pid, None)

    def give_up(self, when: int) -> list[Event]:
        """The calls that began before the time `when` (ns): they have no return probe that would tell their end."""
        ended: list[Event] = []
        for tid, stack in self._open.began_before(when):
            while stack and stack[0].started < when:
                self._unfinished(stack.pop(0), tid, NO_RETURN, ended)
        return ended

    def let_go(self, when: int) -> list[Event]:
        """Calls that ended before the time `when` (ns), and wait for a part that was lost."""
        late = [tid for tid, kept in self._waiting.items() if u64(kept.raw, records.RECORD_TIME) < when]
        ended: list[Event] = []
        for tid in late:
            self._settle(tid, ended)
        return ended

    def forget_idle(self) -> None:
        """Of threads outside any call nothing is kept, nor of processes whose end was not told."""
        self._open.forget_idle()
        gone = {pid for pid in self._constants if not os.path.exists(f"/proc/{pid}")}
        for pid in gone & self._gone:  # of those that have just gone, records may wait
            self.process_exited(pid)
        self._gone = gone

    def forget_decoded(self) -> None:
        """Plan rows stand for other functions from now on."""
        self._cache.clear()
        self._keys.clear()
        self._alike.clear()

    def open_threads(self) -> list[tuple[int, int]]:
        """(pid, tid) of threads inside a call."""
        return self._open.threads()

    def open_calls(self) -> int:
        """How many calls are under way."""
        return len(self._open)

    def close(self) -> list[Event]:
        """What is still under way when tracing ends."""
        ended: list[Event] = []
        for tid in list(self._waiting):
            self._settle(tid, ended)
        for tid in list(self._open.stacks):
            for call in self._open.forget(tid):
                self._unfinished(call, tid, "still running", ended)
        return ended

    def _add_piece(self, raw: bytes, op: int, tid: int, seq: int, ended: list[Event]) -> None:
        offset, got = records.CHUNK.unpack_from(raw, records.HEAD.size)
        piece = values.Piece(op, offset, got, raw[records.CHUNK_TEXT :])
        waiting = self._waiting.get(tid)
        if waiting and waiting.call.seq == seq:
            row = self.rows[waiting.call.row]
            plan = row.ret if isinstance(waiting, Returned) else row.entry
            self._clip(waiting.pieces, piece, plan)
            if self._is_complete(plan, waiting):
                self._settle(tid, ended)
            return
        for call in reversed(self._open.stacks.get(tid, [])):
            if call.seq == seq:
                extra = self._open.extra(tid, call)
                extra.pieces = extra.pieces or {}
                self._clip(extra.pieces, piece, self.rows[call.row].entry)
                return

    @staticmethod
    def _clip(pieces: Pieces, piece: values.Piece, plan: Plan | None) -> None:
        """Adds a piece without the padding that made its record's length a multiple of 8."""
        if piece.op >= records.WALK_MORE:
            pieces.setdefault(records.WALK_MORE, []).append(piece._replace(text=piece.text[: max(0, piece.got)]))
            return
        keep = plan.ops[piece.op][5] if plan and piece.op < len(plan.ops) else 0
        size = max(0, min(piece.got - 1, keep - piece.offset))
        pieces.setdefault(piece.op, []).append(piece._replace(text=piece.text[:size]))

    def _settle(self, tid: int, ended: list[Event]) -> None:
        """The call of which no more comes."""
        kept = self._waiting.pop(tid)
        if isinstance(kept, Returned):
            self._finish(*kept, tid, ended)
            return
        call, extra = kept.call, kept.extra
        extra.pieces = kept.pieces
        assert extra.verdict is not None
        error = error_of(extra.verdict)
        built = self._build(call, extra, tid, self.rows[call.row], call.started, kept.result, True, error, None, None)
        if not extra.hidden:
            ended.append(built)

    @staticmethod
    def _is_complete(plan: Plan | None, waiting: Returned | Denial) -> bool:
        raw = waiting.raw
        assert plan is not None
        if plan.walk and not is_whole(waiting.pieces):
            return False
        for text in plan.texts:
            length = int.from_bytes(raw[text.slot : text.slot + 4], "little", signed=True)
            if length >= text.size and any(raw[text.source : text.source + 8]):
                pieces = waiting.pieces.get(text.op)
                if not pieces or (pieces[-1].got >= records.CHUNK_BYTES and pieces[-1].offset + pieces[-1].got <= records.LENGTH_LIMIT):
                    return False
        return True

    def _inner(self, row: Row, raw: bytes, ended: list[Event]) -> None:
        kind, _, flags, _, time, task, tid, _, _, tgid = records.HEAD.unpack_from(raw)
        name, entered = row.private, kind == records.REC_ENTRY
        plan = row.entry if entered else row.ret
        assert name is not None
        if plan is None:
            return
        fields = plan.decode(raw, {}, self._constants_of(tgid))
        call = self._open.innermost(tid)
        if name == SEND:
            if call:
                self._sends(call, tid, serving.sent(fields))
        elif name == MONITOR or name in AGENT:
            if call:
                text = AGENT.get(name) or fields.get("text")
                self._commands(call, tid, (name in AGENT, text) if entered else None, time, ended)
        elif name == LIFECYCLE:
            self._changed(call, self._find_task(task, tgid, tid), tid, time, fields, flags, ended)
        elif name == CHECK:
            if call:
                self._open.extra(tid, call).checked = uuid_of(fields), fields["name"]
        elif entered:
            self._errors.entered(tid, time, name, fields)
        else:
            self._errors.returned(tid, time, name, fields)

    def _sends(self, call: Open, tid: int, message: Message) -> None:
        task = self._find_task(call.task, call.tgid, tid)
        served = task.served
        client_pid = served.client["pid"] if served and served.client else None
        sent = self._open.extra(tid, call).sent
        if message in sent:
            return
        if len(sent) >= MOST_SENT:
            oldest = next(iter(sent))
            del sent[oldest]
            self._origins.ended(oldest, tid, call.seq)
        sent[message] = None
        self._origins.send(message, Sent(call.tgid, tid, call.seq, self._open.id(call, tid), client_pid, task.caller.uid))

    def _commands(self, call: Open, tid: int, told: tuple[bool, Value] | None, time: int, ended: list[Event]) -> None:
        """`told`: whether to an agent, and what; None: it has answered."""
        extra = self._open.extra(tid, call)
        if told is not None:
            extra.command = time, told[0], self._show_command(told[1])
        elif extra.command:
            began, to_agent, text = extra.command
            task = self._find_task(call.task, call.tgid, tid)
            command = Command(self._epoch(began), time - began, tid, task.comm, task.caller, text, self._open.id(call, tid), to_agent)
            extra.command = None
            if self._choice.only_writes and only_asks(text):
                return
            extra.add(command)
            if not extra.hidden:
                ended.append(command)

    def _changed(
        self, call: Open | None, task: Task, tid: int, time: int, fields: Mapping[str, Value], flags: int, ended: list[Event]
    ) -> None:
        """A domain began or ceased to run. A client is told so too, by its daemon, which is no news."""
        if is_told(fields):
            return
        domain = Handle("domain", {"name": fields["name"], "uuid": uuid_of(fields)})
        event, detail = self._lifecycle.names(fields)
        changed = DomainEvent(self._epoch(time), tid, task.comm, task.caller, domain, event, detail, None)
        pid, uuid = task.caller.pid, fields["uuid"]
        if call:
            self._open.extra(tid, call).changed.add(uuid)
            for pending in [
                one for one in self._pending if one.event.caller.pid == pid and one.uuid == uuid and (tid, call.seq) in one.causes
            ]:
                self._pending.remove(pending)
                self._caused(pending.event, pending.task, pending.flags, [(tid, call)], ended)
        # a monitor has a thread of its own, which is told what a call has done before the call is
        under_way = [(tid, call)] if call else self._open.outermost(pid)
        if under_way is None:
            self._tell_unknown(Pending(changed, uuid, task, flags, set()), ended)
            return
        causes = under_way if call else self._changing(under_way, uuid)
        if not causes and not flags & records.REC_SERVING and (possible := self._creating(under_way)):
            self._pending.append(Pending(changed, uuid, task, flags, possible))
            if len(self._pending) > MOST_PENDING:
                self._tell_unknown(self._pending.pop(0), ended)
        else:
            self._caused(changed, task, flags, causes, ended)

    def _caused(self, changed: DomainEvent, task: Task, flags: int, causes: list[tuple[int, Open]], ended: list[Event]) -> None:
        """Tells the change with what is known of its cause: one of the calls; `flags`: of its record."""
        shown = [(tid, call) for tid, call in causes if not self._open.is_hidden(tid, call.seq)]
        if len(shown) > MOST_CAUSES:
            ended.append(changed._replace(cause=BY_CALL if shown == causes else None))
        elif shown:
            extras = [self._open.extra(tid, call) for tid, call in shown]
            ids = tuple(self._open.id(call, tid) for tid, call in shown)
            if len(causes) == 1:
                changed = changed._replace(parent=ids[0], cause=BY_CALL)
                extras[0].add(changed)
            else:
                changed = changed._replace(one_of=ids, cause=BY_CALL if shown == causes else None)
            ended.append(changed)
        elif not causes and self._passes(flags, task) and not self._choice.hides_changes:
            if flags & records.REC_SERVING:  # whose record was lost, or who gave the domain another name
                changed = changed._replace(cause=BY_CALL)
            elif not self._unseen(changed.caller.pid):
                changed = changed._replace(cause=NO_CALL)
            ended.append(changed)

    def _tell_unknown(self, pending: Pending, ended: list[Event]) -> None:
        """The change, of which nothing is said about its cause."""
        if self._passes(pending.flags, pending.task) and not self._choice.hides_changes:
            ended.append(pending.event)

    def _creating(self, under_way: list[tuple[int, Open]]) -> set[tuple[int, int]]:
        """Those of these calls that may bring up a domain whose UUID they don't tell: only what they do next does."""
        return {(tid, call.seq) for tid, call in under_way if self._is_write(call) and _may_create(self.rows[call.row].function)}

    def _gave_up(self, tid: int, number: int, ended: list[Event]) -> None:
        """The call is over: it was not the one, if it hasn't said so."""
        for pending in [one for one in self._pending if (tid, number) in one.causes]:
            pending.causes.discard((tid, number))
            if not pending.causes:
                self._pending.remove(pending)
                self._caused(pending.event, pending.task, pending.flags, [], ended)

    def _changing(self, under_way: list[tuple[int, Open]], uuid: Value) -> list[tuple[int, Open]]:
        """Those of these calls that may be changing the domain."""
        assert isinstance(uuid, int)
        sought = uuid.to_bytes(16, "little")
        return [
            (tid, call)
            for tid, call in under_way
            if (call.raw and sought in call.raw and self._is_write(call))
            or ((extra := self._open.extra_of(tid, call.seq)) is not None and uuid in extra.changed)
        ]

    def _keys_of(self, number: int) -> tuple[Callable[[bytes], Hashable], Callable[[bytes], Hashable]]:
        row = self.rows[number]
        self._keys[number] = keys = row.entry.key, row.ret.key if row.ret else bytes
        return keys

    def _constants_of(self, tgid: int) -> Constants:
        constants = self._constants.get(tgid)
        if constants is None:
            constants = self._constants[tgid] = Constants(tgid)
        return constants

    def _decode(self, plan: Plan, raw: bytes, pieces: Pieces | None, row: int, tgid: int, at_return: bool) -> tuple[Values, bool, Values]:
        """The decoded values, whether a result is one that failures have, and the outputs; calls that differ in nothing else share them."""
        constants = self._constants_of(tgid)
        key = (constants.version, ~row if at_return else row, plan.key(raw))
        found = self._cache.get(key)
        if found is not None and not pieces:
            return found
        function = self.rows[row].function
        fails = at_return and function is not None and _is_failure(function, raw)
        fields = plan.decode(raw, pieces or _NO_PIECES, constants)
        out = NO_VALUES
        if at_return and len(fields) > 1:
            result = fields.pop("ret")
            if not fails and not _left_alone(function, result):
                out = Values(fields)
            fields = {"ret": result}
        decoded = Values(fields)
        if not pieces and _is_shared(plan, raw):
            if len(self._cache) >= CACHED:
                self._cache.clear()
            self._cache[key] = decoded, fails, out
        return decoded, fails, out

    def _aside(self, kind: int, raw: bytes, row: int, ended: list[Event]) -> None:
        """Records that are neither the beginning nor the end of a call: of inner functions and of the enforcer."""
        if kind == records.REC_VERDICT:
            self._said.put(records.HEAD.unpack_from(raw)[6], read_verdict(self.rows[row].entry, raw))
        elif kind == records.REC_DENIED:
            _, _, flags, _, _, _, tid, _, _, _ = records.HEAD.unpack_from(raw)
            self._waiting[tid] = self._denied(raw, row)
            if not flags & records.REC_LONG:
                self._settle(tid, ended)
        else:
            self._inner(self.rows[row], raw, ended)

    def _verdict_on(self, call: Open, tid: int) -> VerdictInfo | None:
        """What the enforcer said of the call that begins; that nobody asked it, where a policy covers the function."""
        function, stub = self.rows[call.row].function, self.rows[call.row].stub
        if function is None or call.depth or call.raw is None:
            return None
        if stub == undescribed.NO_STUB:
            return NOT_ENFORCED if function.is_write and stub in self._covered(call.tgid) else None
        said = self._said.pop(tid)
        if said is not None and _is_about(said, stub, call.raw) and said.info.action != "deny":  # a denied call never begins
            return said.info
        if call.raw[2] & records.REC_INNER_LOST:
            return None
        return NOT_ENFORCED if stub in self._covered(call.tgid) else None

    def _denied(self, raw: bytes, row: int) -> Denial:
        """A call that the enforcer sent back."""
        _, _, _, _, _, number, tid, seq, _, tgid = records.HEAD.unpack_from(raw)
        function = self.rows[row].function
        said = self._said.pop(tid)
        if said is not None and (said.info.action != "deny" or not _is_about(said, self.rows[row].stub, raw)):
            said = None  # of another call: that of this one was lost
        call = Open(raw, row, seq, 0, number, tgid, 0)
        extra = Extra()
        extra.verdict = said.info if said else VerdictInfo("deny", "")
        task = self._find_task(number, tgid, tid)
        if (served := task.served) is not None:
            caused = self._origins.of(served, task.caller.uid)
            extra.origins = [origin for origin in caused if not self._open.is_hidden(origin.tid, origin.number)]
        flags = records.HEAD.unpack_from(raw)[2]
        extra.hidden = not extra.origins and not self._passes(flags, task)
        result: Value = None
        if function is not None and said is not None and self.rows[row].returns == "integer":
            result = values.integer(function.result.kind, said.result)
        return Denial(call, raw, {}, extra, result)

    def _finish(self, call: Open, raw: bytes, ret_pieces: Pieces | None, tid: int, ended: list[Event]) -> None:
        """The call has returned; `raw`: its return record."""
        if self._pending:
            self._gave_up(tid, call.seq, ended)
        if self._open.is_hidden(tid, call.seq) if call.raw is not None else not self._passes_by_end(call, raw, tid):
            self._left_out(call, raw, tid)
        else:
            ended.append(self._returned(call, raw, ret_pieces, tid))

    def _passes_by_end(self, call: Open, raw: bytes, tid: int) -> bool:
        return self._passes(records.HEAD.unpack_from(raw)[2], self._find_task(call.task, call.tgid, tid))

    def _left_out(self, call: Open, raw: bytes, tid: int) -> None:
        """The call, which nobody asked for, has returned: what others may rely on is learnt."""
        ret = self.rows[call.row].ret
        if raw[2] & records.REC_ONCE and ret is not None:
            ret.decode(raw, _NO_PIECES, self._constants_of(call.tgid))
        extra = self._open.take_extra(tid, call.seq)
        for message in extra.sent if extra else ():
            self._origins.ended(message, tid, call.seq)

    def _returned(self, call: Open, raw: bytes, ret_pieces: Pieces | None, tid: int) -> Call:
        entry, number, seq, depth, task, tgid, _ = call
        row = self.rows[number]
        until, started = _RETURN.unpack_from(raw)
        extra = self._open.take_extra(tid, seq)
        key: Hashable = None
        if entry is not None and extra is None and ret_pieces is None:
            constants = self._constants.get(tgid) or self._constants_of(tgid)
            entry_key, ret_key = self._keys.get(number) or self._keys_of(number)
            key = (constants.version, number, tid, task, depth, entry_key(entry), ret_key(raw))
            alike = self._alike.get(key)
            if alike is not None:
                return tuple.__new__(Call, (self._epoch(started), until - started, *alike))
        result: Value = None
        fails, error, out = False, None, NO_VALUES
        failed: bool | None = False
        if row.ret is not None and row.returns != "void":
            decoded, fails, out = self._decode(row.ret, raw, ret_pieces, call.row, call.tgid, True)
            result = decoded.values.get("ret")
            if fails:
                error = self._errors.error(tid, started)
                # these return the same value when there is nothing to tell
                failed = error is not None or row.function is None or row.function.failure not in ("minus_one_if_error", "null_if_error")
                if not failed and raw[2] & records.REC_INNER_LOST:
                    failed = None
        built = self._build(call, extra, tid, row, started, result, failed, error, until - started, None, out)
        if fails or key is None or entry is None or built.client is not None:
            return built
        if not _is_shared(row.entry, entry) or not (row.ret is None or _is_shared(row.ret, raw)):
            return built
        if len(self._alike) >= CACHED:
            self._alike.clear()
        built = built._replace(alike={})
        self._alike[key] = built[2:]
        return built

    def _unfinished(self, call: Open, tid: int, reason: str, ended: list[Event]) -> None:
        if self._pending:
            self._gave_up(tid, call.seq, ended)
        extra = self._open.take_extra(tid, call.seq)
        row = self.rows[call.row]
        built = self._build(call, extra, tid, row, call.started, None, False, None, None, reason if row.ret else NO_RETURN)
        if not (extra and extra.hidden):
            ended.append(built)

    def _build(
        self,
        call: Open,
        extra: Extra | None,
        tid: int,
        row: Row,
        started: int,
        result: Value,
        failed: bool | None,
        error: CallError | None,
        duration: int | None,
        unfinished: str | None,
        out: Values = NO_VALUES,
    ) -> Call:
        task = self._find_task(call.task, call.tgid, tid)
        args, function = None, row.function
        write = self._is_write(call)
        if call.raw is not None:
            args, _, _ = self._decode(row.entry, call.raw, extra.pieces if extra else None, call.row, call.tgid, False)
        client: serving.Client | None = None
        if task.served:
            client = task.served.client or serving.UNKNOWN
        elif task.is_daemon:
            is_own = call.raw is not None and not call.raw[2] & records.REC_SERVING
            client = serving.OWN if is_own else serving.UNKNOWN  # whose record was lost
        built = Call(
            time=self._epoch(started),
            duration_ns=duration,
            tid=tid,
            comm=task.comm,
            caller=task.caller,
            function=function.name if function is not None else "?",
            library=row.library,
            depth=call.depth,
            write=write,
            args=args,
            out=out,
            ret=result,
            returns=row.returns,
            failed=failed,
            error=error,
            client=client,
            unfinished=unfinished,
        )
        return self._linked(built, call, tid, extra) if extra else built

    def _is_write(self, call: Open) -> bool:
        row = self.rows[call.row]
        function = row.function
        if function is None or not function.is_write:
            return False
        if function.access != "conditional" or call.raw is None or row.entry.flags & records.PLAN_32BIT:  # whose arguments are elsewhere
            return True
        return is_write_call(function, self._registers(function, call.raw))

    def _linked(self, built: Call, call: Open, tid: int, extra: Extra) -> Call:
        """With what it caused and what caused it."""
        for message in extra.sent:
            self._origins.ended(message, tid, call.seq)
        origins = extra.origins
        built = built._replace(
            verdict=_in_all(extra),
            children=tuple(extra.children),
            more_children=extra.more,
            parent=origins[0].id if len(origins) == 1 else None,
            one_of=tuple(origin.id for origin in origins) if len(origins) > 1 else (),
        )
        for uuid, name in [extra.checked] if extra.checked else found_by(extra.children):
            built = with_true_name(built, uuid, name)
        if len(origins) == 1 and (parent := self._open.extra_of(origins[0].tid, origins[0].number)):
            parent.add(built)
        return built

    @staticmethod
    def _registers(function: Function, raw: bytes) -> dict[str, int]:
        integers = [param for param in function.params if param.kind != "double"][:6]
        return {
            param.name: values.integer(param.kind, int.from_bytes(raw[48 + 8 * i : 56 + 8 * i], "little"))
            for i, param in enumerate(integers)
        }


def _in_all(extra: Extra) -> VerdictInfo | None:
    """The verdict on a call. One that was sent to a daemon is judged there by the host's policy, if that daemon is enforced."""
    judged = [child.verdict for child in extra.children if isinstance(child, Call)]
    if extra.verdict is None or extra.verdict.action != NOT_ENFORCED.action or extra.is_past or not extra.sent:
        return extra.verdict
    return extra.verdict if NOT_ENFORCED in judged else None


def _is_about(said: Said, stub: int, raw: bytes) -> bool:
    """Whether the verdict is on this call."""
    return said.number == stub and said.sp == u64(raw, records.ENTRY_SP)


def _left_alone(function: Function | None, result: Value) -> bool:
    """Whether the result says that no output was written: what is there was there before."""
    if not isinstance(result, int):
        return False
    return result < 0 or (result == 0 and function is not None and function.name.startswith("virTypedParamsGet"))  # not in the list


def _may_create(function: Function | None) -> bool:
    """Whether the function may have to do with a domain that none of its arguments is."""
    return function is not None and function.name.startswith("virDomain") and all(param.object != "domain" for param in function.params)


def _is_failure(function: Function, raw: bytes) -> bool:
    """Whether the result is what the function returns when it fails."""
    value = values.integer(function.result.kind, u64(raw, records.RETURN_VALUE))
    how = function.failure
    return (
        (how == "negative" and value < 0)
        or (how in ("null", "null_if_error", "zero") and value == 0)
        or (how in ("minus_one", "minus_one_if_error") and value in (-1, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF))
    )


def _is_shared(plan: Plan, raw: bytes) -> bool:
    """Whether what the record says may be kept for others with the same key."""
    return len(raw) < SHORT and plan.is_told_by_key(raw)
