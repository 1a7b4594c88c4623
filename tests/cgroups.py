# SPDX-License-Identifier: LGPL-2.1-or-later
"""A cgroup for processes that the kernel is to end for want of memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


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
