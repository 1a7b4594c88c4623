# SPDX-License-Identifier: LGPL-2.1-or-later
"""Callers and tracers under odd conditions: confined, stopped, traced, short of memory; every
call is seen, or it is told.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import CALLS, TRACER, Run
from tests.kernel.test_hostile import inside
from tests.kernel.test_targets import in_namespace
from tests.needs import PATIENCE, lack
from tests.tracing import Tracer

Traced = Callable[..., Run]
MEMORY = Path("/sys/fs/cgroup/memory")


@pytest.mark.parametrize("what", ["change-user", "change-root", "hide-memory", "confine"])
def test_a_program_that_gives_up_its_rights(
    caller, traced: Traced, auth_uri: str, what: str
) -> None:
    run = inside(caller, traced, what, auth_uri)
    opened = run.call("virConnectOpenAuth")
    assert (opened["type"], opened["ret"]["uri"], opened["uid"]) == ("call", auth_uri, 0)
    calls = run.calls("virDomainGetID")
    assert [call["type"] for call in calls] == ["call"] * CALLS
    assert {call["uid"] for call in calls} == {65534 if what == "change-user" else 0}
    assert {os.path.basename(call["exe"]) for call in calls} == {caller("inside").name}


def test_a_program_that_is_stopped_in_a_call(caller, trace, auth_uri: str) -> None:
    tracer: Tracer = trace(
        "-n", caller("inside").name, "-f", "virConnectOpenAuth", "-f", "virDomainGetID"
    )
    child = subprocess.Popen([caller("inside"), "stop", auth_uri], stdout=subprocess.DEVNULL)
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    os.kill(child.pid, signal.SIGCONT)
    assert child.wait() == 0
    result = tracer.stop()
    (opened,) = result.calls("virConnectOpenAuth", child.pid)
    assert (opened["type"], opened["ret"]["uri"]) == ("call", auth_uri)
    assert len(result.calls("virDomainGetID", child.pid)) == CALLS


@pytest.mark.parametrize(
    "how",
    [["strace", "-f", "-o", "/dev/null"], ["strace", "-f", "-o", "/dev/null", "--seccomp-bpf"]],
    ids=["", "filter"],
)
def test_a_program_that_is_traced(caller, traced: Traced, auth_uri: str, how: list[str]) -> None:
    run = traced(*how, caller("inside"), "call", auth_uri)
    assert len(run.calls("virDomainGetName")) == len(run.calls("virDomainGetID")) == CALLS
    assert run.call("virConnectOpenAuth")["ret"]["uri"] == auth_uri


@pytest.fixture
def cramped() -> Iterator[Path]:
    """A group of processes that may have 8 MiB together."""
    if not (MEMORY / "memory.limit_in_bytes").exists():
        lack("kernel", "there are no memory groups of version 1")
    group = MEMORY / f"cramped-{os.getpid()}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(8 << 20))
    yield group
    group.rmdir()


def test_a_program_short_of_memory(caller, traced: Traced, cramped: Path) -> None:
    """What is kept of its calls is not taken from it."""
    enter = ["sh", "-c", f'echo $$ >{cramped}/cgroup.procs; exec "$@"', "sh"]
    run = traced(*enter, caller("threads"), 20)
    calls = run.calls("virDomainLookupByName")
    assert sorted((call["tid"], call["args"]["name"]) for call in calls) == sorted(
        (tid, name) for tid, name in run.facts for _ in range(CALLS)
    )


@pytest.mark.parametrize(
    "limit", ["nofile=40:40", "memlock=0:0", "fsize=0:0", "as=300000000:300000000"]
)
def test_limits_of_the_tracer(caller, tmp_path: Path, limit: str) -> None:
    """They are what a service manager or a shell gives it; those that it can't do with are told."""
    log = tmp_path / "log"
    command = [
        "prlimit",
        f"--{limit}",
        *TRACER,
        "--json",
        "-n",
        caller("steps").name,
        "--",
        "sh",
        "-c",
        f"echo {CALLS} | {caller('steps')} >{log}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * PATIENCE)
    seen = done.stdout.count('"function":"virDomainGetName"')
    assert seen == CALLS or "libvirt-trace: " in done.stderr, (seen, done)
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr


@pytest.mark.parametrize("option", ["hidepid=invisible", "subset=pid"])
def test_processes_that_are_hidden_in_proc(caller, tmp_path: Path, option: str) -> None:
    """A service may be given such a /proc. What can't be told then is said."""
    within = in_namespace(f"mount -t proc -o {option} proc /proc")
    steps = f"echo {CALLS} | {caller('steps')} >{tmp_path}/out"
    done = subprocess.run(
        [*within, *TRACER, "--json", "-n", caller("steps").name, "--", "sh", "-c", steps],
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
    )
    seen = done.stdout.count('"function":"virDomainGetName"')
    assert seen == CALLS or (done.returncode and "libvirt-trace: " in done.stderr), (seen, done)
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr


def test_two_tracers_in_a_storm_of_hangups(caller, steps, tmp_path: Path) -> None:
    """Each reopens its file as often as it is told to; no call is in none of its files."""
    step = steps()
    logs = [tmp_path / f"{number}.json" for number in range(2)]
    tracers = [
        Tracer("-p", str(step.pid), "-f", "virDomainGetName", "-o", str(log)) for log in logs
    ]
    try:
        for tracer in tracers:
            tracer.wait_attached()
        for turn in range(40):
            for tracer, log in zip(tracers, logs, strict=True):
                if log.exists():
                    shutil.move(log, log.with_name(f"{log.stem}-{turn}.json"))
                for _ in range(5):
                    tracer.process.send_signal(signal.SIGHUP)
            step.call()
        for tracer in tracers:
            assert tracer.stop().status == 0
    finally:
        for tracer in tracers:
            tracer.kill()
    for log in logs:
        text = "".join(path.read_text() for path in tmp_path.glob(f"{log.stem}*.json"))
        assert text.count('"function":"virDomainGetName"') == 40 * CALLS
