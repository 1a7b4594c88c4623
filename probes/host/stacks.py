# SPDX-License-Identifier: LGPL-2.1-or-later
"""In which of libvirt's functions threads are: processes come in, calls that began before anybody
looked go out.

Nothing is stopped or traced for that: of a thread that sleeps in the kernel, /proc tells where its
stack is, and its frames are followed there by the tables in the files that are mapped. A thread
that runs is in nothing for long.
"""

from __future__ import annotations

import os
import re
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from log.errors import TraceError
from probes.host import maps
from probes.internals.elf import Symbol, read_elf
from probes.internals.private import AGENT, BEGINS_JOB, DISPATCH, MONITOR, SEND
from probes.internals.unwind import RETURN, RSP, Frame, Unwinder

MOST_HIDDEN = 4096  # bytes of a frame that does not tell of its caller
# call function; call *distance(%rip), *distance(register), *register
_is_call = re.compile(
    rb"..\xe8....|.\xff[\x15\x90-\x97]....|....\xff[\x50-\x57].|.....\xff[\x10-\x17\xd0-\xd7]", re.S
).fullmatch
MOST_FRAMES, MOST_THREADS, MOST_FILES = 96, 4096, 256
# in it is every program with an event loop, all the time
_LOOPS = frozenset({"virEventRunDefaultImpl", "virEventRunDefault"})
_CODE = re.compile(
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


class _Mapped(NamedTuple):
    start: int
    end: int
    offset: int
    file: tuple[bytes, ...]  # device and inode
    path: str


class _File:
    """What is known of a mapped file; None where it can't be read."""

    def __init__(self, path: str, name: str) -> None:
        self.frames: Unwinder | None = None
        self.functions: list[Symbol] = []
        self._starts: list[int] = []
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.fd = -1
            return
        try:
            self.frames = Unwinder(self.fd, name)
            if maps.is_library(name):
                self.functions = sorted(read_elf(self.fd, name).functions, key=_offset)
                self._starts = [one.offset for one in self.functions]
        except (TraceError, OSError):
            pass

    def function(self, offset: int) -> Symbol | None:
        """The one that the instruction at that offset is in, as far as it has a name."""
        at = bisect_right(self._starts, offset) - 1
        found = self.functions[at] if at >= 0 else None
        return found if found and offset < found.offset + found.size else None


class Stacks:
    """Reads stacks. Each file is read once; close() lets go of them."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._files: dict[tuple[bytes, ...], _File] = {}

    def scan(self, pids: Iterable[int]) -> list[Inside]:
        """Threads of these processes that are in a public function."""
        found: list[Inside] = []
        for pid in pids:
            mapped = self._mappings(pid)
            for tid in _numbers(self._proc / str(pid) / "task")[:MOST_THREADS]:
                if mapped and (inside := self._look(pid, tid, mapped)):
                    found.append(inside)
        return found

    def is_still(self, inside: Inside) -> bool:
        """Whether the thread is in that call yet."""
        now = self._look(inside.pid, inside.tid, self._mappings(inside.pid))
        return now is not None and (now.function, now.at) == (inside.function, inside.at)

    def close(self) -> None:
        """Lets go of the files."""
        for file in self._files.values():
            if file.fd >= 0:
                os.close(file.fd)
        self._files.clear()

    def _mappings(self, pid: int) -> list[_Mapped]:
        try:
            text = (self._proc / str(pid) / "maps").read_bytes()
        except OSError:
            return []
        return [
            _Mapped(
                int(one[1], 16), int(one[2], 16), int(one[3], 16), one.group(4, 5, 6),
                os.fsdecode(one[7]).removesuffix(" (deleted)"),
            )
            for one in _CODE.finditer(text)
        ]  # fmt: skip

    def _look(self, pid: int, tid: int, mapped: list[_Mapped]) -> Inside | None:
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
        self, thread: Thread, memory: int, state: list[str], mapped: list[_Mapped]
    ) -> Inside | None:
        registers = {RSP: int(state[-2], 16)}
        code, slot = int(state[-1], 16), 0
        public: tuple[str, int] | None = None
        waits, serves = None, False
        for depth in range(MOST_FRAMES):
            place = _place(code, mapped)
            named = after = None
            if place is not None:
                file = self._file(thread.pid, place)
                # a return address is behind the call
                offset = code - place.start + place.offset - (depth > 0)
                named = file.function(offset)
                frame = file.frames.frame(offset) if file.frames else None
                if frame and RETURN not in frame.saved:
                    break  # the thread began there
                after = _caller(frame, registers, memory) if frame else None
            after = after or _next_return(registers[RSP], mapped, memory)
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

    def _file(self, pid: int, place: _Mapped) -> _File:
        known = self._files.get(place.file)
        if known is None:
            if len(self._files) >= MOST_FILES:
                self.close()
            path = f"{self._proc}/{pid}/map_files/{place.start:x}-{place.end:x}"
            known = self._files[place.file] = _File(path, place.path)
        return known


def _place(code: int, mapped: list[_Mapped]) -> _Mapped | None:
    return next((one for one in mapped if one.start <= code < one.end), None)


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
    before[RSP] = base
    return before.pop(RETURN), base + frame.saved[RETURN], before


def _next_return(
    stack: int, mapped: list[_Mapped], memory: int
) -> tuple[int, int, dict[int, int]] | None:
    """Where a frame hides its caller, as one that a tracer waits for does: the next address on the
    stack that a call can have left there, where it is, and the registers.
    """
    try:
        words = os.pread(memory, MOST_HIDDEN, stack)
    except (OSError, OverflowError):
        return None
    for i, (word,) in enumerate(struct.iter_unpack("<Q", words[: len(words) & ~7])):
        if _place(word, mapped) and _is_call(os.pread(memory, 7, word - 7)):
            return word, stack + 8 * i, {RSP: stack + 8 * i + 8}
    return None


class Thread(NamedTuple):
    """Whose stack it is."""

    pid: int
    tid: int
    comm: str


_WAITS = frozenset({BEGINS_JOB, MONITOR, SEND, *AGENT})
_offset: Callable[[Symbol], int] = lambda one: one.offset  # noqa: E731


def _word(memory: int, address: int) -> int | None:
    try:
        data = os.pread(memory, 8, address)
    except (OSError, OverflowError):
        return None
    return int(struct.unpack("<Q", data)[0]) if len(data) == 8 else None


def _numbers(folder: Path) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(folder) if name.isdigit())
    except OSError:
        return []
