# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls among the lives of their processes: records of calls, and what happens to processes, come
in; put together in the order of their times, events go out.
"""

from __future__ import annotations

import bisect
import os

from log.events import Event
from log.owing.owing import Owing
from probes.calls.calls import Calls
from probes.calls.counted import KernelCounts
from probes.host.clock import WallClock
from probes.host.daemons.before import Before
from probes.host.daemons.guests import Guests
from probes.host.daemons.programs import Daemons
from probes.host.libraries.mapwatch import Happened, Mapped
from probes.host.looking import maps
from probes.host.processes.callers import Processes
from probes.host.processes.lives import Exec, Exited, Forked
from probes.kernel.rings.reader import SETTLED_NS, key_of, time_of
from probes.tracing.covering import Covering


class InOrder:
    """What waits to happen, and whom it concerns. `gives_up`: calls end at once, as nothing tells
    that they do.
    """

    def __init__(
        self,
        calls: Calls,
        owing: Owing,
        counts: KernelCounts | None,
        coverage: Covering,
        daemons: Daemons,
        before: Before,
        guests: Guests,
        processes: Processes,
        clock: WallClock,
        *,
        gives_up: bool,
    ) -> None:
        self._calls, self._owing, self._counts = calls, owing, counts
        self._coverage, self._daemons, self._before = coverage, daemons, before
        self._guests, self._processes, self._clock = guests, processes, clock
        self._gives_up = gives_up
        self.servers: set[int] = set()  # processes that are daemons
        # to processes, in their records' order
        self._happened: list[Happened] = []

    def add(self, happened: list[Happened]) -> None:
        """It has its place among the calls."""
        self._happened += happened

    def put_together(self, raws: list[bytes], settled: int) -> list[Event]:
        """The calls that ended up to the time `settled`; what is later may still get company
        from before it.
        """
        self._calls.covering = self._coverage.covers
        due = sorted(
            (record for record in self._happened if record.time <= settled),
            key=lambda record: record.time,
        )
        self._happened = [record for record in self._happened if record.time > settled]
        ended: list[Event] = []
        at = 0
        for record in due:
            before = bisect.bisect_right(raws, key_of(record.time), at, key=time_of)
            if before > at:
                ended.extend(self._owing.of(self._calls.feed(raws[at:before])))
                at = before
            self._happens(record, ended)
        ended.extend(self._owing.of(self._calls.feed(raws[at:])))
        ended.extend(self._calls.let_go(settled - SETTLED_NS))
        if self._gives_up:
            ended.extend(self._calls.give_up(settled - SETTLED_NS))
        return ended

    def _happens(self, record: Happened, ended: list[Event]) -> None:
        """It happens to a process after the calls that were fed and before those that will be."""
        if not isinstance(record, Mapped):
            self._guests.happens(record)
        if isinstance(record, Mapped):
            if maps.is_enforcer(record.path):
                self._coverage.enforced(record.pid)
            elif maps.is_library(record.path):
                self._coverage.loaded(record.pid)
                if self._daemons.is_daemon(record.pid):
                    self.servers.add(record.pid)
            self._calls.covering = self._coverage.covers
        elif isinstance(record, Exec):
            ended.extend(self._calls.process_replaced(record.pid, record.time))
            self._before.forget(record.pid)
            self._coverage.replaced(record.pid)
        elif isinstance(record, Forked):
            self._forget(record.pid)  # who had the number before
            self._coverage.forked(record.pid, record.ppid)
        elif isinstance(record, Exited):
            ended.extend(self._calls.thread_exited(record.tid))
            if self._counts:
                self._counts.thread_ended(record.tid, record.time)
            self._before.serves(record.pid, record.tid)
            if record.is_last:
                self._forget(record.pid)
                self._processes.ended(record.pid, record.time)
                ended.extend(self._owing.process_ended(record.pid, self._clock.epoch(record.time)))

    def _forget(self, pid: int) -> None:
        self._before.forget(pid)
        self._calls.process_exited(pid)
        self._coverage.forget(pid)
        self.servers.discard(pid)

    def look_for_ended(self, now: int) -> None:
        """Threads whose end was not told (events of the kernel get lost, or there are none)."""
        for pid, tid in self._calls.open_threads():
            if not os.path.exists(f"/proc/{pid}/task/{tid}"):
                self._happened.append(Exited(now, pid, tid, not os.path.exists(f"/proc/{pid}")))
        for pid in self._owing.debtors():
            if not os.path.exists(f"/proc/{pid}"):
                self._happened.append(Exited(now, pid, pid, True))
