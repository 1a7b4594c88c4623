# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs callers under the tracer: what they print is what the log must show."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from probes.kernel.loading.program import Program
from probes.kernel.rings.tracepoints import Tracepoints
from tests.needs import PATIENCE, PYTHON, ROOT
from tests.tracing import Event, Result, Tracer

CALLS = 23  # of everything that is counted: a prime
TRACER = (PYTHON, "-E", "-s", str(ROOT / "tracer.py"))
# COMMAND's facts go to a file, so that they don't mix with the log
TO_FILE = ("sh", "-c", 'exec "$@" >"$0"')
NODE = """\
<node>
  <auth><user password='swordfish'>fred</user></auth>
  <domain type='test'><name>test</name><memory>8388608</memory><os><type>hvm</type></os></domain>
</node>
"""
LOAD = (
    "import ctypes, sys; [ctypes.CDLL(path) for path in sys.argv[1:]]; print('loaded', "
    "flush=True); sys.stdin.read()"
)
_clock = re.compile(r"[0-9:.]{15} ")
_duration = re.compile(r" <[0-9.]+(?:ns|us|ms|s)>(?=$| AUDITED)")
_notice = re.compile(r"[0-9:.]{15} libvirt-trace: ")
_who = re.compile(r"[0-9]+ \S+ \S+ ")


def logged(path: Path) -> Result:
    """What is in the file of -o: unlike the reader of a pipe, it keeps up."""
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert events[-1]["type"] == "end"
    return Result(events, 0, "", [])


class Run(NamedTuple):
    """A caller that was traced: the log, and the facts that it printed."""

    result: Result
    facts: list[Any]

    def calls(self, function: str | None = None) -> list[Event]:
        """The calls of the log."""
        return self.result.calls(function)

    def call(self, function: str) -> Event:
        """The one call of that function."""
        (call,) = self.calls(function)
        return call


def read_facts(path: Path) -> list[Any]:
    """One JSON value a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def bare(line: str) -> str:
    """A line of the text form without time, process and duration."""
    return _who.sub("", _clock.sub("", _duration.sub("", line), count=1), count=1)


class Steps:
    """A caller that makes calls when it is told to."""

    def __init__(
        self, program: Path, before: tuple[str, ...] = (), env: dict[str, str] | None = None
    ) -> None:
        self.process = subprocess.Popen(
            [*before, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self._expect("ready")

    @property
    def pid(self) -> int:
        return self.process.pid

    def _expect(self, word: str) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == f"{word}\n", "the caller has ended"

    def call(self, count: int = CALLS) -> None:
        """Makes so many calls of virDomainGetName."""
        assert self.process.stdin
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        self._expect(str(count))

    def end(self) -> int:
        """The exit status."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()
        return self.process.wait(20 * PATIENCE)


@pytest.fixture
def tracepoints() -> Iterator[Tracepoints]:
    program = Program(1 << 20)
    program.load()
    program.of("on_verdict")  # the last: from now on no descriptor comes
    yield program.tasks
    program.close()


@pytest.fixture
def load() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """load(LIBRARY..., before=COMMAND): a process that has them loaded until its standard input
    is closed.
    """
    children = []

    def start(*libraries: str | Path, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [*before, sys.executable, "-c", LOAD, *map(str, libraries)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout and child.stdout.readline() == "loaded\n"
        return child

    yield start
    for child in children:
        end(child)


def end(child: subprocess.Popen[str]) -> None:
    for pipe in (child.stdin, child.stdout):
        assert pipe
        pipe.close()
    child.wait()


@pytest.fixture
def traced(trace: Callable[..., Tracer], tmp_path: Path) -> Callable[..., Run]:
    """traced(PROGRAM, ARGUMENT..., options=(), lost=0): runs it as COMMAND to its end."""

    def run(
        *command: object,
        options: tuple[str, ...] = (),
        lost: int | None = 0,
        seconds: float = 60,
        env: dict[str, str] | None = None,
    ) -> Run:
        facts = tmp_path / "facts"
        words = ("--", *TO_FILE, str(facts), *map(str, command))
        tracer = trace(*options, *words, attached=False, env=env)
        result = tracer.finish(seconds, lost)
        assert not result.output, "nothing but events on standard output"
        return Run(result, read_facts(facts))

    return run


@pytest.fixture
def traced_text(tmp_path: Path) -> Callable[..., tuple[list[str], list[Any]]]:
    """traced_text(PROGRAM, ARGUMENT..., options=()): the calls' lines in the text form, and the
    facts.
    """

    def run(*command: object, options: tuple[str, ...] = ()) -> tuple[list[str], list[Any]]:
        facts = tmp_path / "facts"
        argv = [*TRACER, *options, "--", *TO_FILE, str(facts), *map(str, command)]
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60 * PATIENCE
        )
        assert b" 0 lost in " in done.stderr, done.stderr
        text = done.stdout.decode()
        assert text.endswith("\n")
        calls = [line for line in text.split("\n")[:-1] if not _notice.match(line)]
        return calls, read_facts(facts)

    return run


@pytest.fixture
def untraced(tmp_path: Path) -> Callable[..., tuple[int, list[Any]]]:
    """untraced(PROGRAM, ARGUMENT...): exit status and facts of a run without this tracer."""

    def run(*command: object) -> tuple[int, list[Any]]:
        facts = tmp_path / "untraced"
        with facts.open("wb") as file:
            done = subprocess.run([*map(str, command)], stdout=file, timeout=60 * PATIENCE)
        return done.returncode, read_facts(facts)

    return run


@pytest.fixture
def auth_uri(tmp_path: Path) -> str:
    """A URI of the test driver that asks for a user name and a password, by a callback inside
    virConnectOpenAuth.
    """
    path = tmp_path / "node.xml"
    path.write_text(NODE)
    return f"test://{path}"


@pytest.fixture
def steps(caller) -> Iterator[Callable[..., Steps]]:
    """steps(before=COMMAND, env=...): a caller that waits for its steps."""
    running: list[Steps] = []

    def start(before: tuple[str, ...] = (), env: dict[str, str] | None = None) -> Steps:
        running.append(Steps(caller("steps"), before, env))
        return running[-1]

    yield start
    for step in running:
        if step.process.poll() is None:
            step.process.kill()
        step.end()
