# SPDX-License-Identifier: LGPL-2.1-or-later
"""The watch on a real kernel: processes that live for milliseconds, rings that wrap and
overflow, and a kernel without perf events.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from probes.host.libraries import mapwatch
from probes.host.libraries.mapwatch import (
    Dropped,
    Mapped,
    Online,
    PerfWatch,
    ProcWatch,
    Record,
    watch_maps,
)
from probes.host.libraries.symbols import Symbols
from probes.host.processes.lives import Exec, Exited, Forked, Missed
from probes.kernel.loading.program import Program
from probes.kernel.rings import perf
from probes.kernel.rings import tracepoints as tracepoints_module
from probes.kernel.rings.tracepoints import Tracepoints
from tests.needs import PATIENCE

LOAD = (
    "import ctypes, sys; ctypes.CDLL('libvirt.so.0'); print('loaded', flush=True); sys.stdin.read()"
)


@pytest.fixture
def watch(tracepoints: Tracepoints) -> Iterator[mapwatch.Watch]:
    started = watch_maps(tracepoints, Symbols())
    assert isinstance(started, PerfWatch)
    yield started
    started.close()


def poll_until(
    watch: mapwatch.Watch, wanted: Callable[[Record], bool], seconds: float = 60
) -> list[Record]:
    """Every record up to the end of the poll that brought a wanted one."""
    told: list[Record] = []
    deadline = time.monotonic() + seconds * PATIENCE
    while time.monotonic() < deadline:
        new = watch.poll()
        told += new
        if any(map(wanted, new)):
            return told
        time.sleep(0.002)  # leaves the processor to whom is waited for
    raise AssertionError(f"not among {len(told)} records")


def wait_for(*fds: int) -> None:
    """Until one of these can be read."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    assert poll.poll(60_000 * PATIENCE), "nobody is woken"


def is_exit(pid: int) -> Callable[[Record], bool]:
    return lambda item: isinstance(item, Exited) and item.pid == pid == item.tid


def test_short_lived_process_is_told_whole(watch):
    before = time.monotonic_ns()
    child = subprocess.Popen(["virsh", "--version"], stdout=subprocess.DEVNULL)
    child.wait()
    after = time.monotonic_ns()
    told = poll_until(watch, is_exit(child.pid))
    assert not any(isinstance(item, Dropped | Missed) for item in told)
    own = [
        item
        for item in told
        if not isinstance(item, Dropped | Online | Missed) and item.pid == child.pid
    ]
    assert all(before <= item.time <= after for item in own)
    assert [item.time for item in own] == sorted(item.time for item in own)
    kinds = [type(item) for item in own if not (isinstance(item, Exited) and item.tid != item.pid)]
    assert kinds == [Forked, Exec, Mapped, Mapped, Mapped, Exited]
    begun, program, *_, ended = (
        item for item in own if not (isinstance(item, Exited) and item.tid != item.pid)
    )
    libraries = [item for item in own if isinstance(item, Mapped)]
    assert isinstance(begun, Forked) and isinstance(program, Exec) and isinstance(ended, Exited)
    assert (begun.ppid, program.ppid, begun.start, ended.is_last) == (
        os.getpid(),
        os.getpid(),
        program.start,
        True,
    )
    assert (
        before
        <= begun.start - (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns())
        <= after
    )
    assert (program.comm, program.exe, program.cmdline) == (
        "virsh",
        os.path.realpath("/usr/bin/virsh"),
        b"virsh\0--version\0",
    )
    status = os.stat("/usr/bin/virsh")
    assert (os.makedev(program.major, program.minor), program.inode) == (
        status.st_dev,
        status.st_ino,
    )
    assert (program.uid, program.gid, program.real_uid) == (0, 0, 0)
    assert {os.path.basename(item.path).split(".so")[0] for item in libraries} == {
        "libvirt",
        "libvirt-qemu",
        "libvirt-lxc",
    }
    for item in libraries:
        status = os.stat(item.path)
        assert (os.makedev(item.major, item.minor), item.inode) == (status.st_dev, status.st_ino)


def test_each_code_that_is_mapped_wakes_who_waits(watch):
    child = subprocess.Popen(
        [sys.executable, "-c", f"input(); {LOAD}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin and child.stdout
    poll_until(watch, lambda item: isinstance(item, Exec) and item.pid == child.pid)
    child.stdin.write(b"\n")
    child.stdin.flush()
    told: list[Record] = []
    while not any(isinstance(item, Mapped) and item.pid == child.pid for item in told):
        if watch.is_settled():  # else it is known that there is more
            wait_for(*watch.wakers())
        told += watch.poll()
    child.communicate()
    assert child.returncode == 0


def test_mapping_is_where_proc_shows_it(watch):
    child = subprocess.Popen(
        [sys.executable, "-c", LOAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin and child.stdout
    child.stdout.readline()
    told = poll_until(
        watch,
        lambda item: (
            isinstance(item, Mapped) and item.pid == child.pid and "/libvirt.so" in item.path
        ),
    )
    mapped = next(item for item in told if isinstance(item, Mapped) and item.pid == child.pid)
    link = f"/proc/{child.pid}/map_files/{mapped.start:x}-{mapped.start + mapped.length:x}"
    assert os.readlink(link) == mapped.path
    child.stdin.close()
    child.stdout.close()
    child.wait()


def test_threads_and_forks(watch):
    script = (
        "import os, threading; t = threading.Thread(target=print); t.start(); t.join(); pid "
        "= os.fork(); pid and os.waitpid(pid, 0)"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    child.wait()
    told = poll_until(watch, is_exit(child.pid))
    (fork,) = (item for item in told if isinstance(item, Forked) and item.ppid == child.pid)
    assert any(is_exit(fork.pid)(item) for item in told)
    ends = [
        (item.tid == item.pid, item.is_last)
        for item in told
        if isinstance(item, Exited) and item.pid == child.pid
    ]
    assert ends == [(False, False), (True, True)]


def test_process_whose_main_thread_ends_first_goes_on(watch):
    script = (
        "import ctypes, os, threading\n"
        "def rest():\n  os.write(1, b'gone')\n  os.read(0, 1)\n  os._exit(0)\n"
        "threading.Thread(target=rest).start()\nctypes.CDLL(None).pthread_exit(None)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin and child.stdout
    child.stdout.read(4)
    told = poll_until(watch, is_exit(child.pid))
    assert [
        item.is_last
        for item in told
        if isinstance(item, Exited) and item.pid == item.tid == child.pid
    ] == [False]
    child.stdin.close()
    child.stdout.close()
    child.wait()
    poll_until(
        watch, lambda item: isinstance(item, Exited) and item.pid == child.pid and item.is_last
    )


def test_rings_that_wrap_lose_nothing(monkeypatch):
    monkeypatch.setattr(tracepoints_module, "RING_BYTES", 1 << 16)
    monkeypatch.setattr(mapwatch, "MOST_PAGES", 64)
    program = Program(1 << 20)
    program.load()
    watch = PerfWatch(program.tasks, Symbols())
    script = (
        "while read line; do for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true; done; echo done; done"
    )
    shell = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert shell.stdin and shell.stdout
    told: list[Record] = []
    for _ in range(100):  # step by step: a watch that comes too late is another test
        os.write(shell.stdin.fileno(), b"go\n")
        shell.stdout.readline()
        told += watch.poll()
    shell.communicate()
    told += poll_until(watch, is_exit(shell.pid))
    assert not any(isinstance(item, Missed) for item in told)
    started = [item.pid for item in told if isinstance(item, Forked) and item.ppid == shell.pid]
    programs = {
        item.pid
        for item in told
        if isinstance(item, Exec) and item.exe == os.path.realpath("/bin/true")
    }
    ended = {item.pid for item in told if isinstance(item, Exited) and item.is_last}
    assert len(started) == 1000
    assert len(programs & set(started)) == 1000
    assert ended >= set(started)
    watch.close()
    program.close()


@pytest.mark.parametrize("uid", [0, 65534])
def test_ring_that_overflows_says_so(monkeypatch, uid):
    monkeypatch.setattr(tracepoints_module, "RING_BYTES", 1 << 14)
    program = Program(1 << 20)
    program.load()
    watch = PerfWatch(program.tasks, Symbols())
    command = [
        "setpriv",
        f"--reuid={uid}",
        "--clear-groups",
        "sh",
        "-c",
        "for i in $(seq 200); do /bin/true; done; exec true",
    ]
    shell = subprocess.Popen(command)
    assert shell.wait() == 0
    told = poll_until(watch, lambda item: isinstance(item, Missed))
    missed = sum(item.records for item in told if isinstance(item, Missed))
    children = {
        item.pid for item in told if isinstance(item, Forked | Exec) and item.ppid == shell.pid
    }
    seen = sum(isinstance(item, Forked | Exec) and item.ppid == shell.pid for item in told)
    seen += sum(isinstance(item, Exited) and item.pid in children for item in told)
    assert seen < 600 <= seen + missed  # fork, exec and exit of each; other programs miss some, too
    watch.close()
    program.close()


def test_ring_of_mappings_that_overflows_says_so(monkeypatch, tracepoints):
    monkeypatch.setattr(mapwatch, "MOST_PAGES", 1)
    monkeypatch.setattr(mapwatch, "LEAST_PAGES", 1)
    watch = PerfWatch(tracepoints, Symbols())
    subprocess.run(["sh", "-c", "for i in $(seq 50); do /bin/true; done"], check=True)
    watch.poll()
    told: list[Record] = []
    deadline = time.monotonic() + 60 * PATIENCE
    while not any(isinstance(item, Dropped) for item in told) and time.monotonic() < deadline:
        subprocess.run(["true"], check=True)  # the count comes with the next record that fits
        told += watch.poll()
    assert any(isinstance(item, Dropped) and item.records > 0 for item in told)
    watch.close()


def test_kernel_that_refuses_is_looked_at_through_proc(monkeypatch, tracepoints):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(perf, "syscall", refuse)
    watch = watch_maps(tracepoints, Symbols())
    assert isinstance(watch, ProcWatch)
    watch.poll()
    child = subprocess.Popen(
        [sys.executable, "-c", LOAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin and child.stdout
    child.stdout.readline()
    poll_until(watch, lambda item: isinstance(item, Mapped) and item.pid == child.pid)
    child.stdin.close()
    child.stdout.close()
    child.wait()
    poll_until(watch, is_exit(child.pid))
    watch.close()


def test_watching_leaves_nothing_open():
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        tracepoints = Tracepoints()
        tracepoints.create_maps()
        watch_maps(tracepoints, Symbols()).close()
        tracepoints.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_watching_hundreds_of_starts_is_cheap(watch):
    subprocess.run(["sh", "-c", "for i in $(seq 200); do /bin/true; done; exec true"], check=True)
    started = time.process_time()
    told = len(watch.poll())
    used = time.process_time() - started  # of this process alone
    assert told >= 600  # fork, exec and exit of each; those of other programs come with them
    assert used / told < 0.00025 * PATIENCE


def test_a_cpu_that_is_switched_on_later_is_watched_then(monkeypatch, tracepoints):
    """What the kernel says of CPUs is made up; the CPUs are real."""
    allowed = sorted(os.sched_getaffinity(0))
    online, late = allowed[:1], allowed[-1]
    if len(allowed) == 1:
        late = online.pop()  # none is watched at first
        online = [late]
    monkeypatch.setattr(mapwatch, "online", lambda: list(online))
    monkeypatch.setattr(mapwatch, "LOOK_AT_CPUS", 0)
    before = len(os.listdir("/proc/self/fd"))
    watch = PerfWatch(tracepoints, Symbols())
    for _ in range(2):
        assert not [item for item in watch.poll() if isinstance(item, Online)]
        online.remove(late) if late in online else None
        watch.poll()
        assert late not in watch._rings
        online.append(late)
        assert [item.cpu for item in watch.poll() if isinstance(item, Online)] == [late]
        child = subprocess.Popen(
            ["taskset", "-c", str(late), "virsh", "--version"], stdout=subprocess.DEVNULL
        )
        child.wait()
        told = poll_until(watch, is_exit(child.pid))
        assert any(
            isinstance(item, Mapped) and item.pid == child.pid and "/libvirt.so" in item.path
            for item in told
        )
    watch.close()
    assert len(os.listdir("/proc/self/fd")) == before
