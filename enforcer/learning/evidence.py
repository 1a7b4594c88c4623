# SPDX-License-Identifier: LGPL-2.1-or-later
"""What rules were learned from, for people: what was seen comes in, lines of text go out, without
the mark of a comment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from enforcer.learning.generalise import Deed, Evidence, Learned
from enforcer.learning.seen import Seen
from log.quote import escape, name, quote
from log.render.units import day_and_time

MOST_LISTED = 200  # deeds that are not learned, one by one


class Measured(NamedTuple):
    """How a policy that was learned on the first part of the time does on the rest."""

    denied: int  # calls that had not failed
    calls: int
    since: int  # ns


def said(measured: Measured) -> str:
    """For people."""
    return (
        f"learned from the time before {day_and_time(measured.since)} only, it would have denied "
        f"{measured.denied:,} of {measured.calls:,} calls since"
    )


def evidence_of(evidence: Evidence) -> str:
    """How often something was seen, in a line."""
    days = len(evidence.days)
    span = day_and_time(evidence.first)
    span += f" to {day_and_time(evidence.last)}" if evidence.calls > 1 else ""
    programs = ", ".join(map(name, sorted(evidence.programs)))
    return (
        f"{evidence.calls:,} call{'s' if evidence.calls > 1 else ''} on "
        f"{days} day{'s' if days > 1 else ''} by {programs}, {span}"
    )


def about(deed: Deed) -> str:
    """Who did what to what."""
    words = " and ".join(map(quote, deed.objects))
    return f"{escape(deed.who)}: {deed.function}{f' on {words}' if words else ''}"


def heading(seen: Seen, what: str, rules: int, measured: Measured | None) -> Iterator[str]:
    """What all of it was learned from; `what`: these calls are."""
    assert seen.first is not None
    yield (
        f"learned from {seen.calls:,} calls {what}, {day_and_time(seen.first)} to "
        f"{day_and_time(seen.last)}: {rules} rules"
    )
    if measured is not None:
        yield said(measured)
    if seen.left_out:
        yield f"{seen.left_out:,} calls were left out: there are too many different ones"


def reasons(rule: Learned) -> Iterator[str]:
    """What one rule was learned from."""
    yield evidence_of(rule.evidence)
    yield from (f"made wider: {escape(step)}" for step in rule.steps)


def not_learned(seen: Seen) -> Iterator[str]:
    """What nothing was learned from, and why."""
    if seen.not_learned:
        yield "not learned from:"
    for (why, user, function), calls in seen.not_learned.most_common(MOST_LISTED):
        yield f"{calls:,} of {name(user)}: {function}, since {why}"
    if len(seen.not_learned) > MOST_LISTED:
        yield f"... and {len(seen.not_learned) - MOST_LISTED:,} more kinds"
