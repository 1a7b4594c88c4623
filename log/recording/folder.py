# SPDX-License-Identifier: LGPL-2.1-or-later
"""The folder of a record: opened so that nothing in it can lead elsewhere, held by one
recorder, its segments in order.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from log.errors import TraceError
from log.quote import name
from log.recording.format import SUFFIX

DEFAULT = "/var/log/libvirt-trace"
HOLE = 1 << 18  # zeros, more than any block of zstd's has, that may be one
BEGIN = 4096  # bytes of it that are read
_LOCK = ".lock"
_NOT_FOUND = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_flock = struct.Struct("hhqqi4x")
_safe = re.compile(r"[^A-Za-z0-9.-]")
# HOST-20261125T211903Z.jsonl.zst
_SEGMENT = re.compile(
    rf"(?P<host>[A-Za-z0-9.-]*)-(?P<time>[0-9]{{8}}T[0-9]{{6}}Z){re.escape(SUFFIX)}"
).fullmatch


class Segment(NamedTuple):
    """A file that may be a segment."""

    name: str
    size: int  # bytes
    changed: int  # ns since the epoch


def segment_name(host: str, time: str) -> str:
    """The file's name; `time` as 20261125T211903Z."""
    return f"{_safe.sub('_', host) or 'host'}-{time}{SUFFIX}"


def time_of(file: str) -> str:
    """When a segment begins, by its name; "" where that says nothing."""
    found = _SEGMENT(file)
    return found["time"] if found else ""


def order(file: str) -> tuple[str, str]:
    """By time, then by name."""
    return (time_of(file), file)


class Folder:
    """An open folder, until the last who has it lets go of it."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        self._lock: int | None = None

    def close(self) -> None:
        """Let go of it."""
        held, self.fd, self._lock = (self._lock, self.fd), -1, None
        for fd in held:
            if fd is not None and fd >= 0:
                os.close(fd)

    __del__ = close

    def hold(self) -> None:
        """Be the one that records here; TraceError where another is."""
        try:
            lock = os.open(
                _LOCK,
                os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK,
                0o600,
                dir_fd=self.fd,
            )
        except OSError as error:
            raise TraceError(
                f"{name(self.path)}: can't record there: {os.strerror(error.errno or 0).lower()}"
            ) from None
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _holder(lock)
            os.close(lock)
            by = f"process {holder}" if holder else "another process"
            raise TraceError(
                f"{name(self.path)}: {by} records there; name another folder, or end it first"
            ) from None
        self._lock = lock

    def recorder(self) -> int | None:
        """The process that records here now; 0: it is not known which."""
        with contextlib.suppress(OSError):
            lock = os.open(
                _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self.fd
            )
            try:
                return _holder(lock)
            finally:
                os.close(lock)
        return None

    def segments(self) -> tuple[list[Segment], list[str]]:
        """Files that may be segments, the oldest first, and what is in a segment's place and is
        no file.
        """
        found, refused = [], []
        with os.scandir(self.fd) as entries:
            for entry in entries:
                if not entry.name.endswith(SUFFIX):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # it is gone
                if stat.S_ISREG(status.st_mode):
                    found.append(Segment(entry.name, status.st_size, status.st_mtime_ns))
                else:
                    kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no file"
                    refused.append(
                        f"{name(os.path.join(self.path, entry.name))}: is {kind}, not a segment"
                    )
        return sorted(found, key=lambda segment: order(segment.name)), sorted(refused)

    def open(self, file: str) -> int:
        """The descriptor of a segment, to read it. OSError where it is gone or no regular file."""
        fd = os.open(file, _NOT_FOUND, dir_fd=self.fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "is not a regular file")
        return fd

    def create(self, file: str) -> int:
        """The descriptor of a new segment, on disk by name. FileExistsError where there is one."""
        fd = os.open(
            file,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
            dir_fd=self.fd,
        )
        os.fsync(self.fd)
        return fd

    def remove(self, file: str) -> None:
        """Take a segment away."""
        os.unlink(file, dir_fd=self.fd)

    def spare(self) -> float:
        """The part of the file system that is free for us."""
        status = os.fstatvfs(self.fd)
        return status.f_bavail / (status.f_blocks or 1)


def open_folder(path: str) -> Folder:
    """The folder to read from. TraceError, if it is none or can't be read."""
    try:
        return Folder(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        raise TraceError(f"{name(path)}: {os.strerror(error.errno or 0).lower()}") from None


def make_folder(path: str) -> Folder:
    """The folder to record in, made if it is not there: ours alone, and no symbolic link."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        why = (
            "is a symbolic link" if os.path.islink(path) else os.strerror(error.errno or 0).lower()
        )
        raise TraceError(f"{name(path)}: can't record there: {why}") from None
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        os.close(fd)
        what = (
            "belongs to somebody else"
            if status.st_uid != os.geteuid()
            else ("others may look into it: chmod it to 700")
        )
        raise TraceError(f"{name(path)}: {what}, or name another folder")
    return Folder(path, fd)


def _holder(lock: int) -> int | None:
    """The process that has locked the file."""
    asked = _flock.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _flock.unpack(fcntl.fcntl(lock, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(pid)


@contextlib.contextmanager
def opened(folder: Folder, file: str) -> Iterator[int]:
    """A segment's descriptor, for as long as it takes."""
    fd = folder.open(file)
    try:
        yield fd
    finally:
        os.close(fd)


def contents_of(fd: int) -> Callable[[int], bytes]:
    """Reads a file or a pipe on from where it is. Of a hole, which may be as long as any number
    says, the begin will do.
    """

    def read(count: int) -> bytes:
        data = os.read(fd, count)
        if len(data) < HOLE or data.strip(b"\0"):
            return data
        try:
            at = os.lseek(fd, 0, os.SEEK_CUR)
            try:
                after = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                after = os.lseek(fd, 0, os.SEEK_END)  # it goes up to there
        except OSError:  # a pipe, or a file system that can't tell
            return data
        return data if after == at else data[:BEGIN]

    return read
