# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is told of files that can't be attached to: so many of each user's, and the rest in a
sum.
"""

from __future__ import annotations

import time

import pytest

from log.events import Unattached
from probes.host.libraries import refusals
from probes.host.libraries.refusals import Refusals


@pytest.fixture
def now(monkeypatch) -> list[int]:
    """Nanoseconds."""
    at = [10**15]
    monkeypatch.setattr(time, "monotonic_ns", lambda: at[0])
    return at


def told(events: list[Unattached]) -> list[tuple[str, str]]:
    return [(event.path, event.reason) for event in events]


def test_so_many_are_told_and_the_rest_is_a_sum(now) -> None:
    held = Refusals()
    for number in range(100):
        held.add(f"/{number}", "no", 1000)
    assert told(held.take()) == [(f"/{number}", "no") for number in range(refusals.MOST_OF_ONE)]
    now[0] += refusals.TOLD_NS + 1
    assert told(held.take()) == [("/99", f"no (and {100 - refusals.MOST_OF_ONE - 1} other files)")]
    held.add("/next", "no", 1000)
    assert told(held.take()) == [("/next", "no")]
    for number in range(30):
        held.add(f"/more{number}", "no", 1000)
    assert told(held.take(last=True))[-1] == ("/more29", "no (and 10 other files)")
    assert told(held.take(last=True)) == []


def test_nobody_is_hidden_behind_another(now) -> None:
    held = Refusals()
    for account in (1000, 1001, -1):
        for number in range(1000):
            held.add(f"/{account}/{number}", "no", account)
    # the others have used up what all have together: it is one of the sums
    held.add("/of/another", "no", 1002)
    held.add("/of/root", "no")
    events = told(held.take())
    assert ("/of/root", "no") in events
    assert len(events) == refusals.MOST_OF_OTHERS + 1
    assert ("/of/another", "no") in told(held.take(last=True))


def test_some_reasons_are_told_once(now) -> None:
    held = Refusals()
    for number in range(5):
        held.add(f"/{number}", "too many", 1000, once=True)
    held.add("/mine", "too many", 1001, once=True)
    assert told(held.take()) == [("/0", "too many"), ("/mine", "too many")]
    assert told(held.take(last=True)) == [("/4", "too many (and 3 other files)")]


def test_the_number_of_sums_has_a_limit(now) -> None:
    held = Refusals()
    for account in range(1, 10_000):
        held.add(f"/{account}", "no", account)
    assert len(told(held.take(last=True))) <= 2 * refusals.MOST_OF_OTHERS


def test_root_has_a_limit_too(now) -> None:
    held = Refusals()
    for number in range(300):
        held.add(f"/{number}", "no")
    assert told(held.take()) == [(f"/{number}", "no") for number in range(100)]
    assert told(held.take(last=True)) == [("/299", "no (and 199 other files)")]
