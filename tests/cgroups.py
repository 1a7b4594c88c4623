# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cgroups of the tests' own."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest


def root_of_all() -> Path:
    """Where cgroups of version 2 are."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    root = next((line.split()[4] for line in lines if " - cgroup2 " in line), None)
    if root is None:
        pytest.skip("no cgroup file system of version 2 is mounted: mount -t cgroup2 none FOLDER")
    return Path(root)


def remove(group: Path) -> None:
    """Removes the cgroup of version 2, when its last process has ended."""
    with (group / "cgroup.events").open() as events:
        changes = select.poll()
        changes.register(events, select.POLLPRI | select.POLLERR)
        while "populated 1" in events.read():
            changes.poll(1000)
            events.seek(0)
    group.rmdir()


def limited_cgroup() -> Iterator[Path]:
    """Its processes have 20 MiB, whichever version of cgroups this host has."""
    root, limit = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
    if not root.exists():
        root, limit = Path("/sys/fs/cgroup"), "memory.max"
    group = root / f"libvirt-trace-test-{os.getpid()}"
    group.mkdir()
    try:
        if not (group / limit).exists():
            pytest.skip("no limit of memory can be set here")
        (group / limit).write_text("20M")
        yield group
    finally:
        group.rmdir()
