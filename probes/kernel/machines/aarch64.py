# SPDX-License-Identifier: LGPL-2.1-or-later
"""aarch64."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from probes.kernel.machines.machine import Instruction, Machine

_STACK_POINTER = 31
_BTI = 0xD503245F  # bti c
# cbz x0, #0x12; tbz w0, #3, #0x12; b #0x12
_last_number = re.compile(r"(?:.*, )?#(0x[0-9a-f]+|[0-9]+)").fullmatch


def _words(code: bytes) -> tuple[int, ...]:
    return struct.unpack_from(f"<{len(code) // 4}I", code)


def _places(word: int) -> tuple[int, ...]:
    """The distances from a register, other than the stack pointer, at which the instruction reads
    or writes memory, or takes an address.
    """
    if word >> 5 & 31 == _STACK_POINTER:
        return ()
    if word & 0x3B000000 == 0x39000000:  # ldr, str and their like, up to a vector
        size = word >> 30 | (word >> 21 & 4 if word & 1 << 26 else 0)
        return ((word >> 10 & 0xFFF) << size,)
    if word & 0x3B200C00 == 0x38000000 and not word & 1 << 20:  # ldur, stur; not below
        return (word >> 12 & 0xFF,)
    if word & 0x3B800000 == 0x29000000 and not word & 1 << 21:  # ldp, stp; not below
        vector = word >> 26 & 1
        size = 2 + (word >> 30) if vector else 2 + (word >> 31)
        first = (word >> 15 & 0x3F) << size
        return first, first + (1 << size)
    if word & 0x7FC00000 == 0x11000000:  # add
        return (word >> 10 & 0xFFF,)
    return ()


def displacements(code: bytes) -> frozenset[int]:
    """The distances from a register at which the code reads or writes memory."""
    return frozenset(distance for word in _words(code) for distance in _places(word))


def loads(code: bytes, distance: int) -> bool:
    """Whether the code reads a pointer or a byte at that distance from a register."""
    return any(
        word & 0xFFC00000 in (0xF9400000, 0x39400000) and distance in _places(word)
        for word in _words(code)
    )


def ends_with_call(code: bytes) -> bool:
    """Whether it is an instruction that calls something: bl function; blr register."""
    if len(code) != 4:
        return False
    (word,) = _words(code)
    return word >> 26 == 0x25 or word & 0xFFFFFC1F == 0xD63F0000


def linkage_distance(code: bytes, offset: int) -> int | None:
    """Of an entry of the linkage table at that offset: how far from its begin the pointer is by
    which it jumps; None: it is no such entry.
    """
    words = _words(code)
    past = int(words[:1] == (_BTI,))
    if len(words) < past + 2:
        return None
    page, load = words[past : past + 2]
    # adrp x16, page; ldr x17, [x16, distance]
    if page & 0x9F00001F != 0x90000010 or load & 0xFFC003FF != 0xF9400211:
        return None
    pages = (page >> 5 & 0x7FFFF) << 2 | page >> 29 & 3
    pages -= pages >> 20 << 21
    at = offset + 4 * past
    return ((at >> 12) + pages << 12) + ((load >> 10 & 0xFFF) << 3) - offset


def disassembler(_: int) -> Callable[[bytes, int], list[Instruction]]:
    """Of code for 64 bits: others are no libraries of this machine."""
    import capstone

    engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    return lambda code, offset: [_instruction(*one) for one in engine.disasm_lite(code, offset)]


def _instruction(at: int, length: int, name: str, operands: str) -> Instruction:
    jumps = name in ("b", "br", "cbz", "cbnz", "tbz", "tbnz") or name.startswith(
        ("b.", "bra", "bc.")
    )
    calls = name.startswith("bl")
    number = _last_number(operands) if jumps or calls else None
    return Instruction(
        at,
        length,
        name,
        operands,
        returns=name in ("ret", "retaa", "retab") and operands in ("", "x30"),
        calls=calls,
        jumps=jumps,
        leaves=name.startswith(("eret", "drps")) or (name == "ret" and operands not in ("", "x30")),
        target=int(number[1], 0) if number else None,
    )


AARCH64 = Machine(
    "aarch64",
    bpf=280,
    perf_event_open=241,
    uretprobe=None,
    empty=b"\xc0\x03\x5f\xd6",  # ret
    is_ordered=False,
    registers=8,
    stack_at=0,
    stack_pointer=31,
    return_address=30,
    address=(1 << 48) - 1,  # above are its signature's
    mutex=48,
    call_bytes=4,
    ends_with_call=ends_with_call,
    displacements=displacements,
    loads=loads,
    libraries=frozenset({"aarch64"}),
    disassembler=disassembler,
    linkage_distance=linkage_distance,
)
