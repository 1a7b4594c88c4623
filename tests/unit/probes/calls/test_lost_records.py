# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said of a call when records that belong to it were lost: nothing that is not known."""

from __future__ import annotations

import struct

import pytest

from log.events import Call, VerdictInfo
from log.render import jsonl, text
from probes.calls.calls import Calls
from probes.calls.parts.verdicts import NOT_ENFORCED
from probes.host.looking.maps import ENFORCER
from probes.kernel import records
from probes.kernel.records import VERDICT_FUNCTION
from probes.plans.functions import verdict_plan
from probes.plans.plan import PlanRow
from tests.unit.probes.calls.test_calls import LIMITS, MASK, TABLE, TASK, calls_of, new_calls, row

SUSPEND = row("virDomainSuspend")
VERDICTS = PlanRow(None, VERDICT_FUNCTION, ENFORCER, verdict_plan(LIMITS), None, "void")
SP = 0x7FFF0000


def head(kind: int, flags: int, place: int, time: int, seq: int) -> bytes:
    return records.HEAD.pack(kind, 0, flags, place, time, 0, 1, seq, 0, 1)


def entry(time: int, seq: int, flags: int = 0, kind: int = records.REC_ENTRY) -> bytes:
    return (head(kind, flags, 0, time, seq) + struct.pack("<Q", SP)).ljust(
        SUSPEND.entry.fixed, b"\0"
    )


def end(time: int, seq: int, began: int, value: int = 0, flags: int = 0) -> bytes:
    assert SUSPEND.ret
    return (
        head(records.REC_RETURN, flags, 0, time, seq) + struct.pack("<QQ", began, value & MASK)
    ).ljust(SUSPEND.ret.fixed, b"\0")


def verdict(time: int, seq: int, action: int, sp: int = SP, number: int = SUSPEND.stub) -> bytes:
    body = records.VERDICT.pack(*(0,) * 6, sp, number, action, 0, 0, 0, 0, MASK, 0, 0)
    raw = head(records.REC_VERDICT, records.REC_WRITE_RING, 1, time, seq)
    return (raw.ljust(records.VERDICT_AT, b"\0") + body).ljust(VERDICTS.entry.fixed, b"\0")


def covered_calls() -> Calls:
    return Calls(
        [SUSPEND, VERDICTS],
        TABLE,
        lambda task, pid, tid: TASK,
        lambda when: when,
        lambda pid: frozenset({SUSPEND.stub}),
    )


def the_verdict(raws: list[bytes]) -> VerdictInfo | None:
    (call,) = calls_of(covered_calls().feed(raws))
    return call.verdict


def test_a_denial_is_not_pinned_on_a_call_that_ran():
    """The record of the denied call was lost, and so was the verdict on the next, at the same
    place of the stack.
    """
    assert (
        the_verdict([verdict(1, 1, records.VERDICT_DENY), entry(3, 3), end(4, 3, 3)])
        == NOT_ENFORCED
    )
    lost = records.REC_INNER_LOST
    assert (
        the_verdict([verdict(1, 1, records.VERDICT_DENY), entry(3, 3, lost), end(4, 3, 3)]) is None
    )


@pytest.mark.parametrize("flags", [0, records.REC_INNER_LOST])
def test_a_lost_verdict_is_not_taken_for_none(flags: int):
    assert the_verdict([entry(1, 1, flags), end(2, 1, 1)]) == (None if flags else NOT_ENFORCED)


@pytest.mark.parametrize(
    "stale",
    [
        verdict(1, 1, records.VERDICT_ALLOW),
        verdict(1, 1, records.VERDICT_DENY, sp=SP + 16),
        verdict(1, 1, records.VERDICT_DENY, number=SUSPEND.stub + 1),
    ],
    ids=["allowed", "place", "function"],
)
def test_a_denied_call_has_no_other_calls_verdict(stale: bytes):
    (call,) = calls_of(covered_calls().feed([stale, entry(2, 2, kind=records.REC_DENIED)]))
    assert (call.verdict, call.failed, call.ret) == (VerdictInfo("deny", ""), True, None)


def test_a_denied_call_has_its_own():
    raws = [verdict(1, 1, records.VERDICT_DENY), entry(2, 2, kind=records.REC_DENIED)]
    (call,) = calls_of(covered_calls().feed(raws))
    assert (call.verdict and call.verdict.action, call.ret) == ("deny", -1)


def test_whether_a_call_failed_may_be_lost():
    rows = [row("virDomainGetID")]  # -1 is its answer for a domain that does not run, too
    plan, ret = rows[0].entry, rows[0].ret
    assert ret

    def made(flags: int) -> Call:
        raws = [
            head(records.REC_ENTRY, 0, 0, 1, 1).ljust(plan.fixed, b"\0"),
            (head(records.REC_RETURN, flags, 0, 2, 1) + struct.pack("<QQ", 1, MASK)).ljust(
                ret.fixed, b"\0"
            ),
        ]
        (call,) = calls_of(new_calls(rows).feed(raws))
        return call

    assert made(0).failed is False
    assert made(records.REC_INNER_LOST).failed is None
    assert '"failed":null,"error":null' in jsonl.line(made(records.REC_INNER_LOST))
    assert ("= 4294967295 (error lost, if any)") in text.line(
        made(records.REC_INNER_LOST), text.View.FOLD
    )


def test_a_call_that_waits_for_a_lost_part_is_let_go():
    calls = covered_calls()
    assert calls.feed([entry(1, 1), end(5, 1, 1, flags=records.REC_LONG)]) == []
    assert calls.let_go(5) == []
    (call,) = calls_of(calls.let_go(6))
    assert (call.function, call.ret) == ("virDomainSuspend", 0)
    assert calls.close() == []
