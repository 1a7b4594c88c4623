# SPDX-License-Identifier: LGPL-2.1-or-later
"""Segments on disk: their names, what they say of the one before, and what is left of failures."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from log.recording import host
from log.recording.ends import LastSeal, last_end
from log.recording.entry import entry_of
from log.recording.folder import Folder, make_folder
from log.recording.format import NO_CHAIN
from log.recording.segments import Segments, gap_since
from tests.unit.recording_samples import ABOUT, destroy, segments


class Made:
    """Segments in a folder; what was said, and kept elsewhere."""

    def __init__(self, path: Path) -> None:
        self.folder: Folder = make_folder(str(path))
        self.said: list[str] = []
        self.anchors: list[str] = []
        self.before: list[dict[str, object] | None] = []

    def open(self) -> Segments:
        def describe(previous: dict[str, object] | None) -> object:
            self.before.append(previous)
            return ABOUT._replace(previous=previous)

        return Segments(self.folder, describe, self.said.append, self.anchors.append)  # type: ignore[arg-type]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "record")


def test_a_segment_goes_on_from_the_one_before(made: Made) -> None:
    one = made.open()
    assert not one.is_open()
    one.begin()
    one.write([entry_of(destroy(0))])
    one.end()
    assert not one.is_open() and one.frame == 2
    one.write([entry_of(destroy(1))])  # begins another
    assert one.is_open() and one.frame == 4
    end = last_end(made.folder)
    assert end and (end.segment, end.frame) == (one.name, 4)
    first, second = made.before
    assert first is None and second and second["frame"] == 2
    assert [line.split(", chain")[0] for line in made.anchors] == [
        f"record: frame {frame} of {name}"
        for frame, name in ((1, second["segment"]), (2, second["segment"]), (3, one.name))
    ]


def test_names_are_in_order_where_the_clock_goes_back(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    one = made.open()
    for now in (2_000_000_000, 1_000_000_000, 1_000_000_000):
        monkeypatch.setattr(time, "time_ns", lambda now=now: now * 10**9)
        one.begin()
        names.append(one.name)
        one.end()
    assert names == sorted(set(names))
    assert [name.partition(".jsonl")[0][-3:] for name in names] == ["20Z", "21Z", "22Z"]


def test_a_frame_that_does_not_fit_leaves_the_file_as_it_was(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made.open()
    one.begin()
    (file,) = segments(tmp_path / "record")
    before = file.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(OSError, match="No space left"):
        one.write([entry_of(destroy(0))])
    assert (
        file.read_bytes() == before and one.is_open() and (one.frame, one.size) == (1, len(before))
    )
    monkeypatch.undo()
    one.write([entry_of(destroy(0))])
    assert one.frame == 2
    one.end()


def test_what_cannot_begin_is_not_there(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    one = made.open()
    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(OSError, match="No space left"):
        one.begin()
    assert not one.is_open() and segments(tmp_path / "record") == []


@pytest.mark.parametrize(
    ("ended", "boot", "reason"),
    [
        (True, None, "not running"),
        (False, None, "killed"),
        (False, host.boot_id(), "killed"),
        (False, "another", "the host went down"),
    ],
)
def test_why_there_is_nothing_between_two(ended: bool, boot: str | None, reason: str) -> None:
    gap = gap_since(LastSeal("a", 1, NO_CHAIN, 5, ended, boot), 9)
    assert gap and (gap.time, gap.until, gap.reason) == (5, 9, reason)
    assert gap_since(None, 9) is None


def test_a_host_is_known_by_files_that_may_be_missing(tmp_path: Path) -> None:
    boot = host.boot_id()
    assert boot is None or len(boot) == 36
    assert host._line_of(str(tmp_path / "none")) is None
    (tmp_path / "odd").write_bytes(b"\xff\n")
    assert host._line_of(str(tmp_path / "odd")) is None
