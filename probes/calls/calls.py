# SPDX-License-Identifier: LGPL-2.1-or-later
"""Puts calls together: records in order of time come in, events go out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from log.events import Event, UnderWay
from probes.api.table import ApiTable
from probes.calls.building import Building
from probes.calls.following import Following
from probes.calls.inner import InnerFunctions
from probes.calls.outcomes import Outcomes
from probes.calls.parts.decode import Decoder, NameOf
from probes.calls.parts.errors import RaisedErrors
from probes.calls.parts.judged import Judged
from probes.calls.parts.open import OpenCalls
from probes.calls.serving.access import Access
from probes.calls.serving.causes import Causes
from probes.calls.serving.changes import Changes
from probes.calls.serving.endings import Endings
from probes.calls.serving.jobs import Jobs
from probes.calls.serving.tasks import Choice, Task
from probes.calls.serving.waits import Elder, Waits
from probes.host.daemons.guests import Guests
from probes.plans.plan import PlanRow

_ALL = Choice()


class Calls:
    """All who know about calls, and what they are told.

    `find_task`: describes the thread (task id, pid, tid) of a record.
    `epoch`: the time since the epoch (ns) of a time on CLOCK_MONOTONIC.
    `covered`: numbers of the functions that a policy covers for a process; `covered_here`: those of
    which no daemon is asked instead. `unseen`: whether calls of which nothing is known may be under
    way in a process. `redact`: whether secrets are hidden in what monitors are told and in messages
    of errors. `is_own`: whether libvirt's code is at an address of a process: calls by one of its
    modules are inner ones. `nested`: whether inner calls are wanted.
    `endings`: what is known of how guests end; None: nothing is.
    `elder`: knows of calls that began before tracing did.
    `left`: is told of processes in which a call may have been left for good, if they do not copy
    stacks.
    """

    def __init__(
        self,
        rows: list[PlanRow],
        table: ApiTable,
        find_task: Callable[[int, int, int], Task],
        epoch: Callable[[int], int],
        covered: Callable[[int], frozenset[int]] = lambda pid: frozenset(),
        covered_here: Callable[[int], frozenset[int]] = lambda pid: frozenset(),
        choice: Choice = _ALL,
        unseen: Callable[[int], bool] = lambda pid: False,
        endings: Endings | None = None,
        *,
        redact: bool = True,
        name_of: NameOf = lambda pid, address: None,
        is_own: Callable[[int, int], bool] = lambda pid, address: False,
        nested: bool = True,
        left: Callable[[int], None] = lambda pid: None,
        elder: Elder | None = None,
    ) -> None:
        self.rows = rows
        self._errors = RaisedErrors(table, redact=redact)
        self._access = Access(self._errors)
        self._open = OpenCalls(epoch)
        self._decoder = Decoder(rows, name_of)
        self._judged = Judged(rows, covered, covered_here)
        self._causes = Causes(self._open, find_task, choice)
        self._endings = endings = endings or Endings(Guests(lambda pid, uid, at: None))
        self._changes = Changes(
            self._decoder,
            self._open,
            self._causes,
            table,
            find_task,
            epoch,
            choice,
            unseen,
            endings,
            redact=redact,
        )
        self._jobs = Jobs()
        self._waits = Waits(self._decoder, self._open, self._jobs, find_task, epoch, elder)
        self._building = Building(
            self._decoder, self._open, self._causes, self._errors, find_task, epoch
        )
        self._inner = InnerFunctions(
            self._decoder,
            self._open,
            self._errors,
            self._access,
            self._causes,
            self._changes,
            self._jobs,
            self._waits,
            endings,
            find_task,
        )
        self._outcomes = Outcomes(
            self._decoder,
            self._open,
            self._judged,
            self._causes,
            self._changes,
            self._building,
            endings,
            find_task,
        )
        self.ended_without_entry = self._outcomes.ended_without_entry  # by ring and user
        self._following = Following(
            self._decoder,
            self._open,
            self._judged,
            self._causes,
            self._building,
            self._outcomes,
            self._inner,
            epoch,
            choice,
            is_own=is_own,
            nested=nested,
            left=left,
        )

    @property
    def covering(self) -> bool:
        """Whether there may be a policy anywhere."""
        return self._following.covering

    @covering.setter
    def covering(self, covering: bool) -> None:
        self._following.covering = covering

    def feed(self, raws: Iterable[bytes]) -> list[Event]:
        """The calls that these records end, and what else they tell."""
        return self._following.feed(raws)

    def thread_exited(self, tid: int) -> list[Event]:
        """The calls that the thread did not come back from."""
        self._errors.forget(tid)
        self._access.forget(tid)
        self._judged.forget(tid)
        self._endings.thread_exited(tid)
        self._jobs.forget(tid)
        ended: list[Event] = []
        if tid in self._outcomes.waiting:
            self._outcomes.settle(tid, ended)
        for call in self._open.forget(tid):
            self._outcomes.unfinished(call, tid, "process exited", ended)
        return ended

    def process_replaced(self, pid: int, when: int) -> list[Event]:
        """The calls of all its threads that began before it became another program, at the time
        `when` (ns).
        """
        ended: list[Event] = []
        for tid, stack in self._open.began_before(when, pid):
            while stack:
                self._outcomes.unfinished(stack.pop(), tid, "process exited", ended)
        self._judged.forget(pid)  # all other threads have ended
        self._errors.forget(pid)
        self.process_exited(pid)
        return ended

    def process_exited(self, pid: int) -> None:
        """Nothing more comes from it, or from what it was."""
        self._decoder.forget_process(pid)

    def give_up(self, when: int) -> list[Event]:
        """The calls that began before the time `when` (ns): they have no return probe that
        would tell their end.
        """
        return self._outcomes.give_up(when)

    def let_go(self, when: int) -> list[Event]:
        """Calls that ended before the time `when` (ns), and wait for a part that was lost;
        those that have no return probe, later.
        """
        return self._outcomes.let_go(when)

    def forget_idle(self) -> None:
        """Of threads outside any call nothing is kept, nor of processes whose end was not told."""
        self._open.forget_idle()
        self._decoder.forget_gone()

    def forget_decoded(self) -> None:
        """Plan rows stand for other functions from now on."""
        self._decoder.forget_rows()
        self._building.forget_rows()

    def open_threads(self) -> list[tuple[int, int]]:
        """(pid, tid) of threads inside a call."""
        return self._open.threads()

    def open_calls(self) -> int:
        """How many calls are under way."""
        return len(self._open)

    def oldest(self) -> int | None:
        """When the oldest of these began (ns, CLOCK_MONOTONIC)."""
        return self._open.oldest()

    def close(self) -> list[Event]:
        """What is still under way when tracing ends."""
        ended: list[Event] = []
        for tid in list(self._outcomes.waiting):
            self._outcomes.settle(tid, ended)
        for tid in list(self._open.stacks):
            for call in self._open.forget(tid):
                self._outcomes.unfinished(call, tid, "still running", ended)
        return ended

    def under_way(self, now: int, least: int = 0) -> list[UnderWay]:
        """Calls that have lasted for `least` (ns) at the time `now` (ns, CLOCK_MONOTONIC)."""
        return self._waits.under_way(now, least)

    def unexplained(self, before: int) -> list[tuple[int, int]]:
        """Daemons and threads of theirs that wait for a domain's job since before that time (ns),
        which nobody is known to have.
        """
        return self._waits.unexplained(before)

    def has_called(self, tid: int) -> bool:
        """Whether the thread was seen to call since tracing began, lately at least."""
        return tid in self._open.stacks
