# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gives every function to probe its plan row: a target comes in, probes with their cookies go
out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from probes.api import undescribed
from probes.api.table import ApiTable, Function
from probes.api.undescribed import unknown_function
from probes.host.libraries.library import Target
from probes.host.looking.maps import ENFORCER
from probes.internals import private
from probes.kernel import records
from probes.kernel.links import Probe
from probes.kernel.loading.features import NONE, PAIR, RETS
from probes.kernel.loading.shared import Shared
from probes.kernel.records import VERDICT_FUNCTION
from probes.plans import functions as plans
from probes.plans.functions import verdict_plan
from probes.plans.meaning import values
from probes.plans.meaning.captured import Limits
from probes.plans.plan import PlanRow
from probes.plans.prepared import Prepared
from probes.tracing.filters import Filters

ROW = 0xFFFF  # bits of a cookie that are the plan row
NO_NUMBER = records.MAX_VERDICT_ROWS  # the enforcer has no stub for functions that nobody describes
MOST_OF_ROOT, MOST_OF_OTHERS = 768, 512  # rows for functions that nobody describes
# they run the program's own code in the normal case, for as long as it likes, and return nothing of
# interest
RUN_PROGRAMS = frozenset({"virEventRunDefaultImpl"})
# likewise, but what they return tells something
CALL_BACK = frozenset(
    {"virStreamRecvAll", "virStreamSendAll", "virStreamSparseRecvAll", "virStreamSparseSendAll"}
)
# the first is the second's old name, and ends in a jump to it
JUMPS = ("virDomainCreateLinux", "virDomainCreateXML")


# calls that are told one by one in any case
_TOLD = records.PLAN_WRITE_RING | records.PLAN_OPENS | records.PLAN_JUMPS | records.PLAN_32BIT


class Rows:
    """The plan rows in use; targets of one layout share them. `way`: how it is learnt what they
    return.

    Functions that nobody describes have rows too, but their names may be made up: there are so many
    rows for those in files of root's, and so many for all others, which are given back when the
    file goes.
    """

    def __init__(
        self, shared: Shared, table: ApiTable, filters: Filters, limits: Limits, *, way: str
    ) -> None:
        self.rows: list[PlanRow] = []
        self.undecoded: list[str] = []  # functions whose description can't be made a plan of
        self.counted: list[str] = []  # functions whose calls the kernel counts, by their place
        self._shared = shared
        self._table = undescribed.with_private(table)
        self._filters = filters
        self._limits = limits
        self._prepared = Prepared(self._table, limits)
        self._returns = way != NONE
        self._finds_rets = way == RETS
        # of one file: by the function's offset, where it returns; which of them are told by where
        # their callers go on
        self._rets: Mapping[int, tuple[int, ...]] = {}
        self._after: frozenset[str] = frozenset()
        self._silent = RUN_PROGRAMS | (CALL_BACK if way == PAIR else frozenset())
        self._number: dict[tuple[str | None, str], int] = {}
        self._unknown: dict[str, Function] = {}
        self._users: dict[int, set[Target]] = {}  # of rows for unknown functions
        self._is_roots: dict[int, bool] = {}  # the same rows: which of the two parts they are of
        self._free: list[int] = []
        self._resting: list[int] = []  # free, but records of them may still come

    def keep(self) -> None:
        """What the next start need not make again."""
        self._prepared.keep()

    def names(self) -> Collection[str]:
        """Every function that is known."""
        return self._table.by_name | self._unknown

    def probes(self, target: Target) -> tuple[list[Probe], list[str]]:
        """What to attach to the target: public functions, and the inner ones that tell of
        errors; and names that have no room.
        """
        probes, left_out = [], []
        self._rets, self._after = target.returns, target.told_after
        for name, offset in target.functions:
            function = self._function(name, target.soname)
            if self._filters.probes(function):
                row = (
                    self._public(function, target, offset)
                    if name in self._table.by_name
                    else self._of_unknown(function, target, offset)
                )
                if row is None:
                    left_out.append(name)
                    continue
                probes.append(self._probe(row, offset, target))
                self._denied_by(row, target)
        for name in sorted(undescribed.NAMES & target.private.keys()):
            function = self._function(name, target.soname)
            if self._filters.probes(function):
                offset = target.private[name]
                row = self._public(function, target, offset)
                self._denied_by(row, target)
                probes.append(self._probe(row, offset, target))
        for inner in private.PRIVATE:
            offset = target.private.get(inner.key, 0)
            if offset and target.layout.name:
                probes.append(self._probe(self._private(inner, target, offset), offset, target))
        return probes, left_out

    def _denied_by(self, row: int, target: Target) -> None:
        """What the enforcer denies of the function is decoded by this row; processes of several
        layouts at once are rare.
        """
        stub = self.rows[row].stub
        if target.layout.name and 0 <= stub < records.MAX_VERDICT_ROWS:
            self._shared.verdict_rows[8 * stub : 8 * stub + 8] = row.to_bytes(8, "little")

    def _function(self, name: str, library: str) -> Function:
        return (
            self._table.by_name.get(name)
            or self._unknown.get(name)
            or unknown_function(NO_NUMBER, name, library)
        )

    def _of_unknown(self, function: Function, target: Target, offset: int) -> int | None:
        """The row of a function that nobody describes; None: there is none left."""
        key = self._key(target, function.name, offset)
        row = self._number.get(key)
        if row is None:
            is_roots = target.owner == 0
            held = sum(self._is_roots.values())
            if (
                (held >= MOST_OF_ROOT)
                if is_roots
                else (len(self._is_roots) - held >= MOST_OF_OTHERS)
            ):
                return None
            self._unknown[function.name] = function
            row = self._public(function, target, offset)
            self._is_roots[row] = is_roots
        self._users.setdefault(row, set()).add(target)
        return row

    def release(self, target: Target) -> None:
        """The target has gone, and with it the functions that only it had."""
        for users in self._users.values():
            users.discard(target)
        freed = {row for row, users in self._users.items() if not users}
        if not freed:
            return
        for row in freed:
            del self._users[row], self._is_roots[row]
        self._resting += sorted(freed)
        self._number = {key: number for key, number in self._number.items() if number not in freed}
        named = {name for _, name in self._number}
        self._unknown = {
            name: function for name, function in self._unknown.items() if name in named
        }

    def rested(self) -> bool:
        """What was free the last time may now be used again: True if there is any, of which
        nothing may be remembered.
        """
        found, self._free, self._resting = bool(self._resting), self._free + self._resting, []
        return found

    def _probe(self, row: int, offset: int, target: Target) -> Probe:
        told = cookie(row, offset, target.text)
        if self.rows[row].ret is None:
            return Probe(offset, told, False)
        return Probe(offset, told, not self._finds_rets, self._rets.get(offset, ()))

    def _key(self, target: Target, name: str, offset: int) -> tuple[str | None, str]:
        """Of functions that share a row."""
        kind = "32-bit" if target.is_32_bit else target.layout.name
        return (kind if self._can_return(offset) else f"{kind}, no return", name)

    def _can_return(self, offset: int) -> bool:
        """Whether it is seen when the function there returns."""
        return self._returns and (not self._finds_rets or offset in self._rets)

    def verdicts(self) -> int:
        """The row of the enforcer's verdict function."""
        key = (None, VERDICT_FUNCTION)
        if key not in self._number:
            self._add(
                key,
                PlanRow(None, VERDICT_FUNCTION, ENFORCER, verdict_plan(self._limits), None, "void"),
            )
        return self._number[key]

    def _public(self, function: Function, target: Target, offset: int) -> int:
        key = self._key(target, function.name, offset)
        if key in self._number:
            return self._number[key]
        flags = records.PLAN_WRITE_RING if function.is_write else 0
        flags |= records.PLAN_WANTED if self._filters.wants(function) else 0
        flags |= records.PLAN_PLUMBING if function.access == "plumbing" else 0
        flags |= records.PLAN_JUMPS if function.name in JUMPS else 0
        has_return = self._can_return(offset) and function.name not in self._silent
        flags |= 0 if has_return else records.PLAN_NO_RETURN
        if function.result.kind == "handle":
            opens = function.result.object == "connect" and not any(
                param.kind == "handle" for param in function.params
            )
            flags |= records.PLAN_OPENS if opens else records.PLAN_NO_OBJECT
        if target.is_32_bit:
            flags |= records.PLAN_32BIT
            entry, ret = (
                plans.raw_plan(flags, registers=0),
                plans.raw_return_plan(function.result, flags),
            )
        elif not function.params and function.result.kind == "raw":
            entry, ret = (
                plans.raw_plan(flags, registers=6),
                plans.raw_return_plan(function.result, flags),
            )
        else:
            try:
                entry, ret = self._prepared.of(function, target.layout, flags)
            except (
                ValueError,
                LookupError,
                AssertionError,
            ):  # of an installed description that is newer than we are
                self.undecoded.append(function.name)
                entry, ret = (
                    plans.raw_plan(flags, registers=6),
                    plans.raw_return_plan(function.result, flags),
                )
        kind = function.result.kind
        returns = (
            "void"
            if kind == "void"
            else "pointer"
            if kind in ("string", "handle", "pointer", "callback")
            else "integer"
        )
        if has_return and (counts := self._counts(function, flags)):
            entry = entry._replace(counts=counts)
            ret = ret._replace(counts=counts, fails=_fails(function) or records.FAILS_NEVER)
        stub = undescribed.stub_number(self._table, function)
        return self._add(
            key,
            PlanRow(
                function, None, function.library, entry, ret if has_return else None, returns, stub
            ),
        )

    def _counts(self, function: Function, flags: int) -> int:
        """The place, from 1, where the kernel counts the function's calls; 0: it does not."""
        if (
            self._shared.counts is None
            or flags & _TOLD
            or not flags & records.PLAN_WANTED
            or function.name not in self._table.by_name
            or _fails(function) is None
        ):
            return 0
        if function.name not in self.counted:
            if len(self.counted) >= records.MAX_COUNTS:
                return 0
            self.counted.append(function.name)
        return self.counted.index(function.name) + 1

    def _private(self, inner: private.Private, target: Target, offset: int) -> int:
        key = self._key(target, inner.key, offset)
        if key in self._number:
            return self._number[key]
        flags = records.PLAN_PRIVATE | records.PLAN_WANTED
        flags |= 0 if self._can_return(offset) else records.PLAN_NO_RETURN
        entry, ret = plans.private_plans(inner, self._limits, flags)
        if ret and inner.name in self._after:
            ret = ret._replace(flags=ret.flags | records.PLAN_AFTER)
        return self._add(
            key,
            PlanRow(
                None,
                inner.name,
                target.soname,
                entry,
                ret if self._can_return(offset) else None,
                "void",
            ),
        )

    def _add(self, key: tuple[str | None, str], row: PlanRow) -> int:
        if self._free:
            number = self._free.pop()
            self.rows[number] = row
        else:
            number = len(self.rows)
            assert number < records.MAX_PLANS, (
                "known functions in every layout and the most of unknown ones are fewer"
            )
            self.rows.append(row)
        self._number[key] = number
        size, shared = records.PLAN_SIZE, self._shared
        shared.entry_plans[number * size : (number + 1) * size] = row.entry.pack()
        shared.return_plans[number * size : (number + 1) * size] = (row.ret or row.entry).pack()
        return number


def cookie(row: int, offset: int, text: tuple[int, int]) -> int:
    """What a probe at `offset` tells its program: the plan row, and where the file's code
    (offset, bytes) is from there.
    """
    start, end = text[0] & ~0xFFF, sum(text)
    # in pages, of which nothing else is on the last one: what is mapped next to it may be the
    # program's own code
    return row | (offset - start & 0xFFFFFFFF) << 16 | min(end - start + 0xFFF >> 12, 0xFFFF) << 48


def _fails(function: Function) -> int | None:
    """How the kernel can tell by the result that a call failed, one of records.FAILS_*; None: it
    can't. Where only a raised error tells, the call is told as a whole.
    """
    failure, kind = function.failure, function.result.kind
    if failure in ("negative", "minus_one"):
        told = records.FAILS_NEGATIVE if failure == "negative" else records.FAILS_MINUS_ONE
        return told if kind == "i32" else None
    if failure in ("null", "zero"):
        return records.FAILS_ZERO if values.SIZES.get(kind, 8) == 8 else None
    return records.FAILS_NEVER
