# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many calls a second are written without loss: a caller at a steady pace comes in; the
highest pace that is kept goes out.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from probes.host.libraries.library import Target
from tests.bench.runs import CALLER, Command, Ended, Programs, Rounds, call, remove
from tests.bench.table import Row

PART = "load"
RATES = (50_000, 100_000, 150_000, 200_000, 250_000, 300_000, 350_000)  # calls/s
SECONDS = 5
QUICK_RATES, QUICK_SECONDS = (25_000, 50_000), 1
CALLS, QUICK_CALLS = 500_000, 50_000  # of each of two callers
FREE = {"BENCH_FREE": "1"}  # on any processor


class Kept(NamedTuple):
    """The highest rate without loss, 0 if there is none, in calls/s; processor time of the
    reader then, in us a call.
    """

    rate: float
    reader_us: float


def rows(programs: Programs, target: Target, rounds: Rounds) -> list[Row]:
    """JSON lines to a file, and text to a pipe."""
    rates, seconds = (QUICK_RATES, QUICK_SECONDS) if rounds.quick else (RATES, SECONDS)
    table, peak = [], 0
    for what, options, to_file, aim in (
        ("JSON lines to a file", ("--json",), True, "at least 300,000"),
        ("text to a pipe", (), False, "at least 150,000"),
    ):
        kept, highest = _search(programs, rates, seconds, options, to_file=to_file)
        peak = max(peak, highest)
        table.append(
            Row(PART, f"{what}: {seconds} s without loss", kept.rate, "calls/s", target=aim)
        )
        table.append(
            Row(PART, f"{what}: processor time of the reader", kept.reader_us, "us a call")
        )
    lost = _two_flat_out(programs, QUICK_CALLS if rounds.quick else CALLS)
    table.append(Row(PART, "two callers flat out, --spill: lost", lost, "calls", target="0"))
    table.append(Row(PART, "peak resident memory", peak / (1 << 20), "MiB", target="under 200 MB"))
    return table


def _two_flat_out(programs: Programs, calls: int) -> int:
    """How many of these calls of each were lost."""
    log = programs.folder / "spilled.log"
    words = ("--json", "--buffer-size", "32", "--spill", "2048", "-n", CALLER)
    command = Command(*words, "-f", "virDomainGetName", log=log)
    with ThreadPoolExecutor(2) as both:
        for _ in both.map(lambda _: call(programs, "burst", calls, 1, 0, env=FREE), range(2)):
            pass
    command.settle()
    lost = command.stop().lost
    remove(log)
    return lost


def _search(
    programs: Programs,
    rates: tuple[int, ...],
    seconds: int,
    options: tuple[str, ...],
    *,
    to_file: bool,
) -> tuple[Kept, int]:
    """Halves the rates until the highest that is kept is found; the peak of resident memory of
    all runs, in bytes.
    """
    kept, peak, low, high = Kept(0, 0), 0, 0, len(rates)
    while low < high:
        middle = (low + high) // 2
        made, took, ended = _run(programs, rates[middle], seconds, options, to_file=to_file)
        peak = max(peak, ended.peak_bytes)
        reader_us = ended.cpu_s / max(ended.calls, 1) * 1e6
        if ended.lost == 0 and ended.calls >= made:
            kept, low = Kept(made / took, reader_us), middle + 1
        else:
            kept, high = Kept(kept.rate, kept.reader_us or reader_us), middle
    return kept, peak


def _run(
    programs: Programs, rate: int, seconds: int, options: tuple[str, ...], *, to_file: bool
) -> tuple[float, float, Ended]:
    log = programs.folder / "rate.log" if to_file else None
    command = Command(*options, "-n", CALLER, "-f", "virDomainGetName", log=log)
    try:
        made, took = call(programs, "pace", rate, seconds)
        command.settle()
    finally:
        ended = command.stop()
        if log:
            remove(log)
    return made, took, ended
