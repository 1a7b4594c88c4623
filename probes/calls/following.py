# SPDX-License-Identifier: LGPL-2.1-or-later
"""The order of records: they come in as they were made, and each is handed on to who knows what its
kind tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from log.events import Call, Event
from probes.calls.again import HEAD, KIND, PLAIN, SEQ, WHOSE, Repeating
from probes.calls.building import Building
from probes.calls.inner import InnerFunctions
from probes.calls.outcomes import LOST, Outcomes
from probes.calls.parts.decode import Decoder
from probes.calls.parts.judged import Judged
from probes.calls.parts.open import NO_RETURN, Open, OpenCalls, why_unarmed
from probes.calls.parts.pieces import Returned
from probes.calls.serving.causes import Causes
from probes.calls.serving.tasks import Choice
from probes.kernel import records
from probes.plans.meaning.captured import u64

_SPECIAL = records.REC_ONCE | records.REC_SERVING  # flags of few entry records


class Following:
    """Follows calls from record to record: those that were made before by what is known of them,
    all others from their beginning to their end. Arguments are as those of Calls.
    """

    def __init__(
        self,
        decoder: Decoder,
        opened: OpenCalls,
        judged: Judged,
        causes: Causes,
        building: Building,
        outcomes: Outcomes,
        inner: InnerFunctions,
        epoch: Callable[[int], int],
        choice: Choice,
        *,
        is_own: Callable[[int, int], bool],
        nested: bool,
        left: Callable[[int], None],
    ) -> None:
        self.covering = True  # whether there may be a policy anywhere
        self._rows, self._decoder, self._open = decoder.rows, decoder, opened
        self._judged, self._causes, self._building = judged, causes, building
        self._outcomes, self._inner = outcomes, inner
        self._epoch, self._choice = epoch, choice
        self._is_own, self._with_inner, self._left = is_own, nested, left

    def feed(self, raws: Iterable[bytes]) -> list[Event]:
        """The calls that these records end, and what else they tell."""
        ended: list[Event] = []
        if self.covering or self._choice.asks:
            self.follow(raws, ended)
            return ended
        threads, opened, epoch = self._building.again.threads, self._open.stacks, self._epoch
        times, new = records.TIMES.unpack_from, tuple.__new__
        whose, head, kind, seq = WHOSE, HEAD, KIND, SEQ
        begun: dict[Repeating, bytes] = {}  # entry records of calls that were made before
        another = self._building.again_with
        others: list[bytes] = []  # all of these were before those
        quiet = self._outcomes.is_quiet()
        for raw in raws:
            thread = threads.get(raw[whose])
            if thread is not None:
                entry = begun.get(thread)
                if entry is None:
                    begins = thread.calls.get(raw[head])
                    ends = begins and begins.known.get(begins.key(raw))
                    if ends:
                        if others:
                            self.follow(others, ended)
                            others.clear()
                            quiet = self._outcomes.is_quiet()
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
        self.follow(others, ended)
        return ended

    def follow(self, raws: Iterable[bytes], ended: list[Event]) -> None:
        """From record to record."""
        unpack, rows, opened = records.HEAD.unpack_from, self._rows, self._open.stacks
        outcomes = self._outcomes
        waiting, returned = outcomes.waiting, outcomes.returned
        new = tuple.__new__  # the constructor costs twice as much
        chunk, begins, aside = records.REC_CHUNK, records.REC_ENTRY, records.REC_VERDICT
        for raw in raws:
            kind, depth, flags, row, _, task, tid, seq, _, tgid = unpack(raw)
            if kind == chunk:
                outcomes.add_piece(raw, row, tid, seq, ended)
                continue
            if waiting and tid in waiting:
                outcomes.settle(tid, ended)
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
                outcomes.has_no_entry(call, flags, tid)
            else:
                continue
            if flags & records.REC_LONG:
                waiting[tid] = Returned(call, raw, {})
            else:
                returned(call, raw, None, tid, ended)

    def _aside(self, kind: int, raw: bytes, row: int, ended: list[Event]) -> None:
        """Records that are neither the beginning nor the end of a call: of inner functions and
        of the enforcer.
        """
        if kind == records.REC_VERDICT:
            self._judged.says(raw, row)
        elif kind == records.REC_DENIED:
            self._outcomes.denied(raw, row, ended)
        else:
            self._inner.tells(self._rows[row], raw, ended)

    def _begin(
        self, call: Open, flags: int, tid: int, stack: list[Open], ended: list[Event]
    ) -> None:
        """A call has begun, inside those of the thread's `stack` that are still under way."""
        while (
            stack
            and stack[-1].level >= call.level
            and not (call.depth > stack[-1].depth and stack[-1].is_unarmed)
        ):
            self._outcomes.unfinished(stack.pop(), tid, LOST, ended)
        if call.depth or flags & records.REC_CALLER:
            call = self._nested(call, flags, stack)
            if call.depth and not self._with_inner:
                self._decoder.learn_once(call, flags)
                return
        if flags & records.REC_UNARMED:
            self._open.extra(tid, call).unarmed = (
                NO_RETURN if self._rows[call.row].ret is None else why_unarmed(call, stack)
            )
            if call.is_after_left:
                self._left(call.tgid)
            self._outcomes.unarmed.append((call.started, tid, call.seq))
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
                self._outcomes.unfinished(call, tid, LOST, ended)

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
