# SPDX-License-Identifier: LGPL-2.1-or-later
"""What calls ask monitors: one event for a question and its answer, if its call is wanted."""

from __future__ import annotations

import pytest

from log.events import BY_CONNECTION_END, Command, DomainEvent, Event
from log.values import Value
from probes.calls.calls import Calls
from probes.calls.parts.open import Open
from probes.calls.serving.tasks import Choice
from tests.unit.probes.calls.test_calls import TABLE, TASK, new_calls, row

STOP, ASK = '{"execute":"stop","id":"libvirt-7"}\n', '{"execute":"query-status","id":"libvirt-8"}\n'


def inside(calls: Calls) -> Open:
    """A call under way."""
    calls._open.begin(Open(b"\1" + bytes(103), 0, 1, 0, 0, 1, 0), 1, calls._open.stacks[1])
    return calls._open.stacks[1][0]


def asked(
    calls: Calls, call: Open, text: str | None, *, at: int, to_agent: bool = False
) -> list[Event]:
    """None: the answer has come."""
    ended: list[Event] = []
    if text is None:
        calls._changes.answered(call, 1, at, ended)
    else:
        calls._changes.asks(call, 1, to_agent, text, at)
    return ended


@pytest.mark.parametrize("to_agent", [False, True])
def test_question_is_told_with_its_answer_and_with_its_call(to_agent):
    calls = new_calls([row("virDomainSuspend")])
    call = inside(calls)
    assert asked(calls, call, None, at=1) == []  # its question was lost
    assert asked(calls, call, STOP, at=5, to_agent=to_agent) == []
    (told,) = asked(calls, call, None, at=12)
    assert told == Command(5, 7, 1, TASK.comm, TASK.caller, STOP.rstrip("\n"), "1-0", to_agent)
    assert asked(calls, call, None, at=13) == []
    (built,) = calls.close()
    assert getattr(built, "children", None) == (told,)


def test_question_without_an_answer_is_none():
    calls = new_calls([row("virDomainSuspend")])
    assert asked(calls, inside(calls), STOP, at=5) == []
    (built,) = calls.close()
    assert getattr(built, "children", None) == ()


@pytest.mark.parametrize(("text", "told"), [(STOP, 1), (ASK, 0)])
def test_where_only_changes_are_wanted_questions_that_only_ask_are_left_out(text, told):
    calls = Calls(
        [row("virDomainSuspend")],
        TABLE,
        lambda task, pid, tid: TASK,
        lambda when: when,
        choice=Choice(only_writes=True),
    )
    call = inside(calls)
    asked(calls, call, text, at=5)
    assert len(asked(calls, call, None, at=6)) == told


def test_call_that_nobody_asked_for_has_no_questions():
    calls = new_calls([row("virDomainSuspend")])
    call = inside(calls)
    calls._open.extra(1, call).hidden = True
    asked(calls, call, STOP, at=5)
    assert asked(calls, call, None, at=6) == calls.close() == []


def test_end_of_a_connection_is_the_cause_and_not_the_daemons_own_close():
    """A daemon closes the connection of a client that has ended, in a call of its own."""
    calls = new_calls([row("virConnectClose")])
    call, ended = inside(calls), list[Event]()
    calls._changes._endings.closes(TASK.caller.pid, 1)
    fields: dict[str, Value] = {"name": "bound", "uuid": 7, "arg1": 0, "arg3": 5, "arg4": 1}
    fields |= {"handle": None, "driver": None}
    calls._changes.changed(call, TASK, 1, 5, fields, 0, ended)
    (told,) = ended
    assert isinstance(told, DomainEvent)
    assert (told.event, told.detail) == ("stopped", "destroyed")
    assert (told.cause, told.parent) == (BY_CONNECTION_END, None)
