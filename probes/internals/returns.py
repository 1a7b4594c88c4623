# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where functions return: a library file and the offsets of functions come in, the offsets of their
`ret` instructions go out; or of the instructions to which they return.

A breakpoint that is not at the begin of an instruction would crash the program. So a function is
believed only if each jump in it leads to an instruction or out of it; one by a table of distances
is a compiler's switch. One that goes on in another function (a jump to it, or through a pointer)
returns there, which can't be told: it is left out. What a compiler has moved elsewhere, to be out
of the way, ends the program or unwinds its stack.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from log.errors import TraceError
from probes.internals import private
from probes.internals.elf import Elf, bytes_at, read_elf, slots
from probes.kernel import abi
from probes.kernel.loading import kept
from probes.kernel.machines.machine import Instruction

PACKAGE = "python3-capstone"
# anybody may present a file: libvirt 12.8's functions have 160 KB in all, the largest one 8 KB
MOST_CODE, LONGEST = 1 << 20, 1 << 16
MOST_RETURNS = 16  # of a function; libvirt's have 3 at most
MOST_TEXT = 16 << 20
_HERE = Path(__file__).parent
# what finds them; all but the bytes of the library
_SOURCES = (
    _HERE / "returns.py",
    _HERE / "private.py",
    _HERE / "elf.py",
    *sorted((_HERE.parent / "kernel" / "machines").glob("*.py")),
)


def of_library(
    fd: int, path: str, offsets: Collection[int], inner: Mapping[str, int]
) -> tuple[Mapping[int, tuple[int, ...]], frozenset[str]]:
    """By the offset of a function where it returns, if that is known, or where its callers go on;
    the names of those of the `inner` ones that have this instead.
    """
    code = LibraryCode(fd, path)
    callers = {name: whose for name, whose in private.CALLERS.items() if name in inner}
    # who else may present libraries is not to push out what is kept
    is_ours = os.fstat(fd).st_uid == os.geteuid()
    key = code.key((sorted(offsets), sorted(inner.items()))) if is_ours else None
    if known := kept.read(key):
        places, after = json.loads(known["found"])
        return {int(at): tuple(where) for at, where in places.items()}, frozenset(after)
    found = {offset: code.returns(offset) for offset in offsets}
    told_after = {
        name: code.after_calls(name, whose)
        for name, whose in callers.items()
        if not found[inner[name]]
    }
    found.update({inner[name]: where for name, where in told_after.items()})
    places = {at: where for at, where in found.items() if where}
    kept.write(key, {"found": json.dumps((places, sorted(told_after))).encode()})
    return places, frozenset(told_after)


def can_be_found() -> bool:
    """Whether there is a disassembler: a package of its own, which kernels since 6.13 do
    without.
    """
    return importlib.util.find_spec("capstone") is not None


class LibraryCode:
    """The code of a library file; TraceError where read_elf() has it."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd, self._path = fd, path
        self._elf: Elf = read_elf(fd, path)
        self._start, length = self._elf.text
        try:
            self._bytes = bytes_at(fd, self._start, min(length, MOST_TEXT))
        except OSError as error:
            raise TraceError(f"can't read {path}: {error.strerror}") from error
        self._sizes = {f.offset: f.size for f in self._elf.functions if f.size}
        self._left = MOST_CODE

    @cached_property
    def _disassembled(self) -> Callable[[bytes, int], list[Instruction]] | None:
        is_known = self._elf.machine in abi.HERE.libraries
        return abi.HERE.disassembler(self._elf.bits) if is_known else None

    def key(self, asked: object) -> str | None:
        """A name for all that is found out of this code."""
        pointers = [sorted(slots(self._fd, self._path, name)) for name in sorted(private.CALLERS)]
        about = asked, self._elf.machine, self._elf.bits, self._start, pointers, self._elf.functions
        return kept.key_of(_SOURCES, ("returns", about), self._bytes)

    def returns(self, offset: int) -> tuple[int, ...]:
        """The offsets of the `ret` instructions of the function there; none if it may return
        elsewhere.
        """
        places: list[int] = []
        before = None
        for line in (lines := self._disassemble(offset)):
            if line.returns:
                places.append(line.offset)
            elif not self._goes_on(line, before, lines):
                return ()
            before = line
        # a breakpoint at the entry is another one
        return tuple(places) if offset not in places and len(places) <= MOST_RETURNS else ()

    def after_calls(self, name: str, callers: Collection[str]) -> tuple[int, ...]:
        """The offsets of the instructions behind calls of the function, in these others."""
        named = {
            f.name: f.offset for f in self._elf.functions if f.name == name or f.name in callers
        }
        pointers = {at - self._shift for at in slots(self._fd, self._path, name)}
        return tuple(
            line.end
            for caller in sorted(callers & named.keys())
            for line in self._disassemble(named[caller])
            if line.calls
            and line.target is not None
            and (line.target == named.get(name) or self._pointer(line.target) in pointers)
        )

    @property
    def _shift(self) -> int:
        """How much higher addresses are than offsets, in the code."""
        return next((f.address - f.offset for f in self._elf.functions), 0)

    def _disassemble(self, offset: int) -> list[Instruction]:
        """The function's instructions; none if not all of it are some, or it is too much."""
        size = self._sizes.get(offset, 0)
        if not 0 < size <= min(self._left, LONGEST) or offset < self._start:
            return []
        if self._disassembled is None:
            return []
        self._left -= size
        code = self._bytes[offset - self._start : offset - self._start + size]
        lines = self._disassembled(code, offset)
        if not lines or lines[-1].end != offset + size:
            return []
        return lines

    def _goes_on(
        self, line: Instruction, before: Instruction | None, lines: Sequence[Instruction]
    ) -> bool:
        """Whether the function goes on in itself, or in no other one: behind the instruction and
        where it jumps to.
        """
        if line.leaves:
            return False
        if not line.jumps:
            return True
        if (target := line.target) is None:
            return line.is_switch(before)
        if lines[0].offset <= target < lines[-1].end:
            return any(other.offset == target for other in lines)
        return target not in self._sizes and self._pointer(target) is None

    def _pointer(self, offset: int) -> int | None:
        """Of an entry of the linkage table: where the pointer is by which it jumps."""
        at = offset - self._start
        distance = abi.HERE.linkage_distance(self._bytes[at : at + 16] if at >= 0 else b"", offset)
        return None if distance is None else offset + distance
