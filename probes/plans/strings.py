# SPDX-License-Identifier: LGPL-2.1-or-later
"""The strings of a record: its bytes and the pieces that came after it come in, strings as they
were captured go out.
"""

from __future__ import annotations

from collections.abc import Mapping

from probes.kernel import records
from probes.plans.meaning.captured import Copied, Piece, TextSlot

LEFT_OUT = Copied(0, None, None)


def was_sent_before(raw: bytes, mark: int) -> bool:
    """Whether what an OP_ONCE guards was left out of the record; `mark`: where that is said."""
    return int.from_bytes(raw[mark : mark + 4], "little", signed=True) == records.STR_SAME


def read_texts(
    raw: bytes, texts: tuple[TextSlot, ...], fixed: int, pieces: Mapping[int, list[Piece]]
) -> list[Copied]:
    """The strings of a record, in order."""
    result: list[Copied] = []
    at = fixed
    for text in texts:
        if text.mark and was_sent_before(raw, text.mark):
            result.append(LEFT_OUT)
            continue
        address = int.from_bytes(raw[text.source : text.source + 8], "little")
        length = int.from_bytes(raw[text.slot : text.slot + 4], "little", signed=True)
        copied: Copied
        if not address:
            copied = Copied(0, None, None)
        elif length == records.STR_NO_ROOM:
            copied = Copied(address, b"", None)
        elif length < 0:
            copied = Copied(address, None, None)
        else:
            copied = Copied(address, raw[at : at + length], length)
            at += (length + 8) & ~7
            if length >= text.size:
                copied = _join(copied, pieces.get(text.op, []))
        result.append(copied)
    return result


def _join(start: Copied, pieces: list[Piece]) -> Copied:
    """A long string from its pieces; a lost one ends it, with the length unknown."""
    text = start.text or b""
    for piece in pieces:
        if piece.got < 0:
            return Copied(start.address, None, None)
        if piece.text and piece.offset == len(text):
            text += piece.text
        if piece.got < records.CHUNK_BYTES:
            return Copied(start.address, text, piece.offset + max(piece.got - 1, 0))
    return Copied(start.address, text, None)
