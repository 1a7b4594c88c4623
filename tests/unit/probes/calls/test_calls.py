# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls put together: what they cause and what they are alike in, whatever comes in."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from log.events import BY_CALL, NO_CALL, Call, Caller, DomainEvent, Event, Lost
from log.render import jsonl, text, xml
from log.values import Value
from probes.api.load import load_api
from probes.calls.calls import Calls
from probes.calls.parts.open import MOST_CHILDREN, MOST_LOOKED_AT, Extra, Message
from probes.calls.serving.causes import MOST_SENT
from probes.calls.serving.changes import MOST_CAUSES, MOST_PENDING
from probes.calls.serving.tasks import Task
from probes.calls.serving.waits import Elder
from probes.internals import private
from probes.internals.layouts import LAYOUTS
from probes.kernel import records
from probes.plans.functions import entry_plan, private_plans, return_plan
from probes.plans.meaning.captured import Limits
from probes.plans.plan import MOST_ONCE, Constants, PlanRow

TABLE = load_api()
OFFSETS = LAYOUTS["gobject"]
LIMITS = Limits(4096, True)
MASK = (1 << 64) - 1
TASK = Task(Caller(1, None, None, 0, "root", None, None, None), "caller")


def row(name: str) -> PlanRow:
    function = TABLE.by_name[name]
    entry, ret = (make(function, TABLE, OFFSETS, LIMITS, 0) for make in (entry_plan, return_plan))
    kind = function.result.kind
    returns = (
        "void"
        if kind == "void"
        else "pointer"
        if kind in ("string", "handle", "pointer", "callback")
        else "integer"
    )
    return PlanRow(function, None, function.library, entry, ret, returns, function.number)


def new_calls(rows: list[PlanRow], elder: Elder | None = None) -> Calls:
    calls = Calls(rows, TABLE, lambda task, pid, tid: TASK, lambda when: when, elder=elder)
    calls.covering = False
    return calls


def calls_of(events: list[Event]) -> list[Call]:
    """The events, none of which is anything but a call."""
    calls = [event for event in events if isinstance(event, Call)]
    assert len(calls) == len(events)
    return calls


def argument(call: Event, name: str) -> Any:
    """None where the arguments were lost."""
    assert isinstance(call, Call)
    return call.args.values[name] if call.args else None


# garbage

ROWS = [row(function.name) for function in TABLE.functions]
for inner in private.PRIVATE:
    entry, ret = private_plans(inner, LIMITS, 0)
    ROWS.append(PlanRow(None, inner.name, "libvirt.so.0", entry, ret, "void"))


@st.composite
def garbage(draw):
    """A record with a proper head, and anything behind it."""
    kind = draw(st.sampled_from([records.REC_ENTRY, records.REC_RETURN, records.REC_CHUNK]))
    number = draw(st.integers(0, len(ROWS) - 1))
    flags = draw(st.integers(0, 255)) | (
        draw(st.integers(0, 3)) << records.REC_LEVEL if kind == records.REC_ENTRY else 0
    )
    plan = (
        ROWS[number].entry if kind == records.REC_ENTRY else ROWS[number].ret or ROWS[number].entry
    )
    place = draw(st.integers(0, 40)) if kind == records.REC_CHUNK else number
    head = records.HEAD.pack(
        kind,
        0,
        flags,
        place,
        draw(st.integers(0, 100)),
        0,
        draw(st.integers(1, 2)),
        draw(st.integers(0, 4)),
        draw(st.integers(0, 255)),
        1,
    )
    seed = draw(st.binary(min_size=1, max_size=64))
    size = (records.CHUNK_TEXT if kind == records.REC_CHUNK else plan.fixed) - len(head)
    body = bytearray((seed * (size // len(seed) + 1))[:size])
    if kind == records.REC_CHUNK:
        struct.pack_into("<Ii", body, 0, draw(st.integers(0, 70000)), draw(st.integers(-2, 4096)))
    else:
        for one in plan.texts:
            at = one.slot - len(head)
            if at >= 0:
                struct.pack_into("<i", body, at, draw(st.integers(-4, 1100)))
    return head + bytes(body) + draw(st.binary(max_size=300))


@settings(max_examples=300)
@given(st.lists(garbage(), max_size=12))
def test_garbage_never_raises_and_every_event_can_be_written(raws):
    calls = new_calls(ROWS)
    events = (
        calls.feed(raws) + calls.thread_exited(1) + calls.process_replaced(1, 50) + calls.close()
    )
    assert len(events) <= len(raws)
    for event in events:
        line = jsonl.line(event)
        assert json.loads(line)["type"] in ("call", "unfinished", "monitor", "agent", "domain")
        assert line.count("\n") == 1
        shown = text.line(event, text.View.BOTH)
        assert all(map(str.isprintable, shown.split("\n"))) and shown[-1:] in ("\n", "")
        assert xml.line(event).count("\n") == isinstance(event, Call)


# calls that are alike


@given(
    st.lists(
        st.tuples(st.integers(1, 2), st.integers(0, 1), st.integers(0, 2), st.integers(-1, 1)),
        max_size=40,
    )
)
def test_a_call_reads_the_same_whatever_was_before_it(made):
    """The reader keeps what calls have in common; `made`: thread, depth, argument and result of
    each.
    """
    rows, raws = [row("virEventRemoveTimeout")], []
    for at, (tid, depth, number, result) in enumerate(made):
        time, took = 1000 * at, 1 + at % 3
        entry = records.HEAD.pack(
            records.REC_ENTRY, depth, 0, 0, time, 0, tid, at, 0, 1
        ) + struct.pack("<Q6Q", 0, number, 0, 0, 0, 0, 0)
        ret = records.HEAD.pack(
            records.REC_RETURN, depth, 0, 0, time + took, 0, tid, at, 0, 1
        ) + struct.pack("<QQ", time, result & MASK)
        raws.append([entry, ret])
    together = calls_of(new_calls(rows).feed([raw for pair in raws for raw in pair]))
    alone = [calls_of(new_calls(rows).feed(pair))[0] for pair in raws]
    assert [call._replace(alike=None) for call in together] == [
        call._replace(alike=None) for call in alone
    ]
    for render in (jsonl.line, text.line, xml.line):
        assert [render(call) for call in together] == [render(call) for call in alone]


def test_what_a_call_causes_is_kept_up_to_a_limit() -> None:
    extra = Extra()
    for number in range(MOST_CHILDREN + 7):
        extra.add(Lost(number, 1, "read", "x"))
    assert [child.time for child in extra.children] == list(range(MOST_CHILDREN))
    assert extra.more == 7


class Sending:
    """Threads of a process that is up to something, each inside a call."""

    def __init__(self, function: str, threads: int) -> None:
        self.calls, self.threads = new_calls([row(function)]), threads
        size = self.calls.rows[0].entry.fixed
        self.raws = [
            records.HEAD.pack(
                records.REC_ENTRY, 0, records.REC_WANTED, 0, 1, 0, tid, 1, 0, 1
            ).ljust(size, b"\0")
            for tid in range(1, threads + 1)
        ]
        assert self.calls.feed(self.raws) == []

    def change(self, number: int) -> list[Event]:
        """A domain changes, says a thread outside of any call."""
        fields: dict[str, Value] = {
            "name": "web1",
            "uuid": number,
            "arg1": 1,
            "arg3": 4,  # resumed
            "arg4": 0,
            "handle": None,
            "driver": None,
        }
        ended: list[Event] = []
        self.calls._changes.changed(None, TASK, 1 << 20, 2, fields, records.REC_WANTED, ended)
        return ended

    def end(self) -> list[Event]:
        """All calls are over."""
        return [
            event for tid in range(1, self.threads + 1) for event in self.calls.thread_exited(tid)
        ]


def test_messages_that_a_call_sends_are_kept_up_to_a_limit() -> None:
    made = Sending("virDomainSuspend", 1)
    calls, call = made.calls, made.calls._open.stacks[1][0]
    for serial in (*range(MOST_SENT + 100), MOST_SENT + 99):
        calls._causes.sends(call, 1, Message(1, 2, serial))
    assert [message.serial for message in calls._open.extra(1, call).sent] == list(
        range(100, MOST_SENT + 100)
    )
    assert len(calls._causes._origins._sent) == MOST_SENT
    made.end()
    assert calls._causes._origins._sent == {}


def test_changes_that_wait_for_their_cause_are_so_many_and_then_told_without_one() -> None:
    made = Sending("virDomainCreateXML", 1)
    told = [
        event for number in range(MOST_PENDING + 3) for event in made.change((0xAB << 120) + number)
    ]
    assert all(
        isinstance(event, DomainEvent) and event.cause is None and not event.one_of
        for event in told
    )
    assert len(told) == 3
    ended = [event for event in made.end() if isinstance(event, DomainEvent)]
    assert [event.cause for event in ended] == [NO_CALL] * MOST_PENDING


def test_a_change_that_too_many_calls_may_have_caused_names_none() -> None:
    for threads, named in ((2, 2), (MOST_CAUSES, MOST_CAUSES), (MOST_CAUSES + 1, 0)):
        made = Sending("virDomainSuspend", threads)
        (event,) = made.change(0)
        assert isinstance(event, DomainEvent)
        assert (event.cause, len(event.one_of)) == (BY_CALL, named)


def test_a_change_in_a_process_with_more_calls_than_can_be_looked_at_has_no_cause() -> None:
    for threads, cause in ((MOST_LOOKED_AT, BY_CALL), (MOST_LOOKED_AT + 1, None)):
        (event,) = Sending("virDomainSuspend", threads).change(0)
        assert isinstance(event, DomainEvent)
        assert (event.cause, event.one_of) == (cause, ())


def test_of_processes_whose_end_was_not_told_nothing_is_kept() -> None:
    calls = new_calls([row("virDomainSuspend")])
    alive, gone = os.getpid(), 1 << 22  # never given to a process
    for pid in (alive, gone):
        calls._decoder.constants_of(pid).learn((0, 1), "test:///default")
    kept = []
    for _ in range(3):
        calls.forget_idle()
        kept.append(set(calls._decoder.constants))
    assert kept == [{alive, gone}, {alive}, {alive}]


def test_what_a_process_sends_once_is_kept_up_to_a_limit() -> None:
    constants = Constants()
    for address in range(MOST_ONCE + 5):
        constants.learn((0, address), address)
        assert constants.get((0, 0)) == 0  # it is used
    assert len(constants._values) == MOST_ONCE
    assert constants.get((0, MOST_ONCE + 4)) == MOST_ONCE + 4
    assert constants.get((0, 1)) is None
