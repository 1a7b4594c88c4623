# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is under way, and where the time goes: calls and jobs come in, one event for each call that
no other one waits for goes out, the oldest first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from log.client import UNKNOWN
from log.events import UnderWay
from log.values import Handle, Value
from probes.calls.parts.decode import Decoder
from probes.calls.parts.open import Open, OpenCalls
from probes.calls.serving.endings import whose
from probes.calls.serving.jobs import Holder, Jobs, Waiting
from probes.calls.serving.tasks import Task
from probes.internals.private import BEGINS_JOB, MONITOR, SEND
from probes.internals.waiting import AGENT_JOB
from probes.plans.handles import ONCE_CONNECT

CLIENT, DAEMON = "in the client", "in the daemon"
FOR_DAEMON = "waiting for the daemon"
FOR_JOB, FOR_AGENT_JOB = "waiting for the domain's job", "waiting for the domain's agent job"
FOR_MONITOR, FOR_AGENT = "waiting for the monitor", "waiting for the agent"
DEEPEST = 4  # a client, a proxy, a daemon, and one that this one asks

_One = tuple[int, Open]  # thread and call


def place_of(waits_for: str | None, *, serves: bool) -> str:
    """Where the time goes of a thread that is in that inner function, if in any."""
    if waits_for == SEND:
        return FOR_DAEMON
    if waits_for == BEGINS_JOB:
        return FOR_JOB
    if waits_for is not None:
        return FOR_MONITOR if waits_for == MONITOR else FOR_AGENT
    return DAEMON if serves else CLIENT


class Where(NamedTuple):
    """Where the time of a call goes."""

    place: str
    command: Value = None  # that an answer is waited for
    held_by: Mapping[str, Value] | None = None


class Elder(Protocol):
    """Knows of calls that began before tracing did."""

    def holder(self, pid: int, tid: int) -> Mapping[str, Value] | None:
        """Which of them has the job that the thread waits for, or has just waited for."""


class Waits:
    """Looks at the calls under way; `epoch`: the time since the epoch of one on CLOCK_MONOTONIC."""

    def __init__(
        self,
        decoder: Decoder,
        calls: OpenCalls,
        jobs: Jobs,
        find_task: Callable[[int, int, int], Task],
        epoch: Callable[[int], int],
        elder: Elder | None = None,
    ) -> None:
        self._decoder, self._calls, self._jobs = decoder, calls, jobs
        self._find_task, self._epoch, self._elder = find_task, epoch, elder

    def under_way(self, now: int, least: int = 0) -> list[UnderWay]:
        """Calls that have lasted for `least` (ns) at the time `now` (ns, CLOCK_MONOTONIC)."""
        served: defaultdict[tuple[int, int], list[_One]] = defaultdict(list)
        asked: list[_One] = []
        for tid, stack in self._calls.stacks.items():
            if not stack or self._calls.is_hidden(tid, stack[0].seq):
                continue
            extra = self._calls.extra_of(tid, stack[0].seq)
            origins = extra.origins if extra else []
            by = (origins[0].tid, origins[0].number) if len(origins) == 1 else None
            if by and self._call(*by):
                served[by].append((tid, stack[0]))
            elif stack[0].raw is not None and now - stack[0].started >= least:
                asked.append((tid, stack[0]))
        asked.sort(key=lambda one: one[1].started)
        return [self._describe(one, served, now) for one in asked]

    def unexplained(self, before: int) -> list[tuple[int, int]]:
        """Daemons and threads of theirs that wait for a job since before that time (ns), which
        nobody is known to have.
        """
        return [
            (waiting.wants[0], tid)
            for tid, waiting in self._jobs.all_waiting()
            if waiting.since < before and self._jobs.holder(waiting) is None
        ]

    def gave_up(self, tid: int, time: int) -> Mapping[str, Value] | None:
        """Who has the job that the thread has just waited for in vain (ns)."""
        waiting = self._jobs.gave_up(tid)
        return self._holder(waiting, tid, time) if waiting else None

    def _holder(self, waiting: Waiting, tid: int, now: int) -> Mapping[str, Value] | None:
        held = self._jobs.holder(waiting)
        if held is not None:
            return self._by(held, now)
        return self._elder.holder(waiting.wants[0], tid) if self._elder else None

    def _by(self, held: Holder, now: int) -> dict[str, Value] | None:
        """Who has a job: the call, for whom it is made, and for how long."""
        call = self._call(held.tid, held.number)
        if call is None:
            return None
        task = self._find_task(call.task, call.tgid, held.tid)
        function = self._decoder.rows[call.row].function
        name: Value = function.name if function else "?"
        about = {"id": self._calls.id(call, held.tid), "function": name}
        return {**about, **whose(task), "age_ns": max(now - held.since, 0)}

    def _call(self, tid: int, number: int) -> Open | None:
        return next((call for call in self._calls.stacks.get(tid, ()) if call.seq == number), None)

    def _describe(
        self, one: _One, served: Mapping[tuple[int, int], list[_One]], now: int
    ) -> UnderWay:
        tid, call = one
        task = self._find_task(call.task, call.tgid, tid)
        function = self._decoder.rows[call.row].function
        where = self._where(one, served, 0, now)
        about = self._object(call)
        return UnderWay(
            self._epoch(now),
            now - call.started,
            tid,
            task.comm,
            task.caller,
            (task.served.shown or UNKNOWN) if task.served else None,
            function.name if function else "?",
            about,
            where.place,
            where.command,
            where.held_by,
            self._calls.id(call, tid),
            self._connection(about, call.tgid),
        )

    def _connection(self, about: Handle | None, pid: int) -> str | None:
        """The URI of what it is on, if the process was seen to have it."""
        if about is not None and about.type != "connect":
            known = self._decoder.constants_of(pid).get((ONCE_CONNECT, about.owner or 0))
            about = known if isinstance(known, Handle) else None
        uri = about.fields.get("uri") if about else None
        return uri if isinstance(uri, str) else None

    def _object(self, call: Open) -> Handle | None:
        """What it is about: no connection, if there is anything else."""
        extra, row = None, self._decoder.rows[call.row]
        assert call.raw is not None
        args, _, _ = self._decoder.decode(row.entry, call.raw, extra, call.row, call.tgid, False)
        handles = [value for value in args.values.values() if isinstance(value, Handle)]
        about = [value for value in handles if value.type != "connect"] or handles
        return about[0] if about else None

    def _where(
        self, one: _One, served: Mapping[tuple[int, int], list[_One]], deep: int, now: int
    ) -> Where:
        tid, call = one
        if deep < DEEPEST and (done := served.get((tid, call.seq))):
            return self._where(done[-1], served, deep + 1, now)
        if waiting := self._jobs.waiting(tid):
            place = FOR_AGENT_JOB if waiting.wants[2] == AGENT_JOB else FOR_JOB
            return Where(place, None, self._holder(waiting, tid, now))
        for inner in reversed(self._calls.stacks[tid]):
            extra = self._calls.extra_of(tid, inner.seq)
            if extra and extra.command:
                _, to_agent, text = extra.command
                return Where(FOR_AGENT if to_agent else FOR_MONITOR, text)
            if extra and extra.sent:
                return Where(FOR_DAEMON)
        task = self._find_task(call.task, call.tgid, tid)
        return Where(DAEMON if task.served or task.is_daemon else CLIENT)
