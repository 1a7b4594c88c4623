# SPDX-License-Identifier: LGPL-2.1-or-later
"""A call with what daemons did for it comes in; where its time went goes out."""

from __future__ import annotations

from typing import NamedTuple

from log.events import Call, Command
from log.sinks.screen.summary import Counts, Durations

CLIENT, QUEUE, DAEMON, MONITOR = PLACES = ("client", "daemon queue", "daemon", "monitor")


class Spent(NamedTuple):
    """Nanoseconds in each place; together as long as the call took."""

    client: int
    queue: int  # until a daemon began: the message was sent, and waited for a worker
    daemon: int
    monitor: int  # of virtual machines, and agents in them


def spent(call: Call) -> Spent | None:
    """None for a call that no daemon is known to have done something for."""
    took = call.duration_ns
    if took is None or not any(type(child) is Call for child in call.children):
        return None
    queue, daemon, monitor = _inside(call, call.time + took)
    return Spent(max(took - queue - daemon - monitor, 0), queue, daemon, monitor)


def _inside(call: Call, end: int) -> tuple[int, int, int]:
    """What the calls that were made for this one took, up to its end: a client need not wait."""
    queue = daemon = monitor = 0
    free = call.time  # when it could send again
    for child in sorted(call.children, key=lambda child: int(child.time)):
        if type(child) is not Call or child.duration_ns is None:
            continue
        begun = min(max(child.time, free), end)
        ended = min(max(child.time + child.duration_ns, begun), end)
        inner = _inside(child, ended) if any(type(one) is Call for one in child.children) else None
        inner_queue, inner_daemon, inner_monitor = inner or (0, 0, 0)
        asked = min(_asked(child), max(ended - begun - inner_queue - inner_daemon, 0))
        queue += begun - free + inner_queue
        monitor += asked + inner_monitor
        daemon += max(ended - begun - inner_queue - inner_monitor - asked, 0)
        free = ended
    return queue, daemon, monitor


def _asked(call: Call) -> int:
    """How long it waited for answers of monitors and agents."""
    return sum(child.duration_ns or 0 for child in call.children if type(child) is Command)


class Shares(Counts):
    """Calls that are counted together, and where their time went."""

    def __init__(self) -> None:
        super().__init__()
        self.spent = {place: Durations() for place in PLACES}

    def add(self, call: Call, *, denied: bool) -> None:
        """Count a call."""
        super().add(call, denied=denied)
        if found := spent(call):
            for place, ns in zip(PLACES, found, strict=True):
                self.spent[place].add(ns)


def times_of(durations: Durations) -> list[int]:
    """In all, by percentile and at most, as report.TIMES has them (ns)."""
    return [durations.total, *map(durations.percentile, (50, 95, 99)), durations.max]
