# SPDX-License-Identifier: LGPL-2.1-or-later
"""How tracing begins and ends, what it leaves behind, and libraries that come and go meanwhile."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from probes.internals.elf import read_elf
from probes.kernel import abi, bpf, libc
from tests.kernel.conftest import CALLS, TRACER, Run, Steps
from tests.needs import PATIENCE, PYTHON, ROOT
from tests.tracing import Event, Tracer

LIBVIRT = os.path.realpath("/usr/lib/x86_64-linux-gnu/libvirt.so.0")
BREAKPOINT = 0xCC  # int3
LONG = 1_000_000_000  # ns, as in tracer.py


def wait_until(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds * PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def code_of(step: Steps, function: str) -> int:
    """The first byte of a function of libvirt.so.0 as the process runs it."""
    for line in Path(f"/proc/{step.pid}/maps").read_text().splitlines():
        if found := re.match(
            r"([0-9a-f]+)-[0-9a-f]+ r-xp ([0-9a-f]+) "
            r".*/libvirt\.so\.0\.\S+",
            line,
        ):
            start, offset = (int(part, 16) for part in found.groups())
            break
    with open(LIBVIRT, "rb") as library:
        at = next(
            f.offset for f in read_elf(library.fileno(), LIBVIRT).functions if f.name == function
        )
    with open(f"/proc/{step.pid}/mem", "rb", buffering=0) as memory:
        memory.seek(start + at - offset)
        return memory.read(1)[0]


def names(tracer: Tracer, pid: int) -> list[object]:
    return [call["ret"] for call in tracer.calls("virDomainGetName", pid)]


# beginning and end

# as on a kernel whose return probes kill processes under seccomp
NO_RETURNS = """
import sys
from probes.tracing import ways
ways.has_session = ways.returns.can_be_found = lambda: False
import tracer
sys.exit(tracer.main(sys.argv[1:]))
"""


def test_without_return_probes_calls_are_shown_by_their_begin(caller, tmp_path: Path) -> None:
    argv = [
        PYTHON,
        "-c",
        NO_RETURNS,
        "--json",
        "--",
        "sh",
        "-c",
        'exec "$@" >"$0"',
        str(tmp_path / "facts"),
        str(caller("steps")),
    ]
    done = subprocess.run(
        argv, cwd=ROOT, input=f"{CALLS}\n", capture_output=True, text=True, timeout=60 * PATIENCE
    )
    warning, totals = done.stderr.splitlines()
    assert warning == (
        "libvirt-trace: before Linux 6.13 return probes kill programs that switch stacks: no "
        "results and durations; with python3-capstone installed there are, --returns uses the "
        "probes all the same"
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    calls = events[1:-1]
    assert totals.startswith(f"libvirt-trace: {len(calls)} calls, 0 failed, 0 denied, 0 lost in ")
    assert {(call["type"], call["reason"], call["depth"]) for call in calls} == {
        ("unfinished", "no return probe", 0)
    }
    assert [
        call["args"]["domain"]["name"] for call in calls if call["function"] == "virDomainGetName"
    ] == ["test"] * CALLS


SLEEPS = "from probes.verbs import looks\nlooks.CALM, looks.ASLEEP = 0.1, 3600"


def test_calls_and_signals_wake_a_tracer_that_is_asleep(steps) -> None:
    step = steps()
    tracer = Tracer("-p", str(step.pid), before=SLEEPS)
    try:
        tracer.wait_attached()
        for times in range(1, 4):
            step.call()
            tracer.wait_for(lambda event: event["type"] == "call", count=times * CALLS)
        assert tracer.stop().status == 0
    finally:
        tracer.kill()


def test_the_first_call_of_a_command_is_seen(caller, traced: Callable[..., Run]) -> None:
    run = traced(caller("names"), options=("-a",))
    first = run.calls()[:2]
    assert [(call["function"], call["depth"]) for call in first] == [
        ("virSetErrorFunc", 0),
        ("virConnectOpen", 0),
    ]
    assert run.result.events[0]["type"] == "attached"


@pytest.mark.other_kernels
def test_two_tracers_see_everything(trace, steps) -> None:
    first = trace()
    second = trace()
    step = steps()
    step.call()
    for tracer in (first, second):
        tracer.stop(lost=None)
        assert names(tracer, step.pid) == ["test"] * CALLS
    step.call()
    assert step.end() == 0


def test_one_tracer_leaves_and_the_other_goes_on(trace, steps) -> None:
    step = steps()
    first = trace("-p", str(step.pid))
    second = trace("-p", str(step.pid))
    step.call()
    first.stop()
    step.call()
    second.stop()
    assert (len(names(first, step.pid)), len(names(second, step.pid))) == (CALLS, 2 * CALLS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_tracing_cleanly(trace, steps, number: int) -> None:
    step = steps()
    tracer = trace("-p", str(step.pid))
    step.call()
    result = tracer.stop(number)
    assert result.status == 0
    assert (result.end["calls"], len(result.calls())) == (CALLS, CALLS)
    assert re.fullmatch(
        r"libvirt-trace: 23 calls, 0 failed, 0 denied, 0 lost in "
        r"[0-9.]+s\n",
        result.stderr,
    )
    step.call()
    assert step.end() == 0


def links_of(pid: int) -> set[int]:
    """The BPF links that a process holds."""
    found = set()
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        if match := re.search(r"^link_id:\s+([0-9]+)$", entry.read_text(), re.M):
            found.add(int(match[1]))
    return found


def link_exists(number: int) -> bool:
    fd = open_link(number)
    if fd is not None:
        os.close(fd)
    return fd is not None


def open_link(number: int) -> int | None:
    """A BPF link by its number; None: there is no such link."""
    try:
        return bpf.bpf(30, number.to_bytes(4, "little"))  # BPF_LINK_GET_FD_BY_ID
    except OSError:
        return None


def others_trace() -> bool:
    """Whether anybody on this machine has uprobes: a breakpoint may be theirs."""
    number = 0
    while True:
        attributes = ctypes.create_string_buffer(number.to_bytes(4, "little"), 128)
        try:
            # BPF_LINK_GET_NEXT_ID
            libc.syscall(abi.HERE.bpf, ctypes.c_long(31), attributes, ctypes.c_ulong(128))
        except OSError:
            return False  # that was the last
        number = int.from_bytes(attributes.raw[4:8], "little")
        if (fd := open_link(number)) is not None:
            kind = re.search(
                r"^link_type:\s+(\w+)$", Path(f"/proc/self/fdinfo/{fd}").read_text(), re.M
            )
            os.close(fd)
            if kind and kind[1] in ("uprobe_multi", "perf"):
                return True


def has_own_code(step: Steps, before: int) -> Callable[[], bool]:
    """Whether a process runs its own code again, as far as that can be told."""
    return lambda: code_of(step, "virDomainGetName") == before or others_trace()


@pytest.mark.other_kernels
def test_a_killed_tracer_leaves_nothing_behind(trace, steps) -> None:
    step = steps()
    before = code_of(step, "virDomainGetName")
    tracer = trace("-p", str(step.pid))
    step.call()
    tracer.wait_for(
        lambda event: event["type"] == "call" and event["function"] == "virDomainGetName",
        count=CALLS,
    )
    links = links_of(tracer.pid)
    assert links and all(link_exists(link) for link in links)
    assert code_of(step, "virDomainGetName") == BREAKPOINT
    tracer.kill()
    wait_until(lambda: not any(link_exists(link) for link in links), "links are still there")
    step.call()
    assert step.end() == 0
    if before != BREAKPOINT:  # nobody else traced
        wait_until(has_own_code(steps(), before), "a new process has the breakpoint")


def test_a_process_runs_its_own_code_again_when_tracing_ends(trace, steps) -> None:
    step = steps()
    before = code_of(step, "virDomainGetName")
    tracer = trace("-p", str(step.pid))
    assert code_of(step, "virDomainGetName") == BREAKPOINT
    tracer.stop()
    if before != BREAKPOINT:
        wait_until(has_own_code(step, before), "the breakpoint is still there")
    step.call()
    assert step.end() == 0


def stop_inside(program: Path, uri: str, folder: Path) -> tuple[subprocess.Popen[str], Path]:
    """A caller that is inside of virConnectOpenAuth, and stays there until something is written
    to the path.
    """
    ready, go = folder / "ready", folder / "go"
    os.mkfifo(ready)
    os.mkfifo(go)
    wait = ("/bin/sh", "-c", f"echo >{ready}; read line <{go}")
    step = subprocess.Popen([program, "spawn", uri, *wait], stdout=subprocess.PIPE, text=True)
    assert ready.read_text() == "\n"
    return step, go


def test_a_tracer_killed_inside_a_call_harms_nobody(
    caller, trace, auth_uri: str, tmp_path: Path
) -> None:
    """The call returns through a probe whose owner is gone."""
    tracer = trace("-f", "virConnectOpenAuth")
    step, go = stop_inside(caller("inside"), auth_uri, tmp_path)
    tracer.kill()
    go.write_text("\n")
    out, _ = step.communicate(timeout=20 * PATIENCE)
    assert step.returncode == 0
    assert json.loads(out)["opened"] is True


def test_a_call_under_way_at_the_end_is_listed(
    caller, trace, auth_uri: str, tmp_path: Path
) -> None:
    tracer = trace("-f", "virConnectOpenAuth")
    step, go = stop_inside(caller("inside"), auth_uri, tmp_path)
    tracer.stop(lost=None)
    go.write_text("\n")
    step.communicate(timeout=20 * PATIENCE)
    assert step.returncode == 0
    (call,) = tracer.calls("virConnectOpenAuth", step.pid)
    assert (call["type"], call["reason"], call["args"]["name"]) == (
        "unfinished",
        "still running",
        auth_uri,
    )


def test_a_call_that_has_ended_is_not_told_as_under_way(
    caller, trace, auth_uri: str, tmp_path: Path
) -> None:
    """It lasted for long, and the tracer has not looked since it ended."""
    tracer = trace("-f", "virConnectOpenAuth")
    step, go = stop_inside(caller("inside"), auth_uri, tmp_path)
    told = age = 0
    while age < LONG:
        tracer.process.send_signal(signal.SIGUSR1)
        told += 1
        age = tracer.wait_for(
            lambda one: one["type"] == "under_way" and one["pid"] == step.pid, count=told
        )["age_ns"]
    tracer.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, tracer.pid, os.WSTOPPED)
    go.write_text("\n")
    step.communicate(timeout=20 * PATIENCE)
    tracer.process.send_signal(signal.SIGINT)
    tracer.process.send_signal(signal.SIGCONT)
    tracer.finish(lost=None)
    mine = [event["type"] for event in tracer.events if event.get("pid") == step.pid]
    assert mine == ["under_way"] * told + ["call"]


def test_a_call_that_began_before_tracing(caller, trace, auth_uri: str, tmp_path: Path) -> None:
    """It is not seen, and those after it are."""
    step, go = stop_inside(caller("inside"), auth_uri, tmp_path)
    tracer = trace("-p", str(step.pid))
    go.write_text("\n")
    step.communicate(timeout=20 * PATIENCE)
    result = tracer.stop()
    assert step.returncode == 0
    assert [(call["type"], call["function"]) for call in result.calls()] == [
        ("call", "virDomainGetID")
    ] * CALLS


def test_the_first_call_after_attaching_and_the_one_inside_it_know_their_connection(
    caller, trace
) -> None:
    """What describes a connection is sent once, with the outer call; the inner one ends first."""
    with subprocess.Popen(
        [caller("late")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as step:
        assert step.stdout
        assert step.stdout.readline() == "ready\n"
        tracer = trace("--nested", "-p", str(step.pid))
        step.communicate("\n", timeout=20 * PATIENCE)
    result = tracer.stop()
    assert step.returncode == 0
    conn = {"type": "connect", "uri": "test:///default", "driver": "Test"}
    got = [
        (call["function"], call["depth"], call["args"]["conn"], call["ret"]["driver"])
        for call in result.calls()
    ]
    assert got == [
        ("virDomainCreateXML", 1, conn, "Test"),
        ("virDomainCreateLinux", 0, conn, "Test"),
    ]


def test_a_process_whose_main_thread_has_ended_is_known_as_before(caller, trace) -> None:
    """What is sent once for a process, such as its driver's name, is sent before that."""
    with subprocess.Popen(
        [caller("ended_main")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as step:
        assert step.stdin and step.stdout and step.stdout.readline() == "ready\n"
        tracer = trace("-p", str(step.pid))

        def is_call(event: Event) -> bool:
            return event.get("function") == "virDomainGetName"

        for number in range(1, 4):
            step.stdin.write(f"{number}\n")
            step.stdin.flush()
            assert step.stdout.readline() == f"{number}\n"
            tracer.wait_for(is_call, count=number)
    calls = tracer.stop().calls("virDomainGetName")
    assert step.returncode == 0
    assert len({call["tid"] for call in calls}) == 2
    assert {(call["args"]["domain"].get("driver"), call["exe"]) for call in calls} == {
        ("Test", str(caller("ended_main")))
    }


def test_a_reader_that_leaves_harms_nobody(steps) -> None:
    step = steps()
    argv = [*TRACER, "--json", "-p", str(step.pid)]
    tracer = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert tracer.stdout and tracer.stderr
    assert '"type":"attached"' in tracer.stdout.readline()
    tracer.stdout.close()
    step.call()
    assert tracer.wait(20 * PATIENCE) == 0
    assert re.fullmatch(r"libvirt-trace: [0-9]+ calls, .*\n", tracer.stderr.read())
    tracer.stderr.close()
    step.call()
    assert step.end() == 0


def test_a_full_disk_is_reported_and_harms_nobody(caller, traced: Callable[..., Run]) -> None:
    run = traced(caller("lengths"), *range(CALLS), options=("-o", "/dev/full"))
    assert run.facts == list(range(CALLS))
    assert len(run.calls("virDomainGetName")) == CALLS
    lines = [line for line in run.result.stderr.splitlines() if "/dev/full" in line]
    assert "no space left on device" in lines[0]
    assert re.search(r"/dev/full: [0-9]+ calls were not written", lines[-1])


def test_a_log_beside_the_screen(caller, traced: Callable[..., Run], tmp_path: Path) -> None:
    log = tmp_path / "log.render.jsonl"
    run = traced(caller("lengths"), *range(CALLS), options=("-o", str(log)))
    assert log.stat().st_mode & 0o777 == 0o600
    assert [json.loads(line) for line in log.read_text().splitlines()] == run.result.events


@pytest.fixture
def everyones() -> Iterator[Path]:
    """The command in a folder that everyone may read, as an installed one is; this checkout may
    be in a home of mode 0700.
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["cp", "-r", "tracer.py", "enforcer", "log", "probes", folder], cwd=ROOT, check=True
        )
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
        yield Path(folder, "tracer.py")


def test_without_root_one_line_says_what_to_do(everyones: Path) -> None:
    argv = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        PYTHON,
        "-E",
        "-s",
        str(everyones),
        "--",
        "true",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20 * PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "libvirt-trace: tracing needs root: run it with sudo\n",
    )


# libraries


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a copy of libvirt.so.0, for LD_LIBRARY_PATH."""
    folder = tmp_path / "lib"
    folder.mkdir()
    shutil.copy(LIBVIRT, folder / "libvirt.so.0.9000.99")
    (folder / "libvirt.so.0").symlink_to("libvirt.so.0.9000.99")
    return folder


def is_attached_to(path: Path) -> Callable[[dict[str, Any]], bool]:
    return lambda event: (
        event["type"] == "attached"
        and any(target["path"] == str(path) for target in event["targets"])
    )


@pytest.mark.other_kernels
def test_a_library_that_appears_is_attached_to(trace, steps, copy: Path) -> None:
    tracer = trace()
    step = steps(env={"LD_LIBRARY_PATH": str(copy)})
    event = tracer.wait_for(is_attached_to(copy / "libvirt.so.0.9000.99"))
    assert event["functions"] > 400
    assert event["mapped_ms"] > 0
    step.call()
    tracer.stop(lost=None)
    assert names(tracer, step.pid) == ["test"] * CALLS


def test_a_deleted_library_that_still_runs(trace, steps, copy: Path) -> None:
    step = steps(env={"LD_LIBRARY_PATH": str(copy)})
    shutil.rmtree(copy)
    tracer = trace("-p", str(step.pid))
    step.call()
    result = tracer.stop()
    assert names(tracer, step.pid) == ["test"] * CALLS
    assert any(
        target["path"] == (f"{copy}/libvirt.so.0.9000.99 (deleted)")
        for target in result.events[0]["targets"]
    )


def test_a_library_that_is_replaced_while_it_runs(trace, steps, copy: Path) -> None:
    """As a package upgrade does it: processes that run keep the old file, new ones get the new
    file.
    """
    path = copy / "libvirt.so.0.9000.99"
    old = steps(env={"LD_LIBRARY_PATH": str(copy)})
    tracer = trace()
    shutil.copy(path, copy / "new")
    (copy / "new").rename(path)
    new = steps(env={"LD_LIBRARY_PATH": str(copy)})
    tracer.wait_for(is_attached_to(path), count=2)
    for step in (old, new):
        step.call()
    tracer.stop(lost=None)
    assert names(tracer, old.pid) == names(tracer, new.pid) == ["test"] * CALLS


@pytest.mark.parametrize("before_tracing", [True, False], ids=["before", "while tracing"])
def test_a_library_in_another_mount_namespace(
    trace, steps, copy: Path, before_tracing: bool
) -> None:
    """Its path leads nowhere from here, or to another file."""
    hidden = copy / "inside"
    hidden.mkdir()
    script = (
        f'mount -t tmpfs tmpfs "{hidden}" && cp "{copy}"/libvirt.so.0* "{hidden}" && exec '
        f'env LD_LIBRARY_PATH="{hidden}" "$0"'
    )
    before = ("unshare", "-m", "sh", "-c", script)
    tracer = None if before_tracing else trace()
    step = steps(before=before)
    tracer = tracer or trace()
    tracer.wait_for(is_attached_to(hidden / "libvirt.so.0"))
    assert not (hidden / "libvirt.so.0").exists()
    step.call()
    tracer.stop(lost=None)
    assert names(tracer, step.pid) == ["test"] * CALLS
