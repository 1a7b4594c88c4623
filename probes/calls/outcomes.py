# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes of calls: those that return, that the enforcer sends back, and whose end nobody
tells come in, at once or when the rest of long strings is there; their events go out.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from log.events import Event
from probes.calls.building import Building
from probes.calls.losses import SERVED
from probes.calls.parts.decode import Decoder
from probes.calls.parts.judged import Judged
from probes.calls.parts.open import NO_RETURN, Extra, Open, OpenCalls, Pieces
from probes.calls.parts.pieces import Denial, Returned, clip, is_complete, piece_of
from probes.calls.serving.causes import Causes
from probes.calls.serving.changes import Changes
from probes.calls.serving.domains import REMEMBERED
from probes.calls.serving.endings import Endings
from probes.calls.serving.tasks import Task
from probes.kernel import records
from probes.plans.meaning.captured import u64

LOST = "result lost"
UNARMED_NS = 1_000_000_000  # as long it is waited for what a call without return probe causes


class Outcomes:
    """Ends calls, each once."""

    def __init__(
        self,
        decoder: Decoder,
        opened: OpenCalls,
        judged: Judged,
        causes: Causes,
        changes: Changes,
        building: Building,
        endings: Endings,
        find_task: Callable[[int, int, int], Task],
    ) -> None:
        self._rows, self._decoder, self._open = decoder.rows, decoder, opened
        self._judged, self._causes, self._changes = judged, causes, changes
        self._building, self._endings, self._find_task = building, endings, find_task
        self.waiting: dict[int, Returned | Denial] = {}  # by thread
        # begin (ns), thread and number of open calls without return probe
        self.unarmed: deque[tuple[int, int, int]] = deque()
        self.ended_without_entry: Counter[tuple[int, int]] = Counter()  # by ring and user

    def is_quiet(self) -> bool:
        """Whether nothing waits that the end of a call might tell more of."""
        return not (self.waiting or self._judged or self._changes.pending)

    def has_no_entry(self, call: Open, flags: int, tid: int) -> None:
        """The record of the call's beginning was lost; `flags`: of that of its end."""
        whose = (
            self._find_task(call.task, call.tgid, tid).caller.uid
            if flags & records.REC_WANTED
            else SERVED
        )
        self.ended_without_entry[flags & records.REC_WRITE_RING, whose] += 1

    def add_piece(self, raw: bytes, op: int, tid: int, seq: int, ended: list[Event]) -> None:
        """A REC_CHUNK."""
        piece = piece_of(raw, op)
        waiting = self.waiting.get(tid)
        if waiting and waiting.call.seq == seq:
            row = self._rows[waiting.call.row]
            plan = row.ret if isinstance(waiting, Returned) else row.entry
            clip(waiting.pieces, piece, plan)
            if is_complete(plan, waiting):
                self.settle(tid, ended)
            return
        for call in reversed(self._open.stacks.get(tid, [])):
            if call.seq == seq:
                extra = self._open.extra(tid, call)
                extra.pieces = extra.pieces or {}
                clip(extra.pieces, piece, self._rows[call.row].entry)
                return

    def settle(self, tid: int, ended: list[Event]) -> None:
        """The call of which no more comes."""
        kept = self.waiting.pop(tid)
        if isinstance(kept, Returned):
            self.returned(*kept, tid, ended)
            return
        built = self._building.denied(kept, tid)
        if not kept.extra.hidden:
            ended.append(built)

    def denied(self, raw: bytes, row: int, ended: list[Event]) -> None:
        """A REC_DENIED: a call that the enforcer sent back."""
        _, _, flags, _, _, number, tid, seq, _, tgid = records.HEAD.unpack_from(raw)
        call, extra = Open(raw, row, seq, 0, number, tgid, 0), Extra()
        extra.verdict, result = self._judged.denied(call, tid)
        task = self._find_task(number, tgid, tid)
        extra.origins = self._causes.of(task)
        extra.hidden = not extra.origins and not self._causes.passes(flags, task)
        self.waiting[tid] = Denial(call, raw, {}, extra, result)
        if not flags & records.REC_LONG:
            self.settle(tid, ended)

    def returned(
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

    def unfinished(self, call: Open, tid: int, reason: str, ended: list[Event]) -> None:
        """The end of the call was not seen, for that reason."""
        if self._changes.pending:
            self._changes.call_ended(tid, call.seq, ended)
        extra = self._open.take_extra(tid, call.seq)
        built = self._building.unfinished(call, extra, tid, reason)
        if not (extra and extra.hidden):
            ended.append(built)

    def let_go(self, when: int) -> list[Event]:
        """Calls that ended before the time `when` (ns), and wait for a part that was lost;
        those that have no return probe, later.
        """
        late = [
            tid for tid, kept in self.waiting.items() if u64(kept.raw, records.RECORD_TIME) < when
        ]
        ended: list[Event] = []
        while self.unarmed and self.unarmed[0][0] < when - UNARMED_NS:
            _, tid, seq = self.unarmed.popleft()
            stack = self._open.stacks.get(tid, [])
            for call in [call for call in stack if call.seq == seq]:
                stack.remove(call)
                self.unfinished(call, tid, LOST, ended)
        for tid in late:
            self.settle(tid, ended)
        return ended

    def give_up(self, when: int) -> list[Event]:
        """The calls that began before the time `when` (ns): they have no return probe that
        would tell their end.
        """
        ended: list[Event] = []
        for tid, stack in self._open.began_before(when):
            while stack and stack[0].started < when:
                self.unfinished(stack.pop(0), tid, NO_RETURN, ended)
        return ended
