# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records of inner functions: whom they concern is told."""

from __future__ import annotations

import struct

import pytest

from probes.calls.inner import InnerFunctions
from probes.internals.private import BEGINS_JOB, PRIVATE
from probes.kernel import records
from probes.plans.functions import private_plans
from probes.plans.plan import PlanRow
from tests.unit.probes.calls.test_calls import LIMITS, MASK, new_calls, row

JOB = next(inner for inner in PRIVATE if inner.name == BEGINS_JOB)
ENTRY, RETURN = private_plans(JOB, LIMITS, 0)


def head(kind: int, number: int, tid: int, time: int) -> bytes:
    return records.HEAD.pack(kind, 0, 0, number, time, 0, tid, 1, 0, 1)


@pytest.mark.parametrize(
    ("result", "waits"), [(0, []), (MASK, [(1, 8)])], ids=["has it", "gave up"]
)
def test_what_the_functions_return_tells_who_has_a_job(
    result: int, waits: list[tuple[int, int]]
) -> None:
    calls = new_calls(
        [
            row("virDomainSuspend"),
            PlanRow(None, BEGINS_JOB, "libvirt_driver_qemu.so", ENTRY, RETURN, "integer"),
        ]
    )
    assert isinstance(calls._inner, InnerFunctions) and RETURN
    size = calls.rows[0].entry.fixed
    for tid in (7, 8):
        begins = head(records.REC_ENTRY, 0, tid, tid).ljust(size, b"\0")
        wants = head(records.REC_ENTRY, 1, tid, tid).ljust(ENTRY.fixed, b"\0")
        assert calls.feed([begins, wants]) == []
    assert calls.unexplained(9) == [(1, 7), (1, 8)]
    ends = head(records.REC_RETURN, 1, 7, 9) + struct.pack("<QQ", 7, result)
    assert calls.feed([ends.ljust(RETURN.fixed, b"\0")]) == []
    assert calls.unexplained(10) == waits


def test_what_nobody_can_read_says_nothing() -> None:
    """A return of which no plan says what it has."""
    calls = new_calls([PlanRow(None, BEGINS_JOB, "libvirt_driver_qemu.so", ENTRY, None, "void")])
    assert calls.feed([head(records.REC_RETURN, 0, 7, 9).ljust(64, b"\0")]) == []
