# SPDX-License-Identifier: LGPL-2.1-or-later
"""x86-64, and the 32-bit programs that it runs."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from probes.kernel.machines.machine import Instruction, Machine

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
# by the distance: mov 80(%rdi), %rdi; movzbl 93(%rbx), %ebx; mov 400(%rdi), %rax
_LOADS = {80: b"\x48\x8b\x7f\x50", 93: b"\x0f\xb6\x5b\x5d", 400: b"\x48\x8b\x87\x90\x01\x00\x00"}


def ends_with_call(code: bytes) -> bool:
    """Whether the last of CALL_BYTES bytes may be an instruction that calls something."""
    return _is_call(code) is not None


def loads(code: bytes, distance: int) -> bool:
    """Whether the code has the load of that distance by which an accessor of libvirt shows where it
    finds something.
    """
    return _LOADS[distance] in code


def linkage_distance(code: bytes, _: int) -> int | None:
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


def disassembler(bits: int) -> Callable[[bytes, int], list[Instruction]]:
    """Of code for 64 or 32 bits."""
    import capstone

    engine = capstone.Cs(
        capstone.CS_ARCH_X86, capstone.CS_MODE_64 if bits == 64 else capstone.CS_MODE_32
    )
    return lambda code, offset: [instruction(*one) for one in engine.disasm_lite(code, offset)]


def instruction(at: int, length: int, name: str, operands: str) -> Instruction:
    """As a disassembler tells it."""
    name = name.split()[-1]
    return Instruction(
        at,
        length,
        name,
        operands,
        returns=name == "ret",
        calls=name == "call",
        jumps=name.startswith(("j", "loop")),
        leaves=name.startswith(("retf", "iret")),
        target=int(operands, 16) if operands.startswith("0x") and "," not in operands else None,
    )


X86_64 = Machine(
    "x86-64",
    bpf=321,
    perf_event_open=298,
    uretprobe=335,
    empty=b"\x55\x5d\xc3",  # push %rbp; pop %rbp; ret
    is_ordered=True,
    registers=6,
    stack_at=8,
    stack_pointer=7,
    return_address=16,
    address=(1 << 64) - 1,
    mutex=40,
    call_bytes=CALL_BYTES,
    ends_with_call=ends_with_call,
    displacements=displacements,
    loads=loads,
    libraries=frozenset({"x86-64", "i386"}),
    disassembler=disassembler,
    linkage_distance=linkage_distance,
)
