# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the enforcer said of calls, and of which nobody asked it: its records come in, verdicts
go out.
"""

from __future__ import annotations

from collections.abc import Callable

from log.events import VerdictInfo
from log.recent import Recent
from log.values import Value
from probes.api import undescribed
from probes.calls.parts.errors import MOST_THREADS
from probes.calls.parts.open import Open
from probes.calls.parts.verdicts import NOT_ENFORCED, Said, read_verdict
from probes.kernel import records
from probes.plans.meaning import values
from probes.plans.meaning.captured import u64
from probes.plans.plan import PlanRow


class Judged:
    """Verdicts by thread, from their record to that of the call.

    `covered`: numbers of the functions that a policy covers for a process; `covered_here`: those of
    which no daemon is asked instead.
    """

    def __init__(
        self,
        rows: list[PlanRow],
        covered: Callable[[int], frozenset[int]],
        covered_here: Callable[[int], frozenset[int]],
    ) -> None:
        self._rows = rows
        self._covered, self._covered_here = covered, covered_here
        self._said: Recent[int, Said] = Recent(MOST_THREADS)  # the call is still to come

    def __bool__(self) -> bool:
        return bool(self._said)

    def says(self, raw: bytes, row: int) -> None:
        """A REC_VERDICT."""
        self._said.put(records.HEAD.unpack_from(raw)[6], read_verdict(self._rows[row].entry, raw))

    def forget(self, tid: int) -> None:
        """The thread has ended."""
        self._said.pop(tid)

    def began(self, call: Open, tid: int) -> tuple[VerdictInfo, bool] | None:
        """The verdict on the call that begins, and whether it is past a policy of which no
        daemon is asked instead.
        """
        verdict = self._on(call, tid)
        if verdict is None:
            return None
        return verdict, self._rows[call.row].stub in self._covered_here(
            call.tgid
        ) or verdict.note is not None

    def _on(self, call: Open, tid: int) -> VerdictInfo | None:
        """What the enforcer said of the call that begins; that nobody asked it, where a policy
        covers the function.
        """
        function, stub = self._rows[call.row].function, self._rows[call.row].stub
        if function is None or call.depth or call.raw is None:
            return None
        if stub == undescribed.NO_STUB:
            return NOT_ENFORCED if function.is_write and stub in self._covered(call.tgid) else None
        said = self._said.pop(tid)
        # a denied call never begins
        if said is not None and _is_about(said, stub, call.raw) and said.info.action != "deny":
            return said.info
        if call.raw[records.RECORD_FLAGS] & records.REC_INNER_LOST:
            return None
        return NOT_ENFORCED if stub in self._covered(call.tgid) else None

    def denied(self, call: Open, tid: int) -> tuple[VerdictInfo, Value]:
        """The verdict on a call that the enforcer sent back, and what its caller got."""
        assert call.raw is not None
        row = self._rows[call.row]
        said = self._said.pop(tid)
        if said is None or said.info.action != "deny" or not _is_about(said, row.stub, call.raw):
            return VerdictInfo("deny", ""), None  # that of this one was lost
        if row.function is None or row.returns != "integer":
            return said.info, None
        return said.info, values.integer(row.function.result.kind, said.result)


def _is_about(said: Said, stub: int, raw: bytes) -> bool:
    """Whether the verdict is on this call."""
    return said.number == stub and said.sp == u64(raw, records.ENTRY_SP)
