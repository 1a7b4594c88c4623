# SPDX-License-Identifier: LGPL-2.1-or-later
"""Puts calls together: records in order of time come in, events go out."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping

from log.events import Call, Event, UnderWay
from log.values import Value
from probes.api.table import ApiTable
from probes.calls.again import HEAD, KIND, PLAIN, SEQ, WHOSE, Repeating
from probes.calls.building import Building
from probes.calls.losses import SERVED
from probes.calls.parts.decode import Decoder, NameOf
from probes.calls.parts.errors import RaisedErrors
from probes.calls.parts.judged import Judged
from probes.calls.parts.open import NO_RETURN, Extra, Open, OpenCalls, Pieces, why_unarmed
from probes.calls.parts.pieces import Denial, Returned, clip, is_complete, piece_of
from probes.calls.serving.access import Access, keep
from probes.calls.serving.causes import Causes, sent
from probes.calls.serving.changes import Changes
from probes.calls.serving.domains import REMEMBERED, uuid_of
from probes.calls.serving.endings import Endings
from probes.calls.serving.jobs import Jobs
from probes.calls.serving.tasks import Choice, Task
from probes.calls.serving.waits import Elder, Waits
from probes.host.daemons.guests import Guests
from probes.internals.private import (
    AGENT,
    BEGINS_JOB,
    CHECK,
    ENDS_JOB,
    LIFECYCLE,
    MONITOR,
    OF_ACCESS,
    OF_ENDINGS,
    OF_ERRORS,
    SEND,
)
from probes.kernel import records
from probes.plans.meaning.captured import u64
from probes.plans.plan import PlanRow

LOST = "result lost"
UNARMED_NS = 1_000_000_000  # as long it is waited for what a call without return probe causes
_ALL = Choice()
_SPECIAL = records.REC_ONCE | records.REC_SERVING  # flags of few entry records


class Calls:
    """Follows calls from record to record, and hands each on to who knows about it.

    `find_task`: describes the thread (task id, pid, tid) of a record.
    `epoch`: the time since the epoch (ns) of a time on CLOCK_MONOTONIC.
    `covered`: numbers of the functions that a policy covers for a process; `covered_here`: those of
    which no daemon is asked instead. `unseen`: whether calls of which nothing is known may be under
    way in a process. `redact`: whether secrets are hidden in what monitors are told and in messages
    of errors. `is_own`: whether libvirt's code is at an address of a process: calls by one of its
    modules are inner ones. `nested`: whether inner calls are wanted.
    `endings`: what is known of how guests end; None: nothing is.
    `elder`: knows of calls that began before tracing did.
    `left`: is told of processes in which a call may have been left for good, if they do not copy
    stacks.
    """

    def __init__(
        self,
        rows: list[PlanRow],
        table: ApiTable,
        find_task: Callable[[int, int, int], Task],
        epoch: Callable[[int], int],
        covered: Callable[[int], frozenset[int]] = lambda pid: frozenset(),
        covered_here: Callable[[int], frozenset[int]] = lambda pid: frozenset(),
        choice: Choice = _ALL,
        unseen: Callable[[int], bool] = lambda pid: False,
        endings: Endings | None = None,
        *,
        redact: bool = True,
        name_of: NameOf = lambda pid, address: None,
        is_own: Callable[[int, int], bool] = lambda pid, address: False,
        nested: bool = True,
        left: Callable[[int], None] = lambda pid: None,
        elder: Elder | None = None,
    ) -> None:
        self.rows = rows
        self.ended_without_entry: Counter[tuple[int, int]] = Counter()  # by ring and user
        self.covering = True  # whether there may be a policy anywhere
        self._find_task, self._choice, self._epoch = find_task, choice, epoch
        self._is_own, self._with_inner, self._left = is_own, nested, left
        self._waiting: dict[int, Returned | Denial] = {}  # by thread
        # begin (ns), thread and number of open calls without return probe
        self._unarmed: deque[tuple[int, int, int]] = deque()
        self._errors = RaisedErrors(table, redact=redact)
        self._access = Access(self._errors)
        self._open = OpenCalls(epoch)
        self._decoder = Decoder(rows, name_of)
        self._judged = Judged(rows, covered, covered_here)
        self._causes = Causes(self._open, find_task, choice)
        self._endings = endings = endings or Endings(Guests(lambda pid, uid, at: None))
        self._changes = Changes(
            self._decoder,
            self._open,
            self._causes,
            table,
            find_task,
            epoch,
            choice,
            unseen,
            endings,
            redact=redact,
        )
        self._jobs = Jobs()
        self._waits = Waits(self._decoder, self._open, self._jobs, find_task, epoch, elder)
        self._building = Building(
            self._decoder, self._open, self._causes, self._errors, find_task, epoch
        )

    def feed(self, raws: Iterable[bytes]) -> list[Event]:
        """The calls that these records end, and what else they tell."""
        ended: list[Event] = []
        if self.covering or self._choice.asks:
            self._follow(raws, ended)
            return ended
        threads, opened, epoch = self._building.again.threads, self._open.stacks, self._epoch
        times, new = records.TIMES.unpack_from, tuple.__new__
        whose, head, kind, seq = WHOSE, HEAD, KIND, SEQ
        begun: dict[Repeating, bytes] = {}  # entry records of calls that were made before
        another = self._building.again_with
        others: list[bytes] = []  # all of these were before those
        quiet = self._is_quiet()
        for raw in raws:
            thread = threads.get(raw[whose])
            if thread is not None:
                entry = begun.get(thread)
                if entry is None:
                    begins = thread.calls.get(raw[head])
                    ends = begins and begins.known.get(begins.key(raw))
                    if ends:
                        if others:
                            self._follow(others, ended)
                            others.clear()
                            quiet = self._is_quiet()
                        if (
                            quiet
                            and not opened[thread.tid]
                            and thread.version == thread.constants.version
                        ):
                            thread.ends, begun[thread] = ends, raw
                            continue
                elif entry[seq] == raw[seq] and raw[kind] in PLAIN:
                    ends = thread.ends
                    alike = ends.known.get(ends.key(raw)) or another(ends, raw)
                    if alike is not None:
                        del begun[thread]
                        until, since = times(raw)
                        # the constructor, and unpacking into the tuple, cost twice as much
                        again = (epoch(since), until - since) + alike  # noqa: RUF005
                        ended.append(new(Call, again))
                        continue
            if begun:  # whatever it is, it may have to do with these
                others += begun.values()
                begun.clear()
            others.append(raw)
        others += begun.values()
        self._follow(others, ended)
        return ended

    def _is_quiet(self) -> bool:
        """Whether nothing waits that the end of a call might tell more of."""
        return not (self._waiting or self._judged or self._changes.pending)

    def _follow(self, raws: Iterable[bytes], ended: list[Event]) -> None:
        """From record to record."""
        unpack, rows, opened, waiting = (
            records.HEAD.unpack_from,
            self.rows,
            self._open.stacks,
            self._waiting,
        )
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
                    new(
                        Open,
                        (
                            raw,
                            row,
                            seq,
                            depth,
                            task,
                            tgid,
                            flags >> records.REC_LEVEL & records.REC_LEVELS,
                        ),
                    ),
                    flags,
                    tid,
                    stack,
                    ended,
                )
                continue
            if stack and stack[-1].seq > seq:
                self._left_inside(stack, seq, tid, ended)
            if stack and stack[-1].seq == seq:
                call = stack.pop()
            elif stack and (found := [other for other in stack if other.seq == seq]):
                call = found[0]
                stack.remove(call)
            elif flags & records.REC_ENTRY_LOST:
                call = Open(None, row, seq, depth, task, tgid, 0)
                whose = (
                    self._find_task(task, tgid, tid).caller.uid
                    if flags & records.REC_WANTED
                    else SERVED
                )
                self.ended_without_entry[flags & records.REC_WRITE_RING, whose] += 1
            else:
                continue
            if flags & records.REC_LONG:
                waiting[tid] = Returned(call, raw, {})
            else:
                self._finish(call, raw, None, tid, ended)

    def _begin(
        self, call: Open, flags: int, tid: int, stack: list[Open], ended: list[Event]
    ) -> None:
        """A call has begun, inside those of the thread's `stack` that are still under way."""
        while (
            stack
            and stack[-1].level >= call.level
            and not (call.depth > stack[-1].depth and stack[-1].is_unarmed)
        ):
            self._unfinished(stack.pop(), tid, LOST, ended)
        if call.depth or flags & records.REC_CALLER:
            call = self._nested(call, flags, stack)
            if call.depth and not self._with_inner:
                self._decoder.learn_once(call, flags)
                return
        if flags & records.REC_UNARMED:
            self._open.extra(tid, call).unarmed = (
                NO_RETURN if self.rows[call.row].ret is None else why_unarmed(call, stack)
            )
            if call.is_after_left:
                self._left(call.tgid)
            self._unarmed.append((call.started, tid, call.seq))
        self._open.begin(call, tid, stack)
        if flags & _SPECIAL or self._judged or self.covering or self._choice.asks:
            self._began(call, flags, tid)

    def _left_inside(self, stack: list[Open], seq: int, tid: int, ended: list[Event]) -> None:
        """The call `seq` returns: those inside of it will not, but on another stack they may."""
        returning = next((call for call in stack if call.seq == seq and call.raw), None)
        for call in [call for call in reversed(stack) if call.seq > seq]:
            if (
                returning is None
                or call.raw is None
                or call.is_unarmed
                or 0 < returning.sp - call.sp < records.NEAR
            ):
                stack.remove(call)
                self._unfinished(call, tid, LOST, ended)

    def _nested(self, call: Open, flags: int, stack: list[Open]) -> Open:
        """The call with its true depth: one by a driver of libvirt's is an inner call, and so
        are those inside of it.
        """
        assert call.raw is not None
        depth = call.depth
        if flags & records.REC_CALLER and self._is_own(
            call.tgid,
            u64(call.raw, records.ENTRY_CALLER) & ~(records.CALLER_LEFT | records.CALLER_CONFINED),
        ):
            depth = 1
        if depth and stack:
            depth = max(depth, stack[-1].depth + 1)
        return call._replace(depth=depth)

    def _began(self, call: Open, flags: int, tid: int) -> None:
        self._decoder.learn_once(call, flags)
        if judged := self._judged.began(call, tid):
            extra = self._open.extra(tid, call)
            extra.verdict, extra.is_past = judged
        if flags & records.REC_SERVING or self._choice.asks:
            self._causes.choose(call, flags, tid)

    def thread_exited(self, tid: int) -> list[Event]:
        """The calls that the thread did not come back from."""
        self._errors.forget(tid)
        self._access.forget(tid)
        self._judged.forget(tid)
        self._endings.thread_exited(tid)
        self._jobs.forget(tid)
        ended: list[Event] = []
        if tid in self._waiting:
            self._settle(tid, ended)
        for call in self._open.forget(tid):
            self._unfinished(call, tid, "process exited", ended)
        return ended

    def process_replaced(self, pid: int, when: int) -> list[Event]:
        """The calls of all its threads that began before it became another program, at the time
        `when` (ns).
        """
        ended: list[Event] = []
        for tid, stack in self._open.began_before(when, pid):
            while stack:
                self._unfinished(stack.pop(), tid, "process exited", ended)
        self._judged.forget(pid)  # all other threads have ended
        self._errors.forget(pid)
        self.process_exited(pid)
        return ended

    def process_exited(self, pid: int) -> None:
        """Nothing more comes from it, or from what it was."""
        self._decoder.forget_process(pid)

    def give_up(self, when: int) -> list[Event]:
        """The calls that began before the time `when` (ns): they have no return probe that
        would tell their end.
        """
        ended: list[Event] = []
        for tid, stack in self._open.began_before(when):
            while stack and stack[0].started < when:
                self._unfinished(stack.pop(0), tid, NO_RETURN, ended)
        return ended

    def let_go(self, when: int) -> list[Event]:
        """Calls that ended before the time `when` (ns), and wait for a part that was lost;
        those that have no return probe, later.
        """
        late = [
            tid for tid, kept in self._waiting.items() if u64(kept.raw, records.RECORD_TIME) < when
        ]
        ended: list[Event] = []
        while self._unarmed and self._unarmed[0][0] < when - UNARMED_NS:
            _, tid, seq = self._unarmed.popleft()
            stack = self._open.stacks.get(tid, [])
            for call in [call for call in stack if call.seq == seq]:
                stack.remove(call)
                self._unfinished(call, tid, LOST, ended)
        for tid in late:
            self._settle(tid, ended)
        return ended

    def forget_idle(self) -> None:
        """Of threads outside any call nothing is kept, nor of processes whose end was not told."""
        self._open.forget_idle()
        self._decoder.forget_gone()

    def forget_decoded(self) -> None:
        """Plan rows stand for other functions from now on."""
        self._decoder.forget_rows()
        self._building.forget_rows()

    def open_threads(self) -> list[tuple[int, int]]:
        """(pid, tid) of threads inside a call."""
        return self._open.threads()

    def open_calls(self) -> int:
        """How many calls are under way."""
        return len(self._open)

    def oldest(self) -> int | None:
        """When the oldest of these began (ns, CLOCK_MONOTONIC)."""
        return self._open.oldest()

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
        piece = piece_of(raw, op)
        waiting = self._waiting.get(tid)
        if waiting and waiting.call.seq == seq:
            row = self.rows[waiting.call.row]
            plan = row.ret if isinstance(waiting, Returned) else row.entry
            clip(waiting.pieces, piece, plan)
            if is_complete(plan, waiting):
                self._settle(tid, ended)
            return
        for call in reversed(self._open.stacks.get(tid, [])):
            if call.seq == seq:
                extra = self._open.extra(tid, call)
                extra.pieces = extra.pieces or {}
                clip(extra.pieces, piece, self.rows[call.row].entry)
                return

    def _settle(self, tid: int, ended: list[Event]) -> None:
        """The call of which no more comes."""
        kept = self._waiting.pop(tid)
        if isinstance(kept, Returned):
            self._finish(*kept, tid, ended)
            return
        built = self._building.denied(kept, tid)
        if not kept.extra.hidden:
            ended.append(built)

    def _inner(self, row: PlanRow, raw: bytes, ended: list[Event]) -> None:
        kind, _, flags, _, time, task, tid, _, _, tgid = records.HEAD.unpack_from(raw)
        name, entered = row.private, kind == records.REC_ENTRY
        plan = row.entry if entered else row.ret
        assert name is not None
        if plan is None:
            return
        fields = plan.decode(raw, {}, self._decoder.constants_of(tgid))
        call = self._open.innermost(tid)
        if name == LIFECYCLE:
            self._changes.changed(
                call, self._find_task(task, tgid, tid), tid, time, fields, flags, ended
            )
        elif name in OF_ENDINGS:
            self._endings.learn(name, tgid, tid, fields)
        elif name in OF_ERRORS:
            tell = self._errors.entered if entered else self._errors.returned
            tell(tid, time, name, fields)
        elif name in OF_ACCESS:
            self._asked(row, raw, fields, call)
        elif call and entered:
            self._in_call(name, call, tid, time, fields)
        elif call and name == BEGINS_JOB:
            if not u64(raw, records.RETURN_VALUE) & 0x80000000:
                self._jobs.begun(tid, time)
            elif held_by := self._waits.gave_up(tid, time):
                self._open.extra(tid, call).held_by = held_by
        elif call:
            self._changes.answered(call, tid, time, ended)

    def _in_call(
        self, name: str, call: Open, tid: int, time: int, fields: Mapping[str, Value]
    ) -> None:
        """The call enters an inner function."""
        if name == SEND:
            self._causes.sends(call, tid, sent(fields))
        elif name == MONITOR or name in AGENT:
            text = AGENT.get(name) or fields.get("text")
            self._changes.commands(call, tid, fields["arg0"], text)
            self._changes.asks(call, tid, name in AGENT, text, time)
        elif name == BEGINS_JOB:
            self._jobs.begins(call, tid, fields, time)
        elif name in ENDS_JOB:
            self._jobs.ends(call.tgid, name, fields)

    def _asked(
        self, row: PlanRow, raw: bytes, fields: Mapping[str, Value], call: Open | None
    ) -> None:
        """An access driver is asked, or answers: for the call, or before there is one."""
        kind, _, _, _, time, number, tid, seq, _, tgid = records.HEAD.unpack_from(raw)
        name = row.private
        assert name is not None
        if kind == records.REC_ENTRY:
            if name == CHECK and call:
                self._open.extra(tid, call).checked = uuid_of(fields), fields["name"]
            self._access.asks(tid, seq, time, name, fields)
            return
        answer = self._access.answers(tid, seq, u64(raw, records.RETURN_VALUE))
        if answer is None:
            return
        if call:
            keep(self._open.extra(tid, call).access, answer)
            return
        origins = self._causes.of(self._find_task(number, tgid, tid))
        if len(origins) == 1 and (caused := self._open.extra_of(origins[0].tid, origins[0].number)):
            keep(caused.access, answer)

    def under_way(self, now: int, least: int = 0) -> list[UnderWay]:
        """Calls that have lasted for `least` (ns) at the time `now` (ns, CLOCK_MONOTONIC)."""
        return self._waits.under_way(now, least)

    def unexplained(self, before: int) -> list[tuple[int, int]]:
        """Daemons and threads of theirs that wait for a domain's job since before that time (ns),
        which nobody is known to have.
        """
        return self._waits.unexplained(before)

    def has_called(self, tid: int) -> bool:
        """Whether the thread was seen to call since tracing began, lately at least."""
        return tid in self._open.stacks

    def _aside(self, kind: int, raw: bytes, row: int, ended: list[Event]) -> None:
        """Records that are neither the beginning nor the end of a call: of inner functions and
        of the enforcer.
        """
        if kind == records.REC_VERDICT:
            self._judged.says(raw, row)
        elif kind == records.REC_DENIED:
            _, _, flags, _, _, _, tid, _, _, _ = records.HEAD.unpack_from(raw)
            self._waiting[tid] = self._denied(raw, row)
            if not flags & records.REC_LONG:
                self._settle(tid, ended)
        else:
            self._inner(self.rows[row], raw, ended)

    def _denied(self, raw: bytes, row: int) -> Denial:
        """A call that the enforcer sent back."""
        _, _, flags, _, _, number, tid, seq, _, tgid = records.HEAD.unpack_from(raw)
        call, extra = Open(raw, row, seq, 0, number, tgid, 0), Extra()
        extra.verdict, result = self._judged.denied(call, tid)
        task = self._find_task(number, tgid, tid)
        extra.origins = self._causes.of(task)
        extra.hidden = not extra.origins and not self._causes.passes(flags, task)
        return Denial(call, raw, {}, extra, result)

    def _finish(
        self, call: Open, raw: bytes, ret_pieces: Pieces | None, tid: int, ended: list[Event]
    ) -> None:
        """The call has returned; `raw`: its return record."""
        if self._changes.pending:
            self._changes.call_ended(tid, call.seq, ended)
        if (
            self._open.is_hidden(tid, call.seq)
            if call.raw is not None
            else not self._passes_by_end(call, raw, tid)
        ):
            self._left_out(call, raw, tid)
        else:
            built = self._building.returned(call, raw, ret_pieces, tid)
            ended.append(built)
            if built.function in REMEMBERED:
                self._endings.called(built, self._find_task(call.task, call.tgid, tid))

    def _passes_by_end(self, call: Open, raw: bytes, tid: int) -> bool:
        return self._causes.passes(
            records.HEAD.unpack_from(raw)[2], self._find_task(call.task, call.tgid, tid)
        )

    def _left_out(self, call: Open, raw: bytes, tid: int) -> None:
        """The call, which nobody asked for, has returned: what others may rely on is learnt."""
        self._decoder.learn_once_at_return(call, raw)
        self._causes.ended(tid, call, self._open.take_extra(tid, call.seq))

    def _unfinished(self, call: Open, tid: int, reason: str, ended: list[Event]) -> None:
        if self._changes.pending:
            self._changes.call_ended(tid, call.seq, ended)
        extra = self._open.take_extra(tid, call.seq)
        built = self._building.unfinished(call, extra, tid, reason)
        if not (extra and extra.hidden):
            ended.append(built)
