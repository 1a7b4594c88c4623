# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds libvirt in processes: /proc/PID/maps comes in, the executable mappings of its libraries
come out.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from probes.host.looking.held import LOOKING

LIBRARIES = ("libvirt.so", "libvirt-qemu.so", "libvirt-lxc.so")
# who bundles libraries puts a hash into their names (libvirt-1a2b3c4d.so.0.9000.0), as auditwheel
# does
_BUNDLED = r"libvirt(?:-qemu|-lxc)?(?:-[0-9a-f]{8,64})?\.so"
DRIVERS = ("libvirt_driver_qemu.so",)  # modules of a daemon, of which inner functions are probed
ENFORCER = "libvirt-trace-enforcer.so"

# looked for first: a pattern for whole lines takes five times as long
_OTHERS = "|".join(re.escape(name) for name in (*DRIVERS, ENFORCER))
# package managers write libvirt.so.0.9000.0.dpkg-new or libvirt.so.0.9000.0;65f3c1 and rename; the
# mapping keeps that name
_MEMORY = "(?:memfd:)?"  # before the name of a file that is only in memory
_NAME = re.compile(rf"/{_MEMORY}(?:{_BUNDLED}|{_OTHERS})[^/\n]*$".encode(), re.M)
_is_library = re.compile(rf"{_MEMORY}(?:{_BUNDLED}|{'|'.join(map(re.escape, DRIVERS))})").match
_SONAME = re.compile(r"(libvirt(?:-qemu|-lxc)?)(?:-[0-9a-f]{8,64})?(\.so\.0)(?:\.[0-9.]+)?")
_LINE = re.compile(
    rb"([0-9a-f]+)-([0-9a-f]+) ..x. [0-9a-f]+ ([0-9a-f]+):([0-9a-f]+) ([0-9]+) "
    rb"+(/.*)"
)
_DELETED = " (deleted)"
MOST_FOUND = 1024  # mappings of libvirt in one process, data and code; a daemon has a hundred
# bytes of what a process has mapped: some 60,000 mappings, as many as the kernel allows
MOST_TEXT = 8 << 20


class Mapping(NamedTuple):
    """Code of a library in a process: addresses [start, end), and the file as the kernel names
    it there.
    """

    pid: int
    start: int
    end: int
    major: int
    minor: int
    inode: int
    path: str  # in the process's own root; may end in " (deleted)"


def is_library(path: str) -> bool:
    """Whether a file of that name may be one of libvirt's libraries; its ELF header has the
    last word.
    """
    return bool(_is_library(path.rpartition("/")[2]))


def library_of(soname: str) -> str | None:
    """Which of libvirt's libraries calls itself so: "libvirt.so.0", "libvirt-qemu.so.0" or
    "libvirt-lxc.so.0".
    """
    found = _SONAME.fullmatch(soname)
    return found[1] + found[2] if found else None


def is_driver(path: str) -> bool:
    """Whether it is one of DRIVERS."""
    return path.rpartition("/")[2].startswith(DRIVERS)


def is_enforcer(path: str) -> bool:
    """Whether it is the enforcer's library."""
    return path.rpartition("/")[2].removesuffix(_DELETED) == ENFORCER


def pids(proc: Path) -> list[int]:
    """Every process there is, ascending."""
    return sorted(int(name) for name in os.listdir(proc) if name.isdecimal())


def text(pid: int, proc: Path = Path("/proc"), most: int | None = None) -> bytes:
    """What /proc says that a process has mapped, of which that much is read; nothing for one
    that has gone or may not be looked into.
    """
    return LOOKING.ask(pid, lambda: _text(pid, proc, most), b"", proc, only_reads=True)


def _text(pid: int, proc: Path, most: int | None) -> bytes:
    try:
        with open(f"{proc}/{pid}/maps", "rb", buffering=0) as file:
            if most is None:
                return file.readall() or b""
            parts, left = [], most
            # a page at a time, however much is asked for
            while left > 0 and (part := file.read(min(1 << 16, left))):
                parts.append(part)
                left -= len(part)
            return b"".join(parts)
    except OSError:
        return b""


def scan(proc: Path = Path("/proc")) -> Iterator[Mapping]:
    """The mappings of every process. Processes that end meanwhile, and those that may not be
    read, have none.
    """
    for pid in pids(proc):
        yield from read(pid, proc)


def read(pid: int, proc: Path = Path("/proc")) -> Iterator[Mapping]:
    """The mappings of one process."""
    return find(pid, text(pid, proc, MOST_TEXT))


def find(pid: int, data: bytes) -> Iterator[Mapping]:
    """The same, of what text() has said of it; no more than MOST_FOUND."""
    for name in itertools.islice(_NAME.finditer(data), MOST_FOUND):
        match = _LINE.fullmatch(data, data.rfind(b"\n", 0, name.start()) + 1, name.end())
        if match:
            start, end, major, minor = (int(match[i], 16) for i in range(1, 5))
            # the only character that the kernel escapes here
            path = os.fsdecode(match[6]).replace("\\012", "\n")
            yield Mapping(pid, start, end, major, minor, int(match[5]), path)
