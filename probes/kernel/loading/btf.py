# SPDX-License-Identifier: LGPL-2.1-or-later
"""Offsets of kernel struct members, from the running kernel's own type information
(/sys/kernel/btf/vmlinux).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from log.errors import TraceError

VMLINUX = Path("/sys/kernel/btf/vmlinux")
STRUCT, UNION = 4, 5
TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG = 8, 9, 10, 11, 18
OTHER_NAMES = (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG)  # of a type whose number follows
# words behind the three of a type's header, by kind: fixed, per element (linux/btf.h)
_EXTRA = {
    **dict.fromkeys((2, 7, 12, 16, *OTHER_NAMES), (0, 0)),
    1: (1, 0),
    3: (3, 0),
    4: (0, 3),
    5: (0, 3),
    6: (0, 2),
    13: (0, 2),
    14: (1, 0),
    15: (0, 3),
    17: (1, 0),
    19: (0, 3),
}


def member_offsets(
    wanted: Mapping[str, tuple[str, ...]], path: Path = VMLINUX
) -> dict[tuple[str, str], int]:
    """Byte offsets by (struct, member); members of anonymous inner structs count as the outer
    one's. Missing ones are left out.
    """
    try:
        blob = path.read_bytes()
        magic, _, _, header, type_offset, type_size, string_offset, _ = struct.unpack_from(
            "<HBBIIIII", blob
        )
    except (OSError, struct.error) as error:
        raise TraceError(
            f"no kernel type information in {path}: a kernel built with "
            "CONFIG_DEBUG_INFO_BTF is needed"
        ) from error
    if magic != 0xEB9F:
        raise TraceError(f"{path} is not BTF: a kernel built with CONFIG_DEBUG_INFO_BTF is needed")
    first = header + type_offset
    try:
        return _Types(blob, first, first + (type_size & ~3), header + string_offset).offsets(wanted)
    except KeyError as error:
        raise TraceError(
            f"{path} has types of kind {error}, which is not known here: a newer "
            "libvirt-trace is needed"
        ) from error
    except (IndexError, ValueError, RecursionError) as error:
        raise TraceError(f"{path} is broken: {error}") from error


class _Types:
    """Types between two places, and their names from a third one on; whoever reads what is
    broken gets an error, which one is chance.
    """

    def __init__(self, blob: bytes, first: int, end: int, strings: int) -> None:
        if end > len(blob):
            raise ValueError("it is cut short")
        self._blob, self._strings = blob, strings
        self._words = memoryview(blob)[first:end].cast("I")
        self._index: list[int] = [0]  # type number -> word; inner structs are named by number

    def offsets(self, wanted: Mapping[str, tuple[str, ...]]) -> dict[tuple[str, str], int]:
        """As member_offsets()."""
        offsets: dict[tuple[str, str], int] = {}
        for name, at in self._find({self._string_offset(name): name for name in wanted}).items():
            by_name = self._members(at, 0)
            offsets.update(
                {(name, member): by_name[member] for member in wanted[name] if member in by_name}
            )
        return offsets

    def _find(self, structs: Mapping[int, str]) -> dict[str, int]:
        """Where these structs are, by the places of their names; KeyError for a kind whose size
        nobody knows.
        """
        found: dict[str, int] = {}
        words, add = self._words, self._index.append
        at, end = 0, len(words)
        while at < end:
            add(at)
            info = words[at + 1]
            kind = info >> 24 & 31
            if kind == STRUCT and words[at] in structs:
                found.setdefault(structs[words[at]], at)
            fixed, per = _EXTRA[kind]
            at += 3 + fixed + (per * (info & 0xFFFF) if per else 0)
        return found

    def _members(self, at: int, base: int) -> dict[str, int]:
        words, result = self._words, dict[str, int]()
        info = words[at + 1]
        for i in range(info & 0xFFFF):
            name, number, bits = words[at + 3 + 3 * i : at + 6 + 3 * i]
            offset = base + ((bits & 0xFFFFFF if info >> 31 else bits) >> 3)
            if name:
                result[self._name(name)] = offset
                continue
            inner = self._type(number)
            if words[inner + 1] >> 24 & 31 in (STRUCT, UNION):
                result.update(self._members(inner, offset))
        return result

    def _type(self, number: int) -> int:
        """Where the type is that the number stands for; a struct may be embedded under another
        name (-fms-extensions).
        """
        at = self._index[number]
        return (
            self._type(self._words[at + 2]) if self._words[at + 1] >> 24 & 31 in OTHER_NAMES else at
        )

    def _name(self, offset: int) -> str:
        start = self._strings + offset
        return self._blob[start : self._blob.index(b"\0", start)].decode(errors="replace")

    def _string_offset(self, name: str) -> int:
        return self._blob.find(b"\0" + name.encode() + b"\0", self._strings) + 1 - self._strings
