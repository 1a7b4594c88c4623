# SPDX-License-Identifier: LGPL-2.1-or-later
"""Libraries for coroutines are known by their names."""

from __future__ import annotations

import pytest

from probes.host.coroutines import find, uses_coroutines


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
    ],
)
def test_known_ones(path: str) -> None:
    assert uses_coroutines(line("/usr/bin/python3.11") + line(path) + line("/usr/lib/libc.so.6"))


def test_others() -> None:
    others = ["/usr/lib/libcorosync_common.so.4", "/usr/lib/libpthread.so.0", "/srv/greenlet/libvirt.so.0"]
    assert not uses_coroutines(b"".join(map(line, others)))


def test_which_processes_have_them(tmp_path) -> None:
    for pid, path in (1, "/usr/bin/true"), (2, "/usr/lib/_greenlet.so"):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "maps").write_bytes(line(path))
    assert find([1, 2, 3], tmp_path) == [2]
