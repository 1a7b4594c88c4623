# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names code: a process and an address in it come in; "function+0x12", or "file+0x1234" where
no function is known, comes out.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import re
import struct
from collections import OrderedDict
from typing import NamedTuple

from log.errors import TraceError
from probes.host.looking import maps, opening, slow
from probes.host.looking.pace import OTHERS_BURST, OTHERS_SHARE, Pace
from probes.internals.elf import read_elf

MOST_FILES, MOST_FUNCTIONS = 64, 1 << 17  # that are kept
MOST_NOTED, MOST_MAPPINGS = 2048, 256  # processes of which records are kept, and how many of each
# of the kernel's perf events: pid, tid, address, length, offset, major, minor, inode, generation,
# prot, flags; then the file
MMAP2 = struct.Struct("<8xIIQQQIIQQII")
MOST_READ = 1 << 20  # bytes of what a process has mapped
MOST_PROCESSES, MOST_MAPS = 256, 1 << 18  # whose mappings are kept, and how many bytes of them
_LINE = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) ([0-9]+) "
    rb"+(/.*)",
    re.M,
)


class _CodeMapping(NamedTuple):
    """A mapping: addresses [start, end), bytes of the file that come before it."""

    start: int
    end: int
    offset: int
    device: int
    inode: int
    path: str  # as the process sees it


class _Functions(NamedTuple):
    """Of a file, ascending: where its functions begin and end there, and their names."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    names: tuple[str, ...]


_NOTHING = _Functions((), (), ())


def _read_maps(pid: int) -> bytes:
    return b"".join(
        line
        for line in maps.text(pid, most=MOST_READ).splitlines(keepends=True)
        if b" r-xp " in line
    )[:MOST_MAPS]


class Symbols:
    """Names code of processes, of those that have ended too: what is known of them is kept here."""

    def __init__(self) -> None:
        self._others = Pace(OTHERS_SHARE, OTHERS_BURST)
        self._files: OrderedDict[tuple[int, int, int], _Functions] = OrderedDict()
        self._maps: OrderedDict[int, bytes] = OrderedDict()
        # records as MMAP2 has them
        self._noted: OrderedDict[int, list[bytes]] = OrderedDict()

    def note(self, pid: int, record: bytes) -> None:
        """Keeps the kernel's record of code that a process mapped; they are only looked at when the
        process can't be asked.
        """
        records = self._noted.get(pid)
        if records is None:
            records = self._noted[pid] = []
            if len(self._noted) > MOST_NOTED:
                self._noted.popitem(last=False)
        if len(records) < MOST_MAPPINGS:
            records.append(record)

    def note_fork(self, pid: int, parent: int) -> None:
        """A new process has its parent's code."""
        if parent in self._noted and pid != parent:  # else it is a thread
            self._noted[pid] = list(self._noted[parent])
            if len(self._noted) > MOST_NOTED:
                self._noted.popitem(last=False)

    def note_exec(self, pid: int, program: tuple[int, int, int]) -> None:
        """The process has become another program: file of that device (major, minor) and inode,
        which was mapped just before this.
        """
        records = self._noted.get(pid, [])
        kept = next(
            (
                at
                for at in reversed(range(len(records)))
                if MMAP2.unpack_from(records[at])[5:8] == program
            ),
            len(records),
        )
        if kept < len(records):
            del records[:kept]
        else:
            self._noted.pop(pid, None)

    def remember(self, pid: int) -> None:
        """Keeps where a process has its code: it may end before its calls are looked at."""
        if data := _read_maps(pid):
            self._maps[pid] = data
            self._maps.move_to_end(pid)
            if len(self._maps) > MOST_PROCESSES:
                self._maps.popitem(last=False)

    def describe(self, pid: int, address: int) -> str | None:
        """What is at the address; None: the process has ended, or no file's code is there."""
        code = self._mapping(pid, address)
        if code is None:
            return None
        place = address - code.start + code.offset
        known = self._functions(pid, code)
        at = bisect.bisect_right(known.starts, place) - 1
        if at >= 0 and place < known.ends[at]:
            inside = place - known.starts[at]
            return known.names[at] + (f"+{inside:#x}" if inside else "")
        return f"{code.path.rpartition('/')[2].removesuffix(' (deleted)')}+{place:#x}"

    def _mapping(self, pid: int, address: int) -> _CodeMapping | None:
        for match in _LINE.finditer(_read_maps(pid) or self._maps.get(pid, b"")):
            start, end = int(match[1], 16), int(match[2], 16)
            if start <= address < end:
                device = os.makedev(int(match[4], 16), int(match[5], 16))
                return _CodeMapping(
                    start, end, int(match[3], 16), device, int(match[6]), os.fsdecode(match[7])
                )
        for record in reversed(self._noted.get(pid, [])):
            _, _, start, length, offset, major, minor, inode, *_ = MMAP2.unpack_from(record)
            if start <= address < start + length:
                path = os.fsdecode(record[MMAP2.size :].split(b"\0", 1)[0])
                return _CodeMapping(
                    start, start + length, offset, os.makedev(major, minor), inode, path
                )
        return None

    def _functions(self, pid: int, code: _CodeMapping) -> _Functions:
        """The functions that the mapped file exports; none if it can't be read."""
        place = os.major(code.device), os.minor(code.device), code.inode
        mapping = maps.Mapping(pid, code.start, code.end, *place, code.path)
        if slow.may_hang(mapping):
            return _NOTHING
        try:
            fd = opening.open_mapped(mapping)
        except OSError:
            return _NOTHING
        try:
            status = os.fstat(fd)
            # the process's number may be another's by now; on btrfs mappings tell another device
            if (status.st_dev, status.st_ino) != (code.device, code.inode) and opening.place_of(
                fd
            ) != place:
                return _NOTHING
            key = status.st_dev, status.st_ino, status.st_mtime_ns
            return (
                self._files[key]
                if key in self._files
                else self._read(fd, code.path, key, status.st_uid)
            )
        except (OSError, TraceError):
            return _NOTHING
        finally:
            opening.close(fd)

    def _read(self, fd: int, path: str, key: tuple[int, int, int], owner: int) -> _Functions:
        if owner and not self._others.ready():
            return _NOTHING
        with self._others if owner else contextlib.nullcontext():
            found = sorted(
                {
                    (function.offset, function.size, function.name)
                    for function in read_elf(fd, path).functions
                }
            )
        starts, sizes, names = zip(*found, strict=True) if found else ((), (), ())
        ends = tuple(start + max(size, 1) for start, size in zip(starts, sizes, strict=True))
        self._files[key] = _Functions(starts, ends, names)
        while (
            len(self._files) > MOST_FILES
            or sum(len(functions.names) for functions in self._files.values()) > MOST_FUNCTIONS
        ):
            self._files.popitem(last=False)
        return _Functions(starts, ends, names)
