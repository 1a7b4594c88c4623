# SPDX-License-Identifier: LGPL-2.1-or-later
"""How to find a function's caller: a library and an address in it come in; where its frame is,
and what was kept in it, goes out.

The library says it itself, in .eh_frame. pyelftools reads that, but all of it: minutes, for
libvirt. So the one entry that matters is found here, by the table that exceptions use
(.eh_frame_hdr), and pyelftools is given no more.
"""

from __future__ import annotations

import importlib.util
import io
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from log.errors import TraceError
from probes.internals.elf import with_frames

_HEADER = b"\x01\x1b\x03\x3b"  # version 1; pointers relative, to data, of four bytes
MOST_TABLE, MOST_ENTRY = 16 << 20, 1 << 16  # bytes


def can_unwind() -> bool:
    """Whether what reads the tables is installed."""
    return importlib.util.find_spec("elftools") is not None


class Frame(NamedTuple):
    """Where things are while an instruction runs."""

    register: int  # with `offset`: the frame's address
    offset: int
    saved: Mapping[int, int]  # registers, and how far from the frame's address they are


class Unwinder:
    """The frames of one library. TraceError where it has no such table."""

    def __init__(self, fd: int, name: str) -> None:
        self._cache: dict[tuple[int, int], tuple[list[Any], int]] = {}
        try:
            file = with_frames(fd, name)
            if file is None or file.frames is None:
                raise _without(name)
            self._file, self._at = file, file.frames.address
            length = min(file.frames.length, file.size - file.frames.offset, MOST_TABLE)
            self._table = file.read(file.frames.offset, length, MOST_TABLE)
        except TraceError as error:
            raise _without(name) from error
        if self._table[:4] != _HEADER:
            raise _without(name)

    def frame(self, offset: int) -> Frame | None:
        """The frame at the instruction at that offset in the file; None: it is not told."""
        try:
            address = next(
                segment.address + offset - segment.offset
                for segment in self._file.segments
                if segment.offset <= offset < segment.offset + segment.length
            )
            return self._frame(address)
        except Exception:  # of damaged tables the reader raises anything
            return None

    def _frame(self, address: int) -> Frame | None:
        entry = self._entry(address)
        begin, (rows, length) = entry[0], self._decoded(entry)
        if address - begin >= length:
            return None
        found = None
        for row in rows:
            if row["pc"] - rows[0]["pc"] > address - begin:
                break
            found = row
        if found is None or found["cfa"].reg is None:
            return None
        saved = {
            register: rule.arg
            for register, rule in found.items()
            if isinstance(register, int) and rule.type == "OFFSET"
        }
        return Frame(found["cfa"].reg, found["cfa"].offset, saved)

    def _entry(self, address: int) -> tuple[int, int]:
        """The function's first address, and its entry's."""
        (count,) = struct.unpack_from("<I", self._table, 8)
        low, high = 0, count
        while high - low > 1:
            middle = (low + high) // 2
            if self._pair(middle)[0] <= address:
                low = middle
            else:
                high = middle
        begin, entry = self._pair(low)
        if not begin <= address:
            raise LookupError
        return begin, entry

    def _pair(self, index: int) -> tuple[int, int]:
        begin, entry = struct.unpack_from("<ii", self._table, 12 + 8 * index)
        return self._at + begin, self._at + entry

    def _decoded(self, entry: tuple[int, int]) -> tuple[list[Any], int]:
        """The rows of an entry, from pyelftools, and of how many bytes of code it is."""
        from elftools.dwarf.callframe import FDE, CallFrameInfo
        from elftools.dwarf.structs import DWARFStructs

        at = entry[1]
        if entry not in self._cache:
            described = self._part(at)
            (back,) = struct.unpack_from("<I", described, 4)
            common = self._part(at + 4 - back)
            # the two of them alone: the distance from the one to the other is another one here
            alone = common + described[:4] + struct.pack("<I", len(common) + 4) + described[8:]
            structs = DWARFStructs(little_endian=True, dwarf_format=32, address_size=8)
            info = CallFrameInfo(
                io.BytesIO(alone + bytes(4)), len(alone), 0, structs, for_eh_frame=True
            )
            (found,) = (one for one in info.get_entries() if isinstance(one, FDE))
            self._cache[entry] = found.get_decoded().table, found.header["address_range"]
        decoded: tuple[list[Any], int] = self._cache[entry]
        return decoded

    def _part(self, address: int) -> bytes:
        (length,) = struct.unpack("<I", self._file.at(address, 4))
        if not 0 < length <= MOST_ENTRY:
            raise ValueError
        return self._file.at(address, 4 + length)


def _without(name: str) -> TraceError:
    return TraceError(f"{name} has no table for frames that can be read")
