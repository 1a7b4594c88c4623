# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads numbers in memory: a C type comes in; a function from bytes to the log's value goes out."""

from __future__ import annotations

import fnmatch
import re
import struct
from collections.abc import Callable

from log.values import EnumValue, Value
from probes.api.amendments import PARAMETER_ENUM, REASON_ENUM
from probes.api.table import ApiTable
from probes.plans.meaning import values

KINDS = {
    "int": "i32",
    "unsigned int": "u32",
    "long": "i64",
    "unsigned long": "u64",
    "long long": "i64",
    "unsigned long long": "u64",
    "size_t": "u64",
    "unsigned char": "u8",
    "char": "i8",
    "short": "i16",
    "unsigned short": "u16",
    "double": "double",
}
FORMATS = {
    "i8": "b",
    "u8": "B",
    "i16": "h",
    "u16": "H",
    "i32": "i",
    "u32": "I",
    "i64": "q",
    "u64": "Q",
    "double": "d",
}

MOST_FIELDS = 4096  # names of parameters that are kept: anything can be one
ReadNumber = Callable[[bytes], Value]


def reader(ctype: str, enum: str | None, table: ApiTable) -> tuple[int, ReadNumber]:
    """Bytes of the number, and what reads them; `enum`: key of the table's enums, by whose
    names it is shown.
    """
    kind = KINDS[ctype]
    layout = struct.Struct("<" + FORMATS[kind])
    known = table.enums.get(enum) if enum else None
    if known is None:
        return layout.size, lambda data: layout.unpack_from(data)[0]
    decode = (values.flags_decoder if known.is_flags else values.enum_decoder)(known, "i64")
    return layout.size, lambda data: decode(layout.unpack_from(data)[0])


class ParameterNames:
    """Numbers in typed parameters by name, as far as it is known which enum they are of."""

    def __init__(self, table: ApiTable) -> None:
        self._table = table
        self._known: dict[str, Callable[[int], Value] | None] = {}
        self._reasons = {state: self._decoder(name) for state, name in REASON_ENUM.items()}

    def _decoder(self, name: str) -> Callable[[int], Value]:
        return values.enum_decoder(self._table.enums[name], "i64")

    def value(self, field: str, number: int) -> Value:
        """The parameter's value."""
        if field not in self._known:
            found = next(
                (name for glob, name in PARAMETER_ENUM.items() if fnmatch.fnmatchcase(field, glob)),
                None,
            )
            if len(self._known) >= MOST_FIELDS:
                self._known.clear()
            self._known[field] = self._decoder(found) if found else None
        decode = self._known[field]
        return decode(number) if decode else number

    def with_reason(self, parameters: dict[str, Value]) -> dict[str, Value]:
        """Names the reason of a state, if both are there."""
        state, reason = parameters.get("state.state"), parameters.get("state.reason")
        if isinstance(state, EnumValue) and type(reason) is int and state.value in self._reasons:
            parameters["state.reason"] = self._reasons[state.value](reason)
        return parameters


def several(ctype: str, table: ApiTable) -> tuple[int, Callable[[bytes], list[Value]]]:
    """Bytes of such a number, and what reads an array of them."""
    layout = struct.Struct("<" + FORMATS[KINDS[ctype]])
    return layout.size, lambda data: [
        number for (number,) in layout.iter_unpack(data[: len(data) - len(data) % layout.size])
    ]


def cpus(data: bytes) -> str:
    """A bitmap of CPUs as libvirt writes it: "0-3,8"."""
    bits = f"{int.from_bytes(data, 'little'):b}"[::-1]
    found = ((match.start(), match.end() - 1) for match in re.finditer("1+", bits))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)
