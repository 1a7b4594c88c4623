# SPDX-License-Identifier: LGPL-2.1-or-later
"""Empty jumps where loops fall into their heads: an interpreter of a few lines does the same
with both programs; and descriptors of maps.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.kernel.loading.bytecode import with_jumps_back, with_maps

Insn = tuple[int, int, int, int]  # opcode, registers, offset, immediate
ADD, STORE, LOAD_64, CALL, EXIT, GOTO, IF, IF_32, MAY_GOTO, FAR_GOTO = (
    0x07,
    0x62,
    0x18,
    0x85,
    0x95,
    5,
    0x15,
    0x16,
    0xE5,
    6,
)
EMPTY = (GOTO, 0, 0, 0)
STEPS = 64


def packed(*insns: Insn) -> bytes:
    return b"".join(struct.pack("<BBhi", *insn) for insn in insns)


def unpacked(code: bytes) -> list[Insn]:
    return list(struct.iter_unpack("<BBhi", code))


def run(code: bytes, turns: list[bool]) -> list[tuple[Insn, ...]]:
    """What is done until the program ends or `turns`, whether each condition holds, is used up;
    a jump does nothing by itself.
    """
    insns, at, done, left = unpacked(code), 0, list[tuple[Insn, ...]](), iter(turns)
    for _ in range(STEPS):
        insn = insns[at]
        opcode, registers, offset, immediate = insn
        if insn == EMPTY:
            at += 1
            continue
        if opcode in (IF, IF_32, MAY_GOTO, GOTO):
            turn = opcode == GOTO or next(left, None)
            if turn is None:
                return done
            done.append(((opcode, registers, 0, immediate),))
            at += 1 + (offset if turn else 0)
        elif opcode == LOAD_64:
            done.append((insn, insns[at + 1]))
            at += 2
        else:
            done.append((insn,))
            at += 1
        if opcode == EXIT:
            break
    return done


@st.composite
def programs(draw: st.DrawFn) -> bytes:
    """Instructions, of which some jump to any other's beginning; the last one ends the program."""
    kinds = draw(
        st.lists(
            st.sampled_from([ADD, STORE, LOAD_64, CALL, EXIT, GOTO, IF, IF_32, MAY_GOTO]),
            max_size=20,
        )
    )
    starts, length = [], 0
    for kind in kinds:
        starts.append(length)
        length += 2 if kind == LOAD_64 else 1
    insns: list[Insn] = []
    for number, (kind, start) in enumerate(zip(kinds, starts, strict=True)):
        jumps = kind in (GOTO, IF, IF_32, MAY_GOTO)
        offset = (
            draw(st.sampled_from([*starts, length])) - start - 1
            if jumps
            else 8
            if kind == STORE
            else 0
        )
        insns.append((kind, 0, offset, number + 1))  # nothing but what is put in is an empty jump
        if kind == LOAD_64:
            insns.append((0, 0, 0, draw(st.sampled_from([0, GOTO, IF, EXIT]))))
    return packed(*insns, (EXIT, 0, 0, 0))


@given(programs(), st.lists(st.booleans(), max_size=STEPS))
def test_the_program_does_the_same(code: bytes, turns: list[bool]) -> None:
    made = with_jumps_back(code)
    steps, others = run(code, turns), run(made, turns)
    common = min(len(steps), len(others))  # empty jumps are steps, too
    assert steps[:common] == others[:common]
    assert common == len(steps) or len(made) > len(code)
    assert [insn[3] for insn in unpacked(made) if insn != EMPTY] == [
        insn[3] for insn in unpacked(code)
    ]


@given(programs())
def test_nothing_falls_into_what_is_jumped_to_from_above(code: bytes) -> None:
    made = with_jumps_back(code)
    insns = unpacked(made)
    seconds = {at + 1 for at, insn in enumerate(insns) if insn[0] == LOAD_64}
    jumps = {
        at: at + 1 + insn[2]
        for at, insn in enumerate(insns)
        if insn[0] in (GOTO, IF, IF_32, MAY_GOTO) and at not in seconds
    }
    for at, target in jumps.items():
        assert target not in seconds
        if target > at + 1:
            assert target - 1 in jumps or insns[target - 1][0] == EXIT
    assert with_jumps_back(made) == made


def test_loop_that_begins_in_its_middle() -> None:
    code = packed((GOTO, 0, 1, 1), (ADD, 0, 0, 2), (ADD, 0, 0, 3), (IF, 0, -3, 4), (EXIT, 0, 0, 0))
    # into the middle, the part above it, what it falls through to, and back
    assert unpacked(with_jumps_back(code)) == [
        (GOTO, 0, 2, 1),
        (ADD, 0, 0, 2),
        EMPTY,
        (ADD, 0, 0, 3),
        (IF, 0, -4, 4),
        (EXIT, 0, 0, 0),
    ]


def test_way_back_goes_behind_the_empty_jump() -> None:
    code = packed((IF, 0, 1, 1), (ADD, 0, 0, 2), (ADD, 0, 0, 3), (IF, 0, -2, 4), (EXIT, 0, 0, 0))
    assert unpacked(with_jumps_back(code)) == [
        (IF, 0, 2, 1),
        (ADD, 0, 0, 2),
        EMPTY,
        (ADD, 0, 0, 3),
        (IF, 0, -2, 4),
        (EXIT, 0, 0, 0),
    ]


@pytest.mark.parametrize(
    "code",
    [
        b"",
        packed((ADD, 0, 0, 1), (EXIT, 0, 0, 0)),
        packed((ADD, 0, 0, 1), (IF, 0, -2, 2), (EXIT, 0, 0, 0)),  # to a place above only
        packed((IF, 0, 1, 1), (EXIT, 0, 0, 0), (EXIT, 0, 0, 0)),  # nothing falls through an end
        # nor through a jump
        packed((IF, 0, 2, 1), (ADD, 0, 0, 2), (GOTO, 0, -3, 3), (EXIT, 0, 0, 0)),
    ],
)
def test_what_is_right_stays(code: bytes) -> None:
    assert with_jumps_back(code) == code


@pytest.mark.parametrize(
    "far",
    [
        [(FAR_GOTO, 0, 0, 3)],  # clang -mcpu=v4
        [(CALL, 0x10, 0, 3)],  # a function of the same program
        [(LOAD_64, 0x40, 0, 3), (0, 0, 0, 0)],  # its address
    ],
)
def test_programs_with_places_in_immediates_stay(far: list[Insn]) -> None:
    code = packed(*far, (IF, 0, 1, 1), (ADD, 0, 0, 2), (ADD, 0, 0, 3), (EXIT, 0, 0, 0))
    assert with_jumps_back(code) == code


def test_maps_are_named_when_a_program_is_loaded() -> None:
    """By their descriptors then; what only looks like one stays: the second half of a long
    instruction, and a number.
    """

    def long(source: int, value: int) -> bytes:
        return struct.pack("<BBhiBBhi", 0x18, source << 4 | 1, 0, value, 0, 0, 0, 0x18)

    plain = struct.pack("<BBhi", 0xB7, 0x10, 0, 1)
    code = long(1, 0) + plain + long(0, 1) + long(1, 2) + plain
    named = with_maps(code, [70, 80, 90])
    assert named == long(1, 70) + plain + long(0, 1) + long(1, 90) + plain
