# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file that is there as a whole or not at all, and never another's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from log.errors import TraceError
from log.sinks.files.whole import write_whole


def test_file_is_replaced_as_a_whole(tmp_path) -> None:
    file = tmp_path / "page.html"
    write_whole(str(file), ["one", "é"])
    assert file.read_text() == "oneé" and file.stat().st_mode & 0o777 == 0o600
    before = file.stat().st_ino
    write_whole(str(file), ["two"])
    assert file.read_text() == "two" and file.stat().st_ino != before


def test_what_was_there_stays_when_it_can_not_be_made(tmp_path) -> None:
    file = tmp_path / "page.html"
    write_whole(str(file), ["old"])

    def parts() -> Iterator[str]:
        yield "new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(str(file), parts())
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["page.html"]


@pytest.mark.parametrize("what", ["link", "dangling", "folder", "open", "others", "nowhere", "nul"])
def test_what_is_not_ours_is_left_alone(tmp_path, what) -> None:
    file, other = tmp_path / "page.html", tmp_path / "other"
    if what == "link":
        other.write_text("kept")
        file.symlink_to(other)
    elif what == "dangling":
        file.symlink_to(other)
    elif what == "folder":
        file.mkdir()
    elif what != "nowhere":
        file.write_text("kept")
        file.chmod(0o644 if what == "open" else 0o600)
        if what == "others":
            if os.geteuid():
                pytest.skip("only root makes files of others")
            os.chown(file, 65534, 65534)
    path = {"nowhere": str(tmp_path / "no" / "page"), "nul": "a\0b"}.get(what, str(file))
    had = sorted(os.listdir(tmp_path))
    with pytest.raises(TraceError) as error:
        write_whole(path, ["new"])
    assert "\n" not in str(error.value) and "--shared-output" not in str(error.value)
    assert sorted(os.listdir(tmp_path)) == had
    if what in ("link", "open", "others"):
        assert file.read_text() == "kept"


def test_pipe_takes_it_as_it_comes(tmp_path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(TraceError, match="nobody reads it"):
        write_whole(str(pipe), ["new"])
    reader = subprocess.Popen(
        [sys.executable, "-c", f"import os; fd = os.open({str(pipe)!r}, os.O_RDWR); "
         "print(flush=True); print(os.read(fd, 100))"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert reader.stdout and reader.stdout.readline() == "\n"
        write_whole(str(pipe), ["new"])
        assert reader.stdout.readline() == "b'new'\n"
    finally:
        reader.kill()
        reader.wait()
