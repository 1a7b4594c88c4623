# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls of a while come in; the table of `top` goes out: which clients, functions and domains
made the most, failed most often, kept daemons busy or waited for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from log.events import Call, Event, Lost
from log.filters.about import client_of, object_of
from log.moments import rfc3339
from log.render.units import clock, duration
from log.report.in_json import as_line, words_of
from log.report.report import MOST_ROWS, Key, said, was_denied
from log.report.spent import spent
from log.report.tables import label_of
from log.sinks.screen.summary import Table

COLUMNS = ("calls/s", "calls", "errors", "denied", "total", "daemon", "queue")
DOMAIN = "domain"
TITLES = ("client", "function", DOMAIN)


class Load:
    """Calls that are counted together, and what they cost daemons."""

    def __init__(self) -> None:
        self.calls = self.errors = self.denied = 0
        self.total = self.daemon = 0  # ns; in daemons, with what they waited for a monitor
        self.queued = self.queue = self.longest_queue = 0  # calls that daemons took; ns until then

    def add(self, call: Call, denied: bool, daemon: int, queue: int | None) -> None:
        """Count a call; `queue`: None where it is not known that a daemon took it."""
        self.calls += 1
        if denied:
            self.denied += 1
        elif call.failed:
            self.errors += 1
        self.total += call.duration_ns or 0
        self.daemon += daemon
        if queue is not None:
            self.queued += 1
            self.queue += queue
            self.longest_queue = max(self.longest_queue, queue)


# what rows are sorted by; the largest is first
SORTS: Mapping[str, Callable[[Load], int]] = {
    "calls": lambda load: load.calls,
    "daemon": lambda load: load.daemon,
    "errors": lambda load: load.errors + load.denied,
    "queue": lambda load: load.queue,
}


class Busiest:
    """What is counted in a while. Its memory is limited, whatever names there are."""

    def __init__(self) -> None:
        self.all = Load()
        self.tables: dict[str, dict[Key, Load]] = {title: {} for title in TITLES}
        self.lost = 0

    def add(self, events: Iterable[Event]) -> None:
        """Count the calls that have ended; what daemons did for one is counted with it."""
        for event in events:
            if type(event) is Lost:
                self.lost += event.count
            elif type(event) is Call and event.parent is None and not _is_under_way(event):
                self._add(event)

    def _add(self, call: Call) -> None:
        denied = was_denied(call, both=False)
        daemon, queue = _cost(call)
        self.all.add(call, denied, daemon, queue)
        about = object_of(call)
        keys = {
            "client": client_of(call.comm, call.caller, call.client),
            "function": (call.function,),
        }
        if about is not None and about.type == DOMAIN:
            keys[DOMAIN] = (said(about.label),)
        for title, key in keys.items():
            rows = self.tables[title]
            load = rows.get(key)
            if load is None:
                load = rows.setdefault(key if len(rows) < MOST_ROWS else (), Load())
            load.add(call, denied, daemon, queue)

    def left_out(self) -> list[str]:
        """Says of which there were more than there are rows for."""
        return [
            f"more than {MOST_ROWS} {title}s: the rest is counted together"
            for title, rows in self.tables.items()
            if () in rows
        ]

    def sorted(self, title: str, by: str) -> list[tuple[Key, Load]]:
        """The rows of a table, the largest first."""
        value = SORTS[by]
        return sorted(
            self.tables[title].items(),
            key=lambda item: (-value(item[1]), -item[1].calls, -item[1].total, item[0]),
        )


def _is_under_way(call: Call) -> bool:
    return (call.unfinished or "").startswith("still running")


def _cost(call: Call) -> tuple[int, int | None]:
    """Time in daemons, and until they began, in ns."""
    if found := spent(call):
        return found.daemon + found.monitor, found.queue
    if call.client is not None and not call.client.unproved:
        return call.duration_ns or 0, None  # a daemon's, whose client's call was not seen
    return 0, None


def heading(busiest: Busiest, seconds: float, under_way: int) -> str:
    """It all, in a line."""
    load = busiest.all
    return (
        f"{clock(time.time_ns())[:8]} in {seconds:.1f}s: {_rate(load.calls, seconds)} calls/s, "
        f"{load.calls} calls, {load.errors} failed, {load.denied} denied, {busiest.lost} lost, "
        f"{under_way} under way"
    )


def tables(busiest: Busiest, seconds: float, by: str, most: int) -> list[Table]:
    """For people: of each table at most so many rows (0: all)."""
    return [
        Table(
            (title, *COLUMNS),
            [
                (label_of(title, key), *_cells(load, seconds))
                for key, load in busiest.sorted(title, by)[: most or None]
            ],
        )
        for title in TITLES
    ]


def _cells(load: Load, seconds: float) -> tuple[str, ...]:
    return (
        _rate(load.calls, seconds),
        *map(str, (load.calls, load.errors, load.denied)),
        duration(load.total),
        duration(load.daemon) if load.daemon else "-",
        duration(load.queue) if load.queued else "-",
    )


def _rate(calls: int, seconds: float) -> str:
    return f"{calls / seconds:.1f}" if seconds else "-"


def as_json(
    busiest: Busiest,
    seconds: float,
    by: str,
    under_way: int,
    daemons: Sequence[Mapping[str, Any]] = (),
) -> str:
    """For programs: every row, as one line; `others` is true of what there was no row for.
    `daemons`: how full they are.
    """
    return as_line(
        {
            "type": "top",
            "time": rfc3339(time.time_ns()),
            "seconds": round(seconds, 3),
            **_numbers(busiest.all, seconds),
            "lost": busiest.lost,
            "under_way": under_way,
            "sort": by,
            **{
                f"{title}s": [
                    {title: words_of(title, key), **_numbers(load, seconds)}
                    for key, load in busiest.sorted(title, by)
                ]
                for title in TITLES
            },
            "daemons": [*daemons],
        }
    )


def _numbers(load: Load, seconds: float) -> dict[str, Any]:
    return {
        "calls": load.calls,
        "calls_per_second": round(load.calls / seconds, 3) if seconds else None,
        "failed": load.errors,
        "denied": load.denied,
        "total_ns": load.total,
        "daemon_ns": load.daemon,
        "queued": load.queued,
        "queue_ns": load.queue if load.queued else None,
        "longest_queue_ns": load.longest_queue if load.queued else None,
    }
