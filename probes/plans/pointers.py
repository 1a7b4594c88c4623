# SPDX-License-Identifier: LGPL-2.1-or-later
"""Copies what is behind pointers: an argument, its direction and its length come in; a reader
goes out.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import NamedTuple

from log.quote import decode_bytes
from log.values import Redacted, Value
from probes.api import structs
from probes.api.amendments import REASON_ENUM
from probes.api.passing import IN, IN_OUT, OUT
from probes.api.table import OBJECTS, ApiTable, Function, Param
from probes.kernel import records
from probes.plans import lists
from probes.plans.builder import Builder
from probes.plans.meaning import numbers, texts, values
from probes.plans.meaning.captured import Copied, Offsets, u64
from probes.plans.meaning.documents import kept, text_value
from probes.plans.plan import Constants, Read
from probes.plans.walk import Take

_WALKED: Read = lambda raw, texts, constants: None  # noqa: E731 - keeps a place among the fields


class Arguments(NamedTuple):
    """Where a function's arguments are in a record, and whether it has returned."""

    function: Function
    arguments: Mapping[str, int]  # name -> offset of its 64 bits
    at_return: bool


class Pointers:
    """The pointers of one function at one probe."""

    def __init__(self, build: Builder, place: Arguments, table: ApiTable, offsets: Offsets) -> None:
        self._build = build
        self._place = place
        self._table = table
        self._offsets = offsets
        self._guarded = False

    def read(self, param: Param) -> Read | None:
        """What shows the argument at this probe; None: it stays a pointer."""
        source = self._place.arguments[param.name]
        if (
            param.kind != "pointer"
            or not param.direction
            or (self._place.function.access == "plumbing" and self._is_many(param))
        ):
            return None
        if param.ctype in ("void *", "virConnectAuthPtr", "virErrorPtr") and not param.length:
            return None
        if param.direction == OUT and not self._place.at_return:
            return self._before(source)
        if param.direction == IN and self._place.at_return:
            return None
        if param.secret and self._build.limits.redact and not self._has_parts(param):
            return self._length_only(param, source)
        return self._one(param, source) or self._many(param, source)

    def result(self, size: Param) -> Read:
        """The bytes that are returned, as many as `size` says when the function has returned."""
        count = self._build.shared(self._place.arguments[size.name], 0, 8)
        self._build.shows(count, 4)
        self._build.shows(records.RETURN_VALUE, 8)
        if self._place.function.result.secret and self._build.limits.redact:
            return lambda raw, texts, constants: (
                Redacted(u64(raw, count)) if u64(raw, records.RETURN_VALUE) else None
            )
        limit = self._build.limits.string
        take = self._build.walk.array(
            records.RETURN_VALUE,
            count,
            8,
            lambda data, total: values.bytes_value(data[:limit], total),
        )
        self._build.walks.append(("ret", take))
        return _WALKED

    def _before(self, source: int) -> Read:
        """An output before the call: only whether there is room for it."""
        self._build.omits = True
        self._build.follows(source)
        return lambda raw, texts, constants: values.LEFT_OUT_VALUE if u64(raw, source) else None

    @staticmethod
    def _has_parts(param: Param) -> bool:
        """Whether it is a list whose elements' lengths may be told."""
        return param.ctype in ("virTypedParameterPtr", "const char **", "char ***")

    @staticmethod
    def _is_many(param: Param) -> bool:
        return bool(param.length) or "vir" in param.ctype

    def _length_only(self, param: Param, source: int) -> Read:
        count = self._count(param.length)
        self._build.shows(count, 4)
        self._build.follows(source)
        return lambda raw, texts, constants: (
            Redacted(int.from_bytes(raw[count : count + 4], "little")) if u64(raw, source) else None
        )

    def _one(self, param: Param, source: int) -> Read | None:
        """What is small and of known size: it goes into the call's own record."""
        build, limits = self._build, self._build.limits
        if param.length == "16":
            return build.memory(source, 16, values.uuid_value)
        if param.length:
            return None
        if (param.ctype.removesuffix(" *")) in numbers.KINDS and param.ctype != "char *":
            if (self._place.function.name, param.name) == ("virDomainGetState", "reason"):
                return self._reason(source)
            size, read = numbers.reader(param.ctype.removesuffix(" *"), param.enum, self._table)
            return build.memory(source, size, read)
        what = texts.of_argument(self._place.function.name, param.name)
        if param.ctype == "char *":
            index = build.text(source, keep=kept(what, limits))
            return lambda raw, copied, constants: text_value(copied[index], what, limits)
        if param.ctype in ("char **", "const char **"):
            pointer = build.shared(source, 0, 8)
            build.follows(source)
            index = build.text(pointer, keep=kept(what, limits))
            return lambda raw, copied, constants: (
                text_value(copied[index], what, limits) if u64(raw, source) else None
            )
        name = self._table.struct_behind(param.ctype)
        if name and param.ctype.endswith("Ptr"):
            known = structs.layout(self._table, name)
            if known.size <= lists.WHOLE and not any(field.is_pointer for field in known.fields):
                return self._struct(source, known)
        return None

    def _reason(self, source: int) -> Read:
        state = self._build.shared(self._place.arguments["state"], 0, 4)
        self._build.shows(state, 4)
        readers = {
            number: numbers.reader("int", enum, self._table)[1]
            for number, enum in REASON_ENUM.items()
        }
        plain = numbers.reader("int", None, self._table)[1]
        found: Read = self._build.memory(source, 4, lambda data: [data])

        def read(raw: bytes, texts: list[Copied], constants: Constants) -> Value:
            value = found(raw, texts, constants)
            number = int.from_bytes(raw[state : state + 4], "little")
            return readers.get(number, plain)(value[0]) if isinstance(value, list) else value

        return read

    def _struct(self, source: int, known: structs.Struct) -> Read:
        limits = self._build.limits
        readers: list[tuple[structs.Field, numbers.ReadNumber]] = []
        for field in known.fields:
            if field.is_text:
                is_shown = not limits.redact or texts.of_field(known.name, field.name) == texts.NAME
                readers.append((field, _characters if is_shown else lambda data: Redacted(None)))
            else:
                enum = self._table.field_enums.get(f"{known.name}.{field.name}")
                readers.append((field, numbers.reader(field.ctype, enum, self._table)[1]))

        def read(data: bytes) -> Value:
            return {
                field.name: decode(data[field.offset : field.offset + field.size])
                for field, decode in readers
            }

        # the caller tells which version of the struct it knows
        size = self._place.arguments.get("size")
        inner = self._build.memory(source, known.size, read)
        if size is None:
            return inner
        self._build.shows(size, 8)

        def known_to_caller(raw: bytes, texts: list[Copied], constants: Constants) -> Value:
            value, most = inner(raw, texts, constants), u64(raw, size)
            if not isinstance(value, dict):
                return value
            return {
                field.name: value[field.name]
                for field, _ in readers
                if field.offset + field.size <= most
            }

        return known_to_caller

    def _many(self, param: Param, source: int) -> Read | None:
        """What has a length that only the call knows: it is walked through when the record was
        sent.
        """
        if (
            self._place.at_return
            and not self._guarded
            and self._place.function.result.kind == "i32"
        ):
            self._build.walk.guard(records.RETURN_VALUE)
            self._guarded = True
        before = len(self._build.walk.ops)
        take = self._walk(param, source)
        if take is None:
            del self._build.walk.ops[before:]
            return None
        self._build.walks.append((param.name, take))
        return _WALKED

    def _walk(self, param: Param, source: int) -> Take | None:
        secret = param.secret and self._build.limits.redact
        what = texts.HIDDEN if secret else texts.of_argument(self._place.function.name, param.name)
        reading = lists.Reading(
            self._build.walk, self._table, self._offsets, self._build.limits, what, secret
        )
        ctype = param.ctype.removeprefix("const ").removesuffix(" const").replace(" ", "")
        base, stars = source, len(ctype) - len(ctype.rstrip("*"))
        ctype = ctype.rstrip("*")
        if ctype.startswith("vir"):
            return self._walk_objects(reading, param, source, ctype, stars)
        if ctype in ("char", "unsignedchar", "void") and stars == 1:
            return self._walk_bytes(reading, param, source)
        if ctype == "unsignedchar":
            return lists.bitmap(
                reading, self._build.shared(source, 0, 8), self._count("return"), bits=1
            )
        if stars > (2 if ctype == "char" else 1):
            base = self._build.shared(source, 0, 8)
        count = self._count(param.length)
        if ctype == "char":
            return lists.strings(reading, base, count)
        return lists.several_numbers(reading, param.ctype.rstrip(" *"), base, count)

    def _walk_objects(
        self, reading: lists.Reading, param: Param, source: int, ctype: str, stars: int
    ) -> Take | None:
        if not param.length:
            name = self._table.struct_behind(ctype)
            return (
                lists.one_struct(reading, source, structs.layout(self._table, name))
                if name and not stars
                else None
            )
        if ctype == "virTypedParameterPtr":
            base = self._build.shared(source, 0, 8) if stars else source
            each, product, _ = (
                param.length.partition("*") if not param.length.startswith("*") else ("", "", "")
            )
            if product:
                return lists.parameters_of_each(
                    reading, base, self._count(param.length), self._count(each)
                )
            return lists.parameters(reading, base, self._count(param.length))
        count = self._count(param.length)
        name = self._table.struct_behind(ctype)
        # vir*Ptr * is an array of pointers that the caller made, but of structs where the callee
        # did
        by_callee = param.direction == OUT and stars > 0
        base = self._build.shared(source, 0, 8) if by_callee else source
        if name:
            return lists.struct_list(
                reading, base, count, name, pointers=stars > (1 if by_callee else 0)
            )
        kind = OBJECTS.get(ctype)
        return lists.handles(reading, base, count, kind) if kind else None

    def _walk_bytes(self, reading: lists.Reading, param: Param, source: int) -> Take | None:
        if fnmatch.fnmatchcase(param.name, "cpumap*"):
            one, _, other = param.length.partition("*")
            if other:
                return lists.bitmaps(reading, source, self._count(one), self._count(other))
            return lists.bitmap(reading, source, self._count(param.length))
        count = self._count(param.length)
        limit = self._build.limits.string
        return reading.walk.array(
            source, count, 8, lambda data, total: values.bytes_value(data[:limit], total)
        )

    def _count(self, length: str) -> int:
        """Where the number of elements is; 0: a NULL ends them."""
        if length == "null":
            return 0
        if length.startswith("*"):
            return self._build.shared(self._place.arguments[length[1:]], 0, 4)
        if length.startswith("return"):
            at = records.RETURN_VALUE
            return (
                at
                if length in ("return", "return bits")
                else self._build.walk.product(at, self._count(length.partition("*")[2]))
            )
        one, _, other = length.partition("*")
        return (
            self._build.walk.product(self._count(one), self._count(other))
            if other
            else self._place.arguments[one]
        )


def _characters(data: bytes) -> Value:
    return decode_bytes(data.partition(b"\0")[0])


def needs_arguments(function: Function) -> bool:
    """Whether the arguments must be known when the function returns."""
    return any(
        param.kind == "pointer" and param.direction in (OUT, IN_OUT) for param in function.params
    )
