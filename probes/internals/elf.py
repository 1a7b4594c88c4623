# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads ELF files: a descriptor comes in; the functions a library defines, their versions and what
it imports come out.

Reads what the dynamic loader reads (program headers and the dynamic section), because section
headers may be stripped, and reads it with pread, because a mapped file that is truncated meanwhile
kills the reader. pyelftools takes 40 times as long.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from typing import NamedTuple

from log.errors import TraceError

MACHINES = {
    3: "i386",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "x86-64",
    183: "aarch64",
    243: "riscv",
    258: "loongarch",
}

PT_LOAD, PT_DYNAMIC, PF_X = 1, 2, 1
PT_GNU_EH_FRAME = 0x6474E550
DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SONAME = 1, 4, 5, 6, 10, 14
DT_PLTRELSZ, DT_RELA, DT_RELASZ, DT_JMPREL = 2, 7, 8, 23
DT_GNU_HASH, DT_VERSYM = 0x6FFFFEF5, 0x6FFFFFF0
DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM = range(0x6FFFFFFC, 0x70000000)
STT_FUNC, VER_FLG_BASE = 2, 1

# Any container can present a file of its own making. libvirt.so.0 12.8: 10 program headers, 7,071
# symbols, tables of 200 KB.
MOST_HEADERS, MOST_SYMBOLS, MOST_BYTES, LONGEST_NAME = 256, 1 << 15, 4 << 20, 1024
MOST_VERSIONS = 0x7FFF  # their numbers have 15 bits
# of a program that is asked what it imports; libvirtd 12.8: 1,200 names in 34 KB
MOST_IMPORTS, MOST_STRINGS = 1 << 16, 1 << 20

# vn_/vd_ structures are the same in both classes: version, flags, index, count, hash, aux, next
_VERDEF = "HHHHIII"
_VERNEED = "HHIII"  # version, count, file, aux, next
_VERNAUX = "IHHII"  # hash, flags, index, name, next


class Symbol(NamedTuple):
    """A function that the file defines; `version` is its version node, None without one."""

    name: str
    version: str | None
    offset: int  # in the file, bytes: what a uprobe wants
    address: int  # as linked
    size: int  # bytes; 0: not known


class Elf(NamedTuple):
    """What is known of a file."""

    bits: int  # 32 or 64
    machine: str  # "x86-64", ...
    soname: str | None
    text: tuple[int, int]  # where its code is in the file: offset, bytes
    versions: tuple[str, ...]  # version nodes that it defines
    needs: tuple[str, ...]  # version nodes that it needs of others
    functions: tuple[Symbol, ...]
    imports: frozenset[str]  # names that it wants from others
    is_dynamic: bool = True  # the loader loads libraries for it; a static program needs none


class _Segment(NamedTuple):
    """A part of the file that is loaded: `length` bytes at `offset` become `address`."""

    address: int
    offset: int
    length: int
    is_code: bool


class File:
    """Bounds-checked reading by offset and by address."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd, self.name = fd, name
        self.segments: list[_Segment] = []
        self.frames: _Segment | None = None  # the table by which frames are found
        try:
            status = os.fstat(fd)
        except OSError as error:
            raise TraceError(f"can't read {name}: {error.strerror}") from error
        self.size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            raise TraceError(f"{name} is not a file")

    def bad(self, what: str) -> TraceError:
        """The error to raise for a file that is not what it should be."""
        return TraceError(f"{self.name} is not a usable ELF file: {what}")

    def read(self, offset: int, length: int, most: int = MOST_BYTES) -> bytes:
        """Exactly these bytes."""
        if offset + length > self.size:
            raise self.bad("it is truncated")
        if length > most:
            raise self.bad("a table in it is too large")
        try:
            data = bytes_at(self.fd, offset, length)
        except OSError as error:
            raise TraceError(f"can't read {self.name}: {error.strerror}") from error
        if len(data) < length:
            raise self.bad("it is truncated")
        return data

    def locate(self, address: int) -> tuple[int, int]:
        """Where in the file that address is, and how many bytes are loaded from there on."""
        for segment in self.segments:
            skip = address - segment.address
            if 0 <= skip < segment.length:
                return segment.offset + skip, segment.length - skip
        raise self.bad("an address in it is outside of what is loaded")

    def at(self, address: int, length: int) -> bytes:
        """Exactly these bytes."""
        offset, room = self.locate(address)
        if length > room:
            raise self.bad("a table in it ends outside of what is loaded")
        return self.read(offset, length)

    def rest(self, address: int) -> bytes:
        """Everything from there to the end of its segment or the file: for tables that don't
        tell their size.
        """
        offset, room = self.locate(address)
        return self.read(offset, max(0, min(room, self.size - offset, MOST_BYTES)))

    def unpack(self, layout: struct.Struct, data: bytes, offset: int) -> tuple[int, ...]:
        """One structure; never beyond the end."""
        if not 0 <= offset <= len(data) - layout.size:
            raise self.bad("a table in it points outside of itself")
        return layout.unpack_from(data, offset)

    def text(self, strings: str, offset: int) -> str:
        """The string at that place of the string table."""
        end = strings.find("\0", offset, offset + LONGEST_NAME)
        if end < 0:
            raise self.bad("a name in it is too long or outside of the string table")
        return strings[offset:end]


def bytes_at(fd: int, offset: int, length: int) -> bytes:
    """These bytes of a file, or what there is of them; OSError as pread()."""
    data = b""
    # network file systems give less at a time
    while len(data) < length and (part := os.pread(fd, length - len(data), offset + len(data))):
        data += part
    return data


def read_elf(fd: int, name: str) -> Elf:
    """The ELF file behind the descriptor; TraceError (with `name` in it) when it is not one or
    is damaged.
    """
    file, wide, order, machine = _begin(fd, name)
    dynamic = _program_headers(file, wide, order)
    symbols = _symbols(file, wide, order, dynamic) if DT_SYMTAB in dynamic else b""
    # one character a byte, and decoded at once: names are ASCII, and places in the table stay what
    # they are
    strings = (
        file.at(dynamic[DT_STRTAB], dynamic.get(DT_STRSZ, 0)).decode("latin-1")
        if DT_STRTAB in dynamic
        else ""
    )
    defined, needed = (
        _definitions(file, order, dynamic, strings),
        _needs(file, order, dynamic, strings),
    )
    functions, imports = _names(
        file, wide, order, symbols, strings, _indexes(file, order, dynamic, wide, symbols), defined
    )
    return Elf(
        bits=64 if wide else 32,
        machine=MACHINES.get(machine, f"machine {machine}"),
        soname=file.text(strings, dynamic[DT_SONAME]) if DT_SONAME in dynamic else None,
        text=next(((part.offset, part.length) for part in file.segments if part.is_code), (0, 0)),
        versions=tuple(defined.values()),
        needs=needed,
        functions=functions,
        imports=imports,
        is_dynamic=DT_NEEDED in dynamic,
    )


def with_frames(fd: int, name: str) -> File | None:
    """The file, if it is one of 64-bit little-endian machines that tells of its functions'
    frames; TraceError as read_elf.
    """
    file, wide, order, _ = _begin(fd, name)
    _program_headers(file, wide, order)
    return file if wide and order == "<" and file.frames else None


def imports(fd: int, name: str, begin: bytes) -> bool:
    """Whether the file wants a name of others that begins so; TraceError as read_elf, but what
    it costs has a limit, whatever the file.
    """
    file, wide, order, _ = _begin(fd, name)
    dynamic = _program_headers(file, wide, order)
    if (
        DT_SYMTAB not in dynamic
        or DT_STRTAB not in dynamic
        or dynamic.get(DT_STRSZ, 0) > MOST_STRINGS
    ):
        return False
    strings = file.at(dynamic[DT_STRTAB], dynamic.get(DT_STRSZ, 0))
    places = {match.start() + 1 for match in re.finditer(b"\\0" + re.escape(begin), strings)}
    if not places:
        return False
    entry = struct.Struct(order + ("I2xH16x" if wide else "I10xH"))  # name, section
    symbols = file.at(
        dynamic[DT_SYMTAB], min(_unhashed(file, order, dynamic), MOST_IMPORTS) * entry.size
    )
    return any(section == 0 and place in places for place, section in entry.iter_unpack(symbols))


def slots(fd: int, name: str, symbol: str) -> frozenset[int]:
    """Addresses where the loader of a 64-bit file puts that of the symbol: linkage tables call
    through them. TraceError as read_elf.
    """
    file, wide, order, _ = _begin(fd, name)
    dynamic = _program_headers(file, wide, order)
    if not wide or DT_SYMTAB not in dynamic or DT_STRTAB not in dynamic:
        return frozenset()
    strings = file.at(dynamic[DT_STRTAB], dynamic.get(DT_STRSZ, 0))
    symbols = _symbols(file, wide, order, dynamic)
    names = [entry[0] for entry in struct.iter_unpack(order + "I20x", symbols)]
    wanted = symbol.encode() + b"\0"
    numbers = {number for number, at in enumerate(names) if strings.startswith(wanted, at)}
    found: set[int] = set()
    entry = struct.Struct(order + "QQ8x")  # address, symbol and kind, a number to add
    for table, size in ((DT_JMPREL, DT_PLTRELSZ), (DT_RELA, DT_RELASZ)):
        length = dynamic.get(size, 0)
        if table in dynamic:
            data = file.at(dynamic[table], length - length % entry.size)
            found |= {at for at, info in entry.iter_unpack(data) if info >> 32 in numbers}
    return frozenset(found)


def _unhashed(file: File, order: str, dynamic: dict[int, int]) -> int:
    """How many symbols there are up to the last that others define: a GNU hash table has them
    behind those.
    """
    if DT_GNU_HASH in dynamic:
        return int(struct.unpack(order + "II", file.at(dynamic[DT_GNU_HASH], 8))[1])
    return (
        int(struct.unpack(order + "II", file.at(dynamic[DT_HASH], 8))[1])
        if DT_HASH in dynamic
        else 0
    )


def _begin(fd: int, name: str) -> tuple[File, bool, str, int]:
    """The file, whether it is a 64-bit one, its byte order and its machine."""
    file = File(fd, name)
    ident = file.read(0, 20)
    if ident[:4] != b"\x7fELF" or ident[4] not in (1, 2) or ident[5] not in (1, 2):
        raise TraceError(f"{name} is not an ELF file")
    order = "<" if ident[5] == 1 else ">"
    return file, ident[4] == 2, order, struct.unpack_from(order + "H", ident, 18)[0]


def _program_headers(file: File, wide: bool, order: str) -> dict[int, int]:
    """The dynamic section as tag -> value (first of a tag); fills file.segments and file.frames."""
    # e_phoff, e_phentsize, e_phnum
    header = struct.Struct(order + ("32xQ14xHH" if wide else "28xI10xHH"))
    start, size, count = header.unpack(file.read(0, header.size))
    entry = struct.Struct(order + ("II6Q" if wide else "8I"))
    if (count and size != entry.size) or count > MOST_HEADERS:
        raise file.bad("its program headers have an unknown size or are too many")
    dynamic: dict[int, int] = {}
    parts: list[tuple[int, int]] = []
    for fields in entry.iter_unpack(file.read(start, size * count)):
        if wide:
            kind, flags, offset, address, _, length, _, _ = fields
        else:
            kind, offset, address, _, length, _, flags, _ = fields
        if kind == PT_LOAD:
            file.segments.append(
                _Segment(address, offset, min(length, file.size - offset), bool(flags & PF_X))
            )
        elif kind == PT_DYNAMIC:
            parts.append((offset, length))
        elif kind == PT_GNU_EH_FRAME:
            file.frames = _Segment(address, offset, length, False)
    pair = struct.Struct(order + ("QQ" if wide else "II"))
    for offset, length in parts[:1]:
        for tag, value in pair.iter_unpack(file.read(offset, length - length % pair.size)):
            if tag == 0:
                break
            dynamic.setdefault(tag, value)
    return dynamic


def _symbols(file: File, wide: bool, order: str, dynamic: dict[int, int]) -> bytes:
    """The symbol table. Only the hash tables know how many symbols there are."""
    count = 0
    if DT_GNU_HASH in dynamic:
        table = file.rest(dynamic[DT_GNU_HASH])
        # buckets, first hashed symbol, words of the Bloom filter, shift
        head = struct.Struct(order + "IIII")
        buckets, first, bloom, _ = file.unpack(head, table, 0)
        at = head.size + bloom * (8 if wide else 4)
        chains = at + 4 * buckets
        if chains > len(table):
            raise file.bad("its hash table is truncated")
        last = max(struct.unpack_from(f"{order}{buckets}I", table, at), default=0)
        count = first
        if last >= first:  # the last chain ends with an odd number
            word, count = struct.Struct(order + "I"), last
            while not file.unpack(word, table, chains + 4 * (count - first))[0] & 1:
                count += 1
            count += 1
    elif DT_HASH in dynamic:
        count = struct.unpack(order + "II", file.at(dynamic[DT_HASH], 8))[1]
    if count > MOST_SYMBOLS:
        raise file.bad("it has too many symbols")
    return file.at(dynamic[DT_SYMTAB], count * (24 if wide else 16)) if count else b""


def _indexes(
    file: File, order: str, dynamic: dict[int, int], wide: bool, symbols: bytes
) -> tuple[int, ...]:
    """Of each symbol the number of its version node; the highest bit marks an old version of a
    name.
    """
    count = len(symbols) // (24 if wide else 16)
    if DT_VERSYM not in dynamic or not count:
        return (1,) * count
    return struct.unpack(f"{order}{count}H", file.at(dynamic[DT_VERSYM], 2 * count))


def _definitions(file: File, order: str, dynamic: dict[int, int], strings: str) -> dict[int, str]:
    """The version nodes that the file defines, by number."""
    nodes: dict[int, str] = {}
    if DT_VERDEF not in dynamic:
        return nodes
    data, at = file.rest(dynamic[DT_VERDEF]), 0
    entry, word = struct.Struct(order + _VERDEF), struct.Struct(order + "I")
    for _ in range(min(dynamic.get(DT_VERDEFNUM, 0), MOST_VERSIONS)):
        _, flags, number, _, _, first, step = file.unpack(entry, data, at)
        if not flags & VER_FLG_BASE:  # that one is the file's own name
            nodes[number] = file.text(strings, file.unpack(word, data, at + first)[0])
        if not step:
            break
        at += step
    return nodes


def _needs(file: File, order: str, dynamic: dict[int, int], strings: str) -> tuple[str, ...]:
    """The version nodes that the file needs of others."""
    names: list[str] = []
    if DT_VERNEED not in dynamic:
        return ()
    data, at = file.rest(dynamic[DT_VERNEED]), 0
    entry, node = struct.Struct(order + _VERNEED), struct.Struct(order + _VERNAUX)
    for _ in range(min(dynamic.get(DT_VERNEEDNUM, 0), MOST_VERSIONS)):
        _, count, _, first, step = file.unpack(entry, data, at)
        inner = at + first
        for _ in range(count):
            *_, text, further = file.unpack(node, data, inner)
            names.append(file.text(strings, text))
            if len(names) > MOST_VERSIONS:
                raise file.bad("it has too many versions")
            if not further:
                break
            inner += further
        if not step:
            break
        at += step
    return tuple(names)


def _names(
    file: File,
    wide: bool,
    order: str,
    symbols: bytes,
    strings: str,
    indexes: tuple[int, ...],
    nodes: dict[int, str],
) -> tuple[tuple[Symbol, ...], frozenset[str]]:
    """The functions that are defined and the names that are wanted."""
    functions: list[Symbol] = []
    imports: set[str] = set()
    entry = struct.Struct(order + ("IBBHQQ" if wide else "IIIBBH"))
    text, start, length, shift = file.text, 0, 0, 0  # of the segment that the last function was in
    for fields, index in zip(entry.iter_unpack(symbols), indexes, strict=True):
        name, info, _, section, address, size = (
            fields if wide else (fields[0], *fields[3:], fields[1], fields[2])
        )
        if section == 0:
            imports.add(text(strings, name))
        elif info & 15 == STT_FUNC:
            if not 0 <= address - start < length:
                shift, length = file.locate(address)
                start, shift = address, shift - address
            functions.append(
                Symbol(
                    text(strings, name), nodes.get(index & 0x7FFF), address + shift, address, size
                )
            )
    return tuple(functions), frozenset(imports)
