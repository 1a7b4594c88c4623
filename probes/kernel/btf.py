# SPDX-License-Identifier: LGPL-2.1-or-later
"""Offsets of kernel struct members, from the running kernel's own type information (/sys/kernel/btf/vmlinux)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from log.errors import TraceError

VMLINUX = Path("/sys/kernel/btf/vmlinux")
STRUCT, UNION = 4, 5
# words behind the three of a type's header, by kind: fixed, per element (linux/btf.h)
_EXTRA = {1: (1, 0), 3: (3, 0), 4: (0, 3), 5: (0, 3), 6: (0, 2), 13: (0, 2), 14: (1, 0), 15: (0, 3), 17: (1, 0), 19: (0, 3)}


def member_offsets(wanted: Mapping[str, tuple[str, ...]], path: Path = VMLINUX) -> dict[tuple[str, str], int]:
    """Byte offsets by (struct, member); members of anonymous inner structs count as the outer one's. Missing ones are left out."""
    try:
        blob = path.read_bytes()
        magic, _, _, header, type_offset, type_size, string_offset, _ = struct.unpack_from("<HBBIIIII", blob)
    except (OSError, struct.error) as error:
        raise TraceError(f"no kernel type information in {path}: a kernel built with CONFIG_DEBUG_INFO_BTF is needed") from error
    if magic != 0xEB9F:
        raise TraceError(f"{path} is not BTF: a kernel built with CONFIG_DEBUG_INFO_BTF is needed")
    strings = header + string_offset
    first = header + type_offset
    words = memoryview(blob)[first : first + type_size].cast("I")
    structs = {_string_offset(blob, strings, name): name for name in wanted}
    index: list[int] = [0]  # type id -> word; inner structs are named by id
    found: dict[str, int] = {}
    at, end, extra = 0, len(words), [(_EXTRA.get(kind, (0, 0))) for kind in range(32)]
    add = index.append
    while at < end:
        add(at)
        info = words[at + 1]
        kind = info >> 24 & 31
        if kind == STRUCT and words[at] in structs:
            found.setdefault(structs[words[at]], at)
        fixed, per = extra[kind]
        at += 3 + fixed + (per * (info & 0xFFFF) if per else 0)

    def name_at(offset: int) -> str:
        start = strings + offset
        return blob[start : blob.index(b"\0", start)].decode(errors="replace")

    def members(at: int, base: int) -> dict[str, int]:
        result: dict[str, int] = {}
        info = words[at + 1]
        for i in range(info & 0xFFFF):
            name, kind, bits = words[at + 3 + 3 * i : at + 6 + 3 * i]
            offset = base + ((bits & 0xFFFFFF if info >> 31 else bits) >> 3)
            if name:
                result[name_at(name)] = offset
            elif words[index[kind] + 1] >> 24 & 31 in (STRUCT, UNION):
                result.update(members(index[kind], offset))
        return result

    offsets: dict[tuple[str, str], int] = {}
    for name, at in found.items():
        by_name = members(at, 0)
        offsets.update({(name, member): by_name[member] for member in wanted[name] if member in by_name})
    return offsets


def _string_offset(blob: bytes, strings: int, name: str) -> int:
    return blob.find(b"\0" + name.encode() + b"\0", strings) + 1 - strings
