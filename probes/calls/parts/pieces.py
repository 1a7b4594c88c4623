# SPDX-License-Identifier: LGPL-2.1-or-later
"""Long strings, whose rest comes in records of its own: pieces come in; calls that wait for
them go out when all is there.
"""

from __future__ import annotations

from typing import NamedTuple

from log.values import Value
from probes.calls.parts.open import Extra, Open, Pieces
from probes.kernel import records
from probes.plans.meaning.captured import Piece
from probes.plans.plan import Plan
from probes.plans.walk import is_whole


class Returned(NamedTuple):
    """A call that has returned, while the rest of a long string is still to come."""

    call: Open
    raw: bytes  # its return record
    pieces: Pieces


class Denial(NamedTuple):
    """A call that the enforcer sent back, while the rest of its arguments is still to come."""

    call: Open
    raw: bytes  # its record
    pieces: Pieces
    extra: Extra
    result: Value


def piece_of(raw: bytes, op: int) -> Piece:
    """What the record says."""
    offset, got = records.CHUNK.unpack_from(raw, records.HEAD.size)
    return Piece(op, offset, got, raw[records.CHUNK_TEXT :])


def clip(pieces: Pieces, piece: Piece, plan: Plan | None) -> None:
    """Adds a piece without the padding that made its record's length a multiple of 8."""
    if piece.op >= records.WALK_MORE:
        pieces.setdefault(records.WALK_MORE, []).append(
            piece._replace(text=piece.text[: max(0, piece.got)])
        )
        return
    keep = plan.ops[piece.op].keep if plan and piece.op < len(plan.ops) else 0
    size = max(0, min(piece.got - 1, keep - piece.offset))
    pieces.setdefault(piece.op, []).append(piece._replace(text=piece.text[:size]))


def is_complete(plan: Plan | None, waiting: Returned | Denial) -> bool:
    """Whether all that the plan copies is there."""
    raw = waiting.raw
    assert plan is not None
    if plan.walk and not is_whole(waiting.pieces):
        return False
    for text in plan.texts:
        length = int.from_bytes(raw[text.slot : text.slot + 4], "little", signed=True)
        if length >= text.size and any(raw[text.source : text.source + 8]):
            pieces = waiting.pieces.get(text.op)
            if not pieces or (
                pieces[-1].got >= records.CHUNK_BYTES
                and pieces[-1].offset + pieces[-1].got <= records.LENGTH_LIMIT
            ):
                return False
    return True
