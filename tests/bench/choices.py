# SPDX-License-Identifier: LGPL-2.1-or-later
"""What calls cost of which nobody wants to know, or whose result is not learnt; ns per call go out,
beside those of a probe at the entry alone.
"""

from __future__ import annotations

import contextlib
import os
from statistics import median
from typing import NamedTuple

from probes.host.libraries.library import Target
from probes.internals import returns
from probes.kernel import bpf
from probes.kernel.links import Links, Probe
from probes.kernel.loading.features import CONFINED, RETURN_0
from tests.bench.cost import BURSTS, CALLS, CATCH_UP_MS, FUNCTION, QUICK_BURSTS
from tests.bench.runs import Command, Programs, Rounds, call
from tests.bench.table import Row

PART = "calls without result"
INIT = "1"  # another process than the caller
# the second is called by the first, and both begin with an instruction that needs no single step
OUTER, INNER = "virTypedParamsGetInt", "virTypedParamsGet"
TARGET = "at most 1.05 entry-only probes"


class Way(NamedTuple):
    """What is measured: the options of the command, None where there is none; offsets of a program
    that returns 0; what the caller does.
    """

    what: str
    options: tuple[str, ...] | None = None
    offsets: tuple[int, ...] = ()
    calls: str = "burst"
    is_confined: bool = False
    target: str = ""


def ways(target: Target) -> list[Way]:
    """The anchor first; the last two are shown as what the second has more."""
    offset = dict(target.functions)[FUNCTION]
    found = [Way("a probe at the entry, a program that returns 0", offsets=(offset,))]
    if returns.can_be_found():
        places = returns.LibraryCode(target.fd, target.path).returns(offset)
        found.append(
            Way("and one on the instruction that returns", offsets=(offset, *places)),
        )
    return [
        *found,
        Way("a call that is filtered out by its process", ("-p", INIT), target=TARGET),
        Way("one under seccomp, where return probes kill", ("--json",), is_confined=True),
        Way("a call whose inner one has no probe", ("--json", "-f", OUTER), calls="nest"),
        Way("a nested call: more", ("--json", "-f", OUTER, "-f", INNER), calls="nest"),
    ]


def rows(programs: Programs, target: Target, rounds: Rounds) -> list[Row]:
    """Each way in turn, round after round."""
    null = bpf.load_program(RETURN_0, "null", sleepable=False, multi=True)
    chosen, bursts = ways(target), QUICK_BURSTS if rounds.quick else BURSTS
    taken: dict[str, list[float]] = {way.what: [] for way in chosen}
    try:
        for _ in range(rounds.number):
            for way in chosen:
                with contextlib.ExitStack() as stack:
                    _attach(stack, way, target, null)
                    env = {"BENCH_CONFINED": "1"} if way.is_confined else {}
                    times = call(programs, way.calls, CALLS, bursts, CATCH_UP_MS, env=env)
                    taken[way.what].append(min(times))
    finally:
        os.close(null)
    *_, without, nested = chosen
    taken[nested.what] = [
        both - one for one, both in zip(taken[without.what], taken[nested.what], strict=True)
    ]
    return [Row(PART, way.what, median(taken[way.what]), "ns", target=way.target) for way in chosen]


def _attach(stack: contextlib.ExitStack, way: Way, target: Target, null: int) -> None:
    if way.options is None:
        probes = [Probe(offset, 0, False) for offset in way.offsets]
        stack.callback(Links(target.path_for_kernel, probes, null, null, multi=True).close)
    else:
        env = {**os.environ, CONFINED: "1"} if way.is_confined else None
        stack.callback(Command(*way.options, env=env).stop)
