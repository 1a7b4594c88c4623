# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events of a record come in; tables go out: who did what to what, how often and how long, and
how domains have ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from log.client import Client
from log.events import Call, Caller, DomainEvent, Event, Gap, Lost, Reads, call_id
from log.filter import is_denied, object_of
from log.quote import escape, name, well_formed
from log.recent import Recent
from log.render.jsonl import rfc3339
from log.render.units import day_and_time, duration
from log.report.spent import PLACES, Shares
from log.sinks.summary import Counts, Durations, Table
from log.values import CutText, Handle, Value
from log.why import why

MOST_ROWS = 4096  # of a table; what comes then is counted together
MOST_ENDINGS = 16384
MOST_CAUSES = 65536  # that are waited for
ENDINGS = ("stopped", "crashed")
TIMES = ("p50", "p95", "p99", "max")
COUNTED = ("calls", "failed", "denied")
COLUMNS = (*COUNTED, "total", *TIMES)
SLOWER = 2  # a percentile that has changed by this factor is a difference

Key = tuple[str, ...]  # the words of a row; none: of all that there was no row for


class Ending(NamedTuple):
    """A domain that ceased to run."""

    time: int  # ns
    domain: str
    uuid: str | None
    how: str  # "stopped: destroyed"
    cause: str  # "virDomainDestroy"; else words that say what is known of it
    by: Key  # the client of that call


class Report:
    """What is counted. Its memory is limited, whatever names there are."""

    def __init__(self, *, both: bool = False) -> None:
        """`both`: what daemons do for a call counts as calls of their own."""
        self._both = both
        self.all = Shares()
        self.tables: dict[str, dict[Key, Shares]] = {"client": {}, "object": {}, "function": {}}
        self.endings: dict[tuple[int, int], Ending] = {}
        self.endings_left_out = self.lost = self.gaps = 0
        self.first: int | None = None
        self.last = 0
        self._caused: Recent[str, list[tuple[int, int]]] = Recent(MOST_CAUSES)

    def add(self, event: Event) -> None:
        """Count an event."""
        if type(event) is Call:
            self._explain(event)
            if event.parent is None or self._both:
                self._span(event.time, event.time + (event.duration_ns or 0))
                denied = was_denied(event, both=self._both)
                for counts in self._rows(event, object_of(event)):
                    counts.add(event, denied=denied)
        elif type(event) is Reads:
            if not event.caused or self._both:
                self._span(event.time, event.until)
                for counts in self._rows(event, event.object):
                    counts.add_reads(event)
        elif type(event) is DomainEvent and event.event in ENDINGS:
            self._span(event.time, event.time)
            self._end(event)
        elif type(event) is Lost:
            self.lost += event.count
        elif type(event) is Gap:
            self.gaps += 1
            self.lost += event.lost or 0

    def _span(self, first: int, last: int) -> None:
        self.first = first if self.first is None else min(self.first, first)
        self.last = max(self.last, last)

    def _rows(self, event: Call | Reads, about: Handle | None) -> Iterable[Counts]:
        yield self.all
        client = client_of(event.comm, event.caller, event.client)
        words = () if about is None else (about.type, said(about.label))
        for table, key in (
            ("client", client),
            ("object", words or ("", "")),
            ("function", (event.function,)),
        ):
            rows = self.tables[table]
            counts = rows.get(key)
            if counts is None:
                counts = rows.setdefault(key if len(rows) < MOST_ROWS else (), Shares())
            yield counts

    def _end(self, event: DomainEvent) -> None:
        at = (event.time, event.tid)
        if len(self.endings) >= MOST_ENDINGS and at not in self.endings:
            self.endings_left_out += 1
            return
        fields = event.domain.fields
        uuid = fields.get("uuid")
        how = f"{event.event}: {event.detail}"
        self.endings[at] = Ending(
            event.time,
            said(event.domain.label),
            uuid if isinstance(uuid, str) else None,
            how,
            cause_of(event),
            (),
        )
        if event.parent is not None:
            self._caused.learn(event.parent, lambda _: []).append(at)

    def _explain(self, call: Call) -> None:
        for at in self._caused.pop(call_id(call.tid, call.time)) or ():
            by = client_of(call.comm, call.caller, call.client)
            self.endings[at] = self.endings[at]._replace(cause=call.function, by=by)


def was_denied(call: Call, *, both: bool) -> bool:
    """Whether an enforcer sent it back; without `both`, one in a daemon, too."""
    return is_denied(call) or (
        not both and any(type(one) is Call and is_denied(one) for one in call.children)
    )


def cause_of(event: DomainEvent) -> str:
    """Why a domain has changed, in words, until the call that did it is known."""
    return why(event).removeprefix("by ").removeprefix("cause ")


def client_of(comm: str, caller: Caller, client: Client | None) -> Key:
    """Program and user that a call is made for."""
    program = os.path.basename(caller.exe or "") or comm
    if client is None or client.unproved:
        return program, caller.user or str(caller.uid)
    if client.is_daemon:
        return program, "itself"
    return client.program or client.address or "?", client.name or "?"


def said(label: Value) -> str:
    """What an object is called, as far as that is known."""
    if isinstance(label, CutText):
        return label.whole or f"{label.text}..."
    return label if isinstance(label, str) else "?"


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
    cells = [(label_of(title, key), *_cells(counts)) for key, counts in shown]
    if rest := longest[len(shown) :]:
        sums = [sum(counts.numbers()[column] for _, counts in rest) for column in range(3)]
        total = duration(sum(counts.durations.total for _, counts in rest))
        cells.append((f"({len(rest)} more)", *map(str, sums), total, *("" for _ in TIMES)))
    return Table((title, *COLUMNS), cells)


def _cells(counts: Counts) -> tuple[str, ...]:
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
        (label_of("function", key), place, str(durations.count), *map(duration, _times(durations)))
        for key, counts in known[: top or None]
        for place, durations in counts.spent.items()
    ]
    return Table(("function", "time in", "calls", "total", *TIMES), cells, right=2 + len(TIMES))


def _times(durations: Durations) -> list[int]:
    return [durations.total, *map(durations.percentile, (50, 95, 99)), durations.max]


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
                    *map(_change, _cells(old or Counts()), _cells(new or Counts())),
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
        **_numbers(report.all),
        **_shares(report.all),
        "lost": report.lost,
        "gaps": report.gaps,
        "endings_left_out": report.endings_left_out,
    }
    return as_line({"type": "report", **span, **sums, **lists, "endings": ended})


def differences_as_json(before: Report, after: Report) -> str:
    """For programs: what differs, as one line; null for a row that is not there."""
    lists = {
        f"{title}s": [
            {
                title: words_of(title, key),
                "before": old and _numbers(old),
                "after": new and _numbers(new),
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


def _row(title: str, key: Key, counts: Shares) -> dict[str, Any]:
    return {title: words_of(title, key), **_numbers(counts), **_shares(counts)}


def _shares(counts: Shares) -> dict[str, Any]:
    """Nothing where no daemon is known to have done something."""
    if not counts.spent[PLACES[0]].count:
        return {}
    names = ("total_ns", *(f"{word}_ns" for word in TIMES))
    return {
        "spent": {
            place.replace(" ", "_"): {
                "calls": durations.count,
                **dict(zip(names, _times(durations), strict=True)),
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


def _numbers(counts: Counts) -> dict[str, int | None]:
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
