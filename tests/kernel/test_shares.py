# SPDX-License-Identifier: LGPL-2.1-or-later
"""Nobody's flood costs others their records: each user has a share of the buffers, and what is
lost is told with whose it was.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.conftest import Run, logged, read_facts
from tests.needs import PATIENCE
from tests.neighbours import readable

MADE = 1009  # by each of those that make some calls a second
FLAT_OUT = 100_000
NOBODY, OTHER = 65534, 65533


def as_user(uid: int, *command: object) -> list[str]:
    return ["setpriv", f"--reuid={uid}", "--clear-groups", *map(str, command)]


@pytest.mark.other_kernels
def test_one_writer_flat_out_loses_nothing(
    caller, traced: Callable[..., Run], tmp_path: Path
) -> None:
    log = tmp_path / "log.json"
    traced(caller("writer"), FLAT_OUT, options=("-o", str(log)), lost=None)
    result = logged(log)
    assert (result.end["lost"], result.end["details_lost"]) == (0, 0)
    assert len(result.calls("virDomainSetMemory")) == FLAT_OUT


def test_a_flood_leaves_other_users_records_whole(caller, trace, tmp_path: Path) -> None:
    """Two of nobody's fill the buffers, while root and another user go on; the reader has no
    chance to keep up with small buffers.
    """
    writer = caller("writer")
    readable(writer)
    readable(tmp_path)
    log = tmp_path / "log.json"
    tracer = trace("--buffer-size", "1", "-f", "virDomainSetMemory", "-o", str(log))
    facts = tmp_path / "facts"
    with facts.open("w") as out:
        flood = [subprocess.Popen(as_user(NOBODY, writer, 400_000), stdout=out) for _ in range(2)]
        steady = [
            subprocess.Popen(as_user(uid, writer, MADE, 400), stdout=out) for uid in (0, OTHER)
        ]
        for process in steady:
            assert process.wait(60 * PATIENCE) == 0
        still_flooding = [process.poll() is None for process in flood]
        for process in flood:
            process.terminate()
        for process in flood:
            assert process.wait(60 * PATIENCE) == 0
    tracer.stop(lost=None)
    result = logged(log)
    assert any(still_flooding), "the flood was over too early to prove anything"
    made = {fact["pid"]: fact for fact in read_facts(facts)}
    seen = {pid: len(result.calls("virDomainSetMemory", pid)) for pid in made}
    lost = sum(
        event["count"]
        for event in result.events
        if event["type"] == "lost" and event["uid"] == NOBODY
    )
    for pid, fact in made.items():
        if fact["uid"] != NOBODY:
            assert seen[pid] == fact["made"], fact
            assert all(call["type"] == "call" for call in result.calls("virDomainSetMemory", pid))
    assert lost > 0, "nothing was lost: that proves nothing"
    assert sum(fact["made"] for fact in made.values()) == sum(seen.values()) + lost
    assert not [
        event for event in result.events if event["type"] == "lost" and event["uid"] in (0, OTHER)
    ]


def test_lost_calls_are_told_once_a_second(trace, caller) -> None:
    tracer = trace("--buffer-size", "1", "-f", "virDomainSetMemory")
    tracer.process.send_signal(19)
    done = subprocess.run([caller("writer"), "60000"], check=True, capture_output=True)
    tracer.process.send_signal(18)
    result = tracer.stop(lost=None)
    told = [
        event for event in result.events if event["type"] == "lost" and event["ring"] == "write"
    ]
    assert done.returncode == 0
    assert sum(event["count"] for event in told) > 0
    assert {event["user"] for event in told} == {"root"}
    assert len(told) <= result.end["seconds"] + 2
