# SPDX-License-Identifier: LGPL-2.1-or-later
"""More calls than the tracer can keep up with: calls that change something are all there, and of the others none goes uncounted."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path

from tests.kernel.conftest import CALLS, TO_FILE, TRACER, read_facts
from tests.tracing import Event

SECONDS = float(os.environ.get("LIBVIRT_TRACE_FLOOD", "20"))


def test_a_flood_of_reads_loses_no_write_and_every_loss_is_counted(caller, tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    argv = [*TRACER, "--json", "--buffer-size", "1", "--", *TO_FILE, str(facts), str(caller("flood")), str(SECONDS)]
    seen: Counter[tuple[int, str]] = Counter()
    lost: Counter[str] = Counter()
    unfinished: Counter[str] = Counter()
    writes: list[Event] = []
    end: Event = {}
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout
        for line in tracer.stdout:
            # a million lines: most are only counted
            if line.startswith('{"type":"call"') and '"function":"virDomainGetName"' in line and '"args":{' in line:
                seen[int(line.split('"pid":', 1)[1].split(",", 1)[0]), "virDomainGetName"] += 1
                continue
            event = end = json.loads(line)
            if event["type"] == "lost":
                lost[event["ring"]] += event["count"]
            elif event["type"] in ("call", "unfinished"):
                seen[event["pid"], event["function"]] += 1
                unfinished[event.get("reason", "")] += 1
                if event["write"]:
                    writes.append(event)
    assert tracer.returncode == 0
    made: Counter[tuple[int, str]] = Counter()
    for fact in read_facts(facts):
        made[fact["pid"], fact["function"]] += fact["made"]
    assert end["type"] == "end"
    assert lost["write"] == 0
    assert [call["type"] for call in writes] == ["call"] * CALLS
    assert [(call["function"], call["args"]["domain"]["name"], call["ret"]) for call in writes] == [
        ("virDomainResume" if i & 1 else "virDomainSuspend", "test", 0) for i in range(CALLS)
    ]
    print(f"made {made.total()}, seen {seen.total()}, lost {dict(lost)}, without result {dict(unfinished)}")
    assert sum(made.values()) == sum(seen.values()) + sum(lost.values())
    assert all(count <= made[key] for key, count in seen.items())
    # the last call of a process may have lost its result too: that looks like one that did not return
    assert unfinished["process exited"] <= 2
    assert set(unfinished) <= {"", "result lost", "process exited"}
    assert end["lost"] == lost["read"]
    assert end["calls"] == sum(seen.values())
