# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each instruction of a function does to registers and memory, of x86-64."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from probes.kernel.abi import HERE
from probes.kernel.machines.machine import Instruction
from probes.kernel.machines.x86_64 import instruction

FUTEX = 202  # number of the system call that waits for other threads
NEAR_CALL, POINTER_CALL = b"\xe8", b"\xff\x15"  # call function; call *distance(%rip)
# the registers of integers, as tables of frames number them
_NUMBERS = {
    "a": 0, "d": 1, "c": 2, "b": 3, "si": 4, "di": 5, "bp": 6, "sp": 7,
    **{f"r{i}": i for i in range(8, 16)},
}  # fmt: skip
_register = re.compile(r"[er]?([abcd])[xlh]|[er]?(si|di|bp|sp)l?|(r[0-9]+)[dwb]?").fullmatch
STACK = 7  # the register that points to the stack's end
_REPEATS = (0xF2, 0xF3)
ARGUMENTS = (5, 4, 1, 2, 8, 9)  # registers, in their order
MAY_CHANGE = frozenset({0, 1, 2, 4, 5, 8, 9, 10, 11})  # registers, in a function that is called


def register(name: str) -> int | None:
    """The number of the register that is, or has, the one of that name."""
    found = _register(name)
    return _NUMBERS[next(filter(None, found.groups()))] if found else None


class Step(NamedTuple):
    """What one instruction does to registers and memory."""

    line: Instruction
    writes: frozenset[int]
    copies: tuple[int, int] | None = None  # from one register to another, whole or half of it
    # eight bytes between a register and memory, at a distance from another register
    loads: tuple[int, int] | None = None
    stores: tuple[int, int, int] | None = None  # the last: the register that is stored
    reads: tuple[int, int] | None = None  # four bytes, as `loads`
    # a register becomes another one, or itself, and so much more
    adds: tuple[int, int, int] | None = None
    # memory that is written: at a distance from a register, bytes; 0: nobody knows how many
    touches: tuple[tuple[int, int, int], ...] = ()


def steps(code: bytes, offset: int) -> list[Step]:
    """A function's instructions, one by one; none if not all of it are some."""
    if HERE.name != "x86-64":  # what follows from these is not known there
        return []
    import capstone

    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.detail = True
    found = [_step(engine, one) for one in engine.disasm(code, offset)]
    return found if found and found[-1].line.end == offset + len(code) else []


def _step(engine: Any, one: Any) -> Step:
    import capstone

    name = one.mnemonic.split()[-1]
    line = instruction(one.address, one.size, name, one.op_str)
    named = (register(engine.reg_name(number)) for number in one.regs_access()[1])
    writes = frozenset(number for number in named if number is not None)
    step = Step(line, writes, touches=_touches(engine, one, capstone))
    if name in ("push", "pop"):
        change = -8 if name == "push" else 8
        kept = _place(engine, one.operands[0], capstone) if name == "push" else None
        stores = (STACK, -8, kept) if isinstance(kept, int) else None
        touched = ((STACK, -8, 8),) if name == "push" else step.touches
        return step._replace(adds=(STACK, STACK, change), stores=stores, touches=touched)
    if len(one.operands) != 2:
        return step
    to, source = (_place(engine, operand, capstone) for operand in one.operands)
    whole = one.operands[0].size == 8
    if name in ("add", "sub") and whole and isinstance(to, int):
        if one.operands[1].type == capstone.x86.X86_OP_IMM:
            change = one.operands[1].imm
            return step._replace(adds=(to, to, change if name == "add" else -change))
    elif name == "lea" and whole and isinstance(to, int) and isinstance(source, tuple):
        return step._replace(adds=(to, *source))
    elif name == "mov":
        return _moved(step, to, source, one.operands[0].size)
    return step


_Operand = int | tuple[int, int] | None


def _moved(step: Step, to: _Operand, source: _Operand, size: int) -> Step:
    if isinstance(to, int) and isinstance(source, int) and size >= 4:
        return step._replace(copies=(source, to))
    if isinstance(to, int) and isinstance(source, tuple):
        return step._replace(
            loads=source if size == 8 else None, reads=source if size == 4 else None
        )
    if isinstance(to, tuple) and isinstance(source, int) and size == 8:
        return step._replace(stores=(*to, source))
    return step


def _touches(engine: Any, one: Any, capstone: Any) -> tuple[tuple[int, int, int], ...]:
    """Memory that it writes."""
    found = []
    for operand in one.operands:
        if operand.type != capstone.x86.X86_OP_MEM or not operand.access & capstone.CS_AC_WRITE:
            continue
        base = register(engine.reg_name(operand.mem.base)) if operand.mem.base else None
        if base is not None:
            is_one = not operand.mem.index and one.prefix[0] not in _REPEATS
            found.append((base, operand.mem.disp, operand.size if is_one else 0))
    return tuple(found)


def _place(engine: Any, operand: Any, capstone: Any) -> _Operand:
    """A register, or memory at a distance from one."""
    if operand.type == capstone.x86.X86_OP_REG:
        return register(engine.reg_name(operand.reg))
    if operand.type != capstone.x86.X86_OP_MEM or operand.mem.index or operand.mem.segment:
        return None
    base = register(engine.reg_name(operand.mem.base)) if operand.mem.base else None
    return None if base is None else (base, operand.mem.disp)
