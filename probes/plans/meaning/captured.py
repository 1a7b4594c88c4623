# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is captured, and how much of it: the types that all of the plans share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Offsets = Mapping[str, Mapping[str, int]]  # object type -> field -> bytes


class Limits(NamedTuple):
    """How much is captured: bytes of a string, and whether secrets are shown."""

    string: int
    redact: bool
    tells_apart: bool = False  # whether it matters which of several alike objects it is


class TextSlot(NamedTuple):
    """Where a string of a record is described: the operation that copied it, in bytes of the
    fixed part.
    """

    op: int
    source: int  # of the u64 pointer
    slot: int  # of the s32 length
    size: int  # bytes in the call's own record, at most
    # of the s32 that says whether the string was left out, as sent before; 0: it never is
    mark: int


class Piece(NamedTuple):
    """A part of a long string that came in a record of its own."""

    op: int
    offset: int
    # bytes that were read there, with the NUL; CHUNK_BYTES: there are more; below 0: unreadable
    got: int
    text: bytes


class Copied(NamedTuple):
    """A string as it was captured."""

    address: int
    text: bytes | None  # None: unreadable, or NULL where the address is 0
    length: int | None  # in the traced process, without the NUL; None: longer than can be told


def u64(raw: bytes, at: int) -> int:
    """The number in the eight bytes there."""
    return int.from_bytes(raw[at : at + 8], "little")
