# SPDX-License-Identifier: LGPL-2.1-or-later
"""Libraries for coroutines are known by their names."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from probes.host.libraries.coroutines import Left, find, uses_coroutines
from probes.host.looking.owners import Owners


def line(path: str) -> bytes:
    return f"7f0000000000-7f0000001000 r-xp 00000000 08:01 42 {path}\n".encode()


@pytest.mark.parametrize(
    "path",
    [
        "/usr/lib/python3/dist-packages/greenlet/_greenlet.cpython-311-x86_64-linux-gnu.so",
        "/usr/lib/python3/dist-packages/gevent/_gevent_cgreenlet.cpython-311-x86_64-linux-gnu.so",
        "/usr/lib/x86_64-linux-gnu/libboost_context.so.1.74.0",
        "/usr/lib/x86_64-linux-gnu/ruby/3.1.0/fiber.so",
        "/usr/lib/x86_64-linux-gnu/perl5/5.36/auto/Coro/State/State.so",
        "/usr/lib/libpth.so.20",
        "/opt/pypy3/bin/libpypy3.9-c.so",
        "/usr/lib/x86_64-linux-gnu/ruby/3.1.0/continuation.so",
    ],
)
def test_known_ones(path: str) -> None:
    assert uses_coroutines(line("/usr/bin/python3.11") + line(path) + line("/usr/lib/libc.so.6"))


def test_others() -> None:
    others = [
        "/usr/lib/libcorosync_common.so.4",
        "/usr/lib/libpthread.so.0",
        "/srv/greenlet/libvirt.so.0",
    ]
    assert not uses_coroutines(b"".join(map(line, others)))


def test_which_processes_have_them(tmp_path) -> None:
    for pid, path in (1, "/usr/bin/true"), (2, "/usr/lib/_greenlet.so"):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "maps").write_bytes(line(path))
    assert find([1, 2, 3], tmp_path) == [2]


def process(proc: Path, pid: int, mapped: bytes) -> None:
    """One that began at tick 4711 and has 11 pages of code."""
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "stat").write_text(f"{pid} (a) b) S " + "0 " * 18 + "4711 0\n")
    (folder / "status").write_text(
        "Name:\tx\nVmExe:\t      12 kB\nVmLib:\t      32 kB\nVmPTE:\t 8 kB\n"
    )
    (folder / "maps").write_bytes(mapped)


def test_who_copies_no_stacks(tmp_path) -> None:
    """Who may not be looked into may do so, too, and who has gone is nobody."""
    process(tmp_path, 1, line("/usr/lib/libc.so.6"))
    process(tmp_path, 2, line("/usr/lib/libc.so.6") + line("/usr/lib/_greenlet.so"))
    process(tmp_path, 3, b"")
    told: list[tuple[int, int, int]] = []
    left = Left(lambda *what: told.append(what), Owners(tmp_path), tmp_path)
    for pid in (1, 2, 3, 4, 1):
        left.ask(pid)
    left.run(60)
    assert told == [(1, 4711, 11)]


def test_how_much_code_there_is() -> None:
    """As many pages as the kernel's own list of mappings has."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
        assert cat.stdin and cat.stdout
        cat.stdin.write(b"ready")
        cat.stdin.flush()
        assert os.read(cat.stdout.fileno(), 5) == b"ready"
        told: list[tuple[int, int, int]] = []
        Left(lambda *what: told.append(what), Owners()).look(cat.pid)
        parts = [line.split() for line in Path(f"/proc/{cat.pid}/maps").read_text().splitlines()]
    code = [part[0].split("-") for part in parts if "x" in part[1] and part[-1] != "[vsyscall]"]
    assert [pages for _, _, pages in told] == [
        sum(int(end, 16) - int(start, 16) for start, end in code) // 4096
    ]
