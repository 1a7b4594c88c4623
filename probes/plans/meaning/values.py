# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gives captured bytes their meaning: raw numbers and strings come in, values of the log go out."""

from __future__ import annotations

from collections.abc import Callable

from log.quote import decode_bytes, whole_characters
from log.redact.uri import redact_uris
from log.values import CutList, CutText, EnumValue, Flags, Pointer, Redacted, Unreadable, Value
from probes.api.table import Enum
from probes.plans.meaning.captured import Copied

SIZES = {"i32": 4, "u32": 4, "i64": 8, "u64": 8, "u8": 1}  # bytes of the C type
_SIGNED = {"i32": 32, "i64": 64}
_UNSIGNED = {"u8": 8, "u32": 32, "u64": 64}


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


LEFT_OUT_VALUE = Pointer(-1)  # this very object: an output before the call


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
