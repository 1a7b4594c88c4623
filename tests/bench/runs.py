# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that a measurement needs come out: the caller and the logger are built, the real
command is run and watched.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.needs import PATIENCE, PYTHON, ROOT

HERE = Path(__file__).parent
CALLER = "bench-caller"  # its thread name too, which has room for 15 characters
_TALLY = re.compile(r"(\d+) calls, \d+ failed, \d+ denied, (\d+) lost")
_LOOK, _STILL = 0.002, 0.2  # s


class Rounds(NamedTuple):
    """How much is measured."""

    number: int
    quick: bool


class Programs(NamedTuple):
    """What was built, in a folder of its own."""

    folder: Path
    caller: Path
    mapped: Path
    logger: Path


def build(folder: Path) -> Programs:
    """Compiles caller.c, mapped.c and logger.c."""
    libvirt = subprocess.check_output(
        ["pkg-config", "--cflags", "--libs", "libvirt"], text=True
    ).split()
    strict = ["-O2", "-Wall", "-Wextra", "-Werror"]
    caller, mapped, logger = folder / CALLER, folder / "mapped", folder / "logger.so"
    for program, source in ((caller, "caller.c"), (mapped, "mapped.c")):
        subprocess.run(["gcc", *strict, "-o", program, HERE / source, *libvirt], check=True)
    subprocess.run(
        ["gcc", *strict, "-shared", "-fPIC", "-o", logger, HERE / "logger.c", "-ldl"], check=True
    )
    return Programs(folder, caller, mapped, logger)


def call(
    programs: Programs,
    *arguments: object,
    before: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> list[float]:
    """The numbers that the caller prints; `before` are words that its command line begins with."""
    argv = [*before, str(programs.caller), *map(str, arguments)]
    out = subprocess.run(
        argv,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120 * PATIENCE,
        env={**os.environ, **(env or {})},
    ).stdout
    return [float(word) for word in out.split()]


class Ended(NamedTuple):
    """A run of the command that is over."""

    calls: int
    lost: int
    stop_s: float  # from SIGINT to its exit
    cpu_s: float  # from "attached" to SIGINT
    peak_bytes: int  # resident, up to SIGINT


class Command:
    """`libvirt-trace OPTIONS` from its start to its end; its standard output goes to `log`, or
    through a pipe to nowhere.
    """

    def __init__(
        self,
        *options: str,
        log: Path | None = None,
        program: Sequence[str] = (str(ROOT / "tracer.py"),),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._drain: subprocess.Popen[str] | None = None
        with contextlib.ExitStack() as stack:
            out: int
            if log:
                out = stack.enter_context(open(log, "wb")).fileno()
            else:
                # tells the first line and then only takes
                script = "read -r line; echo attached; exec cat >/dev/null"
                self._drain = subprocess.Popen(
                    ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
                assert self._drain.stdin
                out = stack.enter_context(self._drain.stdin).fileno()
            started = time.monotonic()
            self._process = subprocess.Popen(
                [PYTHON, "-E", "-s", *program, *options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
                env=env,
            )
        if log:
            while not _has_line(log):
                self._must_run()
                time.sleep(_LOOK)
        else:
            assert self._drain and self._drain.stdout
            self._drain.stdout.readline()
        self._must_run()
        self.start_s = time.monotonic() - started
        self._cpu_before = self.cpu()

    def _must_run(self) -> None:
        if self._process.poll() is not None:
            assert self._process.stderr
            raise SystemExit(f"libvirt-trace ended: {self._process.stderr.read()}")

    def cpu(self) -> float:
        """Seconds of processor time that it has used, all its threads together."""
        # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
        per_process_clock = (~self._process.pid << 3) | 2
        return time.clock_gettime(per_process_clock)

    def settle(self) -> None:
        """Waits until it has worked off what came in: until it uses next to no processor time."""
        used = self.cpu()
        while True:
            time.sleep(_STILL)
            before, used = used, self.cpu()
            if used - before < 0.1 * _STILL:
                return

    def stop(self) -> Ended:
        """Interrupts it and waits until it has written everything."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M)
        cpu = self.cpu() - self._cpu_before
        started = time.monotonic()
        self._process.send_signal(signal.SIGINT)
        _, errors = self._process.communicate()
        stopped = time.monotonic() - started
        if self._drain:
            self._drain.wait()
            assert self._drain.stdout
            self._drain.stdout.close()
        tally = _TALLY.search(errors)
        if not tally or not peak:
            raise SystemExit(f"libvirt-trace did not say how many calls it saw: {errors}")
        return Ended(int(tally[1]), int(tally[2]), stopped, cpu, int(peak[1]) * 1024)


def _has_line(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline().endswith(b"\n")


def remove(path: Path) -> None:
    """Deletes a log, which may be hundreds of megabytes, so that its pages need not be written
    to disk.
    """
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
