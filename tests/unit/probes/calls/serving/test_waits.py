# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the time of a call goes that is under way."""

from __future__ import annotations

import pytest

from log.events import UnderWay
from log.values import Handle, Value
from probes.calls.calls import Calls
from probes.calls.parts.open import Message, Open, Sent
from probes.calls.serving import waits
from probes.internals.private import AGENT, BEGINS_JOB, MONITOR, SEND
from probes.plans.handles import ONCE_CONNECT
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
    calls._inner.in_call(BEGINS_JOB, holder, 7, 1, JOB)
    calls._jobs.begun(7, 2)
    calls._inner.in_call(BEGINS_JOB, waiting, 8, 3, JOB)
    first, second = calls.under_way(100)
    assert first.held_by is None and second.where == "waiting for the domain's job"
    assert second.held_by and second.held_by["id"] == calls._open.id(holder, 7)
    assert second.held_by["function"] == "virDomainSuspend" and second.held_by["age_ns"] == 98
    assert calls.unexplained(100) == []


class Elder:
    """Has seen who has what thread 8 waits for."""

    def holder(self, pid: int, tid: int) -> dict[str, Value] | None:
        return {"function": "virDomainSave"} if (pid, tid) == (PID, 8) else None


def test_job_that_was_begun_before_tracing():
    """Told by who has seen it; and of a call that gives up, too."""
    calls = new_calls([row("virDomainSuspend")], elder=Elder())
    for tid, number in ((8, 1), (9, 2)):
        waiting = begin(calls, tid, number)
        calls._inner.in_call(BEGINS_JOB, waiting, tid, 3, {**JOB, "arg0": tid})
    assert calls.unexplained(3) == [] and calls.unexplained(4) == [(PID, 8), (PID, 9)]
    assert [one.held_by for one in calls.under_way(100)] == [{"function": "virDomainSave"}, None]
    assert calls._waits.gave_up(8, 100) == {"function": "virDomainSave"}
    assert calls._waits.gave_up(9, 100) is calls._waits.gave_up(9, 100) is None


@pytest.mark.parametrize("known", [True, False])
def test_connection_is_told_where_the_process_was_seen_to_have_it(calls: Calls, known: bool):
    connection = Handle("connect", {"uri": "qemu:///system"}, 0x5000)
    if known:
        calls._decoder.constants_of(PID).learn((ONCE_CONNECT, 0x5000), connection)
    domain = Handle("domain", {"name": "web1"}, 0x6000, 0x5000)
    assert calls._waits._connection(domain, PID) == ("qemu:///system" if known else None)
    assert calls._waits._connection(connection, PID) == "qemu:///system"
    assert calls._waits._connection(None, PID) is None


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
