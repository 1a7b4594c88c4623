# SPDX-License-Identifier: LGPL-2.1-or-later
"""A reader that has fallen asleep holds up nothing but itself, and each way to end tells what
it has missed.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import TRACER
from tests.kernel.test_lifecycle import wait_until
from tests.needs import PATIENCE, PYTHON

MADE = 3001  # more than a pipe holds
SECONDS = 60 * PATIENCE


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(*options: str, **streams: object) -> subprocess.Popen[bytes]:
        running.append(subprocess.Popen([*TRACER, *options], stdin=subprocess.DEVNULL, **streams))  # type: ignore[call-overload]
        return running[-1]

    yield start
    for tracer in running:
        if tracer.poll() is None:
            tracer.kill()
            tracer.wait()


def logged(log: Path) -> list[str]:
    """The calls and the end: others may have libraries attached to meanwhile."""
    return [
        kind
        for line in log.read_text().split("\n")[:-1]
        if (kind := json.loads(line)["type"]) in ("call", "end")
    ]


def wait_for_calls(log: Path, count: int) -> None:
    wait_until(
        lambda: log.exists() and log.read_text().count('{"type":"call"') >= count,
        f"{count} calls in the file",
    )


def made_in(log: Path, steps) -> None:
    """MADE calls, all of them in the file."""
    wait_until(lambda: log.exists() and '"attached"' in log.read_text(), "attached")
    steps.call(MADE)
    wait_for_calls(log, MADE)


def interrupt(tracer: subprocess.Popen[bytes], log: Path) -> None:
    """Twice: the first time the file gets its end, the second time the reader is given up."""
    tracer.send_signal(signal.SIGINT)
    wait_until(lambda: logged(log)[-1:] == ["end"], "the last event in the file")
    tracer.send_signal(signal.SIGINT)
    assert tracer.wait(SECONDS) == 0


def test_reader_of_standard_output_that_sleeps(start, steps, tmp_path) -> None:
    step, log = steps(), tmp_path / "log"
    reader, writer = os.pipe()
    tracer = start(
        "--json", "-p", str(step.pid), "-o", str(log), stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    made_in(log, step)
    interrupt(tracer, log)

    assert logged(log) == [*["call"] * MADE, "end"]
    said = tracer.stderr.read().decode()
    assert re.search(rf"^libvirt-trace: {MADE} calls, 0 failed, 0 denied, [0-9]+ lost", said, re.M)
    (count,) = re.findall(
        r"^libvirt-trace: standard output: ([0-9]+) calls were not written \(its "
        r"reader does not keep up\)$",
        said,
        re.M,
    )
    with open(reader, "rb") as file:
        lines = file.read().decode().splitlines(keepends=True)
    assert (
        sum(line.startswith('{"type":"call"') and line.endswith("\n") for line in lines)
        + int(count)
        == MADE
    )


CROWD = """
import libvirt, sys
domain = libvirt.open("test:///default").lookupByName("test")
reads, writes = map(int, sys.argv[1:])
for _ in range(reads):
    domain.name()
for i in range(writes):
    domain.setMemory(4096 + i)
    domain.name()
"""


def test_slow_reader_of_standard_output_gets_every_call_that_changes_something(
    start, tmp_path
) -> None:
    """Reads alone would fill the room that a pipe's reader has; what there was of them is seen
    or counted.
    """
    reads, log = 30_011, tmp_path / "log"
    reader, writer = os.pipe()
    command = (PYTHON, "-c", CROWD, str(reads), str(MADE))
    options = (
        "--json",
        "--buffer-size",
        "64",
        "-o",
        str(log),
        "-f",
        "virDomainSetMemory",
        "-f",
        "virDomainGetName",
        "--",
        *command,
    )
    tracer = start(*options, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    wait_until(
        lambda: log.exists() and b'{"type":"end"' in log.read_bytes()[-4096:],
        "the last event in the file",
    )
    with open(reader, "rb") as file:
        events = [json.loads(line) for line in file]
    assert tracer.wait(SECONDS) == 0
    assert len(logged(log)) == reads + 2 * MADE + 1
    calls = Counter(event["function"] for event in events if event["type"] == "call")
    lost = [event for event in events if event["type"] == "lost"]
    assert calls["virDomainSetMemory"] == MADE
    assert {(event["ring"], event["reason"]) for event in lost} == {
        ("read", "not written: its reader does not keep up")
    }
    missing = sum(event["count"] for event in lost)
    assert calls["virDomainGetName"] + missing == reads + MADE
    assert (
        f"standard output: {missing} calls were not written (its reader does not keep up)"
    ) in tracer.stderr.read().decode()


def test_two_interrupts_at_once(start, steps, tmp_path) -> None:
    step, log = steps(), tmp_path / "log"
    reader, writer = os.pipe()
    tracer = start("-p", str(step.pid), "-o", str(log), stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    made_in(log, step)
    tracer.send_signal(signal.SIGINT)
    tracer.send_signal(signal.SIGTERM)
    assert tracer.wait(SECONDS) == 0

    assert logged(log) == [*["call"] * MADE, "end"]
    assert f"libvirt-trace: {MADE} calls, 0 failed, 0 denied, ".encode() in tracer.stderr.read()
    os.close(reader)


def test_termination_waits_for_no_reader_that_sleeps(start, steps, tmp_path) -> None:
    """A service manager asks only once."""
    step, log = steps(), tmp_path / "log"
    reader, writer = os.pipe()
    tracer = start("-p", str(step.pid), "-o", str(log), stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    made_in(log, step)
    tracer.terminate()
    assert tracer.wait(SECONDS) == 0

    assert logged(log) == [*["call"] * MADE, "end"]
    assert b"calls were not written (its reader does not keep up)" in tracer.stderr.read()
    os.close(reader)


def test_pipe_beside_a_screen_that_is_read(start, steps, tmp_path) -> None:
    step, pipe = steps(), tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with (tmp_path / "log").open("wb") as out:
        tracer = start(
            "--json", "-p", str(step.pid), "-o", str(pipe), stdout=out, stderr=subprocess.PIPE
        )
        made_in(tmp_path / "log", step)
    interrupt(tracer, tmp_path / "log")
    (count,) = re.findall(
        rb"pipe: ([0-9]+) calls were not written \(its reader does not keep "
        rb"up\)",
        tracer.stderr.read(),
    )
    os.set_blocking(reader, True)
    with open(reader, "rb") as file:
        lines = file.read().decode().splitlines(keepends=True)
    assert (
        sum(line.startswith('{"type":"call"') and line.endswith("\n") for line in lines)
        + int(count)
        == MADE
    )


def test_terminal_that_was_stopped(start, steps, tmp_path) -> None:
    step, log = steps(), tmp_path / "log"
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color"}
    tracer = start("-p", str(step.pid), "-o", str(log), stdout=slave, stderr=slave, env=env)
    os.close(slave)
    made_in(log, step)
    interrupt(tracer, log)
    assert logged(log) == [*["call"] * MADE, "end"]
    os.close(master)


def test_standard_error_that_is_not_read(start, steps, tmp_path) -> None:
    step, log = steps(), tmp_path / "log"
    reader, writer = os.pipe()
    tracer = start("-c", "-p", str(step.pid), "-o", str(log), stdout=writer, stderr=writer)
    os.close(writer)
    made_in(log, step)
    interrupt(tracer, log)
    assert logged(log) == [*["call"] * MADE, "end"]
    os.close(reader)


def test_reader_that_leaves_costs_the_file_nothing(start, steps, tmp_path) -> None:
    step, log = steps(), tmp_path / "log"
    reader, writer = os.pipe()
    tracer = start("-p", str(step.pid), "-o", str(log), stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    made_in(log, step)
    os.close(reader)
    assert tracer.wait(SECONDS) == 0
    assert logged(log) == [*["call"] * MADE, "end"]
    assert re.search(
        rf"^libvirt-trace: {MADE} calls, 0 failed, 0 denied, [0-9]+ "
        r"lost",
        tracer.stderr.read().decode(),
        re.M,
    )
