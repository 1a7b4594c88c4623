# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes of calls whose records come late, in parts, or not at all."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.values import CutText
from probes.calls.losses import SERVED
from probes.calls.outcomes import LOST, UNARMED_NS
from probes.calls.parts.open import NO_RETURN
from probes.kernel import records
from tests.unit.probes.calls.test_calls import LIMITS, TASK, argument, calls_of, new_calls, row


def long_call(string: str, chunks_lost: set[int]) -> list[bytes]:
    """virDomainLookupByName's entry with a name of several chunks, and its return."""
    plan, data = row("virDomainLookupByName").entry, string.encode()
    (name,) = (text for text in plan.texts if plan.ops[text.op].keep == LIMITS.string)
    raw = bytearray(
        records.HEAD.pack(records.REC_ENTRY, 0, records.REC_LONG, 0, 1, 0, 1, 1, 0, 1).ljust(
            plan.fixed, b"\0"
        )
    )
    struct.pack_into("<Q", raw, name.source, 0x1000)
    struct.pack_into("<i", raw, name.slot, min(len(data), name.size))
    first = data[: name.size]
    raws = [bytes(raw + first + bytes(((len(first) + 8) & ~7) - len(first)))]
    if len(data) >= name.size:
        for offset in range(name.size, len(data) + 1, records.CHUNK_BYTES - 1):
            rest = data[offset : offset + records.CHUNK_BYTES - 1]
            kept = rest[: max(0, LIMITS.string - offset)]
            head = records.HEAD.pack(records.REC_CHUNK, 0, 0, name.op, 2, 0, 1, 1, 0, 1)
            got = min(len(rest) + 1, records.CHUNK_BYTES)
            raws.append(head + records.CHUNK.pack(offset, got) + kept + bytes((-len(kept)) % 8))
    raws = [raw for at, raw in enumerate(raws) if at == 0 or at not in chunks_lost]
    head = records.HEAD.pack(records.REC_RETURN, 0, 0, 0, 3, 0, 1, 1, 0, 1)
    returns = row("virDomainLookupByName").ret
    assert returns is not None
    return [*raws, (head + struct.pack("<QQ", 1, 0)).ljust(returns.fixed, b"\0")]


@given(
    st.one_of(
        st.integers(0, 20000),
        st.sampled_from([1023, 1024, 1025, 4095, 4096, 4097, 5118, 5119, 5120]),
    ),
    st.integers(0, 25),
)
def test_a_long_string_is_put_together(length, shift):
    string = "".join(chr(ord("a") + (i + shift) % 26) for i in range(length))
    (call,) = new_calls([row("virDomainLookupByName")]).feed(long_call(string, set()))
    name = argument(call, "name")
    assert name == (string if length <= LIMITS.string else CutText(string[: LIMITS.string], length))


@given(st.integers(1024, 20000), st.sets(st.integers(1, 6), min_size=1))
def test_a_string_with_lost_parts_is_a_beginning_of_it(length, lost):
    string = "".join(chr(ord("a") + i % 26) for i in range(length))
    (call,) = new_calls([row("virDomainLookupByName")]).feed(long_call(string, lost))
    name = argument(call, "name")
    if isinstance(name, str):
        assert name == string
    else:
        assert isinstance(name, CutText)
        assert string.startswith(name.text)
        assert name.length in (None, length)


def begun(seq: int, flags: int = 0) -> bytes:
    """A call of the one thread, at that time."""
    head = records.HEAD.pack(records.REC_ENTRY, 0, flags, 0, seq, 0, 1, seq, 0, 1)
    return head.ljust(row("virDomainSuspend").entry.fixed, b"\0")


def test_a_call_without_return_probe_is_let_go_when_nothing_comes_of_it_any_more() -> None:
    calls = new_calls([row("virDomainSuspend")])
    assert calls.feed([begun(5, records.REC_UNARMED)]) == []
    assert calls.let_go(5 + UNARMED_NS) == [] and calls.open_calls() == 1
    (call,) = calls_of(calls.let_go(6 + UNARMED_NS))
    assert call.unfinished is not None and call.unfinished.startswith(NO_RETURN)
    assert calls.close() == []


def test_a_call_that_another_one_follows_has_lost_its_end() -> None:
    calls = new_calls([row("virDomainSuspend")])
    (call,) = calls_of(calls.feed([begun(1), begun(2)]))
    assert (call.time, call.unfinished) == (1, LOST)


def test_calls_that_began_before_are_given_up() -> None:
    calls = new_calls([row("virDomainSuspend")])
    calls.feed([begun(7)])
    assert calls.give_up(7) == []
    (call,) = calls_of(calls.give_up(8))
    assert call.unfinished == NO_RETURN


@pytest.mark.parametrize(
    ("flags", "whose"), [(0, SERVED), (records.REC_WANTED, TASK.caller.uid)], ids=["other", "own"]
)
def test_lost_beginnings_are_counted_for_whose_call_it_was(flags: int, whose: int) -> None:
    calls = new_calls([row("virDomainSuspend")])
    flags |= records.REC_ENTRY_LOST | records.REC_WRITE_RING
    head = records.HEAD.pack(records.REC_RETURN, 0, flags, 0, 9, 0, 1, 1, 0, 1)
    (call,) = calls_of(calls.feed([head + struct.pack("<QQ", 4, 0)]))
    assert (call.time, call.args) == (4, None)
    assert calls.ended_without_entry == {(records.REC_WRITE_RING, whose): 1}
