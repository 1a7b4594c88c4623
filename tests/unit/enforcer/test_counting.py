# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a process says that its rules have decided is read within limits; that it is told rightly is
tested with real processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Iterator

import pytest

from enforcer import counting, coverage
from enforcer.compiled.files import COUNTS_FILE, MEMORY_FILE
from enforcer.compiled.layout import COUNTS, RULE, SIZE_MAX
from tests.enforced import compiled

POLICY = '[[rule]]\nname = "none"\naction = "deny"\nfunction = ["virDomainSuspend"]\n'
MOST = COUNTS.size + SIZE_MAX // RULE.size * 8  # bytes: a policy can't have more rules


@contextlib.contextmanager
def mapped(name: str, data: bytes, size: int, seals: int) -> Iterator[int]:
    """A memory file of this process, as the enforcer has it; its inode."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    os.truncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    inode = os.fstat(fd).st_ino
    with mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ):
        os.close(fd)
        yield inode


@pytest.mark.parametrize(("size", "is_read"), [(MOST, True), (MOST + 1, False)])
def test_counts_of_more_rules_than_there_can_be_are_not_read(size: int, *, is_read: bool) -> None:
    policy = compiled(POLICY)
    sealed = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    with mapped(MEMORY_FILE, policy, len(policy), coverage.SEALS) as inode:
        counts = COUNTS.pack(inode, 1) + (7).to_bytes(8, "little")
        with mapped(COUNTS_FILE, counts, size, sealed):
            (found,) = counting.in_force(os.getpid())
    assert found.calls == ({("none", "deny"): 7} if is_read else None)
