# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long attaching and detaching take: the functions of a library come in; times of
libvirt-trace's links and of BCC's go out.
"""

from __future__ import annotations

import os
import subprocess
import time
from statistics import median

from probes.host.libraries.library import Target
from probes.kernel import bpf
from probes.kernel.links import Links, Probe
from probes.kernel.loading.features import RETURN_0
from tests.bench.runs import Programs, Rounds
from tests.bench.table import Row
from tests.needs import PYTHON, ROOT

PART = "attaching"
BCC_FUNCTIONS, BCC_QUICK = 20, 4  # a round, as each takes 0.2 s to detach
IN_TRACEFS = (
    "unshare",
    "-m",
    "sh",
    "-c",
    'mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing; exec "$@"',
    "sh",
)


def rows(programs: Programs, target: Target, rounds: Rounds) -> list[Row]:
    """Times for all functions, and for one; both sides attach an entry and a return probe that
    do nothing.
    """
    names = [name for name, _ in target.functions]
    count, a_round = len(names), BCC_QUICK if rounds.quick else BCC_FUNCTIONS
    program = bpf.load_program(RETURN_0, "nothing", sleepable=False, multi=True)
    ours, theirs = [], []
    for turn in range(rounds.number):
        ours.append(_time_links(target, program))
        theirs.append(
            _time_bcc(target, [names[(turn * a_round + i) % count] for i in range(a_round)])
        )
    os.close(program)
    attach, detach = (median(times) for times in zip(*ours, strict=True))
    bcc_attach, bcc_detach = (median(times) for times in zip(*theirs, strict=True))
    bcc = f"BCC, {rounds.number * a_round} functions"
    return [
        Row(
            PART,
            f"libvirt-trace, {count} functions: attach",
            attach * 1e3,
            "ms",
            target="under 50 ms a library",
        ),
        Row(
            PART,
            f"libvirt-trace, {count} functions: detach",
            detach * 1e3,
            "ms",
            target="under 300 ms a library",
        ),
        Row(PART, "  attach a function", attach / count * 1e6, "us"),
        Row(PART, "  detach a function", detach / count * 1e6, "us"),
        Row(PART, f"{bcc}: attach a function", bcc_attach / a_round * 1e6, "us"),
        Row(PART, f"{bcc}: detach a function", bcc_detach / a_round * 1e6, "us"),
    ]


def _time_links(target: Target, program: int) -> tuple[float, float]:
    probes = [Probe(offset, row, True) for row, (_, offset) in enumerate(target.functions)]
    started = time.monotonic()
    links = Links(target.path_for_kernel, probes, program, program, multi=True)
    attached = time.monotonic()
    links.close()
    return attached - started, time.monotonic() - attached


def _time_bcc(target: Target, names: list[str]) -> tuple[float, float]:
    argv = [*IN_TRACEFS, PYTHON, "-m", "tests.bench.bcc_probes", target.path, *names]
    attach, detach = subprocess.run(
        argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    return float(attach), float(detach)
