# SPDX-License-Identifier: LGPL-2.1-or-later
"""Inner functions of libvirt's: their records come in, and who follows changes, jobs, access and
errors is told what they say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from log.events import Event
from log.values import Value
from probes.calls.parts.decode import Decoder
from probes.calls.parts.errors import RaisedErrors
from probes.calls.parts.open import Open, OpenCalls
from probes.calls.serving.access import Access, keep
from probes.calls.serving.causes import Causes, sent
from probes.calls.serving.changes import Changes
from probes.calls.serving.domains import uuid_of
from probes.calls.serving.endings import Endings
from probes.calls.serving.jobs import Jobs
from probes.calls.serving.tasks import Task
from probes.calls.serving.waits import Waits
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


class InnerFunctions:
    """Knows whom each of them concerns."""

    def __init__(
        self,
        decoder: Decoder,
        opened: OpenCalls,
        errors: RaisedErrors,
        access: Access,
        causes: Causes,
        changes: Changes,
        jobs: Jobs,
        waits: Waits,
        endings: Endings,
        find_task: Callable[[int, int, int], Task],
    ) -> None:
        self._decoder, self._open, self._errors = decoder, opened, errors
        self._access, self._causes, self._changes = access, causes, changes
        self._jobs, self._waits, self._endings = jobs, waits, endings
        self._find_task = find_task

    def tells(self, row: PlanRow, raw: bytes, ended: list[Event]) -> None:
        """A record of the function that has this row."""
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
            self.in_call(name, call, tid, time, fields)
        elif call and name == BEGINS_JOB:
            if not u64(raw, records.RETURN_VALUE) & 0x80000000:
                self._jobs.begun(tid, time)
            elif held_by := self._waits.gave_up(tid, time):
                self._open.extra(tid, call).held_by = held_by
        elif call:
            self._changes.answered(call, tid, time, ended)

    def in_call(
        self, name: str, call: Open, tid: int, time: int, fields: Mapping[str, Value]
    ) -> None:
        """The call enters the function of that name, at that time (ns)."""
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
