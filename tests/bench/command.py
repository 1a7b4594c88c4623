# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command itself: how long it takes to start, beside bpftrace with one probe, to stop and to
answer without the kernel, and what it costs while nothing happens.
"""

from __future__ import annotations

import subprocess
import time
from statistics import median

from probes.host.libraries.library import Target
from tests.bench.runs import Command, Programs, Rounds, remove
from tests.bench.table import Row
from tests.needs import PYTHON, ROOT

PART = "the command"
IDLE_S, IDLE_QUICK_S = 10, 1
CALM_S = 2  # after which it has gone to sleep
TRACER = (PYTHON, "-E", "-s", str(ROOT / "tracer.py"))


def rows(programs: Programs, target: Target, rounds: Rounds) -> list[Row]:
    """Start, stop and idling."""
    log = programs.folder / "command.jsonl"
    Command("--json", log=log).stop()  # its program is compiled once for a kernel
    starts, stops, others = [], [], []
    answers: dict[str, list[float]] = {"--version": [], "--help": [], "list": []}
    for _ in range(rounds.number):
        others.append(_bpftrace(target))
        for word, times in answers.items():
            times.append(_answer(word))
        command = Command("--json", log=log)
        starts.append(command.start_s)
        stops.append(command.stop().stop_s)
    command = Command("--json", log=log)
    seconds = IDLE_QUICK_S if rounds.quick else IDLE_S
    time.sleep(CALM_S)
    before, began = command.cpu(), time.monotonic()
    time.sleep(seconds)
    idle = (command.cpu() - before) / (time.monotonic() - began)
    peak = command.stop().peak_bytes
    remove(log)
    return [
        Row(PART, 'start to "attached"', median(starts), "s", target="under 0.5 s"),
        Row(PART, "bpftrace, one probe: start", median(others), "s"),
        Row(
            PART,
            "start, against bpftrace's",
            median(start / other for start, other in zip(starts, others, strict=True)),
            "times",
            target="at most 1",
        ),
        *(
            Row(PART, f"libvirt-trace {word}", median(times) * 1000, "ms", target="under 100 ms")
            for word, times in answers.items()
        ),
        Row(PART, "SIGINT to its exit", median(stops), "s", target="under 0.3 s a library"),
        Row(PART, f"processor, {seconds} s idle", idle * 100, "% of a core", target="under 0.1 %"),
        Row(PART, "peak resident memory, idle", peak / (1 << 20), "MiB", target="under 200 MB"),
    ]


def _bpftrace(target: Target) -> float:
    """Seconds until its probe is there."""
    script = (
        f"uprobe:{target.path}:virDomainGetName {{ @calls = count(); }} "
        'interval:ms:1 { printf("ready\\n"); }'
    )
    began = time.monotonic()
    with subprocess.Popen(
        ["bpftrace", "-e", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        while "ready" not in (line := process.stdout.readline()):
            assert line, "bpftrace has ended"
        took = time.monotonic() - began
        process.terminate()
        process.communicate()
    return took


def _answer(word: str) -> float:
    """Seconds that the command takes."""
    began = time.monotonic()
    subprocess.run([*TRACER, word], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began
