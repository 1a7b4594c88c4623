# SPDX-License-Identifier: LGPL-2.1-or-later
"""The last line's numbers: each event counts once, as one thing."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.events import Event, Lost, VerdictInfo
from log.filters.tally import MOST_RULES, Tally
from tests.unit.log_samples import ATTACHED, CLOCK, DESTROY, START, UNATTACHED

DENIED = DESTROY._replace(failed=True, verdict=VerdictInfo("deny", "no"))
# what it adds to calls, failed, denied, lost, details
COUNTS: list[tuple[Event, tuple[int, int, int, int, int]]] = [
    (DESTROY, (1, 0, 0, 0, 0)),
    (DESTROY._replace(failed=True), (1, 1, 0, 0, 0)),
    (DESTROY._replace(failed=None), (1, 0, 0, 0, 0)),  # nobody knows
    (DESTROY._replace(failed=True, verdict=VerdictInfo("allow", "")), (1, 1, 0, 0, 0)),
    (DESTROY._replace(children=(DENIED,)), (1, 0, 0, 0, 0)),  # those come themselves, too
    (DENIED, (1, 0, 1, 0, 0)),
    (Lost(START, 12, "read", "buffer full"), (0, 0, 0, 12, 0)),
    (Lost(START, 0, "read", "buffer full", details=3), (0, 0, 0, 0, 3)),
    (ATTACHED, (0, 0, 0, 0, 0)),
    (UNATTACHED, (0, 0, 0, 0, 0)),
    (CLOCK, (0, 0, 0, 0, 0)),
]


@given(st.lists(st.lists(st.sampled_from(range(len(COUNTS))))))
def test_every_event_counts_once(batches: list[list[int]]) -> None:
    tally = Tally()
    for batch in batches:
        tally.add([COUNTS[i][0] for i in batch])
    end = tally.end()
    expected = [sum(COUNTS[i][1][what] for batch in batches for i in batch) for what in range(5)]
    assert [end.calls, end.failed, end.denied, end.lost, end.details_lost] == expected


def test_seconds_are_those_since_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "time_ns", lambda: START)
    tally = Tally()
    now[0] = 112.34567
    assert (tally.end().time, tally.end().seconds) == (START, 12.346)


def test_rules_are_counted_by_what_they_did_and_not_without_end() -> None:
    tally = Tally()
    audited = DESTROY._replace(verdict=VerdictInfo("audit", "look"))
    no_rule = DESTROY._replace(verdict=VerdictInfo("not enforced", ""))
    tally.add([DENIED, audited, audited, no_rule])
    assert tally.end().rules == (
        {"rule": "look", "action": "audit", "calls": 2},
        {"rule": "no", "action": "deny", "calls": 1},
    )
    many = [DESTROY._replace(verdict=VerdictInfo("allow", f"r{n}")) for n in range(300)]
    tally.add(many)
    rules = tally.end().rules
    assert len(rules) == MOST_RULES + 1 and sum(int(str(rule["calls"])) for rule in rules) == 303
    assert rules[0] == {"rule": None, "action": "allow", "calls": 300 - (MOST_RULES - 2)}
