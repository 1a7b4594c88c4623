# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command itself: how long it takes to start and to stop, and what it costs while nothing
happens.
"""

from __future__ import annotations

import time
from statistics import median

from probes.host.targets import Target
from tests.bench.runs import Command, Programs, Rounds, remove
from tests.bench.table import Row

PART = "the command"
IDLE_S, IDLE_QUICK_S = 10, 2


def rows(programs: Programs, target: Target, rounds: Rounds) -> list[Row]:
    """Start, stop and idling."""
    log = programs.folder / "command.jsonl"
    starts, stops = [], []
    for _ in range(rounds.number):
        command = Command("--json", log=log)
        starts.append(command.start_s)
        stops.append(command.stop().stop_s)
    command = Command("--json", log=log)
    seconds = IDLE_QUICK_S if rounds.quick else IDLE_S
    time.sleep(1)
    before, began = command.cpu(), time.monotonic()
    time.sleep(seconds)
    idle = (command.cpu() - before) / (time.monotonic() - began)
    peak = command.stop().peak_bytes
    remove(log)
    return [
        Row(PART, 'start to "attached"', median(starts), "s", target="under 1.5 s"),
        Row(PART, "SIGINT to its exit", median(stops), "s", target="under 0.3 s a library"),
        Row(PART, f"processor, {seconds} s idle", idle * 100, "% of a core", target="under 1 %"),
        Row(PART, "peak resident memory, idle", peak / (1 << 20), "MiB", target="under 200 MB"),
    ]
