# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads that the kernel counts (-c -q): as many, of the same functions, as when each is told, and
as many as their callers made; also those that do not return, and those that a policy judges.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.enforced import enforced_environment, put
from tests.needs import PATIENCE, PYTHON, ROOT
from tests.tracing import Result, Tracer

EACH, COUNTED = ("-c",), ("-c", "-q")
MANY = 300_000  # calls: some 60 MB of records
POLICY = """
[[rule]]
name = "looked at"
action = "audit"
function = "virDomainGetName"

[[rule]]
name = "kept"
action = "deny"
function = ["virDomainGetInfo", "virDomainSuspend"]
"""
CALLER = """
import libvirt
libvirt.registerErrorHandler(lambda *_: None, None)
conn = libvirt.open("test:///default")
domain = conn.lookupByName("test")
for _ in range(23):
    domain.name(), domain.UUIDString(), conn.getHostname()
    for refused in (domain.info, domain.suspend):
        try:
            refused()
        except libvirt.libvirtError:
            pass
"""

Table = dict[str, tuple[int, int, int]]  # calls, errors, denied


def table(result: Result) -> Table:
    """What -c says of each function."""
    rows = re.findall(r"^(vir\w+) +(\d+) +(\d+) +(\d+) ", result.stderr, re.M)
    return {name: (int(calls), int(failed), int(denied)) for name, calls, failed, denied in rows}


@pytest.fixture
def counted(caller) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """counted(ARGUMENT...): the caller, which waits for the word; whoever ends it."""
    started = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        words = [caller("counted", "-pthread", "-ldl"), *map(str, arguments)]
        started.append(
            subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert started[-1].stdout and started[-1].stdout.readline() == "ready\n"
        return started[-1]

    yield start
    for process in started:
        process.communicate(timeout=60 * PATIENCE)


def go(process: subprocess.Popen[str], until: str = "virDomainGetInfo") -> Table:
    """Has it make its calls, and reads what it says of them."""
    assert process.stdin and process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    made = {}
    for line in process.stdout:
        words = line.split()
        if words == ["waits"]:
            break
        name, calls, failed = words
        made[name] = int(calls), int(failed), 0
        if name == until:
            break
    return made


class Both:
    """One program's calls, told one by one and counted at the same time."""

    def __init__(self, trace: Callable[..., Tracer], process: subprocess.Popen[str]) -> None:
        self.tracers = [trace(*way, "-p", str(process.pid)) for way in (EACH, COUNTED)]

    def stop(self) -> tuple[Result, Result]:
        """What each of them has seen, which is the same."""
        each, counted = (tracer.stop() for tracer in self.tracers)
        assert table(each) == table(counted)
        for name in ("calls", "failed", "denied", "rules"):
            assert each.end.get(name) == counted.end.get(name)
        assert not counted.calls()
        return each, counted


def test_calls_are_counted_as_their_caller_does(trace, counted):
    """With those that were left by a jump, whose thread ended in them, and one under way, which
    is told when somebody asks.
    """
    process = counted()
    both = Both(trace, process)
    made = go(process, until="none")
    counting = both.tracers[1]
    counting.process.send_signal(signal.SIGUSR1)
    told = counting.wait_for(
        lambda event: event["type"] == "under_way" and event["tid"] != process.pid
    )
    assert (told["pid"], told["function"]) == (process.pid, "virDomainGetInfo")
    assert told["where"] == "in the client"
    result, _ = both.stop()
    assert table(result) == made
    assert result.end["calls"] == sum(calls for calls, _, _ in made.values())


def test_what_is_counted_needs_no_reader(trace, counted):
    """The tracer does not run while calls are made, of which few would have room in its buffer."""
    process = counted(MANY)
    tracer = trace(*COUNTED, "--buffer-size", "1", "-p", str(process.pid))
    tracer.process.send_signal(signal.SIGSTOP)
    made = go(process)
    tracer.process.send_signal(signal.SIGCONT)
    assert table(tracer.stop()) == made
    assert made["virDomainGetName"][0] > 2 * MANY


@pytest.fixture
def held() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """held(WORD...): a program that runs when its standard input is closed."""
    started = []

    def start(*words: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                ["sh", "-c", 'read line; exec "$@" >/dev/null', "sh", *words],
                stdin=subprocess.PIPE,
                env=env,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.communicate(timeout=60 * PATIENCE)


def test_every_function_is_counted_as_it_is_told(trace, held):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = str(Path(__file__).with_name("every_function.py"))
    process = held(PYTHON, script, env=environment)
    both = Both(trace, process)
    process.communicate(timeout=60 * PATIENCE)
    assert process.returncode == 0
    result, _ = both.stop()
    assert len(table(result)) > 300


def test_judged_calls_are_told_one_by_one(trace, held, tmp_path):
    policy = put(tmp_path / "policy.bin", POLICY)
    process = held(PYTHON, "-c", CALLER, env=enforced_environment(policy))
    both = Both(trace, process)
    process.communicate(timeout=60 * PATIENCE)
    result, _ = both.stop()
    assert table(result)["virDomainGetInfo"] == table(result)["virDomainSuspend"] == (23, 0, 23)
    assert table(result)["virConnectGetHostname"] == (23, 0, 0)
    assert {rule["rule"]: rule["calls"] for rule in result.end["rules"]} == {
        "looked at": 23,
        "kept": 46,
    }
