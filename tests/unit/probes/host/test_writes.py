# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real files that are written to while somebody waits for that."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.host.writes import Writes


@pytest.fixture
def writes() -> Iterator[Writes]:
    made = Writes()
    yield made
    made.close()
    assert made.wakers == []


def is_told(writes: Writes) -> bool:
    return bool(select.select(writes.wakers, [], [], 0)[0])


@pytest.mark.parametrize("gone", [False, True])
def test_a_file_that_is_written_to_wakes(tmp_path: Path, writes: Writes, gone: bool) -> None:
    path = tmp_path / "library"
    path.write_bytes(b"code")
    with path.open("rb") as watched, path.open("r+b", buffering=0) as writing:
        if gone:
            path.unlink()
        writes.add(watched.fileno())
        assert watched.read() == b"code"
        assert not is_told(writes)
        writing.write(b"more")
        assert is_told(writes)
        writes.forget()
        assert not is_told(writes)
        writing.truncate(0)
        assert is_told(writes)
        writes.forget()
        writes.remove(watched.fileno())
        writes.forget()  # also that it is watched no more
        writing.write(b"again")
        assert not is_told(writes)


def test_a_file_that_is_open_twice_is_watched_while_one_is(tmp_path: Path, writes: Writes) -> None:
    path = tmp_path / "library"
    path.touch()
    first, second = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    writes.add(first)
    writes.add(second)
    writes.remove(first)
    path.write_bytes(b"code")
    assert is_told(writes)
    writes.remove(second)
    os.close(first)
    os.close(second)


def test_what_can_not_be_watched_is_left(writes: Writes) -> None:
    writes.add(1 << 20)
    writes.remove(1 << 20)
    assert not is_told(writes)
