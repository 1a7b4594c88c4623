# SPDX-License-Identifier: LGPL-2.1-or-later
"""File systems that may not answer are told by what is mounted, and waited for elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from probes.host.looking import maps, slow


def mapping(minor: int, major: int = 0) -> maps.Mapping:
    status = os.stat(os.__file__)
    made = maps.Mapping(7, 0, 4096, major, minor, status.st_ino, os.__file__)
    assert (made.major, made.minor) == (major, minor)
    return made


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for pid in ("7", "self"):
        (tmp_path / pid).mkdir()
    (tmp_path / "7" / "mountinfo").write_text(
        "20 1 254:0 / / rw - ext4 /dev/vda rw\n"
        "21 1 0:40 / /a rw shared:1 - fuse.sshfs host: rw\n"
        "22 1 0:41 / /b rw - 9p tag rw\n"
        "23 1 0:42 / /c rw - overlay overlay rw\n"
    )
    (tmp_path / "self" / "mountinfo").write_text("30 1 0:43 / /d rw - nfs4 host:/ rw\n")
    return tmp_path


@pytest.mark.parametrize(
    ("minor", "is_slow", "may_hang", "is_served"),
    [
        (40, True, True, True),
        (41, True, False, False),
        (42, False, False, False),
        (43, True, True, False),  # of another mount namespace
        (99, False, False, False),
    ],
)
def test_file_systems_are_told_by_mountinfo(proc, minor, is_slow, may_hang, is_served) -> None:
    of = mapping(minor)
    found = slow.is_slow(of, proc), slow.may_hang(of, proc), slow.is_served(7, 0, minor, proc)
    assert found == (is_slow, may_hang, is_served)


def test_a_disk_is_never_asked_about(tmp_path) -> None:
    assert not slow.is_slow(mapping(40, 254), tmp_path)


def test_work_comes_back_and_only_so_much_waits(proc) -> None:
    waited: slow.Slow[int] = slow.Slow(proc)
    assert all(waited.ask(mapping(40), number) for number in range(slow.MOST_WAITING))
    assert not waited.ask(mapping(40), -1)
    assert all(waited.wait(60) for _ in range(slow.MOST_WAITING))
    assert (waited.rest(), waited.ready(), waited.wait(0)) == ([], [], False)
