# SPDX-License-Identifier: LGPL-2.1-or-later
"""Puts calls together: records in order of time come in, events go out."""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import NamedTuple

from log.events import NO_VALUES, Call, Caller, CallError, Value, Values
from probes import records, values
from probes.api import ApiTable, Function, is_write_call
from probes.copying import Constants, Plan, u64
from probes.raised import RaisedErrors
from probes.walking import is_whole

CACHED = 16384  # decoded arguments and results kept, by their bytes

Pieces = dict[int, list[values.Piece]]  # of long strings, by operation
_NO_PIECES: Mapping[int, list[values.Piece]] = {}
_RETURN = struct.Struct("<8xQ24xQ")  # of a return record: its time, the entry's


class Row(NamedTuple):
    """What a plan row stands for."""

    function: Function | None
    private: str | None  # name of an inner function
    library: str
    entry: Plan
    ret: Plan | None
    returns: str  # "pointer", "integer", "void"


class Task(NamedTuple):
    """A thread as it was when it made a call."""

    caller: Caller
    comm: str


class Open:
    """A call that has begun."""

    __slots__ = ("depth", "level", "pieces", "raw", "ret", "ret_pieces", "row", "seq", "task", "tgid")

    def __init__(self, raw: bytes, row: int, seq: int, depth: int, task: int, tgid: int, level: int = 0) -> None:
        self.raw: bytes | None = raw
        self.row = row
        self.seq = seq
        self.depth = depth
        self.level = level
        self.task = task
        self.tgid = tgid
        self.pieces: Pieces | None = None
        self.ret: bytes | None = None
        self.ret_pieces: Pieces | None = None

    @property
    def started(self) -> int:
        """ns, CLOCK_MONOTONIC."""
        assert self.raw is not None
        return int.from_bytes(self.raw[8:16], "little")


class Calls:
    """The calls under way, by thread, and how they end.

    `find_task`: describes the thread (task id, pid, tid) of a record.
    `offset_ns`: what is added to CLOCK_MONOTONIC to have the time since the epoch.
    """

    def __init__(self, rows: list[Row], table: ApiTable, find_task: Callable[[int, int, int], Task], offset_ns: int) -> None:
        self.rows = rows
        self.offset_ns = offset_ns
        self.shown_without_entry = [0, 0]  # by ring
        self._find_task = find_task
        self._errors = RaisedErrors(table)
        self._open: dict[int, list[Open]] = {}
        self._waiting: dict[int, Open] = {}  # returned, but the rest of a long string is still to come
        self._constants: dict[int, Constants] = {}
        self._cache: dict[tuple[int, int, Hashable], tuple[Values, bool, Values]] = {}

    def feed(self, raws: Iterable[bytes]) -> list[Call]:
        """The calls that these records end."""
        ended: list[Call] = []
        unpack, rows = records.HEAD.unpack_from, self.rows
        for raw in raws:
            kind, depth, flags, row, _, task, tid, seq, _, tgid = unpack(raw)
            if kind == records.REC_CHUNK:
                self._add_piece(raw, row, tid, seq, ended)
                continue
            if self._waiting and tid in self._waiting:
                ended.append(self._finish(self._waiting.pop(tid), tid))
            if rows[row].private is not None:
                self._inner(rows[row], kind, raw, tid, tgid)
                continue
            stack = self._open.setdefault(tid, [])
            if kind == records.REC_ENTRY:
                level = flags >> records.REC_LEVEL
                while stack and stack[-1].level >= level:
                    ended.append(self._unfinished(stack.pop(), tid, "result lost"))
                stack.append(Open(raw, row, seq, depth, task, tgid, level))
                if flags & records.REC_ONCE:
                    self._decode(rows[row].entry, raw, None, row, tgid, False)  # for what it teaches
                continue
            while stack and stack[-1].seq > seq:
                ended.append(self._unfinished(stack.pop(), tid, "result lost"))
            if stack and stack[-1].seq == seq:
                call = stack.pop()
            elif flags & records.REC_ENTRY_LOST:
                call = Open(b"", row, seq, depth, task, tgid)
                call.raw = None
                self.shown_without_entry[flags & records.REC_WRITE_RING] += 1
            else:
                continue
            call.ret = raw
            if flags & records.REC_LONG:
                self._waiting[tid] = call
            else:
                ended.append(self._finish(call, tid))
        return ended

    def thread_exited(self, tid: int) -> list[Call]:
        """The calls that the thread did not come back from."""
        self._errors.forget(tid)
        ended: list[Call] = []
        if waiting := self._waiting.pop(tid, None):
            ended.append(self._finish(waiting, tid))
        for call in reversed(self._open.pop(tid, [])):
            ended.append(self._unfinished(call, tid, "process exited"))
        return ended

    def process_replaced(self, pid: int, when: int) -> list[Call]:
        """The calls of all its threads that began before it became another program, at the time `when` (ns)."""
        ended: list[Call] = []
        for tid, stack in self._open.items():
            if stack and stack[0].tgid == pid and stack[0].started < when:
                ended.extend(self._unfinished(call, tid, "process exited") for call in reversed(stack))
                stack.clear()
        return ended

    def process_exited(self, pid: int) -> None:
        """Nothing more comes from it."""
        self._constants.pop(pid, None)

    def open_threads(self) -> list[tuple[int, int]]:
        """(pid, tid) of threads inside a call."""
        return [(stack[0].tgid, tid) for tid, stack in self._open.items() if stack]

    def open_calls(self) -> int:
        """How many calls are under way."""
        return sum(len(stack) for stack in self._open.values())

    def close(self) -> list[Call]:
        """What is still under way when tracing ends."""
        ended = [self._finish(call, tid) for tid, call in self._waiting.items()]
        for tid, stack in self._open.items():
            ended.extend(self._unfinished(call, tid, "still running") for call in reversed(stack))
        self._waiting.clear()
        self._open.clear()
        return ended

    def _add_piece(self, raw: bytes, op: int, tid: int, seq: int, ended: list[Call]) -> None:
        offset, got = records.CHUNK.unpack_from(raw, records.HEAD.size)
        piece = values.Piece(op, offset, got, raw[records.CHUNK_TEXT :])
        waiting = self._waiting.get(tid)
        if waiting and waiting.seq == seq:
            if waiting.ret_pieces is None:
                waiting.ret_pieces = {}
            self._clip(waiting.ret_pieces, piece, waiting, at_return=True)
            if self._is_complete(waiting):
                ended.append(self._finish(self._waiting.pop(tid), tid))
            return
        for call in reversed(self._open.get(tid, [])):
            if call.seq == seq:
                if call.pieces is None:
                    call.pieces = {}
                self._clip(call.pieces, piece, call, at_return=False)
                return

    def _clip(self, pieces: Pieces, piece: values.Piece, call: Open, *, at_return: bool) -> None:
        """Adds a piece without the padding that made its record's length a multiple of 8."""
        if piece.op >= records.WALK_MORE:
            pieces.setdefault(records.WALK_MORE, []).append(piece._replace(text=piece.text[: max(0, piece.got)]))
            return
        plan = self.rows[call.row].ret if at_return else self.rows[call.row].entry
        keep = plan.ops[piece.op][5] if plan and piece.op < len(plan.ops) else 0
        size = max(0, min(piece.got - 1, keep - piece.offset))
        pieces.setdefault(piece.op, []).append(piece._replace(text=piece.text[:size]))

    def _is_complete(self, call: Open) -> bool:
        plan, raw = self.rows[call.row].ret, call.ret
        assert plan is not None and raw is not None
        if plan.walk and not is_whole(call.ret_pieces):
            return False
        for text in plan.texts:
            length = int.from_bytes(raw[text.slot : text.slot + 4], "little", signed=True)
            if length >= text.size and any(raw[text.source : text.source + 8]):
                pieces = call.ret_pieces.get(text.op) if call.ret_pieces else None
                if not pieces or (pieces[-1].got >= records.CHUNK_BYTES and pieces[-1].offset + pieces[-1].got <= records.LENGTH_LIMIT):
                    return False
        return True

    def _inner(self, row: Row, kind: int, raw: bytes, tid: int, tgid: int) -> None:
        assert row.private is not None
        constants = self._constants.setdefault(tgid, Constants(tgid))
        time = int.from_bytes(raw[8:16], "little")
        if kind == records.REC_ENTRY:
            self._errors.entered(tid, time, row.private, row.entry.decode(raw, {}, constants))
        elif row.ret is not None:
            self._errors.returned(tid, time, row.private, row.ret.decode(raw, {}, constants))

    def _decode(self, plan: Plan, raw: bytes, pieces: Pieces | None, row: int, tgid: int, at_return: bool) -> tuple[Values, bool, Values]:
        """The decoded values, whether a result is one that failures have, and the outputs; calls that differ in nothing else share them."""
        constants = self._constants.get(tgid)
        if constants is None:
            constants = self._constants[tgid] = Constants(tgid)
        key = (constants.version, ~row if at_return else row, plan.key(raw))
        found = self._cache.get(key)
        if found is not None and not pieces:
            return found
        function = self.rows[row].function
        fails = at_return and function is not None and _is_failure(function, raw)
        found_values = plan.decode(raw, pieces or _NO_PIECES, constants)
        out = NO_VALUES
        if at_return and len(found_values) > 1:
            result = found_values.pop("ret")
            if not fails and not (isinstance(result, int) and result < 0):  # nothing was written
                out = Values(found_values)
            found_values = {"ret": result}
        decoded = Values(found_values)
        if not pieces and len(raw) < 2048 and plan.is_told_by_key(raw):
            if len(self._cache) >= CACHED:
                self._cache.clear()
            self._cache[key] = decoded, fails, out
        return decoded, fails, out

    def _finish(self, call: Open, tid: int) -> Call:
        row, raw = self.rows[call.row], call.ret
        assert raw is not None
        ended, entry_time = _RETURN.unpack_from(raw)
        result: Value = None
        failed, error, out = False, None, NO_VALUES
        if row.ret is not None and row.returns != "void":
            decoded, failed, out = self._decode(row.ret, raw, call.ret_pieces, call.row, call.tgid, True)
            result = decoded.values.get("ret")
            if failed:
                error = self._errors.error(tid, entry_time)
                # these return the same value when there is nothing to tell
                failed = error is not None or row.function is None or row.function.failure not in ("minus_one_if_error", "null_if_error")
        return self._build(call, tid, row, entry_time, result, failed, error, ended - entry_time, None, out)

    def _unfinished(self, call: Open, tid: int, reason: str) -> Call:
        return self._build(call, tid, self.rows[call.row], call.started, None, False, None, None, reason)

    def _build(
        self,
        call: Open,
        tid: int,
        row: Row,
        started: int,
        result: Value,
        failed: bool,
        error: CallError | None,
        duration: int | None,
        unfinished: str | None,
        out: Values = NO_VALUES,
    ) -> Call:
        task = self._find_task(call.task, call.tgid, tid)
        args, function = None, row.function
        if call.raw is not None:
            args, _, _ = self._decode(row.entry, call.raw, call.pieces, call.row, call.tgid, False)
        write = function is not None and function.is_write
        if write and function is not None and function.access == "conditional" and call.raw is not None:
            write = is_write_call(function, self._registers(function, call.raw))
        # the constructor costs twice as much
        return tuple.__new__(
            Call,
            (
                started + self.offset_ns,
                tid,
                task.comm,
                task.caller,
                function.name if function is not None else "?",
                row.library,
                call.depth,
                write,
                args,
                out,
                result,
                row.returns,
                failed,
                error,
                duration,
                None,  # client
                None,  # verdict
                unfinished,
            ),
        )

    @staticmethod
    def _registers(function: Function, raw: bytes) -> dict[str, int]:
        integers = [param for param in function.params if param.kind != "double"][:6]
        return {
            param.name: values.integer(param.kind, int.from_bytes(raw[48 + 8 * i : 56 + 8 * i], "little"))
            for i, param in enumerate(integers)
        }


def _is_failure(function: Function, raw: bytes) -> bool:
    """Whether the result is what the function returns when it fails."""
    value = values.integer(function.result.kind, u64(raw, records.RETURN_VALUE))
    how = function.failure
    return (
        (how == "negative" and value < 0)
        or (how in ("null", "null_if_error", "zero") and value == 0)
        or (how in ("minus_one", "minus_one_if_error") and value in (-1, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF))
    )
