# SPDX-License-Identifier: LGPL-2.1-or-later
"""What has not ended: calls under way, those that began before tracing did, and what is owed; an
event for each goes out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from log.events import Owed, UnderWay
from log.owing.owing import Owing
from probes.calls.calls import Calls
from probes.calls.counted import KernelCounts
from probes.calls.serving.tasks import Tasks
from probes.hanging.hanging import Hanging
from probes.hanging.witnesses import Witnesses
from probes.host.clock import WallClock
from probes.host.daemons.stacks import Inside
from probes.tracing.filters import Filters

# who waits so long for what nobody is known to have waits for what began before tracing
WAITS_NS = 1_000_000_000


class Standing:
    """Asks who knows. `hanging`: looks into processes; `warn`: is told what the user should
    know.
    """

    def __init__(
        self,
        calls: Calls,
        counts: KernelCounts | None,
        owing: Owing,
        tasks: Tasks,
        clock: WallClock,
        filters: Filters,
        hanging: Callable[[], Hanging],
        witnesses: Witnesses,
        warn: Callable[[str], None],
    ) -> None:
        self._calls, self._counts, self._owing = calls, counts, owing
        self._tasks, self._clock, self._filters = tasks, clock, filters
        self._hanging, self._witnesses, self._warn = hanging, witnesses, warn

    def oldest_call(self) -> float:
        """How long the oldest of them has been (s); 0 if there is none."""
        oldest = self._calls.oldest()
        return 0.0 if oldest is None else (time.monotonic_ns() - oldest) / 1e9

    def count_owed(self) -> int:
        """How much was begun and not ended."""
        return len(self._owing)

    def under_way(self, least: int = 0) -> list[UnderWay]:
        """Calls that have lasted for `least` (ns), the oldest first."""
        now = time.monotonic_ns()
        told = self._calls.under_way(now, least)
        if self._counts is None:
            return told
        told += self._counts.under_way(self._tasks.find, self._clock.epoch, now, least)
        return sorted(told, key=lambda one: one.age_ns or 0, reverse=True)

    def owed(self) -> list[Owed]:
        """What was begun and not ended, the oldest first."""
        if left_out := self._owing.left_out():
            self._warn(left_out)
        owed = self._owing.open(self._clock.epoch(time.monotonic_ns()))
        return [one for one in owed if self._filters.keeps(one)]

    def begun_before(self, inside: Sequence[Inside]) -> list[UnderWay]:
        """Of calls that were under way before, those that are so yet, and are seen by nothing
        else.
        """
        unseen = [one for one in inside if not self._calls.has_called(one.tid)]
        found = self._hanging().describe(unseen, self._clock.epoch(time.monotonic_ns()))
        return [one for one in found if self._filters.keeps(one)]

    def look_at_waiting(self) -> None:
        """Finds out who has the jobs that calls wait for, if that began before tracing."""
        self._witnesses.watch_now(self._calls.unexplained(time.monotonic_ns()))

    def look_after_a_while(self, now: int) -> None:
        """The same for those that have waited for some time, when there is time for it."""
        if unexplained := self._calls.unexplained(now - WAITS_NS):
            self._witnesses.watch(unexplained)
