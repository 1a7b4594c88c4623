# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who descends from whom: as forks tell it, also of those that have ended and whose numbers are
others' now.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from probes.host.looking.proc import TICKS
from probes.host.processes.lives import Forked
from probes.host.processes.tree import MOST_STARTS, Tree

ROOT = 100
SECOND = 1_000_000_000


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for pid, parent, start in ((ROOT, 1, 5), (101, ROOT, 6), (102, 101, 7), (200, 1, 5)):
        running(tmp_path, pid, parent, start)
    return tmp_path


def running(proc: Path, pid: int, parent: int, start: int) -> None:
    (proc / str(pid)).mkdir()
    rest = ["0"] * 17 + [str(start * TICKS)]
    (proc / str(pid) / "stat").write_text(f"{pid} (a) b) S {parent} {' '.join(rest)} 0 0\n")


def test_descendants_that_are_there_are_found(proc) -> None:
    tree = Tree(ROOT, proc)
    assert [tree.has(pid) for pid in (101, 102, 200, 999, 1)] == [True, True, False, False, False]
    running(proc, 103, 102, 9)  # where forks are not told
    assert tree.has(103) and tree.has(103, 9 * SECOND) and not tree.has(103, 12 * SECOND)


def test_one_that_has_ended_is_known_by_its_start(proc) -> None:
    tree = Tree(ROOT, proc)
    tree.forked(Forked(1, 300, 102, 20 * SECOND))
    tree.forked(Forked(2, 301, 300, 21 * SECOND))
    assert tree.has(300, 20 * SECOND) and tree.has(301)
    tree.forked(Forked(3, 300, 200, 30 * SECOND))  # its number is another's now
    tree.forked(Forked(4, 302, 300, 31 * SECOND))
    assert tree.has(300, 20 * SECOND)
    assert not tree.has(300, 30 * SECOND) and not tree.has(302, 31 * SECOND)


def test_starts_of_a_number_are_limited(proc) -> None:
    tree = Tree(ROOT, proc)
    for number in range(100):
        tree.add(300, number * SECOND)
    assert sum(tree.has(300, number * SECOND) for number in range(100)) == MOST_STARTS
