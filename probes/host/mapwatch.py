# SPDX-License-Identifier: LGPL-2.1-or-later
"""Watches processes come, go and map code: the kernel's perf records come in, named tuples in order of time come out.

A software event that never fires carries them, one per CPU, with a ring that is read without a system call. What nobody asks
for is skipped unread: of all mappings only libvirt's libraries, and the first after an exec, which is the program.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import mmap
import os
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from probes.host import maps, symbols
from probes.host.symbols import MMAP2
from probes.kernel import bpf

# linux/perf_event.h
PERF_TYPE_SOFTWARE, PERF_COUNT_SW_DUMMY = 1, 9
PERF_SAMPLE_TID, PERF_SAMPLE_TIME, PERF_SAMPLE_CPU = 1 << 1, 1 << 2, 1 << 7
PERF_FLAG_FD_CLOEXEC = 8
# mmap, comm, task, watermark (nobody waits, so nobody is woken), sample_id_all, mmap2, comm_exec, use_clockid
ATTR_FLAGS = 1 << 8 | 1 << 9 | 1 << 13 | 1 << 14 | 1 << 18 | 1 << 23 | 1 << 24 | 1 << 25
ATTR_SIZE = 112  # PERF_ATTR_SIZE_VER5
RECORD_LOST, RECORD_COMM, RECORD_EXIT, RECORD_FORK, RECORDMMAP2 = 2, 3, 4, 7, 10
MISC_COMM_EXEC = 1 << 13

_HEADER = struct.Struct("<IHH")  # kind, misc, size
_SAMPLE_ID = 24  # at the end of every record: u32 pid, tid; u64 time; u32 cpu, reserved
_U64 = struct.Struct("<Q")
_LOST = struct.Struct("<8xQQ")  # event, count
_COMM = struct.Struct("<8xII")  # pid, tid; then the name
_TASK = struct.Struct("<8xIIII")  # pid, ppid, tid, ptid
_HEAD_AT, _TAIL_AT = 1024, 1032  # struct perf_event_mmap_page: data_head, data_tail

# starting a process writes 0.6 to 5 KiB of records, so a CPU may start hundreds between two polls
MOST_PAGES, LEAST_PAGES, ALL_PAGES = 128, 16, 4096  # of a ring, of a ring, of all rings
# a record is stamped before it is written: one that is younger than this may have an elder that isn't there yet
SETTLED_NS = 1_000_000
MOST_AWAITED = 65536
LOOK_AT_CPUS = 0.25  # s


class Mapped(NamedTuple):
    """A process mapped code: one of libvirt's libraries, or its program after an exec. Times are CLOCK_MONOTONIC, ns."""

    time: int
    pid: int
    tid: int
    start: int
    length: int
    major: int
    minor: int
    inode: int
    path: str  # as the kernel names it there; may end in " (deleted)"
    is_program: bool


class Exec(NamedTuple):
    """A process became another program."""

    time: int
    pid: int
    comm: str


class Forked(NamedTuple):
    """A process or thread came to be; pid == ppid: a thread of that process."""

    time: int
    pid: int
    ppid: int
    tid: int


class Exited(NamedTuple):
    """A thread ended. The process does so with its last one; mostly that is the one with tid == pid."""

    time: int
    pid: int
    tid: int


class Dropped(NamedTuple):
    """So many records did not fit into a ring."""

    records: int


class Online(NamedTuple):
    """A CPU was switched on, and is watched from now on; what happened there before is not known."""

    cpu: int


Record = Mapped | Exec | Forked | Exited | Dropped | Online


class Watch(Protocol):
    """What both ways of watching offer."""

    polls: bool  # looks at /proc now and then, and misses what lives for less than that

    def poll(self) -> list[Record]:
        """What happened since the last time, oldest first."""
        ...

    def close(self) -> None:
        """Stops watching."""
        ...


def watch_maps() -> Watch:
    """Watches with perf events, or, where the kernel has or allows none, by looking at /proc twice a second."""
    try:
        return PerfWatch()
    except OSError:
        return ProcWatch()


class Parser:
    """Turns raw records into named tuples, and leaves out what nobody asks for."""

    def __init__(self) -> None:
        self._starting: set[int] = set()  # processes after an exec, before their program is mapped

    def parse(self, raws: Iterable[bytes]) -> list[Record]:
        """Records in order of their time."""
        result: list[Record] = []
        for raw in raws:
            kind, misc, size = _HEADER.unpack_from(raw)
            if kind == RECORDMMAP2:
                if size >= MMAP2.size + _SAMPLE_ID:
                    self._mapped(raw, result)
            elif kind == RECORD_COMM:
                if misc & MISC_COMM_EXEC and size >= _COMM.size + _SAMPLE_ID:
                    pid, _ = _COMM.unpack_from(raw)
                    if len(self._starting) >= MOST_AWAITED:
                        self._starting.clear()
                    self._starting.add(pid)
                    symbols.note_exec(pid)
                    result.append(Exec(_time(raw), pid, os.fsdecode(raw[_COMM.size : size - _SAMPLE_ID].split(b"\0", 1)[0])))
            elif kind in (RECORD_FORK, RECORD_EXIT):
                if size >= _TASK.size + 8 + _SAMPLE_ID:
                    pid, ppid, tid, _ = _TASK.unpack_from(raw)
                    if kind == RECORD_FORK:
                        symbols.note_fork(pid, ppid)
                    result.append(Forked(_time(raw), pid, ppid, tid) if kind == RECORD_FORK else Exited(_time(raw), pid, tid))
                    if pid == tid:
                        self._starting.discard(pid)
            elif kind == RECORD_LOST and size >= _LOST.size:
                result.append(Dropped(_LOST.unpack_from(raw)[1]))
        return result

    def _mapped(self, raw: bytes, result: list[Record]) -> None:
        mapper = int.from_bytes(raw[8:12], "little")
        symbols.note(mapper, raw)
        if b"/libvirt" not in raw and b"/memfd:libvirt" not in raw and mapper not in self._starting:
            return
        pid, tid, start, length, _, major, minor, inode, _, _, _ = MMAP2.unpack_from(raw)
        path = os.fsdecode(raw[MMAP2.size : len(raw) - _SAMPLE_ID].split(b"\0", 1)[0])
        is_program = pid in self._starting and path.startswith("/")
        if is_program:
            self._starting.discard(pid)
        if is_program or maps.is_library(path) or maps.is_enforcer(path):
            result.append(Mapped(_time(raw), pid, tid, start, length, major, minor, inode, path, is_program))


def _time(raw: bytes) -> int:
    return int(_U64.unpack_from(raw, len(raw) - 16)[0])


class PerfWatch:
    """Watches every CPU with a perf event; OSError when the kernel does not let us."""

    polls = False

    def __init__(self) -> None:
        self._parser = Parser()
        self._young: list[tuple[int, bytes]] = []  # time, record: not old enough to be sure of their order
        self._rings: dict[int, _Ring] = {}  # by CPU
        self._look_at = 0.0  # s
        cpus = _online()
        pages = LEAST_PAGES
        while 2 * pages <= min(MOST_PAGES, ALL_PAGES // len(cpus)):
            pages *= 2
        self._pages = pages
        try:
            for cpu in cpus:
                self._rings[cpu] = _Ring(cpu, pages)
        except BaseException:
            self.close()
            raise

    def poll(self) -> list[Record]:
        """What happened since the last time, oldest first, except for the last millisecond."""
        settled = time.monotonic_ns() - SETTLED_NS
        timed = self._young
        for ring in self._rings.values():
            timed.extend(ring.read())
        changed = self._follow_cpus(timed)
        timed.sort(key=_by_time)
        end = bisect.bisect_right(timed, settled, key=_by_time)
        self._young = timed[end:]
        return [*changed, *self._parser.parse([raw for _, raw in timed[:end]])]

    def _follow_cpus(self, timed: list[tuple[int, bytes]]) -> list[Record]:
        """Watches CPUs that have been switched on; the event of one that was switched off is dead, also when it comes back."""
        now = time.monotonic()
        if now < self._look_at:
            return []
        self._look_at = now + LOOK_AT_CPUS
        try:
            online = set(_online())
        except (OSError, ValueError):
            return []
        for cpu in self._rings.keys() - online:
            ring = self._rings.pop(cpu)
            timed.extend(ring.read())
            ring.close()
        new: list[Record] = []
        for cpu in sorted(online - self._rings.keys()):
            with contextlib.suppress(OSError):  # it has gone again: the next look will see
                self._rings[cpu] = _Ring(cpu, self._pages)
                new.append(Online(cpu))
        return new

    def close(self) -> None:
        """Stops watching."""
        for ring in self._rings.values():
            ring.close()
        self._rings.clear()


def _by_time(item: tuple[int, bytes]) -> int:
    return item[0]


class _Ring:
    """The records of one CPU."""

    def __init__(self, cpu: int, pages: int) -> None:
        sample = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU
        # type, size, config, period, sample_type, read_format, flags, wakeup_watermark, ..., clockid
        fields = struct.pack("<IIQQQQQI", PERF_TYPE_SOFTWARE, ATTR_SIZE, PERF_COUNT_SW_DUMMY, 0, sample, 0, ATTR_FLAGS, 0xFFFFFFFF)
        attr = fields.ljust(92, b"\0") + struct.pack("<i", time.CLOCK_MONOTONIC)
        buffer = ctypes.create_string_buffer(attr.ljust(ATTR_SIZE, b"\0"), ATTR_SIZE)
        arguments = (ctypes.c_long(value) for value in (-1, cpu, -1, PERF_FLAG_FD_CLOEXEC))
        self._fd = bpf.syscall(bpf.SYS_PERF_EVENT_OPEN, buffer, *arguments)
        self.size = pages * mmap.PAGESIZE
        try:
            self._map = mmap.mmap(self._fd, mmap.PAGESIZE + self.size)
        except BaseException:
            os.close(self._fd)
            raise

    def read(self) -> list[tuple[int, bytes]]:
        """Every record that is there, with its time; their room is given back."""
        head, tail = _U64.unpack_from(self._map, _HEAD_AT)[0], _U64.unpack_from(self._map, _TAIL_AT)[0]
        if head == tail:
            return []
        first = mmap.PAGESIZE + tail % self.size
        data = self._map[first : first + min(head - tail, mmap.PAGESIZE + self.size - first)]
        data += self._map[mmap.PAGESIZE : mmap.PAGESIZE + head - tail - len(data)]
        _U64.pack_into(self._map, _TAIL_AT, head)
        return split_records(data)

    def close(self) -> None:
        """Ends the event."""
        self._map.close()
        os.close(self._fd)


def split_records(data: bytes) -> list[tuple[int, bytes]]:
    """The records in what a ring held, each with its time."""
    result, at, end = [], 0, len(data)
    while at + _HEADER.size + _SAMPLE_ID <= end:
        size = data[at + 6] | data[at + 7] << 8
        if size < _HEADER.size + _SAMPLE_ID or at + size > end:
            break
        result.append((_U64.unpack_from(data, at + size - 16)[0], data[at : at + size]))
        at += size
    return result


def _online() -> list[int]:
    """The numbers of the CPUs that run, from a list such as 0-3,8."""
    text = Path("/sys/devices/system/cpu/online").read_text().strip()
    ranges = (part.partition("-") for part in text.split(","))
    return [cpu for first, _, last in ranges for cpu in range(int(first), int(last or first) + 1)]


class ProcWatch:
    """Looks at every process twice a second: names new mappings of libvirt, and processes that have gone."""

    polls = True

    def __init__(self, proc: Path = Path("/proc"), interval: float = 0.5) -> None:
        self._proc, self._interval = proc, interval
        self._next = 0.0
        self._mapped: set[tuple[int, int, int, int, int]] = set()
        self._pids = set(maps.pids(proc))

    def poll(self) -> list[Record]:
        """What is new since the last look; nothing when that was less than the interval ago."""
        now = time.monotonic()
        if now < self._next:
            return []
        pids = set(maps.pids(self._proc))
        stamp, result = time.monotonic_ns(), list[Record]()
        found = {}
        for entry in maps.scan(self._proc):
            found[entry.pid, entry.start, entry.major, entry.minor, entry.inode] = entry
        for key, entry in found.items():
            if key not in self._mapped:
                pid, start, end, major, minor, inode, path = entry
                result.append(Mapped(stamp, pid, pid, start, end - start, major, minor, inode, path, is_program=False))
        result.extend(Exited(stamp, pid, pid) for pid in sorted(self._pids - pids))
        self._mapped, self._pids = set(found), pids
        self._next = now + self._interval
        return result

    def close(self) -> None:
        """Nothing is open."""
