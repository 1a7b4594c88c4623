# SPDX-License-Identifier: LGPL-2.1-or-later
"""The event of a call that is over: whose it was, whether it failed, and that calls that are
alike are no less true.
"""

from __future__ import annotations

import random
import struct

import pytest

from log.client import OWN, UNKNOWN
from log.events import Caller
from log.render import jsonl
from probes.calls import building
from probes.calls.building import Building
from probes.calls.parts.decode import Decoder
from probes.calls.parts.errors import RaisedErrors
from probes.calls.parts.open import NO_RETURN, Extra, Open, OpenCalls
from probes.calls.serving.causes import Causes
from probes.calls.serving.tasks import Choice, Task
from probes.kernel import records
from tests.unit.probes.calls.test_calls import MASK, TABLE, row

EPOCH = 1_000_000
REMOVE = row("virEventRemoveTimeout")
ROWS = [
    REMOVE,
    row("virDomainDestroy"),
    row("virDomainGetInfo"),
    row("virDomainGetState"),
    row("virDomainIsActive"),
]
CALLER = Task(Caller(1, None, None, 0, "root", None, None, None), "caller")


def made(task: Task = CALLER) -> Building:
    """Row 0 fails with -1 only if there is an error, row 1 always; none was raised."""
    calls = OpenCalls(lambda when: when)
    find = lambda number, pid, tid: task  # noqa: E731
    return Building(
        Decoder(ROWS),
        calls,
        Causes(calls, find, Choice()),
        RaisedErrors(TABLE),
        find,
        lambda when: when + EPOCH,
    )


def call(number: int = 0, argument: int = 7, flags: int = 0) -> Open:
    head = records.HEAD.pack(records.REC_ENTRY, 0, flags, number, 100, 0, 1, 1, 0, 1)
    fixed = ROWS[number].entry.fixed
    return Open(
        (head + struct.pack("<Q6Q", 0, argument, *(0,) * 5)).ljust(fixed, b"\0"),
        number,
        1,
        0,
        0,
        1,
        0,
    )


def on_domain(number: int) -> Open:
    """A call on a domain, of whose connection was told before."""
    plan, begun = ROWS[number].entry, call(number)
    assert begun.raw
    raw = bytearray(begun.raw[: records.HEAD.size].ljust(plan.fixed, b"\1"))
    raw[records.BAD] = bytes(len(raw[records.BAD]))
    for text in plan.texts:
        raw[text.slot : text.slot + 4] = (3).to_bytes(4, "little")
        if text.mark:
            raw[text.mark : text.mark + 4] = records.STR_SAME.to_bytes(4, "little", signed=True)
    return begun._replace(raw=bytes(raw) + b"vm1".ljust(8, b"\0"))


def end(number: int, value: int, flags: int = 0) -> bytes:
    plan = ROWS[number].ret
    assert plan
    head = records.HEAD.pack(records.REC_RETURN, 0, flags, number, 130, 0, 1, 1, 0, 1)
    return (head + struct.pack("<QQ", 100, value & MASK)).ljust(plan.fixed, b"\0")


def test_a_call_is_when_it_began_and_as_long_as_it_took() -> None:
    built = made().returned(call(), end(0, 0), None, 1)
    assert (built.time, built.duration_ns, built.function, built.ret) == (
        EPOCH + 100,
        30,
        "virEventRemoveTimeout",
        0,
    )
    assert built.args is not None
    assert built.args.values == {"timer": 7}


@pytest.mark.parametrize(
    ("number", "value", "flags", "failed"),
    [
        (1, 0, 0, False),
        (1, -1, 0, True),
        (1, -1, records.REC_INNER_LOST, True),
        (0, -1, 0, False),  # -1 is a result, too
        (0, -1, records.REC_INNER_LOST, None),  # nobody knows
        (0, 0, records.REC_INNER_LOST, False),
    ],
)
def test_whether_it_failed(number: int, value: int, flags: int, failed: bool | None) -> None:
    assert made().returned(call(number), end(number, value, flags), None, 1).failed is failed


@pytest.mark.parametrize(
    ("task", "flags", "client"),
    [
        (CALLER, 0, None),
        (CALLER._replace(is_daemon=True), 0, OWN),
        # whose record was lost
        (CALLER._replace(is_daemon=True), records.REC_SERVING, UNKNOWN),
    ],
)
def test_whom_a_daemon_did_it_for(task: Task, flags: int, client: object) -> None:
    assert made(task).returned(call(flags=flags), end(0, 0), None, 1).client is client


def test_why_an_end_was_not_seen() -> None:
    extra = Extra()
    assert made().unfinished(call(), extra, 1, "process exited").unfinished == "process exited"
    extra.unarmed = f"{NO_RETURN}: stack switched"
    unseen = made().unfinished(call(), extra, 1, "process exited")
    assert (unseen.unfinished, unseen.duration_ns, unseen.failed) == (
        f"{NO_RETURN}: stack switched",
        None,
        False,
    )


@pytest.mark.parametrize("number", range(2, len(ROWS)))
def test_what_calls_that_begin_alike_return_is_their_own(number: int) -> None:
    chance, house = random.Random(number), made()
    shared = set()
    for _ in range(300):
        raw = bytearray(end(number, chance.choice([0, 0, 0, 1, -1])))
        outputs = range(records.RETURN_VALUE + 8, len(raw))
        raw[outputs.start :] = bytes(chance.choice([0, 1, 1, 1]) for _ in outputs)
        raw[records.BAD] = bytes(len(raw[records.BAD]))
        if chance.random() < 0.1:
            raw[records.BAD.start] = 1
        once, again, alone = (
            one.returned(on_domain(number), bytes(raw), None, 1) for one in (house, house, made())
        )
        assert jsonl.line(once) == jsonl.line(again) == jsonl.line(alone)
        assert once[:-1] == again[:-1] == alone[:-1]
        shared.add(once.alike is not None and once.alike is again.alike)
    assert True in shared


def test_calls_that_are_alike_are_kept_within_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "MOST_ALIKE", 10)
    house = made()
    for argument in range(1, 36):
        for _ in range(2):
            built = house.returned(call(argument=argument), end(0, 0), None, 1)
            assert built.args is not None
            assert built.args.values == {"timer": argument}
        assert len(house._alike) <= 10
    assert house._alike
    house.forget_rows()
    assert not house._alike
