# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of a record is removed: the oldest, and no more than it takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from log.recording.folder import Folder, make_folder
from log.recording.keeping import LARGEST_SEGMENT, Keeping, retain
from tests.unit.recording_samples import destroy, record, segments


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Three segments."""
    for number in range(3):
        record(tmp_path / "record", [destroy(number)])
    return make_folder(str(tmp_path / "record"))


@pytest.mark.parametrize(
    ("keeping", "removed", "why"),
    [
        (Keeping(spare=0), 0, None),
        (Keeping(keep_ns=-1, spare=0), 2, "old"),
        (Keeping(max_bytes=0, spare=0), 2, "the record is long"),
        (Keeping(spare=2.0), 2, "the disk is full"),
    ],
)
def test_all_but_the_current_one_may_go(
    folder: Folder, keeping: Keeping, removed: int, why: str | None
) -> None:
    before = [path.name for path in segments(Path(folder.path))]
    gone = list(retain(folder, keeping, before[-1]))
    assert [event.segment for event in gone] == before[:removed]
    assert {event.reason for event in gone} == ({why} if why else set())
    assert all(event.frame and len(event.chain) == 64 for event in gone)
    assert [path.name for path in segments(Path(folder.path))] == before[removed:]


def test_no_more_goes_than_is_too_much(folder: Folder) -> None:
    oldest, *others = segments(Path(folder.path))
    size = sum(path.stat().st_size for path in others)
    (gone,) = retain(folder, Keeping(max_bytes=size, spare=0), others[-1].name)
    assert gone.segment == oldest.name


def test_old_is_what_was_changed_long_ago(folder: Folder) -> None:
    oldest, *_, current = segments(Path(folder.path))
    os.utime(oldest, (1, 1))
    (gone,) = retain(folder, Keeping(spare=0), current.name)
    assert (gone.segment, gone.reason) == (oldest.name, "old")


def test_segments_are_as_long_as_eight_of_them_fit() -> None:
    assert Keeping(max_bytes=80).segment_bytes == 10
    assert Keeping(max_bytes=1).segment_bytes == 1
    assert Keeping(max_bytes=1 << 60).segment_bytes == LARGEST_SEGMENT
