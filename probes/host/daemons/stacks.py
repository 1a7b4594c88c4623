# SPDX-License-Identifier: LGPL-2.1-or-later
"""In which of libvirt's functions threads are: processes come in, calls that began before anybody
looked go out.

Nothing is stopped or traced for that: of a thread that sleeps in the kernel, /proc tells where its
stack is, and its frames are followed there by the tables in the files that are mapped. A thread
that runs is in nothing for long.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from log.errors import TraceError
from probes.host.looking import maps, opening, slow
from probes.host.looking.held import LOOKING
from probes.internals.elf import Symbol, read_elf
from probes.internals.private import AGENT, BEGINS_JOB, DISPATCH, MONITOR, SEND
from probes.internals.unwind import Frame, Unwinder
from probes.kernel import abi

MOST_HIDDEN = 4096  # bytes of a frame that does not tell of its caller
MOST_FRAMES, MOST_THREADS, MOST_FILES = 96, 4096, 256
# in it is every program with an event loop, all the time
_LOOPS = frozenset({"virEventRunDefaultImpl", "virEventRunDefault"})
_LINE = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) r-xp ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) +(/.*)$", re.M
)
_PUBLIC = re.compile(r"LIBVIRT_(?:QEMU_|LXC_)?[0-9.]+")


class Inside(NamedTuple):
    """A thread is in a call."""

    pid: int
    tid: int
    comm: str
    function: str  # public
    at: int  # where its return address is on the stack: the same call has it there
    serves: bool  # a daemon's, for a client
    waits_for: str | None  # one of the inner functions that wait


class _Code(NamedTuple):
    """Code of a process, and how many bytes of the file come before it."""

    mapping: maps.Mapping
    offset: int


class _File:
    """What is known of a mapped file; None where it can't be read."""

    def __init__(self, mapping: maps.Mapping, proc: Path) -> None:
        self.fd = -1
        self.frames: Unwinder | None = None
        self.functions: list[Symbol] = []
        self._starts: list[int] = []
        if slow.may_hang(mapping, proc):
            return
        with contextlib.suppress(TraceError, OSError):
            self.fd = opening.open_mapped(mapping, proc)
            self.frames = Unwinder(self.fd, mapping.path)
            if maps.is_library(mapping.path):
                found = read_elf(self.fd, mapping.path).functions
                self.functions = sorted(found, key=lambda one: one.offset)
                self._starts = [one.offset for one in self.functions]

    def function(self, offset: int) -> Symbol | None:
        """The one that the instruction at that offset is in, as far as it has a name."""
        at = bisect_right(self._starts, offset) - 1
        found = self.functions[at] if at >= 0 else None
        return found if found and offset < found.offset + found.size else None


class Stacks:
    """Reads stacks. Each file is read once; close() lets go of them."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._files: dict[opening.Place, _File] = {}

    def scan(self, pids: Iterable[int]) -> list[Inside]:
        """Threads of these processes that are in a public function."""
        found: list[Inside] = []
        for pid in pids:
            mapped = self._mappings(pid)
            try:
                tids = maps.pids(self._proc / str(pid) / "task") if mapped else []
            except OSError:  # it has ended
                continue
            found += filter(None, (self._look(pid, tid, mapped) for tid in tids[:MOST_THREADS]))
        return found

    def is_still(self, inside: Inside) -> bool:
        """Whether the thread is in that call yet."""
        now = self._look(inside.pid, inside.tid, self._mappings(inside.pid))
        return now is not None and (now.function, now.at) == (inside.function, inside.at)

    def close(self) -> None:
        """Lets go of the files."""
        for file in self._files.values():
            if file.fd >= 0:
                opening.close(file.fd)
        self._files.clear()

    def _mappings(self, pid: int) -> list[_Code]:
        found = []
        for one in _LINE.finditer(maps.text(pid, self._proc, maps.MOST_TEXT)):
            start, end, offset, major, minor = (int(one[i], 16) for i in range(1, 6))
            path = os.fsdecode(one[7])
            mapping = maps.Mapping(pid, start, end, major, minor, int(one[6]), path)
            found.append(_Code(mapping, offset))
        return found

    def _look(self, pid: int, tid: int, mapped: list[_Code]) -> Inside | None:
        return LOOKING.ask(pid, lambda: self._read(pid, tid, mapped), None, self._proc)

    def _read(self, pid: int, tid: int, mapped: list[_Code]) -> Inside | None:
        folder = self._proc / str(pid) / "task" / str(tid)
        try:
            state = (folder / "syscall").read_text().split()
            if len(state) < 3:  # it runs
                return None
            comm = (folder / "comm").read_text(errors="backslashreplace").rstrip("\n")
            memory = os.open(folder / "mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return self._walk(Thread(pid, tid, comm), memory, state, mapped)
        finally:
            os.close(memory)

    def _walk(
        self, thread: Thread, memory: int, state: list[str], mapped: list[_Code]
    ) -> Inside | None:
        registers = {abi.HERE.stack_pointer: int(state[-2], 16)}
        code, slot = int(state[-1], 16), 0
        public: tuple[str, int] | None = None
        waits, serves = None, False
        for depth in range(MOST_FRAMES):
            place = _place(code, mapped)
            named = after = None
            if place is not None:
                file = self._file(place.mapping)
                # a return address is behind the call
                offset = code - place.mapping.start + place.offset - (depth > 0)
                named = file.function(offset)
                frame = file.frames.frame(offset) if file.frames else None
                if frame and abi.HERE.return_address not in frame.saved:
                    break  # the thread began there
                after = _caller(frame, registers, memory) if frame else None
            after = after or _next_return(registers[abi.HERE.stack_pointer], mapped, memory)
            if after is None:
                break
            code, slot, registers = after
            if named is None:
                continue
            if named.name in _WAITS:
                waits = waits or named.name
            serves = serves or named.name == DISPATCH
            is_public = named.version and _PUBLIC.fullmatch(named.version)
            if is_public and named.name not in _LOOPS:
                public = named.name, slot
        return Inside(*thread, *public, serves, waits) if public else None

    def _file(self, mapping: maps.Mapping) -> _File:
        place = (mapping.major, mapping.minor, mapping.inode)
        known = self._files.get(place)
        if known is None:
            if len(self._files) >= MOST_FILES:
                self.close()
            known = self._files[place] = _File(mapping, self._proc)
        return known


def _place(code: int, mapped: list[_Code]) -> _Code | None:
    return next((one for one in mapped if one.mapping.start <= code < one.mapping.end), None)


def _caller(
    frame: Frame, registers: Mapping[int, int], memory: int
) -> tuple[int, int, dict[int, int]] | None:
    """Where the function was called, where that address is, and the registers there."""
    if frame.register not in registers:
        return None
    base = registers[frame.register] + frame.offset
    before = dict(registers)
    for register, distance in frame.saved.items():
        word = _word(memory, base + distance)
        if word is None:
            return None
        before[register] = word
    before[abi.HERE.stack_pointer] = base
    return before.pop(abi.HERE.return_address), base + frame.saved[abi.HERE.return_address], before


def _next_return(
    stack: int, mapped: list[_Code], memory: int
) -> tuple[int, int, dict[int, int]] | None:
    """Where a frame hides its caller, as one that a tracer waits for does: the next address on the
    stack that a call can have left there, where it is, and the registers.
    """
    try:
        words = os.pread(memory, MOST_HIDDEN, stack)
    except (OSError, OverflowError):
        return None
    for i, (word,) in enumerate(struct.iter_unpack("<Q", words[: len(words) & ~7])):
        if _place(word, mapped) and abi.HERE.ends_with_call(
            os.pread(memory, abi.HERE.call_bytes, word - abi.HERE.call_bytes)
        ):
            return word, stack + 8 * i, {abi.HERE.stack_pointer: stack + 8 * i + 8}
    return None


class Thread(NamedTuple):
    """Whose stack it is."""

    pid: int
    tid: int
    comm: str


_WAITS = frozenset({BEGINS_JOB, MONITOR, SEND, *AGENT})


def _word(memory: int, address: int) -> int | None:
    try:
        data = os.pread(memory, 8, address)
    except (OSError, OverflowError):
        return None
    return int(struct.unpack("<Q", data)[0]) if len(data) == 8 else None
