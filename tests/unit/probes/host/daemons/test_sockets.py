# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is connected to whom by local sockets, by what this process has itself."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from probes.host.daemons.sockets import Sockets, _take, held, sockets


def inode(one: socket.socket) -> int:
    return os.fstat(one.fileno()).st_ino


def test_peers_and_who_is_not_accepted_yet(tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as listens:
        listens.bind(str(tmp_path / "socket"))
        listens.listen(2)
        with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
            first.connect(str(tmp_path / "socket"))
            second.connect(str(tmp_path / "socket"))
            accepted, _ = listens.accept()
            with accepted:
                found = sockets()
                assert found.peers[inode(first)] == inode(accepted)
                assert found.peers[inode(accepted)] == inode(first)
                assert found.waiting[inode(second)] == inode(listens)
                assert inode(first) not in found.waiting and inode(second) not in found.peers
                mine = {inode(one) for one in (listens, first, second, accepted)}
                assert mine <= held(os.getpid())
    assert not mine & held(os.getpid())


def test_process_that_has_gone_has_none(tmp_path: Path):
    assert held(1, tmp_path) == set()


@given(st.binary(max_size=200))
def test_any_answer_is_nothing_worse_than_none(answer: bytes):
    assert _take(answer, Sockets({}, {})) in (True, False)
