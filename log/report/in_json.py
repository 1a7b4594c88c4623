# SPDX-License-Identifier: LGPL-2.1-or-later
"""A report comes in; one line of JSON for programs goes out. Times are in ns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from log.moments import rfc3339
from log.quote import well_formed
from log.report.report import COUNTED, TIMES, Ending, Key, Report
from log.report.spent import PLACES, Shares, times_of
from log.sinks.screen.summary import Counts


def as_json(report: Report) -> str:
    """For programs: everything, as one line."""
    lists = {
        f"{title}s": [_row(title, key, counts) for key, counts in sorted(rows.items())]
        for title, rows in report.tables.items()
    }
    ended = [_ending(one) for one in sorted(report.endings.values())]
    first = None if report.first is None else rfc3339(report.first)
    span = {"since": first, "until": None if first is None else rfc3339(report.last)}
    sums = {
        **numbers(report.all),
        **_shares(report.all),
        "lost": report.lost,
        "gaps": report.gaps,
        "endings_left_out": report.endings_left_out,
    }
    return as_line({"type": "report", **span, **sums, **lists, "endings": ended})


def _row(title: str, key: Key, counts: Shares) -> dict[str, Any]:
    return {title: words_of(title, key), **numbers(counts), **_shares(counts)}


def _shares(counts: Shares) -> dict[str, Any]:
    """Nothing where no daemon is known to have done something."""
    if not counts.spent[PLACES[0]].count:
        return {}
    names = ("total_ns", *(f"{word}_ns" for word in TIMES))
    return {
        "spent": {
            place.replace(" ", "_"): {
                "calls": durations.count,
                **dict(zip(names, times_of(durations), strict=True)),
            }
            for place, durations in counts.spent.items()
        }
    }


def words_of(title: str, key: Key) -> Any:
    """How a row is called; null: what is on no object. "others" is true for what there was no
    row for.
    """
    if not key:
        return {"others": True}
    if title == "client":
        return dict(zip(("program", "user"), key, strict=True))
    if title == "object":
        return dict(zip(("type", "name"), key, strict=True)) if key[0] else None
    return key[0]


def numbers(counts: Counts) -> dict[str, int | None]:
    """COLUMNS of a row; null for times that nobody knows."""
    times: Sequence[int | None] = counts.times() or [None] * (1 + len(TIMES))
    names = ("total_ns", *(f"{word}_ns" for word in TIMES))
    return {
        **dict(zip(COUNTED, counts.numbers(), strict=True)),
        **dict(zip(names, times, strict=True)),
    }


def _ending(one: Ending) -> dict[str, Any]:
    event, _, detail = one.how.partition(": ")
    by = words_of("client", one.by) if one.by else None
    domain = {"name": one.domain, "uuid": one.uuid}
    return {
        "time": rfc3339(one.time),
        "domain": domain,
        "event": event,
        "detail": detail,
        "cause": one.cause,
        "client": by,
    }


def as_line(fields: dict[str, Any]) -> str:
    """JSON, whatever the texts are."""
    return json.dumps(_well_formed(fields), separators=(",", ":")) + "\n"


def _well_formed(item: Any) -> Any:
    if isinstance(item, str):
        return well_formed(item)
    if isinstance(item, dict):
        return {key: _well_formed(inner) for key, inner in item.items()}
    return [_well_formed(inner) for inner in item] if isinstance(item, list) else item
