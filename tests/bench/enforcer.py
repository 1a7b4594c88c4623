# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the enforcer costs: a call without a rule, with one that asks for the name, with
thousands; the library's size and start.
"""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import threading
import time
import zlib
from pathlib import Path
from statistics import median

from enforcer.compiled.files import write_whole
from enforcer.compiled.layout import CHECK_AT, CHECKED_FROM, MADE_AT, SIZE_MAX
from enforcer.compiled.writer import compile_policy
from enforcer.launch.library import library_path, table
from enforcer.policy.reading.reading import read_policy
from probes.host.libraries.library import Target
from tests.bench.runs import Programs, Rounds, call
from tests.bench.table import Row

PART = "enforcer"
CALLS, BURSTS, QUICK_BURSTS = 100_000, 40, 10
STARTS, QUICK_STARTS = 400, 20  # of a program
NAMED = (
    '[[rule]]\nname = "r{0}"\naction = "deny"\nfunction = "virDomainGetName"\nobject = '
    '["{1}{0:04d}*"]\n'
)
ONE, MANY = "with a rule that looks at the name: more", "with 10,000 of them: more"
POLICIES = {
    "a call without a rule: more": (
        '[[rule]]\nname = "r"\naction = "deny"\nfunction = "virDomainSuspend"\n',
        "at most 8 ns",
    ),
    ONE: (NAMED.format(1, "web-"), "at most 50 ns"),
    "with 1,000 of them: more": (
        "".join(NAMED.format(i, "web-") for i in range(1000)),
        "at most twice that",
    ),
    MANY: ("".join(NAMED.format(i, "web-") for i in range(10_000)), "at most twice that"),
    "1,000 whose names begin like the domain's: more": (
        "".join(NAMED.format(i, "te-") for i in range(1000)),
        "at most twice that",
    ),
}
SWAP = "the slowest call while the largest policy there may be is replaced"


def rows(programs: Programs, target: Target, rounds: Rounds) -> list[Row]:
    """Everything, round after round; of all bursts the fastest count: what is measured is less
    than what other programs take away.
    """
    library = library_path()
    environments = {}
    for number, (what, (text, _)) in enumerate(POLICIES.items()):
        path = programs.folder / f"policy{number}.bin"
        write_whole(path, compile_policy(read_policy(text, "bench.toml", table()), table()))
        environments[what] = {"LD_PRELOAD": str(library), "LIBVIRT_TRACE_POLICY": str(path)}
    plain: list[float] = []
    more: dict[str, list[float]] = {what: [] for what in POLICIES}
    calls, bursts = (CALLS // 10, QUICK_BURSTS) if rounds.quick else (CALLS, BURSTS)
    for _ in range(rounds.number):
        for what, environment in environments.items():
            plain += call(programs, "burst", calls, bursts, 0)
            more[what] += call(programs, "burst", calls, bursts, 0, env=environment)
    table_rows = [Row(PART, "a call that is not enforced", min(plain), "ns")]
    table_rows += [
        Row(PART, what, min(values) - min(plain), "ns", target=POLICIES[what][1])
        for what, values in more.items()
    ]
    table_rows.append(
        Row(PART, SWAP, _slowest_call(programs, library, rounds) / 1e6, "ms", target="at most 1 ms")
    )
    costs = {what: min(values) - min(plain) for what, values in more.items()}
    table_rows.append(
        Row(
            PART,
            "a judged call with 10,000 rules, against one",
            costs[MANY] / costs[ONE],
            "times",
            target="at most 2",
        )
    )
    starts = QUICK_STARTS if rounds.quick else STARTS
    table_rows.append(
        Row(
            PART,
            "start of a program without libvirt: more",
            _start(["/bin/true"], library, starts),
            "ms",
            target="under 1 ms",
        )
    )
    with_libvirt = [str(programs.caller), "burst", "1", "1", "0"]
    table_rows.append(
        Row(
            PART,
            "start of one with libvirt: more",
            _start(with_libvirt, library, starts // 4),
            "ms",
            target="under 1 ms",
        )
    )
    table_rows.append(
        Row(PART, "size of the library", library.stat().st_size / 1000, "kB", target="under 180 kB")
    )
    return table_rows


def _slowest_call(programs: Programs, library: Path, rounds: Rounds) -> float:
    """In ns of processor time; the policy is another one each second."""
    rules = "".join(NAMED.format(i, "web-") for i in range(1000))
    data = bytearray(compile_policy(read_policy(rules, "bench.toml", table()), table()))
    data += bytes(SIZE_MAX - len(data))
    struct.pack_into("<I", data, 8, len(data))
    path = programs.folder / "largest.bin"
    over = threading.Event()

    def replace() -> None:
        for made in itertools.count(1):
            struct.pack_into("<Q", data, MADE_AT, made)
            struct.pack_into("<I", data, CHECK_AT, zlib.crc32(data[CHECKED_FROM:]))
            write_whole(path, bytes(data))
            ready.set()
            if over.wait(0.9):
                return

    ready = threading.Event()
    replacing = threading.Thread(target=replace)
    replacing.start()
    ready.wait()
    environment = {"LD_PRELOAD": str(library), "LIBVIRT_TRACE_POLICY": str(path)}
    (most,) = call(programs, "slowest", 3 if rounds.quick else 20, env=environment)
    over.set()
    replacing.join()
    return most


def _start(argv: list[str], library: Path, times: int) -> float:
    """How much longer the program takes from start to end, in ms."""
    environments = (dict(os.environ), {**os.environ, "LD_PRELOAD": str(library)})
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        for environment, values in zip(environments, taken, strict=True):
            began = time.perf_counter()
            subprocess.run(argv, env=environment, stdout=subprocess.DEVNULL, check=True)
            values.append(time.perf_counter() - began)
    return (median(taken[1]) - median(taken[0])) * 1000
