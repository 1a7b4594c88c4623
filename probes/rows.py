# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gives every function to probe its plan row: a target comes in, probes with their cookies go out."""

from __future__ import annotations

from collections.abc import Collection

from log.errors import TraceError
from probes import api_private, plans, private, records
from probes.api import ApiTable, Function
from probes.calls import Row
from probes.copying import Limits
from probes.filters import Filters
from probes.links import Probe
from probes.maps import ENFORCER
from probes.program import Program
from probes.targets import Target
from probes.verdicts import VERDICT_FUNCTION, verdict_plan

ROW = 0xFFFF  # bits of a cookie that are the plan row


class Rows:
    """The plan rows in use; targets of one layout share them. `returns`: whether there are return probes."""

    def __init__(self, program: Program, table: ApiTable, filters: Filters, limits: Limits, *, returns: bool) -> None:
        self.rows: list[Row] = []
        self._program = program
        self._table = api_private.with_private(table)
        self._filters = filters
        self._limits = limits
        self._returns = returns
        self._number: dict[tuple[str | None, str], int] = {}

    def names(self) -> Collection[str]:
        """Every function that is known."""
        return self._table.by_name

    def probes(self, target: Target) -> list[Probe]:
        """What to attach to the target: public functions, and the inner ones that tell of errors."""
        probes = []
        for name, offset in target.functions:
            function = self._function(name, target.soname)
            if self._filters.probes(function):
                row = self._public(function, target)
                probes.append(self._probe(row, offset, target))
                if target.layout.name and function.number < records.MAX_VERDICT_ROWS:
                    # what the enforcer denies is decoded by this row; processes of several layouts at once are rare
                    self._program.verdict_rows[8 * function.number : 8 * function.number + 8] = row.to_bytes(8, "little")
        for name in sorted(api_private.NAMES & target.private.keys()):
            function = self._function(name, target.soname)
            if self._filters.probes(function):
                probes.append(self._probe(self._public(function, target), target.private[name], target))
        for inner in private.PRIVATE:
            offset = target.private.get(inner.name, 0)
            if offset and target.layout.name:
                probes.append(self._probe(self._private(inner, target), offset, target))
        return probes

    def _function(self, name: str, library: str) -> Function:
        function = self._table.by_name.get(name)
        if function is None:
            self._table = self._table.with_unknown({library: [name]})
            function = self._table.by_name[name]
        return function

    def _probe(self, row: int, offset: int, target: Target) -> Probe:
        start, size = target.text
        cookie = row | (offset - start & 0xFFFFFFFF) << 16 | min(size + 0xFFFF >> 16, 0xFFFF) << 48
        return Probe(offset, cookie, self.rows[row].ret is not None)

    def verdicts(self) -> int:
        """The row of the enforcer's verdict function."""
        key = (None, VERDICT_FUNCTION)
        if key not in self._number:
            self._add(key, Row(None, VERDICT_FUNCTION, ENFORCER, verdict_plan(self._limits), None, "void"))
        return self._number[key]

    def _public(self, function: Function, target: Target) -> int:
        key = ("32-bit" if target.is_32_bit else target.layout.name, function.name)
        if key in self._number:
            return self._number[key]
        flags = records.PLAN_WRITE_RING if function.is_write else 0
        flags |= records.PLAN_WANTED if self._filters.wants(function) else 0
        flags |= records.PLAN_CALLS_BACK if function.calls_back else 0
        flags |= 0 if self._returns else records.PLAN_NO_RETURN
        if function.result.kind == "handle":
            opens = function.result.object == "connect" and not any(param.kind == "handle" for param in function.params)
            flags |= records.PLAN_OPENS if opens else records.PLAN_NO_OBJECT
        limits, table, offsets = self._limits, self._table, target.layout.offsets
        if target.is_32_bit:
            flags |= records.PLAN_32BIT
            entry, ret = plans.raw_plan(flags, registers=0), plans.raw_return_plan(function.result, flags)
        elif not function.params and function.result.kind == "raw":
            entry, ret = plans.raw_plan(flags, registers=6), plans.raw_return_plan(function.result, flags)
        else:
            entry = plans.entry_plan(function, table, offsets, limits, flags)
            ret = plans.return_plan(function, table, offsets, limits, flags)
        kind = function.result.kind
        returns = "void" if kind == "void" else "pointer" if kind in ("string", "handle", "pointer", "callback") else "integer"
        return self._add(key, Row(function, None, function.library, entry, ret if self._returns else None, returns))

    def _private(self, inner: private.Private, target: Target) -> int:
        key = (target.layout.name, inner.name)
        if key in self._number:
            return self._number[key]
        entry, ret = plans.private_plans(inner, self._limits, records.PLAN_PRIVATE | records.PLAN_WANTED)
        return self._add(key, Row(None, inner.name, target.soname, entry, ret if self._returns else None, "void"))

    def _add(self, key: tuple[str | None, str], row: Row) -> int:
        number = self._number[key] = len(self.rows)
        if number >= records.MAX_PLANS:
            raise TraceError(f"more than {records.MAX_PLANS} functions to probe")  # only where libraries are made up
        self.rows.append(row)
        size, program = records.PLAN_SIZE, self._program
        program.entry_plans[number * size : (number + 1) * size] = row.entry.pack()
        program.return_plans[number * size : (number + 1) * size] = (row.ret or row.entry).pack()
        return number
