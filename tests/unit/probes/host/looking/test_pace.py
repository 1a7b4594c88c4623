# SPDX-License-Identifier: LGPL-2.1-or-later
"""Work that others cause: a burst of it at first, then a share of the time."""

from __future__ import annotations

from probes.host.looking.pace import Pace


def test_a_burst_and_then_a_share() -> None:
    now = 100.0
    pace = Pace(0.1, 0.5, lambda: now)
    done = 0.0
    for _ in range(100_000):
        if pace.ready():
            with pace:
                now += 0.02
            done += 0.02
        else:
            now += 0.001
    spent = now - 100
    assert 0.1 * spent <= done <= 0.1 * spent + 0.6


def test_one_long_piece_is_paid_for() -> None:
    now = 0.0
    pace = Pace(0.1, 0, lambda: now)
    assert pace.ready()
    with pace:
        now += 3
    assert not pace.ready()
    now += 26.9
    assert not pace.ready()
    now += 0.2
    assert pace.ready()
