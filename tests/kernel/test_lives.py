# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes that live for milliseconds: what each was is known from the kernel."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probes.host.processes.happened import parse
from probes.host.processes.lives import Exec, Exited, Life, OutOfMemory, Signalled
from probes.kernel.rings.tracepoints import Tracepoints
from tests.cgroups import limited_cgroup, root_of_all
from tests.kernel.conftest import TO_FILE, read_facts
from tests.needs import PATIENCE, PYTHON, rounds

MANY = rounds(103 if PATIENCE < 10 else 23)  # emulated

pytestmark = pytest.mark.other_kernels


def lives_until(tracepoints: Tracepoints, wanted: Callable[[Life], bool]) -> list[Life]:
    """Everything up to the read that brings a wanted one."""
    told: list[Life] = []
    deadline = time.monotonic() + 60 * PATIENCE
    while time.monotonic() < deadline:
        new = [life for raw in tracepoints.read() if (life := parse(raw)) is not None]
        told += new
        if any(map(wanted, new)):
            assert tracepoints.lost() == 0
            return told
    raise AssertionError(f"not among {len(told)} records")


def ended(pid: int) -> Callable[[Life], bool]:
    return lambda life: isinstance(life, Exited) and life.pid == pid and life.is_last


@pytest.fixture
def services() -> Iterator[list[Path]]:
    """Cgroups as systemd makes them for services."""
    made = [root_of_all() / f"libvirt-trace-{os.getpid()}-{name}.service" for name in "abc"]
    for path in made:
        path.mkdir()
    yield made
    for path in made:
        path.rmdir()


def test_each_of_many_short_programs_is_known(trace, caller, tracepoints, services, tmp_path):
    """In the log, and in the kernel's own records."""
    program, facts = caller("execs"), tmp_path / "facts"
    words = ("--", *TO_FILE, str(facts), str(program), str(MANY), *map(str, services))
    tracer = trace("--cmdline", "full", "-f", "virGetVersion", *words, attached=False)
    told: dict[int, tuple[int, bytes | None]] = {}
    running = True
    while running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            tracer.process.wait(1)
            running = False
        told |= {
            life.pid: (life.ppid, life.cmdline)
            for life in map(parse, tracepoints.read())
            if isinstance(life, Exec) and life.exe == str(program)
        }
    result, made = tracer.finish(), read_facts(facts)
    assert result.status == 0, result.stderr
    assert [fact["number"] for fact in made] == list(range(MANY))
    cmdlines = [[str(program), "call", str(number)] for number in range(MANY)]
    assert [
        (call["pid"], call["exe"], call["cmdline"], call["uid"], call["ppid"], call["unit"])
        for call in result.calls("virGetVersion")
    ] == [
        (fact["pid"], str(program), words, os.geteuid(), fact["ppid"], service.name)
        for fact, words, service in zip(made, cmdlines, itertools.cycle(services))
    ]
    assert {fact["pid"]: told[fact["pid"]] for fact in made} == {
        fact["pid"]: (fact["ppid"], b"\0".join(map(os.fsencode, words)) + b"\0")
        for fact, words in zip(made, cmdlines, strict=True)
    }
    assert tracepoints.lost() == 0


def test_exec_of_every_kind(tracepoints, tmp_path):
    """By its path through mounts and links, of a deleted file, of memory, of a script, by a
    thread, of a set-uid program.
    """
    true = os.path.realpath("/bin/true")
    mounted, script, gone = tmp_path / "mounted", tmp_path / "script", tmp_path / "gone"
    (deep := mounted.joinpath(*(["d" * 20] * 20))).mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(true)
    script.write_text("#!/bin/true of\n")
    script.chmod(0o755)
    shutil.copy(true, gone)
    fd = os.open(gone, os.O_RDONLY)
    memory = os.memfd_create("memory")
    os.write(memory, gone.read_bytes())
    gone.unlink()
    shutil.copy(true, deep / "true")
    inside = (
        f"mount -t tmpfs tmpfs {mounted} && mkdir {mounted}/x && cp {true} {mounted}/x/true "
        f'&& exec {mounted}/x/true "a b" ""'
    )
    threaded = (
        f"import os, threading; threading.Thread(target=os.execv, args=({true!r}, ['by', "
        "'thread'])).start(); threading.Event().wait()"
    )
    cases = {
        (str(link), "x"): (true, [str(link), "x"]),
        (str(script), "y"): (true, ["/bin/true", "of", str(script), "y"]),
        (str(deep / "true"),): (str(deep / "true"), [str(deep / "true")]),
        (f"/proc/self/fd/{fd}",): (f"{gone} (deleted)", [f"/proc/self/fd/{fd}"]),
        (f"/proc/self/fd/{memory}",): ("/memfd:memory (deleted)", [f"/proc/self/fd/{memory}"]),
        ("unshare", "--mount", "sh", "-c", inside): (
            f"{mounted}/x/true",
            [f"{mounted}/x/true", "a b", ""],
        ),
        (PYTHON, "-c", threaded): (true, ["by", "thread"]),
        ("setpriv", "--reuid=65534", "--clear-groups", true): (true, [true]),
        (true, "z" * 5000): (true, [true, "z" * (1023 - len(true))]),
    }
    for command, (exe, words) in cases.items():
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, pass_fds=(fd, memory))
        assert child.wait(60 * PATIENCE) == 0
        told = [
            life
            for life in lives_until(tracepoints, ended(child.pid))
            if isinstance(life, Exec) and life.pid == child.pid
        ]
        last = told[-1]
        assert (last.exe, (last.cmdline or b"").decode().removesuffix("\0").split("\0")) == (
            exe,
            words,
        )
        assert (last.ppid, last.uid) == (os.getpid(), 65534 if "setpriv" in command else 0)
        assert {life.start for life in told} == {last.start}
    os.close(fd)
    os.close(memory)


def test_path_that_is_too_long_is_not_known(tracepoints, tmp_path):
    folder = tmp_path.joinpath(*(["d" * 200] * 6))
    folder.mkdir(parents=True)
    shutil.copy("/bin/true", folder / "true")
    child = subprocess.Popen([str(folder / "true")])
    child.wait()
    (told,) = (
        life
        for life in lives_until(tracepoints, ended(child.pid))
        if isinstance(life, Exec) and life.pid == child.pid
    )
    status = (folder / "true").stat()
    assert (told.exe, os.makedev(told.major, told.minor), told.inode) == (
        None,
        status.st_dev,
        status.st_ino,
    )


def test_signals_that_may_end_a_process(tracepoints):
    child = subprocess.Popen(["sleep", "600"])
    other = subprocess.Popen(
        ["sh", "-c", 'kill -WINCH $1; exec kill -TERM "$1"', "sh", str(child.pid)]
    )
    assert (other.wait(), child.wait()) == (0, -signal.SIGTERM)
    fault = subprocess.Popen([PYTHON, "-c", "import ctypes; ctypes.string_at(0)"])
    assert fault.wait() == -signal.SIGSEGV
    told = [
        life for life in lives_until(tracepoints, ended(fault.pid)) if isinstance(life, Signalled)
    ]
    (term,) = (life for life in told if life.pid == child.pid)
    assert term[1:] == (child.pid, child.pid, signal.SIGTERM, 0, other.pid, 0, "kill")
    (segv,) = (life for life in told if life.pid == fault.pid)
    assert segv[1:] == (fault.pid, fault.pid, signal.SIGSEGV, 1, None, None, None)


@pytest.fixture
def limited() -> Iterator[Path]:
    """A cgroup whose processes have 20 MiB."""
    yield from limited_cgroup()


def test_process_that_the_kernel_ends_for_want_of_memory(tracepoints, limited):
    script = (
        f"open('{limited}/cgroup.procs', 'w').write('0'); x = [bytearray(b'x' * 4096) for _ "
        "in range(50000)]"
    )
    child = subprocess.Popen([PYTHON, "-c", script])
    assert child.wait(120 * PATIENCE) == -signal.SIGKILL
    told = lives_until(tracepoints, ended(child.pid))
    assert [life.pid for life in told if isinstance(life, OutOfMemory)] == [child.pid]
