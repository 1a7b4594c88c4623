# SPDX-License-Identifier: LGPL-2.1-or-later
"""Walks: a model of the kernel's interpreter copies made-up memory; what is read of it is what
was there, however much of it is lost.
"""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from log.events import Call, Caller
from log.render import jsonl, text, xml
from log.values import CutList, CutText, EnumValue, Handle, Redacted, Unreadable, Value, Values
from probes.api.load import load_api
from probes.internals.layouts import LAYOUTS
from probes.kernel import records
from probes.plans.functions import entry_plan, return_plan
from probes.plans.meaning.captured import Limits, Piece
from probes.plans.plan import Constants, Plan

TABLE = load_api()
OFFSETS = LAYOUTS["gobject"]
CALLER = Caller(1, None, None, 0, "root", None, None, None)
PLANS = [
    make(function, TABLE, OFFSETS, Limits(256, redact), 0)
    for function in TABLE.functions
    for redact in (True, False)
    for make in (entry_plan, return_plan)
]
WALKING = [plan for plan in PLANS if plan.walk]


class Memory:
    """Addresses and what is there; everything else can't be read."""

    def __init__(self) -> None:
        self.blocks: dict[int, bytes] = {}
        self._next = 0x7F0000000000

    def put(self, data: bytes) -> int:
        at, self._next = self._next, self._next + len(data) + 4096 & ~7
        self.blocks[at] = data
        return at

    def text(self, data: str) -> int:
        return self.put(data.encode() + b"\0")

    def read(self, address: int, size: int) -> bytes | None:
        for start, data in self.blocks.items():
            if start <= address and address + size <= start + len(data):
                return data[address - start : address - start + size]
        return None

    def string(self, address: int, size: int) -> bytes | None:
        """Up to the NUL, with it; a block's end is as good as a page that is not there."""
        for start, data in self.blocks.items():
            if start <= address < start + len(data):
                found = data[address - start :][: size - 1].partition(b"\0")[0]
                inside = address - start + len(found) < len(data)
                return found + b"\0" if inside else None
        return None


def number(fixed: bytearray, at: int) -> int:
    return int.from_bytes(fixed[at : at + 4], "little", signed=True)


def address_at(fixed: bytearray, at: int) -> int:
    return int.from_bytes(fixed[at : at + 8], "little")


def run(plan: Plan, fixed: bytearray, memory: Memory, steps: int = 10_000) -> bytes:  # noqa: C901 - a branch for each operation
    """The stream that the kernel would send; `fixed`: all of the record's 512 bytes, filled in
    by the plan's blocks.
    """
    bad = 0
    for place, (kind, source, target, length, offset, *_) in enumerate(plan.ops):
        if kind == records.OP_BLOCK:
            base = address_at(fixed, source)
            block = memory.read(base + offset, length) if base else None
            bad |= (block is None) << place
            fixed[target : target + length] = block or bytes(length)
    fixed[32:36] = bad.to_bytes(4, "little")
    row = plan.pack()
    ops = list(records.OP.iter_unpack(row[records.PLAN_HEAD.size :]))
    stream, at, done = b"", len(plan.ops) + 1, 0
    for _ in range(steps):
        kind, then, source, target, length, offset, keep = ops[at]
        base, data, got = address_at(fixed, source), b"", 0
        total = number(fixed, length) & 0xFFFFFFFF if length < 508 else 0
        here, at = at, then
        if kind == records.OP_END:
            break
        if kind in (records.OP_LEAVE, records.OP_PRODUCT):
            if (offset and number(fixed, source) < 0) or (
                kind == records.OP_LEAVE and keep and not base
            ):
                at = length
            if kind == records.OP_PRODUCT:
                product = max(0, number(fixed, source)) * max(0, number(fixed, length))
                fixed[target : target + 8] = min(product, 0x7FFFFFFF).to_bytes(8, "little")
            continue
        if kind & ~records.OP_IF == records.OP_STRING:
            base = base + offset + done if base else 0
            found = memory.string(base, records.WALK_PIECE + 1)
            got = (
                len(found) - 1
                if found is not None
                else records.STR_UNREADABLE
                if base
                else records.STR_NULL
            )
            data = (found or b"\0")[:-1][: max(0, keep - done)]
            done = done + records.WALK_PIECE if got == records.WALK_PIECE else 0
            at = here if done else then
        elif kind == records.OP_ARRAY:
            got = min((max(0, number(fixed, length)) * target + 7) >> 3, keep)
            found = memory.read(base + offset, got) if base and got else b""
            got = records.STR_NULL if not base else records.STR_UNREADABLE if found is None else got
            data = found or b""
        elif kind == records.OP_LIST:
            got = (min(max(0, number(fixed, length)), keep) if length else keep) if base else 0
            fixed[target : target + 12] = ((base - offset) & ((1 << 64) - 1)).to_bytes(
                8, "little"
            ) + got.to_bytes(4, "little")
            got = got if base else records.STR_NULL
        else:
            if kind == records.OP_ELEMENT:
                left = number(fixed, source + 8)
                if not left:
                    at = keep
                    continue
                base = (base + length) & ((1 << 64) - 1)
                fixed[source : source + 12] = base.to_bytes(8, "little") + (left - 1).to_bytes(
                    4, "little"
                )
                length, offset = offset, 0
            elif base:
                base += offset
            found = memory.read(base, length) if base else None
            got = (
                length
                if found is not None
                else records.STR_UNREADABLE
                if base
                else records.STR_NULL
            )
            fixed[target : target + length] = found or bytes(length)
            data = found or b""
        stream += records.ITEM.pack(got, total, base) + data + bytes(-len(data) % 8)
        kind, then, _, target, length, _, _ = ops[at]
        if kind & records.OP_IF and number(fixed, target) != length:
            at = then
    return stream


def in_pieces(stream: bytes, size: int = 2048) -> dict[int, list[Piece]]:
    starts = range(0, max(len(stream), 1), size)
    return {
        records.WALK_MORE: [
            Piece(records.WALK_MORE, at, 0, stream[at : at + size]) for at in starts
        ]
    }


def decode(plan: Plan, fixed: bytearray, stream: bytes) -> dict[str, Value]:
    return plan.decode(bytes(fixed[: plan.fixed]), in_pieces(stream), Constants())


def returned(
    name: str, result: int, *arguments: int, memory: Memory, redact: bool = True, string: int = 4096
) -> dict[str, Value]:
    """What is shown of a call that returned, with the given registers."""
    plan = return_plan(TABLE.by_name[name], TABLE, OFFSETS, Limits(string, redact), 0)
    fixed = bytearray(records.FIXED)
    struct.pack_into("<Q", fixed, records.RETURN_VALUE, result & ((1 << 64) - 1))
    for i, argument in enumerate(arguments):
        struct.pack_into("<Q", fixed, records.RETURN_ARGS + 8 * i, argument)
    stream = run(plan, fixed, memory)
    return decode(plan, fixed, stream)


def entered(
    name: str, *arguments: int, memory: Memory, redact: bool = True, string: int = 4096
) -> dict[str, Value]:
    """What is shown of a call's arguments."""
    plan = entry_plan(TABLE.by_name[name], TABLE, OFFSETS, Limits(string, redact), 0)
    fixed = bytearray(records.FIXED)
    for i, argument in enumerate(arguments):
        struct.pack_into("<Q", fixed, records.ENTRY_ARGS + 8 * i, argument & ((1 << 64) - 1))
    stream = run(plan, fixed, memory)
    return decode(plan, fixed, stream)


def parameter(field: str, kind: int, layout: str, value: object) -> bytes:
    return (
        field.encode().ljust(80, b"\0")
        + struct.pack("<i4x", kind)
        + struct.pack(layout, value).ljust(8, b"\0")
    )


# what is there is what is read


def test_typed_parameters_of_every_type() -> None:
    memory = Memory()
    several = [
        parameter("int", 1, "<i", -5),
        parameter("uint", 2, "<I", 1 << 31),
        parameter("llong", 3, "<q", -(1 << 62)),
        parameter("ullong", 4, "<Q", (1 << 64) - 1),
        parameter("double", 5, "<d", 0.25),
        parameter("boolean", 6, "<b", 1),
        parameter("string", 7, "<Q", memory.text("grün")),
        parameter("null", 7, "<Q", 0),
        parameter("broken", 7, "<Q", 0x4141),
        parameter("disks", 7, "<Q", memory.text("vda")),
        parameter("disks", 7, "<Q", memory.text("vdb")),
        parameter("disks", 7, "<Q", memory.text("vdc")),
        parameter("newer", 99, "<Q", 7),
    ]
    values = entered(
        "virDomainSetBlkioParameters",
        0,
        memory.put(b"".join(several)),
        len(several),
        memory=memory,
        redact=False,
    )
    params = values["params"]
    assert isinstance(params, dict)
    assert params.pop("newer") == (7,)
    assert params == {
        "int": -5,
        "uint": 1 << 31,
        "llong": -(1 << 62),
        "ullong": (1 << 64) - 1,
        "double": 0.25,
        "boolean": True,
        "string": "grün",
        "null": None,
        "broken": Unreadable(0x4141),
        "disks": ["vda", "vdb", "vdc"],
    }
    assert values["nparams"] == len(several)


@pytest.mark.parametrize("count", [65, 1 << 20, (1 << 31) - 1])
def test_more_than_64_are_counted(count: int) -> None:
    memory = Memory()
    at = memory.put(b"".join(parameter(f"p{i}", 1, "<i", i) for i in range(70)))
    values = entered("virDomainSetBlkioParameters", 0, at, count, memory=memory)
    assert values["params"] == CutList({f"p{i}": i for i in range(64)}, count)


def test_a_negative_count_takes_nothing() -> None:
    memory = Memory()
    values = entered("virDomainSetBlkioParameters", 0, memory.put(bytes(96)), -1, memory=memory)
    assert values["params"] == CutList({}, (1 << 32) - 1)


def test_elements_that_are_not_there() -> None:
    memory = Memory()
    at = memory.put(parameter("first", 1, "<i", 1))
    values = entered("virDomainSetBlkioParameters", 0, at, 3, memory=memory)
    assert values["params"] == {"first": 1, "#1": Unreadable(at + 96), "#2": Unreadable(at + 192)}


def test_how_many_is_shown_as_such() -> None:
    memory = Memory()
    count = memory.put(struct.pack("<i", 3))
    values = returned("virDomainGetMemoryParameters", 0, 0, 0, count, memory=memory)
    assert values == {"ret": 0, "nparams": 3}


def test_no_more_outputs_than_the_call_returned() -> None:
    memory = Memory()
    at = memory.put(parameter("a", 1, "<i", 1) + parameter("old", 1, "<i", 2))
    values = returned(
        "virDomainGetMemoryParameters", 0, 0, at, memory.put(struct.pack("<i", 1)), memory=memory
    )
    assert values == {"ret": 0, "params": {"a": 1}, "nparams": 1}


def test_a_failed_call_is_not_walked_through() -> None:
    memory = Memory()
    plan = return_plan(
        TABLE.by_name["virDomainGetMemoryParameters"], TABLE, OFFSETS, Limits(256, True), 0
    )
    fixed = bytearray(records.FIXED)
    at = memory.put(parameter("old", 1, "<i", 2))
    struct.pack_into(
        "<qQQQ", fixed, records.RETURN_VALUE, 0xFFFFFFFF, 0, at, memory.put(struct.pack("<i", 1))
    )
    assert run(plan, fixed, memory) == b""


def test_names_and_handles() -> None:
    memory = Memory()

    def domain(name: str) -> int:
        return memory.put(
            bytes(32) + struct.pack("<Q", memory.text(name)) + bytes(4) + bytes(range(16))
        )

    one, two = domain("web1"), domain("web2")
    values = returned(
        "virConnectListAllDomains",
        3,
        0,
        memory.put(struct.pack("<Q", memory.put(struct.pack("<3Q", one, 0x1234, two)))),
        memory=memory,
    )
    uuid = "00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert values["domains"] == [
        Handle("domain", {"name": "web1", "uuid": uuid}),
        Unreadable(0x1234),
        Handle("domain", {"name": "web2", "uuid": uuid}),
    ]
    names = memory.put(struct.pack("<3Q", memory.text("a"), 0, memory.text("")))
    assert returned("virConnectListNetworks", 3, 0, names, 5, memory=memory)["names"] == [
        "a",
        None,
        "",
    ]


def test_what_ends_with_null() -> None:
    memory = Memory()
    doms = memory.put(struct.pack("<3Q", memory.put(bytes(60)), memory.put(bytes(60)), 0))
    values = entered("virDomainListGetStats", doms, memory=memory)
    assert isinstance(values["doms"], list)
    assert len(values["doms"]) == 2
    endless = memory.put(struct.pack("<Q", doms) * 80)
    cut = entered("virDomainListGetStats", endless, memory=memory)["doms"]
    assert isinstance(cut, CutList)
    assert (len(cut.items), cut.total) == (64, None)


def test_lists_in_lists() -> None:
    memory = Memory()
    records_at = []
    for name in ("web1", "web2"):
        dom = memory.put(bytes(32) + struct.pack("<Q", memory.text(name)) + bytes(20))
        params = memory.put(
            parameter("state.state", 1, "<i", 1)
            + parameter("net.0.name", 7, "<Q", memory.text(name))
        )
        records_at.append(memory.put(struct.pack("<QQi4x", dom, params, 2)))
    base = memory.put(struct.pack("<Q", memory.put(struct.pack("<2Q", *records_at))))
    stats = returned("virConnectGetAllDomainStats", 2, 0, 0, base, memory=memory)["retStats"]
    assert isinstance(stats, list)
    assert [(record["dom"].label, record["params"]) for record in stats] == [
        (name, {"state.state": EnumValue(1, "VIR_DOMAIN_RUNNING"), "net.0.name": name})
        for name in ("web1", "web2")
    ]


def test_long_strings_are_in_pieces_and_their_length_is_told() -> None:
    memory = Memory()
    long = "x" * 5000
    at = memory.put(parameter("device_weight", 7, "<Q", memory.text(long)))
    whole = entered("virDomainSetBlkioParameters", 0, at, 1, memory=memory, string=10_000)
    assert whole["params"] == {"device_weight": long}
    cut = entered("virDomainSetBlkioParameters", 0, at, 1, memory=memory, string=3000)
    assert cut["params"] == {"device_weight": CutText("x" * 3000, 5000)}


def test_secrets_stay_behind() -> None:
    memory = Memory()
    at = memory.put(
        parameter("sev-secret", 7, "<Q", memory.text("swordfish"))
        + parameter("sev-secret-set-address", 4, "<Q", 7)
    )
    plan = entry_plan(
        TABLE.by_name["virDomainSetLaunchSecurityState"], TABLE, OFFSETS, Limits(256, True), 0
    )
    fixed = bytearray(records.FIXED)
    struct.pack_into("<3Q", fixed, records.ENTRY_ARGS, 0, at, 2)
    stream = run(plan, fixed, memory)
    assert b"swordfish" not in stream
    assert decode(plan, fixed, stream)["params"] == {
        "sev-secret": Redacted(9),
        "sev-secret-set-address": Redacted(None),
    }
    keys = memory.put(struct.pack("<Q", memory.text("ssh-ed25519 AAAA")))
    assert entered("virDomainAuthorizedSSHKeysSet", 0, 0, keys, 1, memory=memory)["keys"] == [
        Redacted(16)
    ]
    assert entered("virDomainAuthorizedSSHKeysSet", 0, 0, keys, 1, memory=memory, redact=False)[
        "keys"
    ] == ["ssh-ed25519 AAAA"]


def test_a_secret_that_is_read() -> None:
    memory = Memory()
    value, size = memory.put(b"sword\0fish"), memory.put(struct.pack("<Q", 10))
    hidden = returned("virSecretGetValue", value, 0, size, memory=memory)
    assert hidden == {"ret": Redacted(10), "value_size": 10}
    assert returned("virSecretGetValue", value, 0, size, memory=memory, redact=False) == {
        "ret": "sword\0fish",
        "value_size": 10,
    }
    assert returned("virSecretGetValue", 0, 0, size, memory=memory)["ret"] is None


# whatever arrives


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(PLANS),
    st.randoms(use_true_random=False),
    st.binary(max_size=3000),
    st.booleans(),
)
def test_random_records_never_break_the_decoder(plan, chance, noise, plausible) -> None:
    raw = bytearray(chance.randbytes(plan.fixed))
    raw[32:36] = bytes(4) if chance.random() < 0.5 else raw[32:36]
    stream = bytearray(noise)
    if plausible:  # heads that could be: sizes that fit
        for at in range(0, len(stream) - 16, 24):
            stream[at : at + 16] = records.ITEM.pack(
                chance.randrange(-5, 100), chance.randrange(1 << 32), chance.randrange(1 << 64)
            )
    short = chance.randrange(plan.fixed) if chance.random() < 0.2 else plan.fixed
    values = plan.decode(
        (bytes(raw) + noise)[: short if short < plan.fixed else None],
        in_pieces(bytes(stream)),
        Constants(),
    )
    call = Call(
        time=0,
        duration_ns=5,
        tid=1,
        comm="x",
        caller=CALLER,
        function="f",
        library="l",
        depth=0,
        write=True,
        args=Values(values),
        out=Values(values),
        ret=values.get("ret"),
        returns="integer",
        failed=False,
        error=None,
    )
    json.loads(jsonl.line(call))
    assert text.line(call).count("\n") == 1
    assert xml.line(call).count("\n") == 1


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2000), st.booleans())
def test_a_lost_part_leaves_what_came_before(size, middle) -> None:
    memory = Memory()
    at = memory.put(
        b"".join(parameter(f"p{i}", 7, "<Q", memory.text(f"value {i}")) for i in range(20))
    )
    plan = entry_plan(
        TABLE.by_name["virDomainSetBlkioParameters"], TABLE, OFFSETS, Limits(256, False), 0
    )
    fixed = bytearray(records.FIXED)
    struct.pack_into("<3Q", fixed, records.ENTRY_ARGS, 0, at, 20)
    stream = run(plan, fixed, memory)
    pieces = in_pieces(stream, 256)
    if middle:
        del pieces[records.WALK_MORE][size // 256]
    else:
        pieces = in_pieces(stream[:size])
    params = plan.decode(bytes(fixed[: plan.fixed]), pieces, Constants())["params"]
    assert isinstance(params, CutList)
    assert isinstance(params.items, dict)
    kept = {name: value for name, value in params.items.items() if not isinstance(value, CutText)}
    assert kept == {f"p{i}": f"value {i}" for i in range(len(kept))}
    assert len(params.items) - len(kept) <= 1
    assert params.total in (20, None)


def test_plans_fit() -> None:
    assert len(WALKING) > 200
    for plan in PLANS:
        assert len(plan.pack()) == records.PLAN_SIZE
