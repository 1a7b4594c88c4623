# SPDX-License-Identifier: LGPL-2.1-or-later
"""A 32-bit program with several stacks does what it does untraced, and each call is shown."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from probes.kernel.loading.features import SESSION
from tests.kernel.conftest import logged
from tests.kernel.test_stacks import (
    IN_ANOTHER,
    LEFT,
    SWITCHED,
    begin_and_end_in_the_middle,
    both_ways,
)
from tests.kernel.test_stacks import SLOW_ROUNDS as ROUNDS
from tests.libvirts.conftest import OtherRoot, i386
from tests.needs import I386, PATIENCE, ROOT

__all__ = ["i386"]


class Stacks(NamedTuple):
    """The program with a libvirt of its own, as a command in the 32-bit root."""

    own: Path
    words: tuple[str, ...]


@pytest.fixture(scope="module")
def stacks() -> Iterator[Stacks]:
    name = f"stacks-{os.getpid()}"  # others may test side by side
    folder = I386 / "root" / name
    folder.mkdir()
    for source in ("stacks.c", "caller.h"):
        shutil.copy(ROOT / "tests" / "callers" / source, folder)
    flags = ("-O2", "-g", "-pthread", "-Wall", "-Wextra", "-Werror")
    built = OtherRoot(I386).run(
        "sh",
        "-euc",
        'cd "$0"; cp /usr/lib/i386-linux-gnu/libvirt.so.0 own.so; exec "$@"',
        f"/root/{name}",
        "gcc",
        *flags,
        *("-o", "stacks", "stacks.c", "-lvirt"),
    )
    assert built.returncode == 0, built.stderr
    yield Stacks(
        folder / "own.so", ("env", f"LD_PRELOAD=/root/{name}/own.so", f"/root/{name}/stacks")
    )
    shutil.rmtree(folder)


each_case = pytest.mark.parametrize(
    "what", ["fibers", "above", "below", "longjmp", "copies", "nested"]
)


@both_ways
@each_case
def test_stacks_of_a_32bit_program(
    trace, i386, stacks: Stacks, tmp_path: Path, way: str, what: str
) -> None:
    words = (*stacks.words, what, str(ROUNDS))
    alone = i386.run(*words)
    log, facts = tmp_path / "log.json", tmp_path / "facts"
    traced = trace(
        *("--library", str(stacks.own), "-o", str(log), "--", "sh", "-c", 'exec "$@" >"$0"'),
        *(str(facts), *i386.entering, *words),
        attached=False,
    ).finish(60 * PATIENCE, lost=None)
    assert (alone.returncode, traced.status) == (0, 0), traced.stderr
    assert facts.read_text() == alone.stdout
    backs = json.loads(alone.stdout.splitlines()[-1])[1]
    result = logged(log)
    assert result.lost == 0
    told = Counter(
        (call["function"], call.get("ret", call.get("reason")))
        for call in result.calls()
        if call["function"] != "virConnectOpen"
    )
    made = Counter[str]()
    for (function, _), count in told.items():
        made[function] += count
    twice = what in ("above", "below")
    assert made == {
        "virDomainLookupByName": backs,
        "virConnectNumOfDomains": backs + ROUNDS * (twice or what == "nested"),
    }
    reasons = {LEFT, SWITCHED, IN_ANOTHER, "process exited", "result lost"}
    assert {result for _, result in told} <= {None, 1, *reasons}
    assert told["virDomainLookupByName", 1] == told["virConnectNumOfDomains", None] == 0
    if what in ("above", "below", "nested"):
        outermost = ROUNDS if way == SESSION else made["virConnectNumOfDomains"]
        assert told["virConnectNumOfDomains", 1] == outermost
        failed = ROUNDS if way == SESSION else backs
        assert told["virDomainLookupByName", None] == failed
    elif what == "fibers":
        assert told == {
            ("virDomainLookupByName", None): ROUNDS - 1,
            ("virDomainLookupByName", "process exited"): 1,
            ("virConnectNumOfDomains", SWITCHED if way == SESSION else 1): ROUNDS,
        }


@both_ways
@each_case
def test_tracing_of_a_32bit_program_that_begins_and_ends_in_the_middle(
    trace, endless, i386, stacks: Stacks, way: str, what: str
) -> None:
    process = endless(*i386.entering, *stacks.words, what, 0)
    rounds, backs = begin_and_end_in_the_middle(stacks.own, trace, process)
    assert backs == (4 if what == "nested" else 1) * rounds
