# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measured values come in; one plain table goes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """A line of the table."""

    part: str
    what: str
    value: float
    unit: str
    pairs: float | None = None  # how many null pairs that is
    target: str = ""


HEADINGS = ("part", "what", "value", "unit", "null pairs", "target")


def render(rows: Sequence[Row]) -> str:
    """The rows below their headings; numbers are aligned to the right."""
    cells = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    lines = []
    for line in cells:
        fitted = [
            cell.rjust(width) if column in (2, 4) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(fitted).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def render_markdown(rows: Sequence[Row]) -> str:
    """The same for a page."""
    lines = ["| what | value | | target |", "|---|--:|---|---|"]
    lines += [
        f"| {row.part}: {row.what} | {number(row.value)} | {row.unit} | {row.target} |"
        for row in rows
    ]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.part,
        row.what,
        number(row.value),
        row.unit,
        "" if row.pairs is None else f"{row.pairs:.2f}",
        row.target,
    )


def number(value: float) -> str:
    """Three digits of a small number, all of the whole part of a large one."""
    size = abs(value)
    digits = 0 if size >= 100 or not value else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}"
