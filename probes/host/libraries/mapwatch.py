# SPDX-License-Identifier: LGPL-2.1-or-later
"""Watches processes come, go and map code: the kernel's records come in, named tuples in order of
time come out.

What they map is told by a software event that never fires, one per CPU, with a ring that is read
without a system call; of that only libvirt's libraries are told. The rest comes from tracepoints
(probes/host/processes/lives.py).
"""

from __future__ import annotations

import bisect
import contextlib
import os
import select
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from probes.host.libraries.symbols import MMAP2, Symbols
from probes.host.looking import maps
from probes.host.processes import happened
from probes.host.processes.lives import Exec, Exited, Forked, Life, Missed, OutOfMemory, Signalled
from probes.kernel import records
from probes.kernel.rings.perf import HEADER, SAMPLE_ID, CpuRing, Raw, online

# linux/perf_event.h
RECORD_LOST, RECORD_MMAP2 = 2, 10

_U64 = struct.Struct("<Q")
_LOST = struct.Struct("<8xQQ")  # event, count

# starting a process writes 0.5 to 5 KiB of records, so a CPU may start hundreds between two polls
MOST_PAGES, LEAST_PAGES, ALL_PAGES = 128, 16, 4096  # of a ring, of a ring, of all rings
# a record is stamped before it is written: one that is younger than this may have an elder that
# isn't there yet
SETTLED_NS = 1_000_000
LOOK_AT_CPUS = 0.25  # s


class Mapped(NamedTuple):
    """A process mapped one of libvirt's libraries, as code. The time is CLOCK_MONOTONIC, ns."""

    time: int
    pid: int
    tid: int
    start: int
    length: int
    major: int
    minor: int
    inode: int
    path: str  # as the kernel names it there; may end in " (deleted)"

    @property
    def mapping(self) -> maps.Mapping:
        """What is there now."""
        end = self.start + self.length
        return maps.Mapping(
            self.pid, self.start, end, self.major, self.minor, self.inode, self.path
        )


class Dropped(NamedTuple):
    """So many mappings were lost."""

    records: int


class Online(NamedTuple):
    """A CPU was switched on; what is mapped there is told from now on, and what was mapped
    before is not known.
    """

    cpu: int


Record = Mapped | Dropped | Online | Life
# what has its place among the calls
Happened = Exited | Exec | Forked | Signalled | OutOfMemory | Mapped


class TracepointSource(Protocol):
    """Where records of tracepoints come from (probes/kernel/rings/tracepoints.py)."""

    def read(self) -> list[bytes]:
        """Those since the last time."""
        ...

    def lost(self) -> int:
        """How many were lost since the last time."""
        ...


class Watch(Protocol):
    """What both ways of watching offer."""

    def poll(self) -> list[Record]:
        """What happened since the last time, oldest first."""
        ...

    def wakers(self) -> list[int]:
        """Descriptors that can be read when code was mapped."""
        ...

    def is_settled(self) -> bool:
        """Whether no poll is needed before one of these can be read."""
        ...

    def close(self) -> None:
        """Stops watching."""
        ...


def watch_maps(tracepoints: TracepointSource, symbols: Symbols) -> Watch:
    """Watches mappings with perf events, or, where the kernel has or allows none, by looking at
    /proc twice a second.
    """
    try:
        return PerfWatch(tracepoints, symbols)
    except OSError:
        return ProcWatch(tracepoints, symbols)


def parse(raws: Iterable[Raw], symbols: Symbols) -> list[Record]:
    """Turns raw records, in order of their time, into named tuples, and leaves out what nobody
    asks for; `symbols` is told of all code.
    """
    result: list[Record] = []
    for _, is_life, raw in raws:
        if is_life:
            life = happened.parse(raw)
            if isinstance(life, Exec):
                symbols.note_exec(life.pid, (life.major, life.minor, life.inode))
            elif isinstance(life, Forked):
                symbols.note_fork(life.pid, life.ppid)
            if life is not None:
                result.append(life)
            continue
        kind, _, size = HEADER.unpack_from(raw)
        if kind == RECORD_MMAP2 and size >= MMAP2.size + SAMPLE_ID:
            symbols.note(int.from_bytes(raw[8:12], "little"), raw)
            _mapped(raw, result)
        elif kind == RECORD_LOST and size >= _LOST.size:
            result.append(Dropped(_LOST.unpack_from(raw)[1]))
    return result


def _mapped(raw: bytes, result: list[Record]) -> None:
    if b"/libvirt" not in raw and b"/memfd:libvirt" not in raw:
        return
    pid, tid, start, length, _, major, minor, inode, _, _, _ = MMAP2.unpack_from(raw)
    path = os.fsdecode(raw[MMAP2.size : len(raw) - SAMPLE_ID].split(b"\0", 1)[0])
    if maps.is_library(path) or maps.is_enforcer(path):
        result.append(Mapped(_time(raw), pid, tid, start, length, major, minor, inode, path))


class _Settling:
    """Records of tracepoints and others, on their way into the order of time."""

    def __init__(
        self, tracepoints: TracepointSource, symbols: Symbols, read: Callable[[], list[Raw]]
    ) -> None:
        self._tracepoints, self._symbols, self._read = tracepoints, symbols, read
        self._young: list[Raw] = []  # not old enough to be sure of their order

    def settled(self) -> list[Record]:
        """All since the last time, oldest first, except for the last millisecond."""
        settled = time.monotonic_ns() - SETTLED_NS
        timed = self._young + self._read()
        timed.extend(
            (_U64.unpack_from(raw, records.RECORD_TIME)[0], True, raw)
            for raw in self._tracepoints.read()
        )
        timed.sort(key=_by_time)
        end = bisect.bisect_right(timed, settled, key=_by_time)
        self._young = timed[end:]
        lost = self._tracepoints.lost()
        return [*([Missed(lost)] if lost else []), *parse(timed[:end], self._symbols)]

    def is_settled(self) -> bool:
        """Whether none of them is of code that was mapped in that millisecond."""
        return all(is_life for _, is_life, _ in self._young)


def _time(raw: bytes) -> int:
    return int(_U64.unpack_from(raw, len(raw) - 16)[0])


class PerfWatch:
    """Watches every CPU with a perf event; OSError when the kernel does not let us."""

    def __init__(self, tracepoints: TracepointSource, symbols: Symbols) -> None:
        self._settling = _Settling(tracepoints, symbols, self._read)
        self._online: list[Record] = []
        self._rings: dict[int, CpuRing] = {}  # by CPU
        self._wakes = select.epoll()
        self._look_at = 0.0  # s
        cpus = online()
        pages = LEAST_PAGES
        while 2 * pages <= min(MOST_PAGES, ALL_PAGES // len(cpus)):
            pages *= 2
        self._pages = pages
        try:
            for cpu in cpus:
                self._open(cpu)
        except BaseException:
            self.close()
            raise

    def poll(self) -> list[Record]:
        """What happened since the last time, oldest first, except for the last millisecond."""
        settled = self._settling.settled()
        switched_on, self._online = self._online, []
        return [*switched_on, *settled]

    def wakers(self) -> list[int]:
        """One for all CPUs, as these come and go."""
        return [self._wakes.fileno()]

    def is_settled(self) -> bool:
        """Whether no poll is needed before it can be read."""
        return self._settling.is_settled() and not self._online

    def _open(self, cpu: int) -> None:
        self._rings[cpu] = ring = CpuRing(cpu, self._pages)
        self._wakes.register(ring.fd, select.EPOLLIN)

    def _read(self) -> list[Raw]:
        timed: list[Raw] = []
        for ring in self._rings.values():
            timed.extend(ring.read())
        self._follow_cpus(timed)
        return timed

    def _follow_cpus(self, timed: list[Raw]) -> None:
        """Watches CPUs that have been switched on; the event of one that was switched off is
        dead, also when it comes back.
        """
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_AT_CPUS
        try:
            found = set(online())
        except (OSError, ValueError):
            return
        for cpu in self._rings.keys() - found:
            ring = self._rings.pop(cpu)
            timed.extend(ring.read())
            ring.close()
        for cpu in sorted(found - self._rings.keys()):
            with contextlib.suppress(OSError):  # it has gone again: the next look will see
                self._open(cpu)
                self._online.append(Online(cpu))

    def close(self) -> None:
        """Stops watching."""
        for ring in self._rings.values():
            ring.close()
        self._rings.clear()
        self._wakes.close()


def _by_time(item: Raw) -> int:
    return item[0]


class ProcWatch:
    """Looks at every process twice a second for new mappings of libvirt, and misses what lives for
    less than that.
    """

    def __init__(
        self,
        tracepoints: TracepointSource,
        symbols: Symbols,
        proc: Path = Path("/proc"),
        interval: float = 0.5,
    ) -> None:
        self._settling = _Settling(tracepoints, symbols, list)
        self._proc, self._interval = proc, interval
        self._next = 0.0
        self._mapped: set[tuple[int, int, int, int, int]] = set()

    def poll(self) -> list[Record]:
        """What happened since the last time, except for the last millisecond; what is mapped,
        since the last look.
        """
        result = self._settling.settled()
        now = time.monotonic()
        if now < self._next:
            return result
        found = {}
        for entry in maps.scan(self._proc):
            found[entry.pid, entry.start, entry.major, entry.minor, entry.inode] = entry
        stamp = time.monotonic_ns()
        for key, entry in found.items():
            if key not in self._mapped:
                pid, start, end, major, minor, inode, path = entry
                result.append(
                    Mapped(stamp, pid, pid, start, end - start, major, minor, inode, path)
                )
        self._mapped = set(found)
        self._next = now + self._interval
        return result

    def wakers(self) -> list[int]:
        """None: nothing is told."""
        return []

    def is_settled(self) -> bool:
        """Never, as only looking tells."""
        return False

    def close(self) -> None:
        """Nothing is open."""
