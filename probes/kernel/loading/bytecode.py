# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bytecode comes in and goes out: with the descriptors of maps in it, and with empty jumps where a
loop falls into its head, so that older kernels take it.

Before 6.8 or so the verifier takes a way back to an earlier instruction only from a jump. Clang
likes to begin a loop in its middle, so that the way back is plain falling through from the
instruction above. A jump to the next instruction says the same.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_INSN = struct.Struct("<BBhi")
_LOAD_64 = 0x18  # takes two slots
_JUMP, _JUMP_32 = 0x05, 0x06  # classes
_JA, _CALL, _EXIT = 0x05, 0x85, 0x95
_FAR_JUMP = 0x06
# in the source register's place: of a function in the same program, of a map by its descriptor
_LOCAL_CALL, _MAP, _LOCAL_ADDRESS = 1, 1, 4
_EMPTY_JUMP = _INSN.pack(_JA, 0, 0, 0)


def with_maps(code: bytes, descriptors: Sequence[int]) -> bytes:
    """The same program; what stands for a map, a place among the descriptors, becomes the map's.

    So that the program is compiled once: a descriptor is another number in each process.
    """
    result = bytearray(code)
    at = 0
    while at < len(code):
        opcode, registers, offset, immediate = _INSN.unpack_from(code, at)
        if opcode == _LOAD_64:
            if registers >> 4 == _MAP:
                _INSN.pack_into(result, at, opcode, registers, offset, descriptors[immediate])
            at += 8
        at += 8
    return bytes(result)


def with_jumps_back(code: bytes) -> bytes:
    """The same program; a plain instruction above a place that is jumped to from further up gets an
    empty jump behind it.

    A program that tells places otherwise than in the offsets of jumps stays as it is.
    """
    insns = [code[at : at + 8] for at in range(0, len(code), 8)]
    targets = {at: at + 1 + offset for at, offset in _jumps(insns)}
    from_above = {target for at, target in targets.items() if target > at + 1}
    plain = _plain(insns)
    marked = sorted(target for target in from_above if target - 1 in plain)
    if not marked or any(_is_far(insn) for insn in insns):
        return code
    # where an instruction is afterwards; a jump to a marked place goes behind the empty jump
    moved, added, upcoming = [], 0, iter([*marked, len(insns) + 1])
    mark = next(upcoming)
    for at in range(len(insns) + 1):
        if at == mark:
            added += 1
            mark = next(upcoming)
        moved.append(at + added)
    result = bytearray()
    for at, insn in enumerate(insns):
        if at in marked:
            result += _EMPTY_JUMP
        if at in targets:
            opcode, registers, _, immediate = _INSN.unpack(insn)
            insn = _INSN.pack(opcode, registers, moved[targets[at]] - moved[at] - 1, immediate)
        result += insn
    return bytes(result)


def _jumps(insns: list[bytes]) -> list[tuple[int, int]]:
    """(place, offset) of every jump."""
    found = []
    for at, insn in enumerate(insns):  # the second half of a long one has 0 for its opcode
        opcode, _, offset, _ = _INSN.unpack(insn)
        if opcode & 7 in (_JUMP, _JUMP_32) and opcode not in (_CALL, _EXIT):
            found.append((at, offset))
    return found


def _plain(insns: list[bytes]) -> set[int]:
    """Places that only the next instruction follows."""
    jumps = {at for at, _ in _jumps(insns)}
    return {at for at, insn in enumerate(insns) if at not in jumps and insn[0] != _EXIT}


def _is_far(insn: bytes) -> bool:
    """Whether the place of another instruction is in the immediate."""
    opcode, source = insn[0], insn[1] >> 4
    return opcode == _FAR_JUMP or (opcode, source) in (
        (_CALL, _LOCAL_CALL),
        (_LOAD_64, _LOCAL_ADDRESS),
    )
