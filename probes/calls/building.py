# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds the event of a call that is over: its records come in, a Call goes out; calls that are
alike are built once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from log.client import OWN, UNKNOWN, Client
from log.events import BEGUN, Call, CallError
from log.recent import Recent
from log.values import NO_VALUES, Value, Values
from probes.calls.again import Again, Alike, Ends
from probes.calls.parts.decode import Decoder, is_shared
from probes.calls.parts.errors import RaisedErrors
from probes.calls.parts.open import NO_RETURN, Extra, Open, OpenCalls, Pieces
from probes.calls.parts.pieces import Denial
from probes.calls.parts.verdicts import error_of
from probes.calls.serving.causes import Causes
from probes.calls.serving.tasks import Task
from probes.kernel import records
from probes.plans.plan import PlanRow

MOST_ALIKE = 8192  # calls, some 1 KB each: 100 domains that three programs ask for ten things
# where they are in an event but for its times
_OUT, _RETURNS = Call._fields.index("out") - 2, Call._fields.index("returns") - 2


class Building:
    """Builds calls from what all others know of them."""

    def __init__(
        self,
        decoder: Decoder,
        calls: OpenCalls,
        causes: Causes,
        errors: RaisedErrors,
        find_task: Callable[[int, int, int], Task],
        epoch: Callable[[int], int],
    ) -> None:
        self._rows = decoder.rows
        self._decoder, self._calls, self._causes, self._errors = decoder, calls, causes, errors
        self._find_task, self._epoch = find_task, epoch
        # by what the call began with: what the last one of these returned with, if others may share
        # it, and the event but for its times
        self._alike: Recent[Hashable, tuple[Hashable, Alike]] = Recent(MOST_ALIKE)
        self.again = Again()

    def forget_rows(self) -> None:
        """They stand for other functions from now on."""
        self._alike.clear()
        self.again.clear()

    def returned(self, call: Open, raw: bytes, ret_pieces: Pieces | None, tid: int) -> Call:
        """A call that has returned; `raw`: its return record."""
        entry, number, seq, depth, task, tgid, _ = call
        row = self._rows[number]
        until, started = records.TIMES.unpack_from(raw)
        extra = self._calls.take_extra(tid, seq)
        key: Hashable = None
        if entry is not None and extra is None and ret_pieces is None:
            constants = self._decoder.constants.get(tgid) or self._decoder.constants_of(tgid)
            entry_key, ret_key = self._decoder.keys.get(number) or self._decoder.keys_of(number)
            key = (constants.version, number, tid, task, depth, entry_key(entry))
            result_key = ret_key(raw)
            alike = self._alike.get(key)
            if alike is not None and alike[0] == result_key:
                self.again.learn(entry, raw, tid, constants, row, alike[1])
            elif alike is not None:
                alike = self._with_result(alike[1], call.row, call.tgid, raw, result_key)
                if alike is not None:
                    self._alike[key] = alike
                    self.again.learn_begin(entry, raw, tid, constants, row, alike[1])
            if alike is not None:
                again = (self._epoch(started), until - started) + alike[1]
                return tuple.__new__(Call, again)
        result: Value = None
        fails, error, out = False, None, NO_VALUES
        failed: bool | None = False
        if row.ret is not None and row.returns != "void":
            decoded, fails, out = self._decoder.decode(
                row.ret, raw, ret_pieces, call.row, call.tgid, True
            )
            result = decoded.values.get("ret")
            if fails:
                error = self._errors.error(tid, started)
                # these return the same value when there is nothing to tell
                failed = (
                    error is not None
                    or row.function is None
                    or row.function.failure not in ("minus_one_if_error", "null_if_error")
                )
                if not failed and raw[records.RECORD_FLAGS] & records.REC_INNER_LOST:
                    failed = None
        built = self._build(
            call, extra, tid, row, started, result, failed, error, until - started, None, out
        )
        if fails or key is None or entry is None or built.client is not None:
            return built
        if not is_shared(row.entry, entry) or not (row.ret is None or is_shared(row.ret, raw)):
            return built
        built = built._replace(alike={})
        self._alike.put(key, (result_key, built[2:]))
        return built

    def again_with(self, ends: Ends, raw: bytes) -> Alike | None:
        """As `returned`, for a call that began as others did, which is known by `ends`, but for its
        time; None where that takes more.
        """
        if ends.first is None:
            return None
        key = ends.key(raw)
        if ends.last is not None and ends.last[0] == key:
            self.again.add(ends, *ends.last)
            return ends.last[1]
        found = self._with_result(ends.first, ends.row, ends.tgid, raw, key)
        if found is None:
            return None
        ends.last = found if found[0] is not None else None
        return found[1]

    def _with_result(
        self, alike: Alike, number: int, tgid: int, raw: bytes, result_key: Hashable
    ) -> tuple[Hashable, Alike] | None:
        """As it is kept, the same call with what it returns now, of which that is the key; None
        where that takes more.
        """
        found = self._decoder.returned(number, raw, tgid)
        ret = self._rows[number].ret
        if found is None or ret is None:
            return None
        result, out = found
        key = result_key if is_shared(ret, raw) else None
        begun = alike[-1].get(BEGUN, alike[-1])
        return key, (*alike[:_OUT], out, result, *alike[_RETURNS:-1], {BEGUN: begun})

    def unfinished(self, call: Open, extra: Extra | None, tid: int, reason: str) -> Call:
        """A call whose end was not seen."""
        row = self._rows[call.row]
        reason = NO_RETURN if row.ret is None else (extra and extra.unarmed) or reason
        return self._build(call, extra, tid, row, call.started, None, False, None, None, reason)

    def denied(self, denial: Denial, tid: int) -> Call:
        """A call that the enforcer sent back."""
        call, extra = denial.call, denial.extra
        extra.pieces = denial.pieces
        assert extra.verdict is not None
        error = error_of(extra.verdict)
        return self._build(
            call,
            extra,
            tid,
            self._rows[call.row],
            call.started,
            denial.result,
            True,
            error,
            None,
            None,
        )

    def _build(
        self,
        call: Open,
        extra: Extra | None,
        tid: int,
        row: PlanRow,
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
        write = self._decoder.is_write(call)
        if call.raw is not None:
            args, _, _ = self._decoder.decode(
                row.entry, call.raw, extra.pieces if extra else None, call.row, call.tgid, False
            )
        client: Client | None = None
        if task.served:
            client = task.served.shown or UNKNOWN
        elif task.is_daemon:
            is_own = (
                call.raw is not None and not call.raw[records.RECORD_FLAGS] & records.REC_SERVING
            )
            client = OWN if is_own else UNKNOWN  # whose record was lost
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
        return self._causes.link(built, call, tid, extra) if extra else built
