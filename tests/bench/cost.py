# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a call costs its caller: tools that are attached in turn, round after round, come in; ns
per call go out.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import NamedTuple

from probes.api.load import load_api
from probes.host.libraries.library import Target
from probes.kernel import bpf, records
from probes.kernel.links import Links, Probe
from probes.kernel.loading.features import RETURN_0
from probes.kernel.loading.program import Program
from probes.plans import functions as plans
from probes.plans.meaning.captured import Limits
from probes.plans.plan import Plan
from probes.tracing.filters import Filters
from tests.bench.runs import Command, Programs, Rounds, call, remove
from tests.bench.table import Row
from tests.needs import PATIENCE

PART = "cost of a call"
FUNCTION = "virDomainGetName"
BURSTS, QUICK_BURSTS = 5, 2  # the fastest is a round's: that which others disturbed least
# a burst's; their records fit into the ring, so that none is lost however slow the reader is
CALLS = 10_000
PAUSE_MS, CATCH_UP_MS = 10, 200  # between two bursts
# of its buffer, a processor's: with its 64 most lines are lost, which costs less than writing them
BPFTRACE_PAGES = 2048
RING_BYTES = 8 << 20
OURS, BPFTRACE = "libvirt-trace --json, everything captured", "bpftrace, the same fields"
COUNTED = "libvirt-trace -c -q, counted in the kernel"
TARGET, TARGET_COUNTED = "at most 1.25 null pairs", "at most 1.1 null pairs"

SCRIPT = """
struct virDomain {{ uint64_t object[4]; char *name; int id; uint8_t uuid[16]; }}
uprobe:{path}:{function} {{ @start[tid] = nsecs; @domain[tid] = arg0; }}
uretprobe:{path}:{function} /@start[tid]/ {{
  $domain = (struct virDomain *)@domain[tid];
  printf("%d %s %s %r %s %d\\n", pid, comm, str($domain->name), buf($domain->uuid, 16),
    str(retval), nsecs - @start[tid]);
  delete(@start[tid]); delete(@domain[tid]);
}}
"""


class Way(NamedTuple):
    """Something that is measured: what attaches it, how many calls a burst has, how the caller
    is started.
    """

    what: str
    attach: Callable[[], contextlib.AbstractContextManager[None]]
    calls: int = CALLS
    before: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    target: str = ""
    pause_ms: int = PAUSE_MS


class Cost:
    """Everything that can be attached to the function."""

    def __init__(self, programs: Programs, target: Target, bursts: int) -> None:
        self._programs, self._bursts = programs, bursts
        self._target = target
        self._offset = dict(target.functions)[FUNCTION]
        self._null = bpf.load_program(RETURN_0, "null", sleepable=False, multi=True)
        self._program = Program(RING_BYTES)
        settings = Filters().settings(self._program.shared, os.getpid())
        self._program.shared.settings[: len(settings)] = settings
        self._program.load()
        self._program.shared.settings[:4] = (1).to_bytes(4, "little")
        self.lost = {OURS: 0, COUNTED: 0, BPFTRACE: 0}  # calls

    def ways(self) -> list[Way]:
        """What is compared, the null pair first."""
        function = load_api().by_name[FUNCTION]
        limits = Limits(256, True)
        arguments = (function, load_api(), self._target.layout.offsets, limits, records.PLAN_WANTED)
        entry, ret = plans.entry_plan(*arguments), plans.return_plan(*arguments)
        named = 1 + next(i for i, op in enumerate(entry.ops) if op.kind == records.OP_STRING)
        bare = entry._replace(fixed=records.ENTRY_FIXED, objects=0, ops=())
        bare_return = ret._replace(fixed=records.RETURN_FIXED, objects=0, ops=())
        log = str(self._programs.folder / "preloaded.log")
        return [
            Way("null pair: two programs that return 0", self._null_pair),
            Way("nothing attached", contextlib.nullcontext, 50 * CALLS),
            Way(OURS, self._json, target=TARGET, pause_ms=CATCH_UP_MS),
            Way(COUNTED, self._counted, target=TARGET_COUNTED),
            Way(
                "  its programs alone, registers and times",
                lambda: self._plans(bare, bare_return),
                pause_ms=CATCH_UP_MS,
            ),
            Way(
                "  and the domain's name and UUID",
                lambda: self._plans(entry._replace(ops=entry.ops[:named]), bare_return),
                pause_ms=CATCH_UP_MS,
            ),
            Way(
                "  and driver and result: everything",
                lambda: self._plans(entry, ret),
                pause_ms=CATCH_UP_MS,
            ),
            Way(BPFTRACE, self._bpftrace, pause_ms=CATCH_UP_MS),
            Way(
                "ltrace",
                contextlib.nullcontext,
                CALLS // 40,
                before=("ltrace", "-e", FUNCTION, "-o", "/dev/null"),
            ),
            Way(
                "preloaded logger: fprintf, fflush",
                contextlib.nullcontext,
                env=(("LD_PRELOAD", str(self._programs.logger)), ("BENCH_LOG", log)),
            ),
        ]

    def measure(self, way: Way) -> float:
        """ns per call, once."""
        with way.attach():
            return min(
                call(
                    self._programs,
                    "burst",
                    way.calls,
                    self._bursts,
                    way.pause_ms,
                    before=way.before,
                    env=dict(way.env),
                )
            )

    def close(self) -> None:
        """Gives the programs back."""
        self._program.close()
        os.close(self._null)

    @contextlib.contextmanager
    def _linked(self, entry: int, ret: int, *, session: bool = False) -> Iterator[None]:
        links = Links(
            self._target.path_for_kernel,
            [Probe(self._offset, 0, True)],
            entry,
            ret,
            multi=True,
            session=session,
        )
        try:
            yield
        finally:
            links.close()

    def _null_pair(self) -> contextlib.AbstractContextManager[None]:
        return self._linked(self._null, self._null)

    @contextlib.contextmanager
    def _plans(self, entry: Plan, ret: Plan) -> Iterator[None]:
        """The kernel's half, with a reader that throws away what it reads."""
        program, size = self._program, records.PLAN_SIZE
        program.shared.entry_plans[:size], program.shared.return_plans[:size] = (
            entry.pack(),
            ret.pack(),
        )
        done = threading.Event()

        def read() -> None:
            while not done.wait(0.005):
                for ring in program.shared.rings.values():
                    ring.drain()
                    ring.take()

        reader = threading.Thread(target=read)
        reader.start()
        try:
            with self._linked(
                program.of("on_entry"), program.of("on_return"), session=program.session
            ):
                yield
        finally:
            done.set()
            reader.join()

    def _json(self) -> contextlib.AbstractContextManager[None]:
        return self._command(OURS, "--json")

    def _counted(self) -> contextlib.AbstractContextManager[None]:
        return self._command(COUNTED, "-c", "-q")

    @contextlib.contextmanager
    def _command(self, what: str, *options: str) -> Iterator[None]:
        log = self._programs.folder / "cost.log"
        command = Command(*options, log=log)
        try:
            yield
        finally:
            self.lost[what] += command.stop().lost
            remove(log)

    @contextlib.contextmanager
    def _bpftrace(self) -> Iterator[None]:
        log = self._programs.folder / "bpftrace.log"
        script = SCRIPT.format(path=self._target.path, function=FUNCTION)
        env = {**os.environ, "BPFTRACE_PERF_RB_PAGES": str(BPFTRACE_PAGES)}
        with open(log, "wb") as out:
            process = subprocess.Popen(
                ["bpftrace", "-B", "line", "-e", script],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
            )
        try:
            deadline = time.monotonic() + 30 * PATIENCE
            # its own word comes before it is attached
            while b" bench-caller test " not in log.read_bytes():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"bpftrace: {log.read_text(errors='replace')}")
                call(self._programs, "burst", 1, 1, 50)
            yield
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait()
            self.lost[BPFTRACE] += sum(
                int(count)
                for count in re.findall(
                    rb"^Lost (\d+) "
                    rb"events",
                    log.read_bytes(),
                    re.M,
                )
            )
            remove(log)


def rows(programs: Programs, target: Target, rounds: Rounds) -> list[Row]:
    """A row for each way. The ways take turns, and each has a null pair measured right before
    it: drift cancels out.
    """
    cost = Cost(programs, target, QUICK_BURSTS if rounds.quick else BURSTS)
    try:
        null, *ways = cost.ways()
        pairs: list[list[float]] = [[] for _ in ways]
        taken: list[list[float]] = [[] for _ in ways]
        for _ in range(rounds.number):
            for index, way in enumerate(ways):
                pairs[index].append(cost.measure(null))
                taken[index].append(cost.measure(way))
    finally:
        cost.close()
    table = [Row(PART, null.what, median(pair for several in pairs for pair in several), "ns", 1)]
    for way, values, several in zip(ways, taken, pairs, strict=True):
        ratio = median(value / pair for value, pair in zip(values, several, strict=True))
        table.append(Row(PART, way.what, median(values), "ns", ratio, way.target))
        if way.what in cost.lost:
            table.append(Row(PART, "  calls that it lost", cost.lost[way.what], "calls"))
    return table
