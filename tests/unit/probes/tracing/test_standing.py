# SPDX-License-Identifier: LGPL-2.1-or-later
"""What has not ended, asked of those who know."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from log.events import Caller, UnderWay
from probes.tracing.filters import Filters
from probes.tracing.standing import WAITS_NS, Standing
from tests.unit.probes.tracing.recorders import Recorder, Told

CALLER = Caller(5, None, None, 0, "root", None, None, None)


def under_way(age: int | None, tid: int = 5) -> UnderWay:
    return UnderWay(0, age, tid, "virsh", CALLER, None, "virDomainSave", None, "in the client")


class Known:
    """Who knows: calls of these ages (ns), others that are only counted, and one from before."""

    def __init__(self, counted: list[int] | None = None) -> None:
        self.told: Told = []
        self.warned: list[str] = []
        self.oldest: int | None = None
        self.unexplained = [(5, 6)]
        counts: Any = None
        if counted is not None:
            counts = SimpleNamespace(under_way=lambda *of: [under_way(age) for age in counted])
        calls: Any = Recorder(
            "calls",
            self.told,
            {
                "under_way": lambda now, least: [under_way(70), under_way(20)],
                "oldest": lambda: self.oldest,
                "has_called": lambda tid: tid == 6,
                "unexplained": lambda before: self.unexplained,
            },
        )
        hanging: Any = lambda: SimpleNamespace(  # noqa: E731
            describe=lambda inside, now: [under_way(None, one.tid) for one in inside]
        )
        owing: Any = Recorder("owing", self.told, {"left_out": lambda: "too many", "open": list0})
        parts: Any = SimpleNamespace(find=None, epoch=lambda when: when)
        witnesses: Any = Recorder("witnesses", self.told)
        self.standing = Standing(
            *(calls, counts, owing, parts, parts, Filters(), hanging, witnesses),
            self.warned.append,
        )


def list0(now: int) -> list[object]:
    return []


@pytest.mark.parametrize(("counted", "ages"), [(None, [70, 20]), ([90, 50], [90, 70, 50, 20])])
def test_the_oldest_is_told_first_counted_or_not(
    counted: list[int] | None, ages: list[int]
) -> None:
    assert [one.age_ns for one in Known(counted).standing.under_way()] == ages


def test_how_long_the_oldest_call_has_been() -> None:
    known = Known()
    assert known.standing.oldest_call() == 0
    known.oldest = time.monotonic_ns() - 3_000_000_000
    assert known.standing.oldest_call() >= 3


def test_calls_from_before_are_told_where_nothing_else_sees_them() -> None:
    inside: list[Any] = [SimpleNamespace(tid=6), SimpleNamespace(tid=7)]
    assert [one.tid for one in Known().standing.begun_before(inside)] == [7]


def test_what_was_left_out_is_said() -> None:
    known = Known()
    assert known.standing.owed() == [] and known.warned == ["too many"]


def test_who_has_what_is_waited_for_is_looked_for_after_a_while_or_now() -> None:
    known = Known()
    known.standing.look_after_a_while(WAITS_NS + 7)
    known.standing.look_at_waiting()
    known.unexplained = []
    known.standing.look_after_a_while(WAITS_NS + 8)
    (first, watched, _, now, last) = known.told
    assert (first, watched) == (("calls.unexplained", 7), ("witnesses.watch", [(5, 6)]))
    assert (now, last) == (("witnesses.watch_now", [(5, 6)]), ("calls.unexplained", 8))
