# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `top` counts: once a call, sorted as asked, within limits; and how it is printed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.client import Client
from log.events import Call, CallError, Command, Event, VerdictInfo, call_id
from log.report import busiest
from log.report.busiest import SORTS, TITLES, Busiest
from tests.unit.log_samples import CALLER, DESTROY, HOSTILE, LOST, any_text, call_on

DAEMON = CALLER._replace(pid=2204, exe="/usr/sbin/libvirtd")
CLIENT = Client(pid=41207, uid=0, user="root", exe="/usr/bin/virsh")
MS = 1_000_000
ERROR = CallError(1, "VIR_ERR_INTERNAL_ERROR", None, None)


def remote(queue: int, daemon: int, after: int = 1, asked: int = 0) -> list[Event]:
    """A client's call and the daemon's for it, in the order that a session has them: times in
    ms.
    """
    commands = [Command(DESTROY.time, asked * MS, 1, "", DAEMON, "{}", None)] if asked else []
    inner = DESTROY._replace(
        time=DESTROY.time + queue * MS,
        duration_ns=daemon * MS,
        tid=2205,
        caller=DAEMON,
        client=CLIENT,
        parent=call_id(DESTROY.tid, DESTROY.time),
        children=tuple(commands),
    )
    outer = DESTROY._replace(duration_ns=(queue + daemon + after) * MS, children=(inner,))
    return [inner, outer]


def counted(*events: Event) -> Busiest:
    found = Busiest()
    found.add(events)
    return found


def shown(found: Busiest, by: str = "calls", seconds: float = 2.0) -> dict[str, Any]:
    line = busiest.as_json(found, seconds, by, 1)
    assert line.endswith("\n") and line.count("\n") == 1
    found_again: dict[str, Any] = json.loads(line)
    return found_again


def test_queue_is_apart_from_work_and_a_call_counts_once() -> None:
    numbers = shown(counted(*remote(5, 3), *remote(1, 2, asked=1), LOST))
    expected = {
        "calls": 2,
        "calls_per_second": 1.0,
        "failed": 0,
        "denied": 0,
        "total_ns": 13 * MS,
        "daemon_ns": 5 * MS,
        "queued": 2,
        "queue_ns": 6 * MS,
        "longest_queue_ns": 5 * MS,
    }
    assert {name: numbers[name] for name in expected} == expected
    assert (numbers["lost"], numbers["under_way"], numbers["seconds"]) == (12, 1, 2.0)
    assert numbers["clients"] == [{"client": {"program": "virsh", "user": "root"}, **expected}]
    assert numbers["functions"] == [{"function": DESTROY.function, **expected}]
    assert numbers["domains"] == [{"domain": "web1", **expected}]


def test_where_no_daemons_call_is_known_there_is_no_queue() -> None:
    alone = DESTROY._replace(caller=DAEMON, client=CLIENT)  # its client's call was not seen
    unproved = alone._replace(client=CLIENT._replace(unproved=True))
    for call, daemon in ((DESTROY, 0), (alone, DESTROY.duration_ns), (unproved, 0)):
        numbers = shown(counted(call))
        assert (numbers["daemon_ns"], numbers["queue_ns"], numbers["queued"]) == (daemon, None, 0)


def test_failed_denied_and_unfinished_calls() -> None:
    failed = DESTROY._replace(failed=True, error=ERROR, ret=-1)
    denied = failed._replace(verdict=VerdictInfo("deny", "keep"), duration_ns=None)
    ended = DESTROY._replace(duration_ns=None, unfinished="process exited")
    under_way = DESTROY._replace(duration_ns=None, unfinished="still running")
    numbers = shown(counted(DESTROY, failed, denied, ended, under_way))
    assert (numbers["calls"], numbers["failed"], numbers["denied"]) == (4, 1, 1)


def test_rows_are_sorted_by_what_is_asked_for() -> None:
    def named(name: str, events: list[Event]) -> list[Event]:
        return [event._replace(function=name) for event in events if type(event) is Call]

    found = counted(
        *named("many", [DESTROY] * 4),
        *named("slow", remote(1, 90)),
        *named("waits", remote(50, 1)),
        *named("fails", [DESTROY._replace(failed=True, error=ERROR)] * 2),
    )
    first = {by: next(row["function"] for row in shown(found, by)["functions"]) for by in SORTS}
    assert first == {"calls": "many", "daemon": "slow", "queue": "waits", "errors": "fails"}


def test_rows_have_a_limit_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busiest, "MOST_ROWS", 3)
    found = counted(*(call_on(f"web{number}") for number in range(7)))
    rows = shown(found)["domains"]
    assert [(row["domain"], row["calls"]) for row in rows[:1]] == [({"others": True}, 4)]
    assert sorted(row["domain"] for row in rows[1:]) == ["web0", "web1", "web2"]
    assert found.left_out() == ["more than 3 domains: the rest is counted together"]
    assert "(others)" in busiest.tables(found, 1, "calls", 0)[2].plain()
    assert counted(DESTROY).left_out() == []


@given(st.lists(any_text, max_size=5), st.sampled_from([*SORTS]))
def test_hostile_names_are_one_cell_and_one_line(names: list[str], by: str) -> None:
    found = counted(
        *(
            call_on(name)._replace(comm=name, caller=CALLER._replace(exe=name, user=name))
            for name in [HOSTILE, *names]
        )
    )
    shown(found, by)
    for title, table in zip(TITLES, busiest.tables(found, 1, by, 0), strict=True):
        text = table.plain()
        assert text.count("\n") == len(found.tables[title]) + 1
        assert text.replace("\n", "").isprintable()


def test_tables_show_as_many_rows_as_asked_for() -> None:
    found = counted(*(call_on(f"web{number}") for number in range(7)))
    assert [len(table.rows) for table in busiest.tables(found, 1, "calls", 2)] == [1, 1, 2]
    assert busiest.heading(found, 2, 3).partition(" ")[2] == (
        "in 2.0s: 3.5 calls/s, 7 calls, 0 failed, 0 denied, 0 lost, 3 under way"
    )
