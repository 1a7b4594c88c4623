# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cgroups of the tests' own."""

from __future__ import annotations

import os
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
