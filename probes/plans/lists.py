# SPDX-License-Identifier: LGPL-2.1-or-later
"""Copies lists and structs that don't fit into a call's own record: where they are comes in,
readers of the plan's walk go out.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from log.quote import decode_bytes
from log.values import CutList, Handle, Pointer, Redacted, Unreadable, Value
from probes.api import structs
from probes.api.table import ApiTable
from probes.internals.gobject import (
    BOOLEAN_TYPE,
    PARAMETER,
    PARAMETER_TYPE,
    PARAMETER_VALUE,
    STRING_TYPE,
)
from probes.plans.meaning import numbers, texts, values
from probes.plans.meaning.captured import Copied, Limits, Offsets
from probes.plans.meaning.documents import kept, text_value
from probes.plans.meaning.objects import SHOWN_AS, SHOWN_IN_LISTS
from probes.plans.walk import Finish, Stream, Take, TakeElement, TakeText, Walk

_NUMBERS = {
    1: struct.Struct("<i"),
    2: struct.Struct("<I"),
    3: struct.Struct("<q"),
    4: struct.Struct("<Q"),
    5: struct.Struct("<d"),
}
TEXTS = ("char *", "const char *")  # fields that are read as text; other pointers are shown as such

# How many there are behind a field of a struct: another field of it, in elements or bytes
LENGTHS = {
    "virDomainFSInfo.devAlias": "ndevAlias",
    "virDomainInterface.addrs": "naddrs",
    "virDomainIOThreadInfo.cpumap": "cpumaplen",
    "virDomainStatsRecord.params": "nparams",
}


class Reading(NamedTuple):
    """What readers depend on."""

    walk: Walk
    table: ApiTable
    offsets: Offsets
    limits: Limits
    what: str = texts.HIDDEN  # strings are
    secret: bool = False  # all is

    @property
    def keep(self) -> int:
        """Bytes of a string."""
        return kept(self.what, self.limits)

    def string(self, copied: Copied) -> Value:
        """A string's value."""
        return text_value(copied, self.what, self.limits)


def strings(reading: Reading, base: int, count: int) -> Take:
    """An array of strings at *base."""

    def body(copy: int, address: int) -> TakeElement:
        text = reading.walk.text(copy, reading.keep)
        return lambda stream, data: reading.string(text(stream))

    return reading.walk.each(base, count, 8, 8, body)


def text(reading: Reading, source: int, offset: int = 0) -> Take:
    """The string at *source + offset."""
    take = reading.walk.text(source, reading.keep, offset=offset)
    return lambda stream: reading.string(take(stream))


def several_numbers(reading: Reading, ctype: str, base: int, count: int) -> Take:
    """An array of numbers at *base."""
    size, read = numbers.several(ctype, reading.table)

    def finish(data: bytes, total: int) -> Value:
        return values.cut_list(read(data), total)

    return reading.walk.array(base, count, 8 * size, finish)


def parameters_of_each(reading: Reading, base: int, count: int, each: int) -> Take:
    """Typed parameters at *base, for each of several things as many as the number at `each`
    says.
    """
    take_each = reading.walk.number(each)
    take = parameters(reading, base, count, list)

    def split(stream: Stream) -> Value:
        size, value = max(1, take_each(stream)), take(stream)
        items = value.items if isinstance(value, CutList) else value
        if not isinstance(items, list):
            return value
        groups: list[Value] = [by_field(items[at : at + size]) for at in range(0, len(items), size)]
        return CutList(groups, None) if isinstance(value, CutList) else groups

    return split


def parameters(reading: Reading, base: int, count: int, finish: Finish | None = None) -> Take:
    """Typed parameters at *base, as field -> value."""

    def body(copy: int, address: int) -> TakeElement:
        keep = 0 if reading.secret else reading.limits.string
        take = reading.walk.text(
            copy + PARAMETER_VALUE, keep, only=(copy + PARAMETER_TYPE, STRING_TYPE)
        )
        return lambda stream, data: _parameter(reading, names, data, take, stream)

    names = numbers.ParameterNames(reading.table)
    return reading.walk.each(
        base,
        count,
        PARAMETER,
        PARAMETER,
        body,
        finish or (lambda items: names.with_reason(by_field(items))),
    )


def _parameter(
    reading: Reading, names: numbers.ParameterNames, data: bytes, take: TakeText, stream: Stream
) -> Value:
    field = decode_bytes(data[:PARAMETER_TYPE].partition(b"\0")[0])
    kind = int.from_bytes(data[PARAMETER_TYPE : PARAMETER_TYPE + 4], "little", signed=True)
    value: Value
    if kind == STRING_TYPE:
        copied = take(stream)
        what = texts.HIDDEN if reading.secret else texts.of_parameter(field)
        value = text_value(copied, what, reading.limits)
    elif reading.secret:
        value = Redacted(None)
    elif kind == BOOLEAN_TYPE:
        value = data[PARAMETER_VALUE] != 0
    elif kind in _NUMBERS:
        value = _NUMBERS[kind].unpack_from(data, PARAMETER_VALUE)[0]
        if type(value) is int:
            value = names.value(field, value)
    else:
        value = Pointer(int.from_bytes(data[PARAMETER_VALUE:PARAMETER], "little"))
    return [field, value]


def by_field(items: list[Value]) -> dict[str, Value]:
    """Parameters as a mapping; what has the same field becomes a list, what could not be read
    keeps its place as a name.
    """
    result: dict[str, Value] = {}
    repeated: set[str] = set()
    for index, item in enumerate(items):
        field, value = item if isinstance(item, list) else (f"#{index}", item)
        if not field:
            continue  # room that was not used
        if field not in result:
            result[field] = value
        elif field in repeated:
            result[field].append(value)  # type: ignore[union-attr]  # it is a list since the second one
        else:
            repeated.add(field)
            result[field] = [result[field], value]
    return result


def handles(reading: Reading, base: int, count: int, kind: str) -> Take:
    """An array of pointers to libvirt's objects at *base: what they are called."""
    return reading.walk.each(base, count, 8, 8, lambda copy, address: _handle(reading, copy, kind))


def _handle(reading: Reading, source: int, kind: str) -> TakeElement:
    """The object whose address is at `source` and in the element's bytes."""
    shown, place = SHOWN_IN_LISTS.get(kind, ()), reading.offsets.get(kind)
    if place is None or not shown:
        return lambda stream, data: values.pointer_value(int.from_bytes(data[:8], "little"))
    starts = [place[field] for field, _ in shown]
    first, end = (
        min(starts),
        max(place[field] + (16 if how == "uuid" else 8) for field, how in shown),
    )
    block = reading.walk.block(source, first, end - first)
    copies = {
        field: reading.walk.text(block + place[field] - first, reading.limits.string)
        for field, how in shown
        if how == "text"
    }

    def take(stream: Stream, data: bytes) -> Value:
        item = stream.item()
        fields: dict[str, Value] = {}
        for field, how in shown:
            at = place[field] - first
            if how == "uuid":
                fields[SHOWN_AS.get(field, field)] = values.uuid_value(
                    (item.data or bytes(end - first))[at : at + 16]
                )
            else:
                fields[SHOWN_AS.get(field, field)] = values.string_value(
                    copies[field](stream), redact=reading.limits.redact
                )
        address = int.from_bytes(data[:8], "little")
        if item.got < 0:
            return Unreadable(address) if address else None
        return Handle(kind, fields, address)

    return take


def struct_list(reading: Reading, base: int, count: int, name: str, *, pointers: bool) -> Take:
    """An array of structs, or of pointers to structs, at *base."""
    known = structs.layout(reading.table, name)
    if pointers:

        def body(copy: int, address: int) -> TakeElement:
            take = one_struct(reading, copy, known)
            return lambda stream, data: take(stream)

        return reading.walk.each(base, count, 8, 8, body)
    fields = [field.name for field in known.fields]
    if fields == ["field", "value"]:  # virNodeCPUStats and its like: parameters of one type
        return reading.walk.each(
            base, count, known.size, known.size, lambda copy, address: _pair, by_field
        )
    length = known.size if known.size <= WHOLE else 8
    return reading.walk.each(
        base,
        count,
        known.size,
        length,
        lambda copy, address: _struct_body(reading, copy, address, known),
    )


def _pair(stream: Stream, data: bytes) -> Value:
    return [decode_bytes(data[:80].partition(b"\0")[0]), int.from_bytes(data[80:88], "little")]


WHOLE = 128  # bytes of a struct that is copied in one; a larger one has long arrays of characters


def one_struct(reading: Reading, source: int, known: structs.Struct) -> Take:
    """The struct at *source."""
    if known.size > WHOLE:
        inner = _struct_body(reading, 0, source, known)
        return lambda stream: inner(stream, b"")
    block = reading.walk.block(source, 0, known.size)
    inner = _struct_body(reading, block, source, known)

    def take(stream: Stream) -> Value:
        item = stream.item()
        value = inner(stream, item.data or bytes(known.size))
        if item.got < 0:
            return Unreadable(item.address) if item.address else None
        return value

    return take


def _struct_body(reading: Reading, copy: int, address: int, known: structs.Struct) -> TakeElement:
    """Fields of the struct whose bytes are at `copy`, or, if it is large, whose address is at
    `address`.
    """
    small = known.size <= WHOLE
    hidden = {LENGTHS.get(f"{known.name}.{field.name}") for field in known.fields}
    readers: list[tuple[str, TakeElement]] = []
    for field in known.fields:
        if field.name not in hidden:
            at = copy + field.offset
            readers.append(
                (
                    field.name,
                    _field(reading, known, field, at)
                    if small
                    else _far_field(reading, known, field, address),
                )
            )
    return lambda stream, data: {name: read(stream, data) for name, read in readers}


def _field(reading: Reading, known: structs.Struct, field: structs.Field, at: int) -> TakeElement:
    place = f"{known.name}.{field.name}"
    reading = reading._replace(what=texts.of_field(known.name, field.name))
    if field.is_text and not reading.keep:
        return lambda stream, data: Redacted(None)
    if field.is_text:
        return lambda stream, data: decode_bytes(
            data[field.offset : field.offset + field.size].partition(b"\0")[0]
        )
    if not field.is_pointer:
        return _number(reading, place, field)
    if place not in LENGTHS:
        if field.ctype == "virDomainPtr":
            take = _handle(reading, at, "domain")
            return lambda stream, data: take(stream, data[field.offset : field.offset + 8])
        if field.ctype not in TEXTS:
            return lambda stream, data: _address(data, field.offset)
        one = text(reading, at)
        return lambda stream, data: one(stream)
    counter = next(other for other in known.fields if other.name == LENGTHS[place])
    many = _behind(reading, field, at, at - field.offset + counter.offset)
    return lambda stream, data: many(stream)


def _behind(reading: Reading, field: structs.Field, at: int, count: int) -> Take:
    if field.ctype == "virTypedParameterPtr":
        return parameters(reading, at, count)
    if field.ctype == "char **":
        return strings(reading, at, count)
    if field.ctype == "unsigned char *":
        return bitmap(reading, at, count)
    name = reading.table.struct_behind(field.ctype)
    assert name, field
    return struct_list(reading, at, count, name, pointers=False)


def bitmap(reading: Reading, base: int, count: int, *, bits: int = 8) -> Take:
    """A bitmap of CPUs at *base: `count` bytes, or bits."""
    return reading.walk.array(base, count, bits, lambda data, total: numbers.cpus(data))


def bitmaps(reading: Reading, base: int, count: int, length: int) -> Take:
    """Bitmaps one after the other: as many, and of as many bytes each, as the numbers at these
    places say.
    """
    take_length = reading.walk.number(length)
    take = reading.walk.array(
        base, reading.walk.product(count, length), 8, lambda data, total: [data, total]
    )

    def split(stream: Stream) -> Value:
        size, value = take_length(stream), take(stream)
        if not isinstance(value, list):
            return value
        data, total = value
        starts = range(0, len(data) - size + 1, size) if size > 0 else ()
        return values.cut_list(
            [numbers.cpus(data[at : at + size]) for at in starts], total // max(size, 1)
        )

    return split


def _number(reading: Reading, place: str, field: structs.Field) -> TakeElement:
    size, read = numbers.reader(field.ctype, reading.table.field_enums.get(place), reading.table)
    return lambda stream, data: read(data[field.offset : field.offset + size])


def _address(data: bytes, at: int) -> Value:
    return values.pointer_value(int.from_bytes(data[at : at + 8], "little"))


def _far_field(
    reading: Reading, known: structs.Struct, field: structs.Field, address: int
) -> TakeElement:
    """A field of a struct of which only the address is known."""
    if field.is_text:
        take = text(
            reading._replace(what=texts.of_field(known.name, field.name)), address, field.offset
        )
        return lambda stream, data: take(stream)
    size, read = (
        (8, lambda data: _address(data, 0))
        if field.is_pointer
        else numbers.reader(
            field.ctype, reading.table.field_enums.get(f"{known.name}.{field.name}"), reading.table
        )
    )
    reading.walk.block(address, field.offset, size)

    def number(stream: Stream, data: bytes) -> Value:
        item = stream.item()
        return read(item.data) if item.got == size else Unreadable(item.address)

    return number
