# SPDX-License-Identifier: LGPL-2.1-or-later
"""One tracer can be told from others by a file that is there while it runs."""

import os
from pathlib import Path

import pytest

from log.errors import TraceError
from probes.host.pidfile import PidFile


def test_it_says_who_runs_and_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("what a tracer that was killed has left behind\n")
    with PidFile(path):
        assert path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(TraceError, match=f"belongs to process {os.getpid()}"):
            PidFile(path)
    assert not path.exists()


def test_a_file_that_took_its_place_stays(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with PidFile(path):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_of_ones_own_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pid"
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(TraceError, match="pid file"):
        PidFile(path)
    assert not (tmp_path / "elsewhere").exists()
