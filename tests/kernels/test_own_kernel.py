# SPDX-License-Identifier: LGPL-2.1-or-later
"""What nobody may do on a host that others use: the clock is set, processors come and go."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.kernel.conftest import CALLS, end, load, steps
from tests.tracing import Event

__all__ = ["load", "steps"]
NEAR_NS = 10_000_000
SECOND = 10**9
CPU = Path("/sys/devices/system/cpu/cpu1/online")


def time_of(event: Event) -> int:
    whole, fraction = event["time"].removesuffix("Z").split(".")
    return int(datetime.fromisoformat(whole + "+00:00").timestamp()) * SECOND + int(fraction)


@pytest.mark.parametrize("seconds", [3600, -1800, 0.5])
def test_times_are_those_of_a_clock_that_is_set(trace, steps, seconds: float) -> None:
    step = steps()
    tracer = trace("-p", str(step.pid), "-f", "virDomainGetName")
    told: list[tuple[int, int]] = []

    def call() -> None:
        begin = time.time_ns()
        step.call()
        told.extend([(begin, time.time_ns())] * CALLS)

    call()
    # told of it late, as who waits for a processor is
    os.kill(tracer.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, tracer.pid, os.WSTOPPED)
    before = time.time_ns()
    time.clock_settime_ns(time.CLOCK_REALTIME, before + int(seconds * SECOND))
    try:
        call()
        os.kill(tracer.pid, signal.SIGCONT)
        clock = tracer.wait_for(lambda event: event["type"] == "clock")
        call()
        result = tracer.stop()
    finally:
        time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns() - int(seconds * SECOND))
    assert abs(clock["step_ns"] - seconds * SECOND) < NEAR_NS
    assert len(result.calls()) == 3 * CALLS
    for call_of, (begin, finish) in zip(result.calls(), told, strict=True):
        assert begin - NEAR_NS <= time_of(call_of) <= finish + NEAR_NS


@pytest.fixture
def switched_off() -> Iterator[None]:
    CPU.write_text("0")
    yield
    CPU.write_text("1")


def test_processor_that_is_switched_on_later(
    trace, load, switched_off: None, tmp_path: Path
) -> None:
    """What is mapped there is told by that processor alone."""
    (library,) = (
        path
        for path in map(Path, subprocess.check_output(["ldconfig", "-p"], text=True).split())
        if path.name == "libvirt.so.0" and "x86_64" in str(path)
    )
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        shutil.copy(library, tmp_path / str(number) / "libvirt.so.0")
    tracer = trace("-f", "virGetVersion")
    CPU.write_text("1")
    for number in range(2):
        path = tmp_path / str(number) / "libvirt.so.0"
        child = load(str(path), before=("taskset", "-c", "1"))
        tracer.wait_for(
            lambda event, path=path: (
                event["type"] == "attached"
                and any(target["path"] == str(path) for target in event["targets"])
            )
        )
        end(child)
    assert tracer.stop(lost=None).status == 0


def test_programs_on_a_processor_that_is_switched_on_later(
    trace, caller, switched_off: None, tmp_path: Path
) -> None:
    program, go, count = caller("execs"), tmp_path / "go", 3
    os.mkfifo(go)
    wait = f"read go <{go}; exec taskset -c 1 {program} {count}"
    tracer = trace("--cmdline", "full", "-f", "virGetVersion", "--", "sh", "-c", wait)
    CPU.write_text("1")
    go.write_text("now\n")
    result = tracer.finish(300)
    assert [(call["exe"], call["cmdline"]) for call in result.calls("virGetVersion")] == [
        (str(program), [str(program), "call", str(number)]) for number in range(count)
    ]
