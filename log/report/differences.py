# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two reports come in, one of before and one of after; what differs goes out, for people and for
programs.
"""

from __future__ import annotations

from collections.abc import Mapping

from log.quote import escape, name
from log.report.in_json import as_line, numbers, words_of
from log.report.report import COLUMNS, Key, Report
from log.report.tables import cells_of, label_of
from log.sinks.screen.summary import Counts, Table

SLOWER = 2  # a percentile that has changed by this factor is a difference


def differences(before: Report, after: Report) -> list[Table]:
    """For people: the rows that are not the same in both; a cell is `before -> after` where it
    has changed.
    """
    made = []
    for title in before.tables:
        cells = []
        for key, old, new in _changed(before.tables[title], after.tables[title]):
            cells.append(
                (
                    label_of(title, key),
                    *map(_change, cells_of(old or Counts()), cells_of(new or Counts())),
                )
            )
        made.append(Table((title, *COLUMNS), cells))
    ended: list[Key] = [
        (name(key[0]), escape(key[1]), escape(key[2]), _change(str(old), str(new)))
        for key, old, new in _ended(before, after)
    ]
    return [*made, Table(("domain", "how", "by", "times"), ended, right=1)]


def _change(old: str, new: str) -> str:
    return old if old == new else f"{old} -> {new}"


def _changed(
    old: Mapping[Key, Counts], new: Mapping[Key, Counts]
) -> list[tuple[Key, Counts | None, Counts | None]]:
    """The rows that differ: in numbers, or by much in the time that half of the calls, or 95 %,
    took.
    """
    pairs = [(key, old.get(key), new.get(key)) for key in sorted({*old, *new})]
    return [
        (key, one, other)
        for key, one, other in pairs
        if one is None or other is None or _differ(one, other)
    ]


def _differ(one: Counts, other: Counts) -> bool:
    if one.numbers() != other.numbers():
        return True
    pairs = [
        (one.durations.percentile(percent), other.durations.percentile(percent))
        for percent in (50, 95)
    ]
    return any(max(pair) >= SLOWER * min(pair) and max(pair) > 0 for pair in pairs)


def _ended(before: Report, after: Report) -> list[tuple[Key, int, int]]:
    counts: dict[Key, list[int]] = {}
    for index, report in enumerate((before, after)):
        for one in report.endings.values():
            key = (one.domain, one.how, " ".join((one.cause, *one.by)))
            counts.setdefault(key, [0, 0])[index] += 1
    return [(key, old, new) for key, (old, new) in sorted(counts.items()) if old != new]


def differences_as_json(before: Report, after: Report) -> str:
    """For programs: what differs, as one line; null for a row that is not there."""
    lists = {
        f"{title}s": [
            {
                title: words_of(title, key),
                "before": old and numbers(old),
                "after": new and numbers(new),
            }
            for key, old, new in _changed(before.tables[title], after.tables[title])
        ]
        for title in before.tables
    }
    ended = [
        dict(zip(("domain", "how", "by", "before", "after"), (*key, old, new), strict=True))
        for key, old, new in _ended(before, after)
    ]
    return as_line({"type": "difference", **lists, "endings": ended})
