# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls with the same key share their decoded values: the key of a record must hold everything
that these depend on.
"""

from __future__ import annotations

import random

import pytest

from probes.api.load import load_api
from probes.internals.layouts import LAYOUTS
from probes.kernel import records
from probes.plans.functions import entry_plan, raw_plan, return_plan
from probes.plans.meaning.captured import Limits
from probes.plans.plan import Constants, Plan

TABLE = load_api()
FUNCTIONS = sorted(TABLE.by_name.values(), key=lambda function: function.name)
OFFSETS = LAYOUTS["gobject"]
LIMITS = Limits(256, True)
TEXT = b"a text\0\0"


class Echo(Constants):
    """Knows what was sent once for every address: the address."""

    def get(self, key):
        return key


def plans():
    for function in FUNCTIONS:
        yield function.name, entry_plan(function, TABLE, OFFSETS, LIMITS, 0)
        yield function.name, return_plan(function, TABLE, OFFSETS, LIMITS, 0)
    yield "unknown", raw_plan(0, registers=6)


def record(plan: Plan, chance: random.Random) -> bytearray:
    """A record in which no address is NULL, every string is there, and what is sent once was
    sent before.
    """
    raw = bytearray(chance.randrange(1, 256) for _ in range(plan.fixed))
    raw[32:36] = bytes(4)
    for text in plan.texts:
        if text.mark:
            raw[text.mark : text.mark + 4] = records.STR_SAME.to_bytes(4, "little", signed=True)
        else:
            raw[text.slot : text.slot + 4] = len(TEXT.rstrip(b"\0")).to_bytes(4, "little")
            raw += TEXT
    return raw


def decode(plan: Plan, raw: bytes):
    return plan.decode(raw, {}, Echo())


def test_values_depend_on_nothing_but_the_key():
    chance = random.Random(0)
    told = 0
    for name, plan in plans():
        raw = record(plan, chance)
        other, key = bytearray(raw), plan.key(bytes(raw))
        for at in range(records.HEAD.size, plan.fixed):
            changed = bytearray(other)
            changed[at] = changed[at] % 255 + 1
            if plan.key(bytes(changed)) == key:
                other = changed
        if plan.is_told_by_key(bytes(raw)) and plan.is_told_by_key(bytes(other)):
            told += 1
            assert decode(plan, bytes(raw)) == decode(plan, bytes(other)), name
    assert told > len(FUNCTIONS)  # secrets, whose length alone is sent, are told never


def test_what_the_key_leaves_out_is_not_shared():
    plan = entry_plan(TABLE.by_name["virDomainGetName"], TABLE, OFFSETS, LIMITS, 0)
    raw = record(plan, random.Random(1))
    assert plan.is_told_by_key(bytes(raw))
    name, domain = plan.texts[0], records.ENTRY_ARGS
    for what, at, changed in (
        ("an operation failed", 32, b"\1\0\0\0"),
        ("no domain", domain, bytes(8)),
        ("no name, or an empty one", name.slot, bytes(4)),
        ("name unreadable", name.slot, records.STR_UNREADABLE.to_bytes(4, "little", signed=True)),
        ("name cut", name.slot, name.size.to_bytes(4, "little")),
        ("its driver is in the record", plan.texts[1].mark, bytes(4)),
    ):
        other = bytearray(raw)
        other[at : at + len(changed)] = changed
        assert not plan.is_told_by_key(bytes(other)), what


def without(plan: Plan, raw: bytearray, at: int) -> bytearray:
    """The record if the address there is NULL."""
    raw = bytearray(raw)
    raw[at : at + 8] = bytes(8)
    for text in plan.texts:
        if text.source == at and not text.mark:
            raw[text.slot : text.slot + 4] = bytes(4)
    for op in plan.ops:
        if op.kind == records.OP_BLOCK and op.src == at:
            raw[op.dst : op.dst + op.len] = bytes(op.len)
            for source in range(op.dst, op.dst + op.len, 8):
                raw = without(plan, raw, source)
    return raw


def test_no_address_is_taken_for_one_of_zeros():
    """What hangs on NULL reads as zeros; as does what is there, and is zero."""
    chance = random.Random(4)
    told = 0
    for name, plan in plans():
        raw = record(plan, chance)
        for op in plan.ops:
            if op.kind == records.OP_BLOCK:
                raw[op.dst : op.dst + op.len] = bytes(op.len)
        for at in plan.present:
            other = without(plan, raw, at)
            if any(raw[at : at + 8]) and plan.is_told_by_key(bytes(raw)):
                told += 1
                assert plan.key(bytes(raw)) != plan.key(bytes(other)), (name, at)
    assert told > 50


@pytest.mark.parametrize(
    "function", ["virDomainGetName", "virDomainCreateXML", "virDomainSetVcpusFlags"]
)
def test_unused_registers_are_not_in_the_key(function):
    """A caller leaves there what it likes, so hardly two calls would be alike."""
    plan = entry_plan(TABLE.by_name[function], TABLE, OFFSETS, LIMITS, 0)
    raw = record(plan, random.Random(2))
    other = bytearray(raw)
    used = len(TABLE.by_name[function].params)
    other[records.ENTRY_ARGS + 8 * used : records.ENTRY_CALLER] = bytes(8 * (6 - used))
    assert plan.key(bytes(raw)) == plan.key(bytes(other))
    other[records.ENTRY_ARGS + 1] ^= 1
    assert (plan.key(bytes(raw)) == plan.key(bytes(other))) == (function != "virDomainCreateXML")


@pytest.mark.parametrize(
    ("function", "is_stream"), [("virDomainFree", False), ("virStreamFinish", True)]
)
def test_alike_objects_are_told_apart_where_that_matters(function, is_stream):
    """Two streams of a connection look the same; of domains it matters which one is freed, if it is
    looked for what refers to a connection.
    """
    for limits, told in ((LIMITS, is_stream), (LIMITS._replace(tells_apart=True), True)):
        plan = entry_plan(TABLE.by_name[function], TABLE, OFFSETS, limits, 0)
        raw = record(plan, random.Random(3))
        other = bytearray(raw)
        other[records.ENTRY_ARGS + 1] ^= 1
        assert (plan.key(bytes(raw)) != plan.key(bytes(other))) == told


def test_a_version_of_constants_is_used_once():
    first, second = Constants(), Constants()
    seen = {first.version, second.version}
    for constants in (first, second, first):
        constants.learn((0, 1), len(seen))
        seen.add(constants.version)
    assert len(seen) == 5
