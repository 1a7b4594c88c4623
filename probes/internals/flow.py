# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a function keeps its arguments: its machine code comes in; which registers and which places
on its stack have which of them while it is in a function that it calls goes out, and where it
reads and writes behind them.

A place has an argument where every way from the function's begin to there has put it there. Places
on the stack are known by their distance from the frame's address, which is below 0. Others may
write to what is at or above an address that the function has made a pointer of: there nothing is
known. What the code does not prove is not told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from probes.kernel.machines.steps import ARGUMENTS, MAY_CHANGE, STACK, Step, steps

LONGEST = 1 << 13  # bytes of a function; the longest that is asked for has 2800
_FRAME = 6  # the register that may point to the frame
_RETURN = -8  # where the stack ends as a function begins: its return address is there

Places = Mapping[int, int]  # registers, and below 0 the stack, that have an argument, and which


class Flow(NamedTuple):
    """Registers are numbered as tables of frames do."""

    after: Mapping[int, Places]  # by the offset behind a call
    loads: frozenset[tuple[int, int]]  # of eight bytes: behind which argument, how far
    # likewise, and which argument is stored; -1: none
    stores: frozenset[tuple[int, int, int]]
    # by the offset behind a call and its argument: four bytes behind which one, how far
    passes: Mapping[tuple[int, int], tuple[int, int]] = {}


NOTHING = Flow({}, frozenset(), frozenset())


class _Behind(NamedTuple):
    """Four bytes that are behind an argument."""

    argument: int
    distance: int


class _Stack(NamedTuple):
    """An address on the stack."""

    distance: int


_What = int | _Behind | _Stack  # an int: that argument
_State = Mapping[int, _What]  # what places have


def follow(code: bytes, offset: int) -> Flow:
    """A function's code, which is at that offset."""
    if not 0 < len(code) <= LONGEST:
        return NOTHING
    found = steps(code, offset)
    known = _states(found, 0) if found else None
    if known is None:
        return NOTHING
    if (lowest := _lowest_pointer(found, known)) < 0:
        known = _states(found, lowest)
        assert known is not None
    after: dict[int, Places] = {}
    passes: dict[tuple[int, int], tuple[int, int]] = {}
    loads, stores = set(), set()
    for step, state in zip(found, known, strict=True):
        if state is None:  # nothing leads there
            continue
        if step.line.calls:
            after[step.line.end] = _arguments(_past(step, state, 0))
            for number, register in enumerate(ARGUMENTS):
                if isinstance(behind := state.get(register), _Behind):
                    passes[step.line.end, number] = behind.argument, behind.distance
        given = _arguments(state)
        if step.loads and step.loads[0] in given:
            loads.add((given[step.loads[0]], step.loads[1]))
        if step.stores and step.stores[0] in given:
            stores.add((given[step.stores[0]], step.stores[1], given.get(step.stores[2], -1)))
    return Flow(after, frozenset(loads), frozenset(stores), passes)


def _arguments(state: _State) -> Places:
    return {place: what for place, what in state.items() if isinstance(what, int)}


def _lowest_pointer(found: list[Step], known: list[_State | None]) -> int:
    """Of all addresses on the stack that others may be given: how far it is from the frame's."""
    lowest = 0
    for step, state in zip(found, known, strict=True):
        past = _past(step, state, 0) if state is not None else {}
        for place in step.writes - {STACK}:
            what = past.get(place)
            if isinstance(what, _Stack) and step.copies != (STACK, _FRAME):
                lowest = min(lowest, what.distance)
    return lowest


def _states(found: list[Step], below: int) -> list[_State | None] | None:
    """What places have before each instruction, on the stack those that are below; None: it can't
    be told where it goes on.
    """
    index = {step.line.offset: i for i, step in enumerate(found)}
    known: list[_State | None] = [None] * len(found)
    known[0] = {
        STACK: _Stack(_RETURN),
        **{register: number for number, register in enumerate(ARGUMENTS)},
    }
    changed = [0]
    while changed:
        i = changed.pop()
        step, state = found[i], known[i]
        assert state is not None
        following = _following(step, i, index)
        if following is None:
            return None
        past = _past(step, state, below)
        for j in following:
            if j >= len(found):
                continue
            before = known[j]
            both = past if before is None else dict(before.items() & past.items())
            if both != before:
                known[j] = both
                changed.append(j)
    return known


def _following(step: Step, i: int, index: Mapping[int, int]) -> list[int] | None:
    line = step.line
    if line.returns or line.name in ("ud2", "hlt"):
        return []
    if not line.jumps:
        return [i + 1]
    if line.target is None:
        return None
    led = [index[line.target]] if line.target in index else []  # else it goes elsewhere
    return led if line.name == "jmp" else [i + 1, *led]


def _past(step: Step, state: _State, below: int) -> _State:
    gone = MAY_CHANGE if step.line.calls else step.writes
    past = {place: what for place, what in state.items() if place not in gone}
    for base, distance, size in step.touches:
        if isinstance(at := state.get(base), _Stack):
            _forget(past, at.distance + distance, size)
    stack = state.get(STACK)
    if step.line.calls:  # what is beyond the stack's end is free for others
        end = stack.distance if isinstance(stack, _Stack) else 0
        past = {place: what for place, what in past.items() if place >= 0 or place >= end}
    for place, what in _found(step, state):
        if place >= 0 or place < below or not below:
            past[place] = what
    return past


def _found(step: Step, state: _State) -> Iterator[tuple[int, _What]]:
    """Places, and what the instruction puts there, as far as that is known."""
    if step.copies and step.copies[0] in state:
        yield step.copies[1], state[step.copies[0]]
    if step.adds and isinstance(at := state.get(step.adds[1]), _Stack):
        yield step.adds[0], _Stack(at.distance + step.adds[2])
    if step.stores and isinstance(at := state.get(step.stores[0]), _Stack):
        what, place = state.get(step.stores[2]), at.distance + step.stores[1]
        if isinstance(what, int) and place < 0:
            yield place, what
    for source, size in ((step.loads, 8), (step.reads, 4)):
        if source and len(step.writes) == 1:
            (to,), at = step.writes, state.get(source[0])
            if isinstance(at, _Stack) and size == 8 and at.distance + source[1] in state:
                yield to, state[at.distance + source[1]]
            if isinstance(at, int) and size == 4:
                yield to, _Behind(at, source[1])


def _forget(past: dict[int, _What], at: int, size: int) -> None:
    """What is on the stack there was written to; 0 bytes: nobody knows how many."""
    for place in [place for place in past if place < 0]:
        if not size or (place < at + size and at < place + 8):
            del past[place]
