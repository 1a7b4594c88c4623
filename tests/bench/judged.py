# SPDX-License-Identifier: LGPL-2.1-or-later
"""What it costs a daemon to judge its clients' calls by user and name: calls through a libvirtd of
our own with the enforcer, and through one without; ns of the daemon's processor time go out.
"""

from __future__ import annotations

import time
from statistics import median

from enforcer.compiled.files import write_whole
from enforcer.compiled.writer import compile_policy
from enforcer.launch.library import library_path, table
from enforcer.policy.reading.reading import read_policy
from probes.host.libraries.library import Target
from tests.bench.runs import Programs, Rounds, call
from tests.bench.table import Row
from tests.daemon import Daemon

PART = "enforced daemon"
CALLS, BURSTS, QUICK_CALLS = 20_000, 3, 500
# the caller is root, of whose domains none is called so: both conditions are looked at
POLICY = """
[[rule]]
name = "judged"
action = "deny"
function = "virDomainIsActive"
user = ["root"]
object = ["web-*"]
"""


def rows(programs: Programs, target: Target, rounds: Rounds) -> list[Row]:
    """In turn, round after round; the fastest counts, as in the other rows of the enforcer."""
    path = programs.folder / "judged.bin"
    write_whole(path, compile_policy(read_policy(POLICY, "bench.toml", table()), table()))
    enforced = {"LD_PRELOAD": str(library_path()), "LIBVIRT_TRACE_POLICY": str(path)}
    calls = QUICK_CALLS if rounds.quick else CALLS
    plain: list[float] = []
    judged: list[float] = []
    with Daemon() as one, Daemon(enforced) as other:
        for _ in range(rounds.number * (1 if rounds.quick else BURSTS)):
            plain.append(_burst(programs, one, calls))
            judged.append(_burst(programs, other, calls))
    return [
        Row(PART, "a client's call, processor time of the daemon", median(plain), "ns"),
        Row(
            PART,
            "judged by user and name: more",
            min(judged) - min(plain),
            "ns",
            target="at most 150 ns",
        ),
    ]


def _burst(programs: Programs, daemon: Daemon, calls: int) -> float:
    env = {"BENCH_URI": daemon.uri.replace("qemu:///system", "test+unix:///default")}
    before = _processor_ns(daemon.pid)
    call(programs, "ask", calls, 1, env=env)
    return (_processor_ns(daemon.pid) - before) / calls


def _processor_ns(pid: int) -> int:
    """Of all its threads together, those that have ended too."""
    return time.clock_gettime_ns(~pid << 3 | 2)  # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
