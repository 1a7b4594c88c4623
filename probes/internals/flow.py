# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a function keeps its arguments: its machine code comes in; which registers have which of
them while it is in a function that it calls goes out, and where it reads and writes behind them.

A register has an argument where every way from the function's begin to there has put it there.
What the code does not prove is not told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from probes.kernel.machines.steps import ARGUMENTS, MAY_CHANGE, Step, steps

LONGEST = 1 << 13  # bytes of a function; the longest that is asked for has 2800

Registers = Mapping[int, int]  # those that have an argument, and which


class Flow(NamedTuple):
    """Registers are numbered as tables of frames do."""

    after: Mapping[int, Registers]  # by the offset behind a call
    loads: frozenset[tuple[int, int]]  # of eight bytes: behind which argument, how far
    # likewise, and which argument is stored; -1: none
    stores: frozenset[tuple[int, int, int]]


NOTHING = Flow({}, frozenset(), frozenset())


def follow(code: bytes, offset: int) -> Flow:
    """A function's code, which is at that offset."""
    if not 0 < len(code) <= LONGEST:
        return NOTHING
    found = steps(code, offset)
    known = _states(found) if found else None
    if known is None:
        return NOTHING
    after: dict[int, Registers] = {}
    loads, stores = set(), set()
    for step, state in zip(found, known, strict=True):
        if state is None:  # nothing leads there
            continue
        if step.line.calls:
            after[step.line.end] = _past(step, state)
        if step.loads and step.loads[0] in state:
            loads.add((state[step.loads[0]], step.loads[1]))
        if step.stores and step.stores[0] in state:
            stores.add((state[step.stores[0]], step.stores[1], state.get(step.stores[2], -1)))
    return Flow(after, frozenset(loads), frozenset(stores))


def _states(found: list[Step]) -> list[Registers | None] | None:
    """What registers have before each instruction; None: it can't be told where it goes on."""
    index = {step.line.offset: i for i, step in enumerate(found)}
    known: list[Registers | None] = [None] * len(found)
    known[0] = {register: number for number, register in enumerate(ARGUMENTS)}
    changed = [0]
    while changed:
        i = changed.pop()
        step, state = found[i], known[i]
        assert state is not None
        following = _following(step, i, index)
        if following is None:
            return None
        past = _past(step, state)
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


def _past(step: Step, state: Registers) -> Registers:
    gone = MAY_CHANGE if step.line.calls else step.writes
    past = {register: number for register, number in state.items() if register not in gone}
    if step.copies and step.copies[0] in state:
        past[step.copies[1]] = state[step.copies[0]]
    return past
