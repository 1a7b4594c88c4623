# SPDX-License-Identifier: LGPL-2.1-or-later
"""What it costs to know whom a daemon's calls are for: calls through a libvirtd of our own come
in, us a call go out.
"""

from __future__ import annotations

import contextlib
from statistics import median

from probes.host.libraries.library import Target
from tests.bench.runs import CALLER, Command, Programs, Rounds, call, remove
from tests.bench.table import Row
from tests.daemon import Daemon

PART = "calls of a daemon"
CALLS, BURSTS = 1000, 3
QUICK_CALLS = 100
FILTERS = (
    "--json",
    "-n",
    CALLER,
    "-n",
    "rpc-libvirtd",
    "-n",
    "prio-rpc-libvir",
    "-f",
    "virDomainIsActive",
)
# the command, but of the inner functions it probes only those that tell of errors
WITHOUT = """
import sys
sys.path.insert(0, ".")
from probes.internals import private
private.PRIVATE = tuple(inner for inner in private.PRIVATE if inner.name in private.OF_ERRORS)
import tracer
sys.exit(tracer.main(sys.argv[1:]))
"""


def rows(programs: Programs, target: Target, rounds: Rounds) -> list[Row]:
    """A call untraced, traced at both ends, and that without its client and its origin."""
    calls = QUICK_CALLS if rounds.quick else CALLS
    ways: dict[str, contextlib.AbstractContextManager[None]] = {
        "untraced": contextlib.nullcontext(),
        "traced in client and daemon, not linked": _Traced(programs, ("-c", WITHOUT)),
        "traced in client and daemon, linked": _Traced(programs, ("tracer.py",)),
    }
    times: dict[str, list[float]] = {what: [] for what in ways}
    with Daemon() as daemon:
        env = {"BENCH_URI": daemon.uri.replace("qemu:///system", "test+unix:///default")}
        for _ in range(rounds.number):
            for what, way in ways.items():
                with way:
                    times[what].append(min(call(programs, "ask", calls, BURSTS, env=env)) / 1000)
    untraced, unlinked, linked = (median(times[what]) for what in ways)
    return [Row(PART, what, median(found), "us") for what, found in times.items()] + [
        Row(PART, "linking, of the time untraced", (linked - unlinked) / untraced * 100, "%"),
        Row(PART, "linking: more", linked - unlinked, "us", target="at most 3 us"),
    ]


class _Traced(contextlib.AbstractContextManager[None]):
    """The command at work."""

    def __init__(self, programs: Programs, program: tuple[str, ...]) -> None:
        self._log = programs.folder / "linking.jsonl"
        self._program = program

    def __enter__(self) -> None:
        self._command = Command(*FILTERS, log=self._log, program=self._program)

    def __exit__(self, *_: object) -> None:
        self._command.settle()
        ended = self._command.stop()
        remove(self._log)
        if ended.lost:
            raise SystemExit(f"bench: {ended.lost} calls were lost")
