# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the time of a call goes that is under way."""

from __future__ import annotations

import pytest

from log.events import UnderWay
from log.values import Value
from probes.calls import waits
from probes.calls.calls import Calls
from probes.calls.open import Message, Open, Sent
from probes.internals.private import AGENT, BEGINS_JOB, MONITOR, SEND
from tests.unit.probes.calls.test_calls import new_calls, row

PID = 1
JOB: dict[str, Value] = {"arg0": 0x7F00, "arg2": 3, "arg3": 0, "arg4": 0}


def begin(calls: Calls, tid: int, number: int = 1, at: int = 0) -> Open:
    """A call under way, in a thread of its own, since then."""
    raw = bytes(8) + at.to_bytes(8, "little") + bytes(calls.rows[0].entry.fixed)
    call = Open(raw, 0, number, 0, 0, PID, 0)
    calls._open.begin(call, tid, calls._open.stacks[tid])
    return call


@pytest.fixture
def calls() -> Calls:
    return new_calls([row("virDomainSuspend")])


def only(calls: Calls, least: int = 0) -> UnderWay:
    (found,) = calls.under_way(100, least)
    return found


def test_call_that_waits_for_nothing(calls: Calls):
    call = begin(calls, 7, at=40)
    found = only(calls)
    assert (found.function, found.where, found.age_ns) == ("virDomainSuspend", "in the client", 60)
    assert found.call == calls._open.id(call, 7)
    assert calls.under_way(100, 61) == []


@pytest.mark.parametrize("to_agent", [False, True])
def test_monitor_or_agent_that_does_not_answer(calls: Calls, to_agent: bool):
    call = begin(calls, 7)
    calls._changes.asks(call, 7, to_agent, '{"execute":"stop"}\n', 5)
    found = only(calls)
    assert found.command == '{"execute":"stop"}'
    assert found.where == ("waiting for the agent" if to_agent else "waiting for the monitor")
    calls._changes.answered(call, 7, 9, [])
    assert only(calls).where == "in the client"


def test_call_that_waits_for_another_ones_job(calls: Calls):
    """It is told by the call that has it."""
    holder, waiting = begin(calls, 7), begin(calls, 8, 2, at=50)
    calls._in_call(BEGINS_JOB, holder, 7, 1, JOB)
    assert calls._jobs.begun(7, 2, failed=False) is None
    calls._in_call(BEGINS_JOB, waiting, 8, 3, JOB)
    first, second = calls.under_way(100)
    assert first.held_by is None and second.where == "waiting for the domain's job"
    assert second.held_by and second.held_by["id"] == calls._open.id(holder, 7)
    assert second.held_by["function"] == "virDomainSuspend"


def test_call_is_told_once_with_what_a_daemon_does_for_it(calls: Calls):
    client, served = begin(calls, 7), begin(calls, 8, 2)
    message = Message(1, 2, 3)
    calls._causes.sends(client, 7, message)
    assert next(one.where for one in calls.under_way(100)) == "waiting for the daemon"
    by = Sent(PID, 7, client.seq, calls._open.id(client, 7), None)
    calls._open.extra(8, served).origins = [by]
    calls._changes.asks(served, 8, False, "x", 5)
    found = only(calls)
    assert (found.tid, found.where, found.command) == (7, "waiting for the monitor", "x")


def test_call_that_nobody_asked_for_is_not_told(calls: Calls):
    calls._open.extra(7, begin(calls, 7)).hidden = True
    assert calls.under_way(100) == []


@pytest.mark.parametrize(
    ("inner", "serves", "where"),
    [
        (None, False, "in the client"),
        (None, True, "in the daemon"),
        (SEND, False, "waiting for the daemon"),
        (BEGINS_JOB, True, "waiting for the domain's job"),
        (MONITOR, True, "waiting for the monitor"),
        (next(iter(AGENT)), True, "waiting for the agent"),
    ],
)
def test_function_that_a_thread_is_in_tells_what_it_waits_for(
    inner: str | None, serves: bool, where: str
):
    assert waits.place_of(inner, serves=serves) == where
