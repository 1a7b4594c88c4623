# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's public structs: a name of the API table comes in; where its fields are goes out.
LP64, as the System V ABI has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from probes.api.table import ApiTable

_SIZES = {
    "char": 1,
    "unsigned char": 1,
    "short": 2,
    "unsigned short": 2,
    "int": 4,
    "unsigned int": 4,
    "long": 8,
    "unsigned long": 8,
    "long long": 8,
    "unsigned long long": 8,
    "size_t": 8,
    "double": 8,
    "union": 8,  # of virTypedParameter: its largest members are numbers of 64 bits and pointers
}
_ARRAY = re.compile(r"char\[(\d{1,6})\]")


class Field(NamedTuple):
    """A field; offset and size in bytes."""

    name: str
    ctype: str
    offset: int
    size: int

    @property
    def is_text(self) -> bool:
        """Whether it is an array of characters."""
        return self.ctype.startswith("char[")

    @property
    def is_pointer(self) -> bool:
        """Whether something hangs on it."""
        return self.ctype not in _SIZES and not self.is_text


class Struct(NamedTuple):
    """A struct; size in bytes."""

    name: str
    fields: tuple[Field, ...]
    size: int


def is_known(fields: Iterable[tuple[str, str]]) -> bool:
    """Whether all of the fields (name, C type) have a known size; else nobody knows where those
    behind them are.
    """
    types = [ctype for _, ctype in fields]
    return all(
        ctype in _SIZES or ctype.endswith(("*", "Ptr")) or _ARRAY.fullmatch(ctype)
        for ctype in types
    )


def layout(table: ApiTable, name: str) -> Struct:
    """The struct of that name."""
    at, widest = 0, 1
    fields = []
    for field, ctype in table.structs[name]:
        array = _ARRAY.fullmatch(ctype)
        size = int(array[1]) if array else _SIZES.get(ctype, 8)
        align = 1 if array else size
        at = (at + align - 1) & -align
        fields.append(Field(field, ctype, at, size))
        at, widest = at + size, max(widest, align)
    return Struct(name, tuple(fields), (at + widest - 1) & -widest)
