# SPDX-License-Identifier: LGPL-2.1-or-later
"""Points in time as one writes them."""

from __future__ import annotations

import datetime

import pytest

from log.verbs.when import parse_time

NOW = datetime.datetime(2026, 11, 25, 21, 30, 15)
AT = datetime.datetime


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("now", NOW),
        ("-2h", AT(2026, 11, 25, 19, 30, 15)),
        ("-30min", AT(2026, 11, 25, 21, 0, 15)),
        ("-1w", AT(2026, 11, 18, 21, 30, 15)),
        ("today", AT(2026, 11, 25)),
        ("yesterday 08:15", AT(2026, 11, 24, 8, 15)),
        ("21:30", AT(2026, 11, 25, 21, 30)),
        ("2026-11-24 21:30:05", AT(2026, 11, 24, 21, 30, 5)),
        ("2026-11-24T21:30:05+00:00", AT(2026, 11, 24, 21, 30, 5, tzinfo=datetime.UTC)),
    ],
)
def test_times_are_local_unless_a_zone_is_given(words: str, meant: datetime.datetime) -> None:
    assert parse_time(f" {words} ", NOW) == round(meant.timestamp() * 10**9)


def test_seconds_since_the_epoch_are_exact() -> None:
    assert parse_time("@1795600000.000000001") == 1795600000 * 10**9 + 1


@pytest.mark.parametrize("words", ["", "tomorrow", "-2x", "@", "25:00", "-2 h", "2026-13-01"])
def test_what_is_no_time_is_refused(words: str) -> None:
    with pytest.raises(ValueError):
        parse_time(words, NOW)
