# SPDX-License-Identifier: LGPL-2.1-or-later
"""Looks at all processes: in which order, how much of each, and when: the processes are made up."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from probes.host.libraries import finding
from probes.host.libraries.finding import Finder
from probes.host.libraries.refusals import Refusals
from probes.host.looking import maps
from probes.host.looking.owners import Owners


class Files:
    """In place of Targets and Enforcers: knows every file, and keeps who was asked about."""

    def __init__(self) -> None:
        self.refused: list[tuple[str, str]] = []
        self.asked: list[int] = []

    def knows(self, mapping: maps.Mapping) -> bool:
        self.asked.append(mapping.pid)
        return True

    def take(self) -> list[Any]:
        return []

    def refresh(self) -> None:
        """There are no others."""

    def begin(self) -> None:
        """They are asked for from now on."""


def process(proc: Path, pid: int, mappings: int, other: int = 0) -> None:
    """One that has so many mappings of libvirt and behind so many others."""
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "status").write_text("Name:\tx\nUid:\t1000\t1000\t1000\t1000\n")
    lines = [
        f"{at:012x}-{at + 4096:012x} rw-p 00000000 00:00 0"
        for at in range(0x1000, 0x1000 * (other + 1), 0x1000)
    ]
    lines += [
        f"7f{at:010x}-7f{at + 1:010x} r-xp 00000000 08:01 {at} /lib/libvirt.so.0.{at}"
        for at in range(mappings)
    ]
    (folder / "maps").write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def files() -> Files:
    return Files()


def finder(proc: Path, files: Files, refusals: Refusals) -> Finder:
    made: Any = files
    return Finder(made, made, Owners(proc), refusals, proc)


def test_who_has_much_mapped_comes_last_and_is_looked_at_within_limits(
    tmp_path: Path, files: Files
) -> None:
    process(tmp_path, 10, mappings=2, other=40_000)
    process(tmp_path, 11, mappings=60_000)
    process(tmp_path, 12, mappings=1)
    process(tmp_path, 13, mappings=0)
    refusals = Refusals()
    found, count = finder(tmp_path, files, refusals).start()
    assert (found, count) == ([], 3)
    assert files.asked == [12, 10, 10, *[11] * maps.MOST_FOUND]
    (told,) = refusals.take()
    assert (told.path, told.reason) == (f"{tmp_path}/11/maps", finding.TOO_MUCH)


def test_a_look_goes_on_in_steps(tmp_path: Path, files: Files, monkeypatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for pid in range(10, 110):
        process(tmp_path, pid, mappings=1)
    look, looked = finder(tmp_path, files, Refusals()), 0
    monkeypatch.setattr(
        maps,
        "text",
        lambda pid, proc, most: (
            now.__setitem__(0, now[0] + 0.01) or (proc / str(pid) / "maps").read_bytes()
        ),
    )
    began = now[0]
    look.go_on()
    assert files.asked == [], "nobody has asked for one"
    look.missed()
    while len(files.asked) < 100:
        look.go_on()
        assert len(files.asked) - looked <= finding.SCAN_STEP / 0.01 + 1, (
            "records are read in between"
        )
        looked = len(files.asked)
        now[0] += 0.05
    assert finding.SCAN_SHARE * (now[0] - began) + finding.SCAN_BURST + 0.1 >= 1.0, (
        "it takes its share of the time"
    )
    assert files.asked == list(range(10, 110))


def test_a_sweep_that_took_long_rests_long(tmp_path: Path, files: Files, monkeypatch) -> None:
    now, took = [1000.0], [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "thread_time", lambda: took[0])
    monkeypatch.setattr(
        maps,
        "text",
        lambda pid, proc, most: (
            took.__setitem__(0, took[0] + 0.1) or (proc / str(pid) / "maps").read_bytes()
        ),
    )
    for pid in (10, 11, 12):
        process(tmp_path, pid, mappings=1)
    look = finder(tmp_path, files, Refusals())
    for ask, wait, looked in (
        (look.sweep, 0, True),
        (look.sweep, 0.9 * 0.3 / finding.SWEEP_SHARE, False),
        (look.missed, 0, True),  # mappings may have been missed: that does not wait
        (look.sweep, 0.9 * 0.3 / finding.SWEEP_SHARE, False),
        (look.sweep, 0.2 * 0.3 / finding.SWEEP_SHARE, True),
    ):
        files.asked.clear()
        now[0] += wait
        ask()
        look.go_on()
        assert files.asked == ([10, 11, 12] if looked else []), (ask.__name__, wait)
        assert look.is_done()
