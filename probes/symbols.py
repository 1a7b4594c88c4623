# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names code: a process and an address in it come in; "function+0x12", or "file+0x1234" where no function is known, comes out."""

from __future__ import annotations

import bisect
import os
import re
import struct
from collections import OrderedDict
from typing import NamedTuple

from log.errors import TraceError
from probes.elf import read_elf

MOST_FILES = 64  # whose functions are kept
MOST_NOTED, MOST_MAPPINGS = 2048, 256  # processes of which records are kept, and how many of each
# of the kernel's perf events: pid, tid, address, length, offset, major, minor, inode, generation, prot, flags; then the file
MMAP2 = struct.Struct("<8xIIQQQIIQQII")
MOST_PROCESSES, MOST_MAPS = 256, 1 << 18  # whose mappings are kept, and how many bytes of them
_LINE = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) ([0-9]+) +(/.*)")


class _Code(NamedTuple):
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


_files: OrderedDict[tuple[int, int, int], _Functions] = OrderedDict()
_maps: OrderedDict[int, bytes] = OrderedDict()
_noted: OrderedDict[int, list[bytes]] = OrderedDict()  # records as MMAP2 has them


def note(pid: int, record: bytes) -> None:
    """Keeps the kernel's record of code that a process mapped; they are only looked at when the process can't be asked."""
    records = _noted.get(pid)
    if records is None:
        records = _noted[pid] = []
        if len(_noted) > MOST_NOTED:
            _noted.popitem(last=False)
    if len(records) < MOST_MAPPINGS:
        records.append(record)


def note_fork(pid: int, parent: int) -> None:
    """A new process has its parent's code."""
    if parent in _noted and pid != parent:  # else it is a thread
        _noted[pid] = list(_noted[parent])
        if len(_noted) > MOST_NOTED:
            _noted.popitem(last=False)


def note_exec(pid: int) -> None:
    """The process has become another program, and nothing is mapped yet."""
    _noted.pop(pid, None)


def remember(pid: int) -> None:
    """Keeps where a process has its code: it may end before its calls are looked at."""
    if data := _read_maps(pid):
        _maps[pid] = data
        _maps.move_to_end(pid)
        if len(_maps) > MOST_PROCESSES:
            _maps.popitem(last=False)


def _read_maps(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/maps", "rb", buffering=0) as file:
            return b"".join(line for line in (file.readall() or b"").splitlines(keepends=True) if b" r-xp " in line)[:MOST_MAPS]
    except OSError:
        return b""


def describe(pid: int, address: int) -> str | None:
    """What is at the address; None: the process has ended, or no file's code is there."""
    code = _mapping(pid, address)
    if code is None:
        return None
    place = address - code.start + code.offset
    known = _functions(pid, code)
    at = bisect.bisect_right(known.starts, place) - 1
    if at >= 0 and place < known.ends[at]:
        inside = place - known.starts[at]
        return known.names[at] + (f"+{inside:#x}" if inside else "")
    return f"{code.path.rpartition('/')[2].removesuffix(' (deleted)')}+{place:#x}"


def _mapping(pid: int, address: int) -> _Code | None:
    for match in _LINE.finditer(_read_maps(pid) or _maps.get(pid, b"")):
        start, end = int(match[1], 16), int(match[2], 16)
        if start <= address < end:
            device = os.makedev(int(match[4], 16), int(match[5], 16))
            return _Code(start, end, int(match[3], 16), device, int(match[6]), os.fsdecode(match[7]))
    for record in reversed(_noted.get(pid, [])):
        _, _, start, length, offset, major, minor, inode, *_ = MMAP2.unpack_from(record)
        if start <= address < start + length:
            path = os.fsdecode(record[MMAP2.size :].split(b"\0", 1)[0])
            return _Code(start, start + length, offset, os.makedev(major, minor), inode, path)
    return None


def _functions(pid: int, code: _Code) -> _Functions:
    """The functions that the mapped file exports; none if it can't be read."""
    nothing = _Functions((), (), ())
    fd = _open(f"/proc/{pid}/map_files/{code.start:x}-{code.end:x}")
    fd = _open(code.path) if fd < 0 else fd  # a process that has ended, on this host's own files
    if fd < 0:
        return nothing
    try:
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != (code.device, code.inode):
            return nothing
        key = status.st_dev, status.st_ino, status.st_mtime_ns
        if key not in _files:
            found = sorted({(function.offset, function.size, function.name) for function in read_elf(fd, code.path).functions})
            starts, sizes, names = zip(*found, strict=True) if found else ((), (), ())
            ends = tuple(start + max(size, 1) for start, size in zip(starts, sizes, strict=True))
            _files[key] = _Functions(starts, ends, names)
            if len(_files) > MOST_FILES:
                _files.popitem(last=False)
        return _files[key]
    except (OSError, TraceError):
        return nothing
    finally:
        os.close(fd)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return -1
