# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host with many processes that have libvirt mapped: what it takes to attach to them, to look at
them and to let go.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator

from probes.host.libraries.library import Target
from tests.bench.command import CALM_S
from tests.bench.cost import CATCH_UP_MS
from tests.bench.runs import Command, Programs, Rounds, call, remove
from tests.bench.table import Row

PART = "many processes"
COUNTS, QUICK_COUNTS = (1, 100, 1000, 5000), (100,)
IDLE_S, IDLE_QUICK_S = 10, 1
CALLS, BURSTS, QUICK_BURSTS = 2000, 5, 1


def rows(programs: Programs, target: Target, rounds: Rounds) -> list[Row]:
    """One round, as 5,000 processes are many."""
    found: list[Row] = []
    log = programs.folder / "scale.jsonl"
    for count in QUICK_COUNTS if rounds.quick else COUNTS:
        with _mapped(programs, count):
            command = Command("--json", log=log)
            with log.open() as lines:
                attach = json.loads(lines.readline())["attach_ms"] / 1000
            command.settle()
            time.sleep(CALM_S)
            before, began = command.cpu(), time.monotonic()
            time.sleep(IDLE_QUICK_S if rounds.quick else IDLE_S)
            idle = (command.cpu() - before) / (time.monotonic() - began)
            took = min(
                call(
                    programs, "burst", CALLS, QUICK_BURSTS if rounds.quick else BURSTS, CATCH_UP_MS
                )
            )
            ended = command.stop()
        found += [
            Row(PART, f"{count:,} more: attach", attach, "s"),
            Row(PART, f'{count:,} more: start to "attached"', command.start_s, "s"),
            Row(
                PART,
                f"{count:,} more: processor while idle",
                idle * 100,
                "% of a core",
                target="under 0.1 %",
            ),
            Row(PART, f"{count:,} more: a call", took, "ns", target="at most as with few"),
            Row(PART, f"{count:,} more: peak resident memory", ended.peak_bytes / (1 << 20), "MiB"),
            Row(PART, f"{count:,} more: SIGINT to its exit", ended.stop_s, "s"),
        ]
        remove(log)
    return found


@contextlib.contextmanager
def _mapped(programs: Programs, count: int) -> Iterator[None]:
    """So many processes for a while."""
    process = subprocess.Popen(
        [programs.mapped, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin and process.stdout
    if process.stdout.readline() != "all\n":
        raise SystemExit(f"bench: can't make {count} processes")
    try:
        yield
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()
