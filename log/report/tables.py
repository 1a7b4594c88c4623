# SPDX-License-Identifier: LGPL-2.1-or-later
"""A report comes in; its tables for people go out."""

from __future__ import annotations

from collections.abc import Mapping

from log.quote import escape, name
from log.render.units import day_and_time, duration
from log.report.report import COLUMNS, TIMES, Ending, Key, Report
from log.report.spent import PLACES, Shares, times_of
from log.sinks.screen.summary import Counts, Table


def tables(report: Report, top: int) -> list[Table]:
    """For people: of each table the `top` longest rows, the rest in one (0: all)."""
    return [
        *(_table(title, rows, top) for title, rows in report.tables.items()),
        _places(report.tables["function"], top),
        _endings(report, top),
    ]


def heading(report: Report) -> str:
    """What it is about, in a line."""
    if report.first is None:
        return "no calls"
    counts = report.all
    span = f"{day_and_time(report.first)} to {day_and_time(report.last)}"
    gaps = (
        f"; nothing was recorded or late {report.gaps} times, see libvirt-trace verify"
        if report.gaps
        else ""
    )
    return (
        f"{span}: {counts.calls} calls, {counts.errors} failed, {counts.denied} denied, "
        f"{report.lost} lost{gaps}"
    )


def label_of(title: str, key: Key) -> str:
    """A row's name, for people."""
    if not key:
        return "(others)"
    if title == "object" and not key[0]:
        return "(none)"
    return " ".join(map(name, key))


def _table(title: str, rows: Mapping[Key, Counts], top: int) -> Table:
    longest = sorted(
        rows.items(), key=lambda item: (-item[1].durations.total, -item[1].calls, item[0])
    )
    shown = longest[: top or None]
    cells = [(label_of(title, key), *cells_of(counts)) for key, counts in shown]
    if rest := longest[len(shown) :]:
        sums = [sum(counts.numbers()[column] for _, counts in rest) for column in range(3)]
        total = duration(sum(counts.durations.total for _, counts in rest))
        cells.append((f"({len(rest)} more)", *map(str, sums), total, *("" for _ in TIMES)))
    return Table((title, *COLUMNS), cells)


def cells_of(counts: Counts) -> tuple[str, ...]:
    """COLUMNS of a row; "-" for times that nobody knows."""
    times = counts.times()
    return (
        *map(str, counts.numbers()),
        *(map(duration, times) if times else ("-",) * (1 + len(TIMES))),
    )


def _places(rows: Mapping[Key, Shares], top: int) -> Table:
    """Where calls were that daemons did something for."""
    known = [(key, counts) for key, counts in rows.items() if counts.spent[PLACES[0]].count]
    known.sort(key=lambda item: (-item[1].durations.total, item[0]))
    cells = [
        (
            label_of("function", key),
            place,
            str(durations.count),
            *map(duration, times_of(durations)),
        )
        for key, counts in known[: top or None]
        for place, durations in counts.spent.items()
    ]
    return Table(("function", "time in", "calls", "total", *TIMES), cells, right=2 + len(TIMES))


def _endings(report: Report, top: int) -> Table:
    every = sorted(report.endings.values())
    shown = every[-top:] if top else every
    cells: list[Key] = [
        (day_and_time(one.time), name(one.domain), escape(one.how), _cause(one)) for one in shown
    ]
    left_out = len(every) - len(shown) + report.endings_left_out
    if left_out:
        cells.append((f"({left_out} more)", "", "", ""))
    return Table(("ended", "domain", "how", "by"), cells, right=0)


def _cause(one: Ending) -> str:
    return f"{escape(one.cause)}, {label_of('client', one.by)}" if one.by else one.cause
