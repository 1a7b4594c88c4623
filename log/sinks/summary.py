# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls come in; the table of `-c` goes out: per function how many, how many failed, and how long they took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from log.events import Call, Event, Reads
from log.quote import name
from log.render.text import duration

if TYPE_CHECKING:
    import rich.console

_STEPS = 6  # bits: a power of two is divided into 64 buckets
HEADINGS = ("function", "calls", "errors", "denied", "total", "average", "p50", "p95", "p99", "max")


class Durations:
    """A histogram whose buckets are exact below 128 ns and 1/64 of their power of two wide above.

    A percentile is the end of its bucket, so at most 1.6 % too long; at most 3,776 buckets for any 64-bit duration.
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

    def percentile(self, percent: int) -> int:
        """The duration in ns that `percent` of all did not exceed (nearest rank); 0 if there is none."""
        rank = -(-self.count * percent // 100)
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return min(_longest(bucket), self.max)
        return 0


class _Function:
    def __init__(self) -> None:
        self.calls = self.errors = self.denied = 0
        self.durations = Durations()


class Summary:
    """The sink that adds up; its memory grows with the number of functions, not of calls."""

    def __init__(self, *, both: bool = False) -> None:
        """`both`: what daemons do for a call counts as calls of their own."""
        self._functions: dict[str, _Function] = {}
        self._both = both

    def write(self, events: Sequence[Event]) -> None:
        """Count the calls; a denied one is no error, an unfinished one has no duration."""
        for event in events:
            if type(event) is Reads:
                self._add_reads(event)
            if type(event) is not Call or (event.parent is not None and not self._both):
                continue
            function = self._of(event.function)
            function.calls += 1
            if event.verdict is not None and event.verdict.action == "deny":
                function.denied += 1
            elif event.failed:
                function.errors += 1
            if event.duration_ns is not None and event.unfinished is None:
                function.durations.add(event.duration_ns)

    def _of(self, name: str) -> _Function:
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = _Function()
        return function

    def _add_reads(self, event: Reads) -> None:
        """Calls of a record that were only counted: each as long as they were on average."""
        if event.caused and not self._both:
            return
        function = self._of(event.function)
        function.calls += event.calls
        function.errors += event.failed
        function.durations.add_many(event.calls, event.total_ns, event.max_ns)

    def tick(self, open_calls: int) -> None:
        """Nothing to say meanwhile."""

    def reopen(self) -> None:
        """Nothing is open."""

    def close(self, given_up: object = None) -> None:
        """The table is shown when the log is complete, by `show`."""

    def rows(self) -> list[tuple[str, ...]]:
        """A row a function under HEADINGS, the longest total first, and a last one with the sums."""
        longest = sorted(self._functions.items(), key=lambda item: (-item[1].durations.total, -item[1].calls, item[0]))
        rows = [_row(name(label), function) for label, function in longest]
        functions = self._functions.values()
        calls, errors, denied = sum(f.calls for f in functions), sum(f.errors for f in functions), sum(f.denied for f in functions)
        total = sum(f.durations.total for f in functions)
        return [*rows, ("total", str(calls), str(errors), str(denied), duration(total), "", "", "", "", "")]

    def table(self) -> str:
        """The table as plain text, in columns."""
        rows = [HEADINGS, *self.rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for first, *rest in rows:
            cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
            lines.append("  ".join(cells).rstrip() + "\n")
        return "".join(lines)

    def shown_on(self, console: rich.console.Console) -> str:
        """The table as the console would show it: with rules and colours on a terminal, else as `table` has it."""
        if not console.is_terminal or console.is_dumb_terminal:
            return self.table()
        import rich.box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
        for heading in HEADINGS:
            left = heading == "function"
            table.add_column(heading, no_wrap=True, justify="left" if left else "right", style="function" if left else "number")
        *rows, sums = self.rows()
        for cells in rows:
            table.add_row(*(Text(cell, _style(heading, cell)) for heading, cell in zip(HEADINGS, cells, strict=True)))
        table.add_section()
        table.add_row(*map(Text, sums), style="dim")
        # a table that is wider than the window is for the terminal to wrap: cut numbers would be wrong numbers
        table.width = console.measure(table, options=console.options.update(width=10_000)).maximum
        with console.capture() as capture:
            console.print(table, crop=False)
        return capture.get()


def _bucket(ns: int) -> int:
    shift = ns.bit_length() - _STEPS - 1
    return ns if shift <= 0 else (shift << _STEPS) + (ns >> shift)


def _longest(bucket: int) -> int:
    """The longest duration that falls in the bucket, in ns."""
    shift = (bucket >> _STEPS) - 1
    return bucket if shift <= 0 else ((bucket + 1 - (shift << _STEPS)) << shift) - 1


def _row(label: str, function: _Function) -> tuple[str, ...]:
    durations = function.durations
    counts = (str(function.calls), str(function.errors), str(function.denied))
    if not durations.count:
        return (label, *counts, "-", "-", "-", "-", "-", "-")
    times = [durations.total, durations.total // durations.count, *map(durations.percentile, (50, 95, 99)), durations.max]
    return (label, *counts, *map(duration, times))


def _style(heading: str, cell: str) -> str:
    if cell == "0":
        return "dim"
    return {"errors": "failed", "denied": "denied"}.get(heading, "")
