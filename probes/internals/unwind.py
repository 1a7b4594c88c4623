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
import os
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from log.errors import TraceError

PT_LOAD, PT_GNU_EH_FRAME = 1, 0x6474E550
_HEADER = b"\x01\x1b\x03\x3b"  # version 1; pointers relative, to data, of four bytes
MOST_ENTRY = 1 << 16  # bytes
RSP, RETURN = 7, 16


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
        self._fd, self._name = fd, name
        self._loads: list[tuple[int, int, int]] = []  # address, offset, length
        self._table = b""
        self._at = 0
        self._cache: dict[tuple[int, int], tuple[list[Any], int]] = {}
        try:
            self._read_headers()
        except (OSError, struct.error, ValueError, OverflowError) as error:
            raise self._bad() from error

    def _bad(self) -> TraceError:
        return TraceError(f"{self._name} has no table for frames that can be read")

    def _read_headers(self) -> None:
        head = os.pread(self._fd, 64, 0)
        if head[:6] != b"\x7fELF\x02\x01":
            raise self._bad()
        (start,), (size, count) = (
            struct.unpack_from(form, head, at) for form, at in (("<Q", 32), ("<HH", 54))
        )
        frames = None
        for i in range(min(count, 256)):
            kind, _, offset, address, _, length = struct.unpack_from(
                "<IIQQQQ", os.pread(self._fd, size, start + i * size)
            )
            if kind == PT_LOAD:
                self._loads.append((address, offset, length))
            elif kind == PT_GNU_EH_FRAME:
                frames = address, offset, min(length, 16 << 20)
        if frames is None:
            raise self._bad()
        self._at = frames[0]
        self._table = os.pread(self._fd, frames[2], frames[1])
        if self._table[:4] != _HEADER:
            raise self._bad()

    def frame(self, offset: int) -> Frame | None:
        """The frame at the instruction at that offset in the file; None: it is not told."""
        try:
            address = next(
                at + offset - first
                for at, first, length in self._loads
                if first <= offset < first + length
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
        offset = next(
            first + address - at for at, first, length in self._loads if at <= address < at + length
        )
        (length,) = struct.unpack("<I", os.pread(self._fd, 4, offset))
        if not 0 < length <= MOST_ENTRY:
            raise ValueError
        return os.pread(self._fd, 4 + length, offset)
