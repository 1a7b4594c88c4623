# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bytes of a call's records come in, its values go out; what has the same bytes as before is
not decoded again.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Hashable, Mapping

from log.recent import Recent
from log.values import NO_VALUES, Value, Values
from probes.api.table import Function, is_write_call
from probes.calls.parts.open import Open, Pieces
from probes.kernel import abi, records
from probes.plans.meaning import values
from probes.plans.meaning.captured import Piece, u64
from probes.plans.plan import Constants, Plan, PlanRow

CACHED = 4096  # decoded arguments and results kept, by their bytes: some 5 KB each
SHORT = 2048  # bytes of a record that is worth keeping

NameOf = Callable[[int, int], str | None]  # of code: a process and an address
NO_PIECES: Mapping[int, list[Piece]] = {}


class Decoder:
    """Decodes by the plans in `rows`, with what each process has sent once."""

    def __init__(self, rows: list[PlanRow], name_of: NameOf = lambda pid, address: None) -> None:
        """`name_of`: names code, by its process and address."""
        self.rows, self._name_of = rows, name_of
        self.constants: dict[int, Constants] = {}
        self._gone: set[int] = set()  # processes, the last time that it was looked
        self._cache: Recent[tuple[int, int, Hashable], tuple[Values, bool, Values]] = Recent(CACHED)
        # of plans, by row
        self.keys: dict[int, tuple[Callable[[bytes], Hashable], Callable[[bytes], Hashable]]] = {}

    def keys_of(
        self, number: int
    ) -> tuple[Callable[[bytes], Hashable], Callable[[bytes], Hashable]]:
        """What tells calls of the row apart: of an entry record, and of a return record."""
        row = self.rows[number]
        self.keys[number] = found = row.entry.key, row.ret.key if row.ret else bytes
        return found

    def constants_of(self, tgid: int) -> Constants:
        """What the process has sent once."""
        constants = self.constants.get(tgid)
        if constants is None:
            constants = Constants(functools.partial(self._name_of, tgid))
            self.constants[tgid] = constants
        return constants

    def decode(
        self, plan: Plan, raw: bytes, pieces: Pieces | None, row: int, tgid: int, at_return: bool
    ) -> tuple[Values, bool, Values]:
        """The decoded values, whether a result is one that failures have, and the outputs;
        calls that differ in nothing else share them.
        """
        constants = self.constants_of(tgid)
        key = (constants.version, ~row if at_return else row, plan.key(raw))
        found = self._cache.get(key)
        if found is not None and not pieces:
            return found
        function = self.rows[row].function
        fails = at_return and function is not None and _is_failure(function, raw)
        fields = plan.decode(raw, pieces or NO_PIECES, constants)
        out = NO_VALUES
        if at_return and len(fields) > 1:
            result = fields.pop("ret")
            if not fails and not _left_alone(function, result):
                out = Values(fields)
            fields = {"ret": result}
        decoded = Values(fields)
        if not pieces and is_shared(plan, raw):
            self._cache.put(key, (decoded, fails, out))
        return decoded, fails, out

    def returned(self, number: int, raw: bytes, tgid: int) -> tuple[Value, Values] | None:
        """The result of a call that did not fail, and outputs that are decoded when they are
        asked for; None: not of this function, or this record.
        """
        row = self.rows[number]
        plan, function = row.ret, row.function
        if plan is None or function is None or row.returns != "integer":
            return None
        if plan.texts or plan.walks or len(raw) < plan.fixed or _is_failure(function, raw):
            return None
        constants = self.constants_of(tgid)
        name, read = plan.fields[0]
        assert name == "ret"
        result = read(raw, [], constants)
        if len(plan.fields) == 1 or _left_alone(function, result):
            return result, NO_VALUES

        def outputs() -> dict[str, Value]:
            fields = plan.decode(raw, NO_PIECES, constants)
            del fields["ret"]
            return fields

        return result, Values(outputs)

    def learn_once(self, call: Open, flags: int) -> None:
        """What calls inside this one rely on."""
        if flags & records.REC_ONCE:
            assert call.raw is not None
            self.decode(self.rows[call.row].entry, call.raw, None, call.row, call.tgid, False)

    def learn_once_at_return(self, call: Open, raw: bytes) -> None:
        """The same, of a call that is not looked at."""
        ret = self.rows[call.row].ret
        if raw[records.RECORD_FLAGS] & records.REC_ONCE and ret is not None:
            ret.decode(raw, NO_PIECES, self.constants_of(call.tgid))

    def is_write(self, call: Open) -> bool:
        """Whether it can change something."""
        row = self.rows[call.row]
        function = row.function
        if function is None or not function.is_write:
            return False
        # whose arguments are elsewhere
        if (
            function.access != "conditional"
            or call.raw is None
            or row.entry.flags & records.PLAN_32BIT
        ):
            return True
        return is_write_call(function, _registers(function, call.raw))

    def forget_process(self, pid: int) -> None:
        """Nothing more comes from it, or from what it was."""
        if constants := self.constants.pop(pid, None):
            constants.retire()

    def forget_gone(self) -> None:
        """Of processes whose end was not told nothing is kept."""
        gone = {pid for pid in self.constants if not os.path.exists(f"/proc/{pid}")}
        for pid in gone & self._gone:  # of those that have just gone, records may wait
            self.forget_process(pid)
        self._gone = gone

    def forget_rows(self) -> None:
        """They stand for other functions from now on."""
        self._cache.clear()
        self.keys.clear()


def _registers(function: Function, raw: bytes) -> dict[str, int]:
    integers = [param for param in function.params if param.kind != "double"][: abi.HERE.registers]
    return {
        param.name: values.integer(param.kind, u64(raw, records.ENTRY_ARGS + 8 * i))
        for i, param in enumerate(integers)
    }


def _left_alone(function: Function | None, result: Value) -> bool:
    """Whether the result says that no output was written: what is there was there before."""
    if not isinstance(result, int):
        return False
    # not in the list
    return result < 0 or (
        result == 0 and function is not None and function.name.startswith("virTypedParamsGet")
    )


def _is_failure(function: Function, raw: bytes) -> bool:
    """Whether the result is what the function returns when it fails."""
    value = values.integer(function.result.kind, u64(raw, records.RETURN_VALUE))
    how = function.failure
    return (
        (how == "negative" and value < 0)
        or (how in ("null", "null_if_error", "zero") and value == 0)
        or (
            how in ("minus_one", "minus_one_if_error")
            and value in (-1, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
        )
    )


def is_shared(plan: Plan, raw: bytes) -> bool:
    """Whether what the record says may be kept for others with the same key."""
    return len(raw) < SHORT and plan.is_told_by_key(raw)
