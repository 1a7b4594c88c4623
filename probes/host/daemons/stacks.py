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
from probes.internals.callsites import sites
from probes.internals.elf import Elf, Symbol, bytes_at, read_elf
from probes.internals.flow import LONGEST, NOTHING, Flow, follow
from probes.internals.layouts import choose_layout
from probes.internals.private import AGENT, BEGINS_JOB, DISPATCH, MONITOR, SEND, SENDS
from probes.internals.returns import can_be_found as can_disassemble
from probes.internals.unwind import Frame, Unwinder
from probes.internals.waiting import places
from probes.kernel import abi
from probes.kernel.machines import steps

MOST_HIDDEN = 4096  # bytes of a frame that does not tell of its caller
MOST_CODE = 1 << 17  # bytes of a file's that are followed: anybody may present one
_BY_CLOCK = 0x109  # FUTEX_WAIT_BITSET, CLOCK_REALTIME (linux/futex.h): until then, not so long
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
    # of the functions that it is in, by name: which arguments they were given, as far as their
    # code proves that a register or their frame has them yet
    given: Mapping[str, Mapping[int, int]] = {}
    layout: Mapping[str, Mapping[str, int]] = {}  # of libvirt's objects there; {}: not known
    places: Mapping[str, int] = {}  # of what is in its private structs, as far as known
    # where the time is (struct timespec) at which the thread's wait ends, by the clock; 0: none
    until: int = 0


# where a function was called, where that address is on the stack, and the registers there
Caller = tuple[int, int, dict[int, int]]


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
        self._flows: dict[int, Flow] = {}
        self._left = MOST_CODE
        self._sites: dict[str, tuple[int, ...]] = {}
        self.path = mapping.path
        self._elf: Elf | None = None
        self._places: Mapping[str, int] | None = None
        self._layout: Mapping[str, Mapping[str, int]] | None = None
        if slow.may_hang(mapping, proc):
            return
        with contextlib.suppress(TraceError, OSError):
            self.fd = opening.open_mapped(mapping, proc)
            self.frames = Unwinder(self.fd, mapping.path)
            if maps.is_library(mapping.path):
                self._elf = read_elf(self.fd, mapping.path)
                self.functions = sorted(self._elf.functions, key=lambda one: one.offset)
                self._starts = [one.offset for one in self.functions]

    def function(self, offset: int) -> Symbol | None:
        """The one that the instruction at that offset is in, as far as it has a name."""
        at = bisect_right(self._starts, offset) - 1
        found = self.functions[at] if at >= 0 else None
        return found if found and offset < found.offset + found.size else None

    def flow(self, function: Symbol) -> Flow:
        """Where that one keeps its arguments; nothing without a disassembler."""
        known = self._flows.get(function.offset)
        if known is None:
            can = can_disassemble() and 0 < function.size <= min(LONGEST, self._left)
            self._left -= function.size if can else 0
            known = follow(self._code(function), function.offset) if can else NOTHING
            self._flows[function.offset] = known
        return known

    @property
    def layout(self) -> Mapping[str, Mapping[str, int]]:
        """Of the objects that its functions work on; {}: not known."""
        if self._layout is None:
            self._layout = choose_layout(self._elf, self.fd).offsets if self._elf else {}
        return self._layout

    @property
    def places(self) -> Mapping[str, int]:
        """Of what is in its private structs."""
        if self._places is None:
            named = {one.name: one for one in self.functions}
            self._places = places(
                named.__contains__,
                lambda name: self.flow(named[name]),
                lambda name: self._code(named[name]),
                self.sites,
            )
        return self._places

    def sites(self, function: str) -> tuple[int, ...]:
        """The offsets behind its calls of that function of another file."""
        if function not in self._sites:
            self._sites[function] = sites(self.fd, self.path, function) if self.fd >= 0 else ()
        return self._sites[function]

    def _code(self, function: Symbol) -> bytes:
        try:
            return bytes_at(self.fd, function.offset, min(function.size, LONGEST))
        except OSError:
            return b""


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

    def look(self, pid: int, tid: int) -> Inside | None:
        """That thread, if it is in a public function."""
        return self._look(pid, tid, self._mappings(pid))

    def is_still(self, inside: Inside) -> bool:
        """Whether the thread is in that call yet."""
        now = self.look(inside.pid, inside.tid)
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
            found = self._walk(Thread(pid, tid, comm), memory, state, mapped)
            return found and found._replace(until=_waits_until(state))
        finally:
            os.close(memory)

    def _walk(
        self, thread: Thread, memory: int, state: list[str], mapped: list[_Code]
    ) -> Inside | None:
        registers = {abi.HERE.stack_pointer: int(state[-2], 16)}
        code, slot = int(state[-1], 16), 0
        public: tuple[str, int] | None = None
        waits, serves = None, False
        given: dict[str, Mapping[int, int]] = {}
        layout: Mapping[str, Mapping[str, int]] = {}
        known: dict[str, int] = {}
        for depth in range(MOST_FRAMES):
            place = _place(code, mapped)
            named = after = None
            here: Mapping[int, int] = {}
            if place is not None:
                file = self._file(place.mapping)
                # a return address is behind the call
                offset = code - place.mapping.start + place.offset - (depth > 0)
                named = file.function(offset)
                is_public = named is not None and _is_public(named)
                frame = file.frames.frame(offset) if file.frames else None
                if named and depth and (is_public or named.name in _ASKED):
                    held = file.flow(named).after.get(offset + 1, {})
                    here = _given(held, frame, registers, memory)
                if frame and abi.HERE.return_address not in frame.saved:
                    break  # the thread began there
                after = _caller(frame, registers, memory) if frame else None
                if after and named and _place(after[0], mapped) is None:
                    after = self._unhidden(named.name, after, mapped, memory)
            after = after or _next_return(registers[abi.HERE.stack_pointer], mapped, memory)
            if after is None:
                break
            code, slot, registers = after
            if named is None:
                continue
            if named.name in _WAITS:
                waits = waits or named.name
            serves = serves or named.name == DISPATCH
            if is_public or named.name in _ASKED:
                given[named.name] = here
                known.update(file.places)
            if is_public:
                public, layout = (named.name, slot), file.layout
        if public is None:
            return None
        return Inside(*thread, *public, serves, waits, given, layout, known)

    def _unhidden(
        self, name: str, after: Caller, mapped: list[_Code], memory: int
    ) -> Caller | None:
        """The caller of a function whose return address a tracer has replaced: of all places where
        the process's program calls it the only one that has a caller itself.
        """
        _, slot, registers = after
        program = mapped[0]  # the kernel maps it first, below all libraries
        file = self._file(program.mapping)
        found: list[int] = []
        for offset in file.sites(name):
            code = program.mapping.start + offset - program.offset
            frame = file.frames.frame(offset - 1) if file.frames else None
            caller = _caller(frame, registers, memory) if frame else None
            if caller and _place(caller[0], mapped) and _is_behind_call(caller[0], memory):
                found.append(code)
        return (found[0], slot, registers) if len(found) == 1 else None

    def _file(self, mapping: maps.Mapping) -> _File:
        place = (mapping.major, mapping.minor, mapping.inode)
        known = self._files.get(place)
        if known is None:
            if len(self._files) >= MOST_FILES:
                self.close()
            known = self._files[place] = _File(mapping, self._proc)
        return known


def _waits_until(state: list[str]) -> int:
    """Where the end of the wait is that the thread is in; 0: it has none by the clock."""
    if int(state[0]) != steps.FUTEX or int(state[2], 16) & _BY_CLOCK != _BY_CLOCK:
        return 0
    return int(state[4], 16)


def _is_public(function: Symbol) -> bool:
    is_one = function.version is not None and _PUBLIC.fullmatch(function.version) is not None
    return is_one and function.name not in _LOOPS


def _place(code: int, mapped: list[_Code]) -> _Code | None:
    return next((one for one in mapped if one.mapping.start <= code < one.mapping.end), None)


def _caller(frame: Frame, registers: Mapping[int, int], memory: int) -> Caller | None:
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


def _given(
    held: Mapping[int, int], frame: Frame | None, registers: Mapping[int, int], memory: int
) -> dict[int, int]:
    """A function's arguments, as far as registers, or its frame, have them."""
    found = {held[place]: registers[place] for place in held if place in registers}
    if frame and frame.register in registers:
        base = registers[frame.register] + frame.offset
        for place, number in held.items():
            if place < 0 and (word := _word(memory, base + place)) is not None:
                found.setdefault(number, word)
    return found


def _next_return(stack: int, mapped: list[_Code], memory: int) -> Caller | None:
    """Where a frame hides its caller, as one that a tracer waits for does: the next address on the
    stack that a call can have left there, where it is, and the registers.
    """
    try:
        words = os.pread(memory, MOST_HIDDEN, stack)
    except (OSError, OverflowError):
        return None
    for i, (word,) in enumerate(struct.iter_unpack("<Q", words[: len(words) & ~7])):
        if _place(word, mapped) and _is_behind_call(word, memory):
            return word, stack + 8 * i, {abi.HERE.stack_pointer: stack + 8 * i + 8}
    return None


def _is_behind_call(code: int, memory: int) -> bool:
    return abi.HERE.ends_with_call(
        os.pread(memory, abi.HERE.call_bytes, code - abi.HERE.call_bytes)
    )


class Thread(NamedTuple):
    """Whose stack it is."""

    pid: int
    tid: int
    comm: str


_WAITS = frozenset({BEGINS_JOB, MONITOR, SEND, *AGENT})
_ASKED = _WAITS | {DISPATCH, SENDS}  # inner functions of which it is asked what they were given


def _word(memory: int, address: int) -> int | None:
    try:
        data = os.pread(memory, 8, address)
    except (OSError, OverflowError):
        return None
    return int(struct.unpack("<Q", data)[0]) if len(data) == 8 else None
