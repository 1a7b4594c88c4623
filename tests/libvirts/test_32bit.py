# SPDX-License-Identifier: LGPL-2.1-or-later
"""A 32-bit program: its calls, results and durations are shown, its arguments are said to be
unreadable, and nothing is misread; it may have several stacks, too.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.kernel.program import SESSION
from tests.kernel.conftest import logged
from tests.kernel.test_stacks import IN_ANOTHER, LEFT, SWITCHED, WAYS, way
from tests.kernel.test_stacks import SLOW_ROUNDS as ROUNDS
from tests.libvirts.conftest import OtherRoot
from tests.needs import I386, PATIENCE, ROOT

__all__ = ["way"]

NOTE = "it is a 32-bit library, whose arguments and objects can't be read"
COMMANDS = "list; suspend test; destroy nosuch; dumpxml test"
ADDRESS = "an address"
# what virsh calls for these, and what comes of it
CALLS = [
    ("virConnectListAllDomains", 1),
    ("virDomainGetID", 1),
    ("virDomainGetState", 0),
    ("virDomainGetName", ADDRESS),
    ("virDomainLookupByName", ADDRESS),
    ("virDomainSuspend", 0),
    ("virDomainLookupByName", None),
    ("virDomainLookupByName", ADDRESS),
    ("virDomainGetXMLDesc", ADDRESS),
]


def is_attached(event) -> bool:
    return event["type"] == "attached" and any(
        "i386-linux-gnu/libvirt.so" in target["path"] for target in event["targets"]
    )


def test_calls_of_a_32bit_program(trace, i386):
    tracer = trace("-n", "virsh")
    process = i386.start("virsh", "-c", "test:///default", "event --all --loop --timeout 600")
    try:
        event = tracer.wait_for(is_attached)
    finally:
        process.kill()
        process.communicate()
    assert [target["note"] for target in event["targets"]] == [NOTE]
    done = i386.run("virsh", "-c", "test:///default", COMMANDS)
    assert "Domain 'test' suspended" in done.stdout
    calls = [call for call in tracer.stop().calls() if COMMANDS in (call["cmdline"] or ())]
    assert {(call["type"], str(call["args"]), call["depth"], call["uid"]) for call in calls} == {
        ("call", "{}", 0, 0)
    }
    assert all(call["duration_ns"] > 0 for call in calls)
    domain = [call for call in calls if "Domain" in call["function"]]
    assert [
        (call["function"], ADDRESS if isinstance(call["ret"], dict) else call["ret"])
        for call in domain
    ] == CALLS
    assert [call["failed"] for call in domain] == [result is None for _, result in CALLS]


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
        assert (
            told["virConnectNumOfDomains", 1] == ROUNDS
            if way == SESSION
            else made["virConnectNumOfDomains"]
        )
