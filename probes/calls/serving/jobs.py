# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who has a domain's job, and who waits for it: records of the functions that begin and end jobs
come in.

A driver lets one call at a time change a domain, or ask its monitor (a job), one talk to its agent,
and one do what takes long (an asynchronous job). The others wait, and give up after 30 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from log.recent import Recent
from log.values import Value
from probes.calls.parts.open import Open
from probes.internals.private import ENDS_JOB
from probes.internals.waiting import AGENT_JOB, JOB, LONG_JOB

MOST = 4096

Place = tuple[int, Value, str]  # process, address of the domain in it, which of its jobs


class Holder(NamedTuple):
    """The call that has a job."""

    tid: int
    number: int
    since: int  # ns, CLOCK_MONOTONIC


class Waiting(NamedTuple):
    """A thread that wants a job."""

    wants: Place
    number: int  # of its call
    since: int  # ns, CLOCK_MONOTONIC


class Jobs:
    """Jobs of domains. What began before tracing is not known."""

    def __init__(self) -> None:
        self._held: Recent[Place, Holder] = Recent(MOST)
        self._waiting: dict[int, Waiting] = {}  # by thread

    def begins(self, call: Open, tid: int, fields: Mapping[str, Value], time: int) -> None:
        """The call wants a job; it has the domain, and which."""
        job, agent, long = (_number(fields, f"arg{i}") for i in (2, 3, 4))
        kind = LONG_JOB if long else AGENT_JOB if agent and not job else JOB
        self._waiting[tid] = Waiting((call.tgid, fields["arg0"], kind), call.seq, time)

    def begun(self, tid: int, time: int) -> None:
        """It has it."""
        if waiting := self._waiting.pop(tid, None):
            self._held.put(waiting.wants, Holder(tid, waiting.number, time))

    def gave_up(self, tid: int) -> Waiting | None:
        """It has waited in vain, for that."""
        return self._waiting.pop(tid, None)

    def ends(self, pid: int, name: str, fields: Mapping[str, Value]) -> None:
        """A job is over."""
        self._held.pop((pid, fields["arg0"], ENDS_JOB[name]))

    def waiting(self, tid: int) -> Waiting | None:
        """What the thread waits for."""
        return self._waiting.get(tid)

    def all_waiting(self) -> list[tuple[int, Waiting]]:
        """Every thread that waits."""
        return list(self._waiting.items())

    def holder(self, waiting: Waiting) -> Holder | None:
        """Who has what is waited for, if that is known."""
        pid, domain, kind = waiting.wants
        kinds = (kind,) if kind == AGENT_JOB else (JOB, LONG_JOB)
        for one in kinds:
            if held := self._held.get((pid, domain, one)):
                return held
        return None

    def forget(self, tid: int) -> None:
        """The thread has ended."""
        self._waiting.pop(tid, None)


def _number(fields: Mapping[str, Value], name: str) -> int:
    value = fields[name]
    return value & 0xFFFFFFFF if isinstance(value, int) else 0
