# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is looked at of the files that stacks lead to has limits; that stacks are read rightly is
tested with real processes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from probes.host.daemons import stacks
from probes.host.daemons.stacks import Stacks, _File
from probes.host.looking import opening, slow
from probes.host.looking.maps import Mapping
from probes.internals.elf import Symbol
from probes.internals.flow import NOTHING, Flow

SEEN = Flow({}, frozenset(), frozenset({(0, 0, 0)}))


def mapping(inode: int) -> Mapping:
    """Of a process that is none: there is nothing to open."""
    return Mapping(1 << 30, 0, 4096, 0, 1, inode, "/nowhere")


def function(offset: int, size: int) -> Symbol:
    return Symbol(f"at{offset}", None, offset, offset, size)


def test_so_much_code_of_a_file_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    followed: list[int] = []

    def follow(code: bytes, offset: int) -> Flow:
        followed.append(offset)
        return SEEN

    monkeypatch.setattr(stacks, "follow", follow)
    monkeypatch.setattr(stacks, "can_disassemble", lambda: True)
    monkeypatch.setattr(stacks, "MOST_CODE", 100)
    file = _File(mapping(1), Path("/proc"))
    asked = [function(0, 60), function(60, 50), function(110, 40), function(150, 1)]
    assert [file.flow(one) is SEEN for one in asked] == [True, False, True, False]
    assert [file.flow(one) is NOTHING for one in asked] == [False, True, False, True]
    assert followed == [0, 110], "each once"


def test_so_many_files_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "MOST_FILES", 3)
    monkeypatch.setattr(slow, "may_hang", lambda *_: False)
    opened: list[int] = []

    def open_mapped(*_: object) -> int:
        opened.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        return opened[-1]

    monkeypatch.setattr(opening, "open_mapped", open_mapped)
    reader = Stacks()
    before = len(os.listdir("/proc/self/fd"))
    for inode in range(10):
        reader._file(mapping(inode))
        assert len(os.listdir("/proc/self/fd")) - before <= 3
    assert len(opened) == 10
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before
