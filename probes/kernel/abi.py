# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is this machine's: numbers of system calls, registers, machine code, the order of memory.
What of it the BPF program needs is in trace/abi-NAME.bpf.h, what the enforcer needs in
enforcer/library/enter-NAME.S; nothing else knows a machine.
"""

from __future__ import annotations

import os
import re
import struct
import sys
import threading
from typing import Any, NamedTuple

from log.errors import TraceError


class Machine(NamedTuple):
    """A machine that programs can be traced on."""

    name: str  # in names of files, and as elf.py has it
    bpf: int  # numbers of system calls
    perf_event_open: int
    uretprobe: int | None  # from Linux 6.11 on, what a return probe is
    empty: bytes  # machine code of a function that does nothing
    # whether loads are seen in their order, and stores in theirs, by other processors
    is_ordered: bool


MACHINES = {
    # push %rbp; pop %rbp; ret
    "x86_64": Machine("x86-64", 321, 298, 335, b"\x55\x5d\xc3", is_ordered=True),
}
# elsewhere nothing is traced (check_machine): there is no system call -1
HERE = MACHINES.get(os.uname().machine, Machine("unknown", -1, -1, None, b"", is_ordered=False))
REGISTERS = 6  # for integers and pointers (System V)
STACK_AT = 8  # bytes from the stack pointer, at an entry, to the arguments that are not in these
STACK_POINTER, RETURN_ADDRESS = 7, 16  # as tables of frames number them (DWARF)


def check_machine(machine: str | None = None, order: str = sys.byteorder) -> None:
    """TraceError on a machine that is not known here, or with another byte order: records are
    read as little-endian.
    """
    machine = machine or os.uname().machine
    if machine not in MACHINES or order != "little":
        raise TraceError(
            f"tracing works on {' and '.join(MACHINES)} only, and this machine is "
            f"{machine} ({order}-endian)"
        )


# Instructions that read, or take the address of, [register + displacement]: mov of any width, lea,
# test byte; movups, movdqu and their AVX forms; without optimisation also add. Stack slots
# (register 4 without REX.B) are left out. Looking from every byte on, not only where instructions
# begin, finds a few more that aren't there: harmless, as only what must be there is asked for.
_READS = rb"(?:[\x8b\x8d\xf6]|\x0f[\x10\x6f]|\xc5.[\x10\x6f])"
_NEAR = re.compile(
    rb"(?="
    + _READS
    + rb"[\x40-\x43\x45-\x4b\x4d-\x53\x55-\x5b\x5d-\x63\x65-\x6b\x6d-\x73\x75-\x7b\x7d-\x7f]"
    + rb"([\x00-\x7f]))",
    re.S,
)
_NEAR_R12 = re.compile(
    rb"(?=[\x41\x45\x49\x4d](?:[\x8b\x8d\xf6]|\x0f[\x10\x6f])[\x44\x4c\x54\x5c\x64\x6c\x74\x7c]\x24([\x00-\x7f]))",
    re.S,
)
_FAR = re.compile(
    rb"(?=[\x8b\x8d][\x80-\x83\x85-\x8b\x8d-\x93\x95-\x9b\x9d-\xa3\xa5-\xab\xad-\xb3\xb5-\xbb\xbd-\xbf](.\x00\x00\x00))",
    re.S,
)
_ADDED = re.compile(rb"(?=\x83[\xc0-\xc7]([\x00-\x7f]))", re.S)


def displacements(code: bytes) -> frozenset[int]:
    """The distances from a register at which x86-64 machine code reads memory."""
    near = {
        match[1][0] for pattern in (_NEAR, _NEAR_R12, _ADDED) for match in pattern.finditer(code)
    }
    return frozenset(near | {match[1][0] for match in _FAR.finditer(code)})


_ENDBR = (b"\xf3\x0f\x1e\xfa", b"\xf3\x0f\x1e\xfb")
# jmp *distance(%rip), with bnd, and of a 32-bit library jmp *distance(%ebx)
_LINKAGE = (b"\xff\x25", b"\xf2\xff\x25", b"\xff\xa3")
# call function; call *distance(%rip), *distance(register), *register
_is_call = re.compile(
    rb"..\xe8....|.\xff[\x15\x90-\x97]....|....\xff[\x50-\x57].|.....\xff[\x10-\x17\xd0-\xd7]", re.S
).fullmatch
CALL_BYTES = 7  # the longest of them
# loads by which accessors of libvirt show where they find something, by the distance: mov 80(%rdi),
# %rdi; movzbl 93(%rbx), %ebx; mov 400(%rdi), %rax
LOADS = {80: b"\x48\x8b\x7f\x50", 93: b"\x0f\xb6\x5b\x5d", 400: b"\x48\x8b\x87\x90\x01\x00\x00"}


def ends_with_call(code: bytes) -> bool:
    """Whether the last of CALL_BYTES bytes may be an instruction that calls something."""
    return _is_call(code) is not None


def linkage_distance(code: bytes) -> int | None:
    """Of an entry of the linkage table: how far from its begin the pointer is by which it jumps;
    None: it is no such entry.
    """
    past = 4 if code.startswith(_ENDBR) else 0
    for jump in _LINKAGE:
        end = past + len(jump) + 4
        if code.startswith(jump, past) and len(code) >= end:
            (distance,) = struct.unpack_from("<i", code, end - 4)
            return end + int(distance)
    return None


class Instruction(NamedTuple):
    """One instruction, as a disassembler has it."""

    offset: int
    length: int
    name: str
    operands: str

    @property
    def target(self) -> int | None:
        """Where a jump or a call leads; None: where a register or memory says."""
        return int(self.operands, 16) if self.operands.startswith("0x") else None

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.offset + self.length

    @property
    def returns(self) -> bool:
        """Whether the function returns there."""
        return self.name == "ret"

    @property
    def leaves(self) -> bool:
        """Whether it goes where no function of a library does."""
        return self.name.startswith(("retf", "iret"))

    @property
    def calls(self) -> bool:
        """Whether it calls something."""
        return self.name == "call"

    @property
    def jumps(self) -> bool:
        """Whether it goes on elsewhere, always or sometimes."""
        return self.name.startswith(("j", "loop"))

    def is_switch(self, before: Instruction | None) -> bool:
        """Whether it jumps to where a sum of a table and a distance in it says, which the one
        `before` has made.
        """
        return (
            self.name == "jmp"
            and before is not None
            and before.name == "add"
            and before.operands.startswith(f"{self.operands},")
        )


def disassembler(machine: str, bits: int) -> Any:
    """Capstone's engine for code of a library; None: of a machine that is not known here."""
    import capstone

    if machine not in ("x86-64", "i386"):
        return None
    return capstone.Cs(
        capstone.CS_ARCH_X86, capstone.CS_MODE_64 if bits == 64 else capstone.CS_MODE_32
    )


_turn = threading.Lock()
_turn.acquire()


def fence() -> None:
    """Keeps what was read and written before it before what is read and written after it, as other
    processors see it.

    x86 has its loads in order, and its stores; and no store of ours need be seen before a load that
    comes after it. Elsewhere it is a lock that is given back and taken again: neither a release
    followed by an acquire, nor what is around them, changes places.
    """
    if not HERE.is_ordered:
        _turn.release()
        _turn.acquire()
