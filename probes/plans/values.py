# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gives captured bytes their meaning: raw numbers and strings come in, values of the log go out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from log.quote import decode_bytes, whole_characters
from log.redact.uri import redact_uris
from log.values import CutList, CutText, EnumValue, Flags, Pointer, Redacted, Unreadable, Value
from probes.api.table import Enum
from probes.kernel import records

SIZES = {"i32": 4, "u32": 4, "i64": 8, "u64": 8, "u8": 1}  # bytes of the C type
_SIGNED = {"i32": 32, "i64": 64}
_UNSIGNED = {"u8": 8, "u32": 32, "u64": 64}


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


def integer(kind: str, raw: int) -> int:
    """A register's 64 bits as the C type's value."""
    if bits := _SIGNED.get(kind):
        raw &= (1 << bits) - 1
        return raw - (1 << bits) if raw >> (bits - 1) else raw
    return raw & ((1 << _UNSIGNED.get(kind, 64)) - 1)


def enum_decoder(enum: Enum, kind: str) -> Callable[[int], Value]:
    """Values by name; of constants that share a value, the first."""
    names: dict[int, str] = {}
    for name, value in enum.constants.items():
        names.setdefault(value, name)

    def decode(raw: int) -> Value:
        value = integer(kind, raw)
        return EnumValue(value, names.get(value))

    return decode


def flags_decoder(enum: Enum | None, kind: str) -> Callable[[int], Value]:
    """A bitwise-or by the names of its bits; constants of several bits are named where all of
    them are set.
    """
    bits = sorted(
        ((value, name) for name, value in (enum.constants.items() if enum else ()) if value > 0),
        key=lambda item: item[0],
    )
    known: dict[int, Flags] = {}

    def decode(raw: int) -> Value:
        value = integer(kind, raw)
        flags = known.get(value)
        if flags is None:
            rest, names = value & ((1 << 64) - 1) if value < 0 else value, []
            for bit, name in reversed(bits):
                if rest & bit == bit:
                    names.append(name)
                    rest &= ~bit
            names.reverse()
            if rest:
                names.append(hex(rest))
            flags = known[value] = Flags(value, tuple(names))
            if len(known) > 4096:
                known.clear()
        return flags

    return decode


LEFT_OUT = Copied(0, None, None)
LEFT_OUT_VALUE = Pointer(-1)  # this very object: an output before the call


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


def string_value(copied: Copied, *, redact: bool = True, shown: int | None = None) -> Value:
    """A captured string; what may be secret in a URI is redacted. `shown`: bytes of it, at
    most, if more was captured.
    """
    if copied.text is None:
        return Unreadable(copied.address) if copied.address else None
    cut = copied.length is None or copied.length > len(copied.text)
    text = decode_bytes(whole_characters(copied.text) if cut else copied.text)
    if redact and "://" in text:
        text = redact_uris(text, is_cut=cut)
    data = (
        text.encode(errors="surrogatepass")
        if shown is not None and len(copied.text) > shown
        else b""
    )
    if shown is not None and len(data) > shown:
        return CutText(
            whole_characters(data[:shown]).decode(errors="surrogatepass"), copied.length, text
        )
    return CutText(text, copied.length) if cut else text


def secret_value(copied: Copied) -> Value:
    """A string of which only the length was captured."""
    if copied.text is None:
        return Unreadable(copied.address) if copied.address else None
    return Redacted(copied.length)


def bytes_value(data: bytes, count: int) -> Value:
    """Bytes of which there are `count`, maybe more than were copied, as text."""
    return decode_bytes(data) if len(data) == count else CutText(decode_bytes(data), count)


def cut_list(items: list[Value], count: int) -> Value:
    """A list of which there are `count`, maybe more than were copied."""
    return items if len(items) == count else CutList(items, count)


def uuid_value(raw: bytes) -> str:
    """16 bytes in the usual form."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def pointer_value(raw: int) -> Value:
    """An address, or NULL."""
    return Pointer(raw) if raw else None
