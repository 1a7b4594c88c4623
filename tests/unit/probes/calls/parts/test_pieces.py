# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which pieces of long strings a call waits for, and how much of them is kept."""

import struct
from typing import Any

import pytest

from probes.calls.parts.pieces import Returned, clip, is_complete, piece_of
from probes.kernel import records
from probes.plans.builder import Builder
from probes.plans.meaning.captured import Limits, Piece
from probes.plans.plan import Plan

SOURCE, KEEP = records.ENTRY_ARGS, 6000


@pytest.fixture
def plan() -> Plan:
    build = Builder(records.ENTRY_FIXED, Limits(KEEP, redact=True))
    build.text(SOURCE)
    return build.plan(0, [])


def chunk(offset: int, got: int, text: bytes, op: int = 0) -> Piece:
    head = records.HEAD.pack(records.REC_CHUNK, 0, 0, op, 0, 0, 0, 0, 0, 0)
    return piece_of(head + records.CHUNK.pack(offset, got) + text, op)


def waiting(plan: Plan, length: int, *pieces: Piece, address: int = 0x1000) -> Returned:
    raw = bytearray(plan.fixed)
    raw[SOURCE : SOURCE + 8] = address.to_bytes(8, "little")
    struct.pack_into("<i", raw, plan.texts[0].slot, length)
    call: Any = None  # it is not looked at
    return Returned(call, bytes(raw), {0: list(pieces)} if pieces else {})


def test_a_record_says_where_its_bytes_are() -> None:
    assert chunk(1024, 9, b"12345678\0pad") == Piece(0, 1024, 9, b"12345678\0pad")


@pytest.mark.parametrize(
    ("offset", "got", "kept"),
    [
        (1024, 9, b"12345678"),  # without its NUL, and what made the record's length even
        (KEEP - 3, 9, b"123"),  # no more than was asked for
        (KEEP, 9, b""),
        (1024, records.STR_UNREADABLE, b""),
    ],
)
def test_a_piece_is_clipped(plan: Plan, offset: int, got: int, kept: bytes) -> None:
    pieces: dict[int, list[Piece]] = {}
    clip(pieces, chunk(offset, got, b"12345678\0pad"), plan)
    assert [piece.text for piece in pieces[0]] == [kept]


def test_a_piece_of_what_no_plan_copies_has_nothing(plan: Plan) -> None:
    pieces: dict[int, list[Piece]] = {}
    for of in (None, plan):
        clip(pieces, chunk(0, 9, b"12345678\0", op=7), of)
    assert [piece.text for piece in pieces[7]] == [b"", b""]


def test_what_walks_send_is_kept_together(plan: Plan) -> None:
    pieces: dict[int, list[Piece]] = {}
    clip(pieces, chunk(0, 4, b"12345678", op=records.WALK_MORE), plan)
    clip(pieces, chunk(4, 2, b"12345678", op=records.WALK_LAST), plan)
    assert [piece.text for piece in pieces[records.WALK_MORE]] == [b"1234", b"12"]


MOST = records.CHUNK_BYTES


@pytest.mark.parametrize(
    ("length", "pieces", "address", "expected"),
    [
        (100, [], 1, True),  # all of it is in the call's own record
        (records.INLINE_MAX, [], 0, True),  # NULL
        (records.INLINE_MAX, [], 1, False),
        (records.INLINE_MAX, [(1024, MOST)], 1, False),  # there is more
        (records.INLINE_MAX, [(1024, MOST), (1024 + MOST, 10)], 1, True),
        (records.INLINE_MAX, [(1024, records.STR_UNREADABLE)], 1, True),
        (records.INLINE_MAX, [(records.LENGTH_LIMIT, MOST)], 1, True),  # longer than is looked at
    ],
)
def test_what_a_call_waits_for(plan, length, pieces, address, expected) -> None:
    got = [chunk(offset, size, b"") for offset, size in pieces]
    assert is_complete(plan, waiting(plan, length, *got, address=address)) is expected
