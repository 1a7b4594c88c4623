# SPDX-License-Identifier: LGPL-2.1-or-later
"""A buffer belongs to one hit until it is sent, and pages that are not resident are brought in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import Run, logged
from tests.kernel.test_hostile import filled

MADE = 3000  # by each of two threads


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Path]:
    """A file whose pages can be evicted: not one of a tmpfs."""
    kind = subprocess.check_output(["stat", "-f", "-c", "%T", tmp_path], text=True).strip()
    path = (
        tmp_path / "pages"
        if kind != "tmpfs"
        else Path(f"/var/tmp/libvirt-trace-{os.getpid()}-pages")
    )
    yield path
    path.unlink(missing_ok=True)


@pytest.mark.other_kernels
def test_strings_and_objects_on_pages_that_are_not_resident(
    caller, traced: Callable[..., Run], on_disk: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.json"
    options = ("-s", "4096", "--buffer-size", "64", "-o", str(log))
    # what a slow machine's pipe does not take is left out there
    run = traced(caller("evicted"), on_disk, options=options, lost=None)
    result = logged(log)
    assert result.lost == 0
    assert len(run.facts) == 2
    for thread, tid in enumerate(run.facts):
        texts = [f"{thread} {n}{filled(37 * n % 1500)}" for n in range(MADE)]
        calls = [call for call in result.calls() if call["tid"] == tid]
        assert [
            call["args"]["name"] for call in calls if call["function"] == "virDomainLookupByName"
        ] == texts[::2]
        got = [
            (call["args"]["domain"]["name"], call["ret"])
            for call in calls
            if call["function"] == "virDomainGetName"
        ]
        assert got == [(text, text) for text in texts[1::2]]
        assert len(calls) == MADE
