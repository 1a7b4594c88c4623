# SPDX-License-Identifier: LGPL-2.1-or-later
"""A rehearsal comes in; lines for people, or one object of JSON for programs, go out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from enforcer.policy.rules import Policy
from enforcer.rehearsal.made import CLIENT, CLIENT_OF_DAEMON, DAEMON, ITSELF
from enforcer.rehearsal.rehearse import ALLOWED, COUNTED, DENIED, Changed, Key, Rehearsal
from log.events import Reads
from log.moments import rfc3339
from log.parsing.parse import parse
from log.quote import name, quote, well_formed
from log.render import text
from log.render.units import day_and_time

KINDS = (DENIED, ALLOWED)
FEW = 20  # rows of a rule that are listed, unless all are asked for
_WHERE = {DAEMON: "in daemons", CLIENT: "in programs", CLIENT_OF_DAEMON: "in clients"}
_WHY = {
    CLIENT_OF_DAEMON: "calls of a daemon's client, where the daemon judges (--clients: there, too)",
    ITSELF: "a daemon's own work",
}


def as_text(found: Rehearsal, *, everything: bool = False) -> list[str]:
    """What is printed; the words about what is missing from the record come first."""
    lines = list(doubts(found))
    if not found.calls:
        return [*lines, "nothing that a policy judges is recorded there"]
    for kind in KINDS:
        rows = sorted(
            ((key, row) for key, row in found.rows.items() if key.kind == kind),
            key=lambda item: (
                item[0].rule or "",
                -item[1].calls,
                item[0][2:4],
                item[0].object or "",
            ),
        )
        for rule, group in groupby(rows, key=lambda item: item[0].rule):
            lines += _of_rule(found, kind, rule, list(group), everything)
    if found.left_out:
        lines.append(f"{found.left_out:,} more calls change, in more ways than are told apart")
    return [*lines, *totals(found)]


def doubts(found: Rehearsal) -> Iterator[str]:
    """What there is to know about the record before one believes it."""
    if found.gaps or found.lost:
        spans = [
            f"{day_and_time(gap.time)} to {day_and_time(gap.until)} ({gap.reason})"
            for gap in found.gaps[:3]
        ]
        more = f", and {len(found.gaps) - 3} more" if len(found.gaps) > 3 else ""
        parts = [f"nothing or not all of {'; '.join(spans)}{more}"] if spans else []
        parts += [f"{_calls(found.lost)} lost"] if found.lost else []
        yield f"the record is not complete: {', and '.join(parts)}"
    if found.unseen:
        files = ", ".join(map(name, sorted(found.unseen)))
        yield f"calls through {files} were not recorded, or not all"
    if found.foreign:
        lines = "line is" if found.foreign == 1 else "lines are"
        yield f"{found.foreign} {lines} no event; left out"


def totals(found: Rehearsal) -> Iterator[str]:
    """The numbers at the end."""
    assert found.first is not None
    where = ", ".join(
        f"{count:,} {_WHERE.get(place, place)}" for place, count in sorted(found.judged.items())
    )
    parts = [f"{found.same:,} same"]
    for kind in KINDS:
        worked = f" ({found.worked[kind]:,} had not failed)" if kind == DENIED else ""
        parts.append(f"{found.changed[kind]:,} {kind}{worked if found.changed[kind] else ''}")
    untold = found.untold.total()
    parts.append(f"{untold:,} can't be told")
    yield (
        f"{day_and_time(found.first)} to {day_and_time(found.last)}: "
        f"{found.calls:,} calls judged ({where}): {', '.join(parts)}"
    )
    for missing, count in found.untold.most_common():
        yield f"  can't be told: {count:,}, {_because(missing)}"
    for why, count in sorted(found.elsewhere.items()):
        yield f"  not judged: {count:,}, {_WHY[why]}"


def _because(missing: str) -> str:
    if " " in missing:
        return f"reads that were {missing}" if missing == COUNTED else missing
    return f"the {missing} is not recorded"


def _of_rule(
    found: Rehearsal,
    kind: str,
    rule: str | None,
    rows: list[tuple[Key, Changed]],
    everything: bool,
) -> Iterator[str]:
    count = sum(row.calls for _, row in rows)
    yield f"{kind}{_by(found, kind, rule)}: {_calls(count)}"
    shown = rows if everything else rows[:FEW]
    for key, row in shown:
        about = "" if key.object is None else f" {name(key.object)}"
        span = day_and_time(row.first)
        span += f" to {day_and_time(row.last)}" if row.calls > 1 else ""
        failed = row.calls - row.worked if kind == DENIED else 0
        less = f", {failed:,} had failed anyway" if failed else ""
        yield f"  {name(key.user)} {key.function}{about}: {_calls(row.calls)}{less}, {span}"
        yield f"    {_example(row)}"
    if len(rows) > len(shown):
        left = sum(row.calls for _, row in rows[len(shown) :])
        more = len(rows) - len(shown)
        yield f"  ... and {more:,} more such lines, {_calls(left)}; --all lists them"


def stale(found: Rehearsal, *, everything: bool = False) -> list[str]:
    """Rules that have decided no call, or all."""
    lines = list(doubts(found))
    if not found.calls:
        return [*lines, "nothing that a policy judges is recorded there"]
    assert found.first is not None
    span = f"{day_and_time(found.first)} to {day_and_time(found.last)}"
    unused = 0
    for rule in found.new.rules:
        use = found.uses[rule.name]
        unused += not use.calls
        if use.calls and not everything:
            continue
        said = f"{_calls(use.calls)}, last {day_and_time(use.last)}" if use.last else "no call"
        more = f", perhaps {_calls(use.perhaps)}: the record doesn't tell" if use.perhaps else ""
        lines.append(f"rule {quote(rule.name)} (line {rule.line}), {rule.action}: {said}{more}")
    of = f"{unused} of {len(found.new.rules)} rules"
    return [*lines, f"{span}: {of} have decided none of {_calls(found.calls)}"]


def _by(found: Rehearsal, kind: str, rule: str | None) -> str:
    policy: Policy | None = found.new if kind == DENIED else found.old
    line = next((one.line for one in policy.rules if one.name == rule), 0) if policy else 0
    place = f" (line {line})" if line else ""
    if kind == DENIED:
        return f" by rule {quote(rule or '')}{place}"
    return f", where rule {quote(rule)}{place} denied" if rule else ", where a rule denied"


def _example(row: Changed) -> str:
    event = parse(row.example)
    assert event is not None
    if type(event) is Reads:
        return text.line(event).rstrip("\n")
    return text.line(event, text.View.BOTH).rstrip("\n")


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"


def as_json(found: Rehearsal) -> str:
    """For programs: everything, as one line."""
    fields: dict[str, Any] = {
        "type": "rehearsal",
        "since": None if found.first is None else rfc3339(found.first),
        "until": None if found.first is None else rfc3339(found.last),
        "mode": found.new.mode,
        "judged": found.calls,
        "same": found.same,
        "newly_denied": found.changed[DENIED],
        "newly_denied_that_had_not_failed": found.worked[DENIED],
        "newly_allowed": found.changed[ALLOWED],
        "cannot_be_told": found.untold.total(),
        "why": dict(sorted(found.untold.items())),
        "judged_in": dict(sorted(found.judged.items())),
        "not_judged": dict(sorted(found.elsewhere.items())),
        "gaps": [
            {"time": rfc3339(gap.time), "until": rfc3339(gap.until), "reason": gap.reason}
            for gap in found.gaps
        ],
        "lost": found.lost,
        "left_out": found.left_out,
        "rules": [
            {
                "rule": rule,
                "calls": use.calls,
                "perhaps": use.perhaps,
                "last": None if use.last is None else rfc3339(use.last),
            }
            for rule, use in found.uses.items()
        ],
        "changes": [_as_fields(key, row) for key, row in _sorted(found.rows.items())],
    }
    return json.dumps(fields, separators=(",", ":")) + "\n"


def _sorted(rows: Iterable[tuple[Key, Changed]]) -> list[tuple[Key, Changed]]:
    return sorted(rows, key=lambda item: tuple(part or "" for part in item[0]))


def _as_fields(key: Key, row: Changed) -> dict[str, Any]:
    return {
        "change": key.kind,
        "rule": key.rule,
        "user": well_formed(key.user),
        "function": key.function,
        "object": None if key.object is None else well_formed(key.object),
        "calls": row.calls,
        "had_not_failed": row.worked,
        "first": rfc3339(row.first),
        "last": rfc3339(row.last),
        "example": json.loads(row.example),
    }
