# SPDX-License-Identifier: LGPL-2.1-or-later
"""Code by name: this process's own functions, those of processes that have ended, and what
can't be named.
"""

from __future__ import annotations

import ctypes
import os

import pytest

from probes.host.libraries.symbols import MMAP2, Symbols


def address_of(library: str, function: str) -> int:
    return ctypes.cast(getattr(ctypes.CDLL(library), function), ctypes.c_void_p).value or 0


@pytest.fixture
def place() -> int:
    return address_of("libc.so.6", "qsort")


@pytest.fixture
def ended() -> int:
    """The number of a process that has ended."""
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def test_a_function_and_a_place_in_it(place: int) -> None:
    symbols = Symbols()
    name = symbols.describe(os.getpid(), place)
    assert name is not None
    assert name == "qsort"
    inside = symbols.describe(os.getpid(), place + 1)
    assert inside == f"{name}+0x1"


@pytest.mark.parametrize("address", [0, 1, 0x4141414141414141, (1 << 64) - 1])
def test_what_is_not_code_has_no_name(address: int) -> None:
    symbols = Symbols()
    assert symbols.describe(os.getpid(), address) is None


def test_data_is_not_code() -> None:
    symbols = Symbols()
    buffer = ctypes.create_string_buffer(8)
    assert symbols.describe(os.getpid(), ctypes.addressof(buffer)) is None


def test_a_process_that_has_ended(ended: int, place: int) -> None:
    symbols = Symbols()
    assert symbols.describe(ended, place) is None
    mapping = symbols._mapping(os.getpid(), place)
    assert mapping
    device = os.major(mapping.device), os.minor(mapping.device)
    sizes = mapping.start, mapping.end - mapping.start, mapping.offset
    record = (
        MMAP2.pack(ended, ended, *sizes, *device, mapping.inode, 0, 5, 2)
        + mapping.path.encode()
        + b"\0" * 32
    )
    symbols.note(ended, record)
    assert symbols.describe(ended, place) == symbols.describe(os.getpid(), place)
    symbols.note_fork(ended + (1 << 22), ended)
    symbols.note_exec(ended, (*device, mapping.inode))  # it has become this very program
    assert symbols.describe(ended, place) == symbols.describe(os.getpid(), place)
    symbols.note_exec(ended, (0, 0, 1))
    assert symbols.describe(ended, place) is None
    assert symbols.describe(ended + (1 << 22), place) == symbols.describe(os.getpid(), place)


def test_another_file_at_the_path_names_nothing(ended: int, place: int) -> None:
    symbols = Symbols()
    mapping = symbols._mapping(os.getpid(), place)
    assert mapping
    sizes = mapping.start, mapping.end - mapping.start, mapping.offset
    record = (
        MMAP2.pack(ended, ended, *sizes, 0, 0, mapping.inode + 1, 0, 5, 2)
        + mapping.path.encode()
        + b"\0" * 32
    )
    symbols.note(ended, record)
    offset = place - mapping.start + mapping.offset
    assert symbols.describe(ended, place) == f"{os.path.basename(mapping.path)}+{offset:#x}"


def test_records_and_mappings_that_are_kept_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.host.libraries.symbols.MOST_NOTED", 3)
    monkeypatch.setattr("probes.host.libraries.symbols.MOST_MAPPINGS", 2)
    symbols = Symbols()
    record = MMAP2.pack(7, 7, 0x1000, 0x1000, 0, 0, 0, 5, 0, 5, 2) + b"/gone\0"
    for pid in range(1, 6):
        for _ in range(4):
            symbols.note(pid, record)
    symbols.note_fork(6, 5)
    assert {pid: len(records) for pid, records in symbols._noted.items()} == {4: 2, 5: 2, 6: 2}


def test_processes_and_files_that_are_kept_have_a_limit(
    monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    monkeypatch.setattr("probes.host.libraries.symbols.MOST_PROCESSES", 2)
    monkeypatch.setattr("probes.host.libraries.symbols.MOST_FILES", 1)
    monkeypatch.setattr("probes.host.libraries.symbols._read_maps", lambda pid: b"%d" % pid)
    symbols = Symbols()
    for pid in range(1, 6):
        symbols.remember(pid)
    assert [*symbols._maps] == [4, 5]
    monkeypatch.undo()
    monkeypatch.setattr("probes.host.libraries.symbols.MOST_FILES", 1)
    for address in (place, address_of("libm.so.6", "cos"), place):
        assert symbols.describe(os.getpid(), address)
        assert len(symbols._files) == 1
