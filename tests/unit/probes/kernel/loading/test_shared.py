# SPDX-License-Identifier: LGPL-2.1-or-later
"""Maps and rings that programs and reader share, made of files where the kernel would make maps."""

from __future__ import annotations

import mmap
import os

import pytest

from probes.kernel import bpf, records
from probes.kernel.loading.shared import RINGS, Shared

RING_BYTES = 1 << 16


class Maps:
    """Maps by descriptor, and what was put in them."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.put: list[tuple[str, bytes, bytes]] = []

    def create(
        self, kind: int, key_size: int, value_size: int, entries: int, flags: int, name: str
    ) -> int:
        size = (key_size + value_size) * entries
        if kind == bpf.MAP_RINGBUF:
            size = 2 * mmap.PAGESIZE + 2 * entries
        return self._made(name, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)

    def _made(self, name: str, size: int = 0) -> int:
        fd = os.memfd_create(name)
        os.ftruncate(fd, size)
        self.names[fd] = name
        return fd

    def of_maps(self, entries: int, like: int, name: str) -> int:
        assert (entries, self.names[like]) == (len(RINGS), "read")
        return self._made(name)

    def of_tasks(self, value_size: int, name: str) -> int:
        return self._made(name)

    def left(self) -> list[str]:
        """Those that are open."""
        return [name for fd, name in self.names.items() if os.path.exists(f"/proc/self/fd/{fd}")]

    def update(self, fd: int, key: bytes, value: bytes) -> None:
        self.put.append((self.names[fd], key, value))


@pytest.fixture
def maps(monkeypatch: pytest.MonkeyPatch) -> Maps:
    made = Maps()
    monkeypatch.setattr(bpf, "create_map", made.create)
    monkeypatch.setattr(bpf, "create_map_of_maps", made.of_maps)
    monkeypatch.setattr(bpf, "create_task_storage", made.of_tasks)
    monkeypatch.setattr(bpf, "update_map", made.update)
    return made


def test_programs_find_their_maps_and_rings_and_all_is_given_back(maps: Maps) -> None:
    shared = Shared()
    shared.create_maps(RING_BYTES)
    shared.create_counts()
    assert {define: maps.names[fd] for define, fd in shared.maps.items()} == {
        f"FD_{name.upper()}": name
        for name in (
            *("settings", "entry_plans", "return_plans", "users", "glob", "rings"),
            *("verdict_rows", "threads", "frames", "pids", "uids", "comms", "plain"),
            *("counts", "begun"),
        )
    }
    assert bytes(shared.verdict_rows).strip(b"\xff") == b""
    assert shared.counts and len(shared.counts) >= records.COUNTS_SIZE * records.MAX_COUNTS
    fds = shared.create_rings(RING_BYTES, 0)
    assert [maps.names[fd] for fd in fds] == list(shared.rings) == list(RINGS)
    shared.put_rings()
    assert maps.put == [
        ("rings", number.to_bytes(4, "little"), fd.to_bytes(4, "little"))
        for number, fd in enumerate(fds)
    ]
    shared.close()
    assert maps.left() == []
    shared.close()


def test_calls_of_root_and_of_others_have_a_file_each(maps: Maps) -> None:
    """What is told of tasks has none."""
    shared = Shared()
    shared.create_maps(RING_BYTES)
    shared.create_rings(RING_BYTES, 1 << 20)
    of_root, of_users = shared._spills
    assert {name: ring._spill for name, ring in shared.rings.items()} == {
        "read": of_root,
        "write": of_root,
        "task": None,
        "users_read": of_users,
        "users_write": of_users,
        "users_task": None,
    }
    shared.close()


def test_only_some_are_allowed_and_some_copy_no_stacks(maps: Maps) -> None:
    shared = Shared()
    shared.create_maps(RING_BYTES)
    shared.allow("uids", [b"\1\0\0\0", b"\2\0\0\0"])
    shared.copies_no_stacks(7, 8, 9)
    assert maps.put == [
        ("uids", b"\1\0\0\0", b"\1"),
        ("uids", b"\2\0\0\0", b"\1"),
        ("plain", b"\7\0\0\0", records.PLAIN.pack(8, 9)),
    ]
    shared.close()


def test_what_was_made_before_a_map_is_refused_is_given_back(
    maps: Maps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(value_size: int, name: str) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(bpf, "create_task_storage", refuse)
    shared = Shared()
    with pytest.raises(PermissionError):
        shared.create_maps(RING_BYTES)
    assert maps.left()
    shared.close()
    assert maps.left() == []
