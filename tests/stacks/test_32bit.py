# SPDX-License-Identifier: LGPL-2.1-or-later
"""A 32-bit program with several stacks does what it does untraced, and each call is shown."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.kernel.program import SESSION
from tests.kernel.conftest import logged
from tests.kernel.test_stacks import IN_ANOTHER, LEFT, SWITCHED, WAYS
from tests.kernel.test_stacks import SLOW_ROUNDS as ROUNDS
from tests.libvirts.conftest import OtherRoot, i386
from tests.needs import I386, PATIENCE, ROOT

__all__ = ["i386"]


@pytest.fixture(scope="module")
def stacks() -> Iterator[tuple[str, ...]]:
    """The program with a libvirt of its own, as a command in the 32-bit root."""
    folder = I386 / "root" / "stacks"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("stacks.c", "caller.h"):
        shutil.copy(ROOT / "tests" / "callers" / name, folder)
    flags = ("-O2", "-g", "-pthread", "-Wall", "-Wextra", "-Werror")
    built = OtherRoot(I386).run(
        "sh",
        "-euc",
        'cd /root/stacks; cp /usr/lib/i386-linux-gnu/libvirt.so.0 own.so; exec "$@"',
        "sh",
        "gcc",
        *flags,
        *("-o", "stacks", "stacks.c", "-lvirt"),
    )
    assert built.returncode == 0, built.stderr
    yield ("env", "LD_PRELOAD=/root/stacks/own.so", "/root/stacks/stacks")
    shutil.rmtree(folder)


@pytest.mark.parametrize("way", WAYS, indirect=True)
@pytest.mark.parametrize("what", ["fibers", "above", "below", "longjmp", "copies", "nested"])
def test_stacks_of_a_32bit_program(
    trace, i386, stacks: tuple[str, ...], tmp_path: Path, way: str, what: str
) -> None:
    words = (*stacks, what, str(ROUNDS))
    alone = i386.run(*words)
    log, facts = tmp_path / "log.json", tmp_path / "facts"
    own = i386.path / "root" / "stacks" / "own.so"
    enter = ROOT / "tests" / "roots" / "enter.sh"
    traced = trace(
        *("--library", str(own), "-o", str(log), "--", "sh", "-c", 'exec "$@" >"$0"'),
        *(str(facts), str(enter), str(i386.path), *words),
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
