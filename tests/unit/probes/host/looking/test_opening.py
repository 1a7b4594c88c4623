# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that others choose: nothing but a regular file is ever opened, and it is the one that
was meant.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from probes.host.looking import maps, opening
from probes.host.writes import Writes
from probes.tracing.attachments import Attachments, FileState

IN_OPEN = 0x20


class Gone(NamedTuple):
    fd: int


libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def watched() -> Iterator[Callable[[Path], Callable[[], bool]]]:
    """watched(PATH): a test of whether the file has been opened since, as the kernel tells it."""
    fds: list[int] = []

    def watch(path: Path) -> Callable[[], bool]:
        fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        fds.append(fd)
        assert libc.inotify_add_watch(fd, os.fsencode(path), IN_OPEN) >= 0

        def was_opened() -> bool:
            try:
                return bool(os.read(fd, 4096))
            except BlockingIOError:
                return False

        return was_opened

    yield watch
    for fd in fds:
        os.close(fd)


def place(path: Path) -> opening.Place:
    fd = os.open(path, os.O_RDONLY)
    try:
        return opening.place_of(fd)
    finally:
        os.close(fd)


def gone(path: Path, where: opening.Place) -> maps.Mapping:
    """A mapping of a process that there is none of."""
    return maps.Mapping((1 << 22) + 1, 0x1000, 0x2000, *where, str(path))


def test_a_place_is_what_mappings_say(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    status = path.stat()
    assert place(path) == (os.major(status.st_dev), os.minor(status.st_dev), status.st_ino)
    (tmp_path / "empty").touch()
    with pytest.raises(OSError, match="empty"):
        place(tmp_path / "empty")


@pytest.mark.parametrize("kind", ["pipe", "socket", *(["device"] if os.geteuid() == 0 else [])])
@pytest.mark.parametrize("is_link", [False, True], ids=["itself", "link"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, watched, kind: str, is_link: bool) -> None:
    path = tmp_path / "there"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    seen = watched(path)
    name = path
    if is_link:
        name = tmp_path / "libvirt.so.0"
        name.symlink_to(path)
    for attempt in (
        lambda: opening.open_file(str(name)),
        lambda: opening.open_file(str(name), follow=True),
        lambda: opening.open_mapped(gone(name, (0, 5, 17))),
    ):
        with pytest.raises(OSError):
            attempt()
    assert not seen()
    if kind == "pipe":
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        assert seen(), "else this test would show nothing"


def test_a_link_is_not_followed(tmp_path: Path, watched) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"secret")
    link.symlink_to(real)
    seen = watched(real)
    with pytest.raises(OSError):
        opening.open_mapped(gone(link, place(real)))
    seen()  # place() did
    with pytest.raises(OSError):
        opening.open_file(str(link))
    assert not seen()
    fd = opening.open_file(str(link), follow=True)
    assert os.read(fd, 10) == b"secret"
    assert seen()
    os.close(fd)


def test_another_file_at_the_path_is_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"meant")
    where = place(path)
    fd = opening.open_mapped(gone(path, where))
    assert os.read(fd, 10) == b"meant"
    os.close(fd)
    other.write_bytes(b"other")
    other.rename(path)
    with pytest.raises(OSError, match="another file"):
        opening.open_mapped(gone(path, where))


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    for name in ("pipe", "file", "none"):
        with pytest.raises(OSError):
            opening.open_mapped(gone(tmp_path / name, (0, 0, 0)))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_whose_file_system_has_gone_may_fail_at_any_time(tmp_path: Path) -> None:
    """It can't be asked what it is; a closed file stands for that here."""
    (tmp_path / "file").touch()
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    writes = Writes()
    assert not opening.is_remote(fd)
    os.close(fd)
    assert opening.is_remote(fd)
    attachments = object.__new__(Attachments)
    attachments._writes = writes
    file = Gone(fd)
    attachments._states = {file: FileState((0, 0, 0), (), 0)}  # type: ignore[dict-item]
    attachments._written()
    assert not attachments._states, "it is not looked at again"
    writes.close()
