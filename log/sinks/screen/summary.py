# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls come in; the table of `-c` goes out: per function how many, how many failed, and how
long they took.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from log.counted import Counted
from log.events import Call, Event, Reads
from log.filters.about import is_denied
from log.quote import name
from log.render.units import duration

if TYPE_CHECKING:
    import rich.console

_STEPS = 6  # bits: a power of two is divided into 64 buckets
HEADINGS = ("function", "calls", "errors", "denied", "total", "average", "p50", "p95", "p99", "max")


class Durations:
    """A histogram whose buckets are exact below 128 ns and 1/64 of their power of two wide above.

    A percentile is the end of its bucket, so at most 1.6 % too long; at most 3,776 buckets for any
    64-bit duration.
    """

    def __init__(self) -> None:
        self.count = 0
        self.total = 0  # ns
        self.max = 0  # ns
        self._buckets: dict[int, int] = {}

    def add(self, ns: int) -> None:
        """Count one duration."""
        self.count += 1
        self.total += ns
        if ns > self.max:
            self.max = ns
        bucket = _bucket(ns)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    def add_many(self, count: int, total: int, longest: int) -> None:
        """Count durations of which only this is known."""
        ns = total // count if count else 0
        self.count += count
        self.total += total
        self.max = max(self.max, longest)
        bucket = _bucket(ns)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + count

    def buckets(self) -> dict[int, int]:
        """How many there are in each bucket."""
        return self._buckets

    def add_buckets(self, counted: Counted) -> None:
        """Count durations of which the buckets are known."""
        self.count += sum(counted.durations.values())
        self.total += counted.total_ns
        self.max = max(self.max, counted.max_ns)
        for bucket, number in counted.durations.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + number

    def percentile(self, percent: int) -> int:
        """The duration in ns that `percent` of all did not exceed (nearest rank); 0 if there is
        none.
        """
        rank = -(-self.count * percent // 100)
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return min(_longest(bucket), self.max)
        return 0


class Counts:
    """Calls that are counted together."""

    def __init__(self) -> None:
        self.calls = self.errors = self.denied = 0
        self.durations = Durations()

    def add(self, call: Call, *, denied: bool) -> None:
        """Count a call; a denied one is no error, an unfinished one has no duration."""
        self.calls += 1
        if denied:
            self.denied += 1
        elif call.failed:
            self.errors += 1
        if call.duration_ns is not None and call.unfinished is None:
            self.durations.add(call.duration_ns)

    def add_reads(self, event: Reads) -> None:
        """Count calls of a record that were only counted: each as long as they were on average."""
        self.calls += event.calls
        self.errors += event.failed
        self.durations.add_many(event.calls, event.total_ns, event.max_ns)

    def add_counted(self, counted: Counted) -> None:
        """Count calls that were only counted."""
        self.calls += counted.calls
        self.errors += counted.failed
        self.durations.add_buckets(counted)

    def numbers(self) -> tuple[int, int, int]:
        """Calls, errors, denied ones."""
        return self.calls, self.errors, self.denied

    def times(self) -> list[int]:
        """The sum, three percentiles and the longest, in ns; empty if no call has a duration."""
        durations = self.durations
        return (
            [durations.total, *map(durations.percentile, (50, 95, 99)), durations.max]
            if durations.count
            else []
        )


class Table(NamedTuple):
    """Cells below their headings."""

    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    last: tuple[str, ...] | None = None  # the sums
    # how many columns, from the last, are numbers; None: all but the first
    right: int | None = None

    def plain(self) -> str:
        """As plain text, in columns."""
        rows = [self.headings, *self.rows, *([self.last] if self.last else [])]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for cells in rows:
            fitted = [
                self._fit(column, cell, width)
                for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ]
            lines.append("  ".join(fitted).rstrip() + "\n")
        return "".join(lines)

    def shown_on(self, console: rich.console.Console) -> str:
        """As the console would show it: with rules and colours on a terminal, else as `plain`
        has it.
        """
        if not console.is_terminal or console.is_dumb_terminal:
            return self.plain()
        import rich.box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
        for column, heading in enumerate(self.headings):
            right = self.is_number(column)
            table.add_column(
                heading,
                no_wrap=True,
                justify="right" if right else "left",
                style="number" if right else "function",
            )
        for cells in self.rows:
            table.add_row(
                *(
                    Text(cell, _style(heading, cell))
                    for heading, cell in zip(self.headings, cells, strict=True)
                )
            )
        if self.last:
            table.add_section()
            table.add_row(*map(Text, self.last), style="dim")
        # a table that is wider than the window is for the terminal to wrap: cut numbers would be
        # wrong numbers
        table.width = console.measure(table, options=console.options.update(width=10_000)).maximum
        with console.capture() as capture:
            console.print(table, crop=False)
        return capture.get()

    def is_number(self, column: int) -> bool:
        """Whether it stands to the right."""
        numbers = len(self.headings) - 1 if self.right is None else self.right
        return column >= len(self.headings) - numbers

    def _fit(self, column: int, cell: str, width: int) -> str:
        return cell.rjust(width) if self.is_number(column) else cell.ljust(width)


class Summary:
    """The sink that adds up; its memory grows with the number of functions, not of calls."""

    def __init__(self, *, both: bool = False) -> None:
        """`both`: what daemons do for a call counts as calls of their own."""
        self._functions: dict[str, Counts] = {}
        self._both = both

    def write(self, events: Sequence[Event]) -> None:
        """Count the calls."""
        for event in events:
            if type(event) is Reads and (self._both or not event.caused):
                self._of(event.function).add_reads(event)
            elif type(event) is Call and (self._both or event.parent is None):
                self._of(event.function).add(event, denied=is_denied(event))

    def count(self, counted: Sequence[Counted]) -> None:
        """Add calls that were only counted."""
        for one in counted:
            self._of(one.function).add_counted(one)

    def _of(self, name: str) -> Counts:
        counts = self._functions.get(name)
        if counts is None:
            counts = self._functions[name] = Counts()
        return counts

    def tick(self, open_calls: int) -> None:
        """Nothing to say meanwhile."""

    def reopen(self) -> None:
        """Nothing is open."""

    def close(self, given_up: object = None) -> None:
        """The table is shown when the log is complete, by `show`."""

    def made(self) -> Table:
        """A row a function, the longest total first, and a last one with the sums."""
        longest = sorted(
            self._functions.items(),
            key=lambda item: (-item[1].durations.total, -item[1].calls, item[0]),
        )
        rows = [_row(name(label), function) for label, function in longest]
        functions = self._functions.values()
        calls, errors, denied = (
            sum(f.calls for f in functions),
            sum(f.errors for f in functions),
            sum(f.denied for f in functions),
        )
        total = sum(f.durations.total for f in functions)
        return Table(
            HEADINGS,
            rows,
            ("total", str(calls), str(errors), str(denied), duration(total), "", "", "", "", ""),
        )

    def table(self) -> str:
        """The table as plain text, in columns."""
        return self.made().plain()

    def shown_on(self, console: rich.console.Console) -> str:
        """The table as the console would show it."""
        return self.made().shown_on(console)


def _bucket(ns: int) -> int:
    shift = ns.bit_length() - _STEPS - 1
    return ns if shift <= 0 else (shift << _STEPS) + (ns >> shift)


def _longest(bucket: int) -> int:
    """The longest duration that falls in the bucket, in ns."""
    shift = (bucket >> _STEPS) - 1
    return bucket if shift <= 0 else ((bucket + 1 - (shift << _STEPS)) << shift) - 1


def _row(label: str, function: Counts) -> tuple[str, ...]:
    counts = tuple(map(str, function.numbers()))
    times = function.times()
    if not times:
        return (label, *counts, "-", "-", "-", "-", "-", "-")
    average = function.durations.total // function.durations.count
    return (label, *counts, *map(duration, (times[0], average, *times[1:])))


def _style(heading: str, cell: str) -> str:
    if cell == "0":
        return "dim"
    return {"errors": "failed", "failed": "failed", "denied": "denied"}.get(heading, "")
