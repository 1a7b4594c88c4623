# SPDX-License-Identifier: LGPL-2.1-or-later
"""Waits for file systems that another machine or process answers for: what is mapped from one comes
in, and out when it could be read.

To look at such a file may take for ever. A thread does so first; then it is in memory, and looking
at it takes no time.
"""

from __future__ import annotations

import os
import queue
import threading
from pathlib import Path
from typing import Generic, TypeVar

from probes.host.looking import maps, opening

MOST_WAITING = 256
PIECE = 1 << 20  # bytes
# as /proc/PID/mountinfo has them; and all that begin with "fuse."
TYPES = frozenset({b"nfs", b"nfs4", b"cifs", b"smb3", b"fuse", b"9p", b"ceph", b"afs", b"virtiofs"})
OF_THE_HOST = frozenset({b"9p", b"virtiofs"})

T = TypeVar("T")


def is_slow(mapping: maps.Mapping, proc: Path = Path("/proc")) -> bool:
    """Whether what is mapped there is on such a file system; found out without asking that."""
    kind = _kind(mapping, proc)
    return kind in TYPES or kind.startswith(b"fuse.")


def may_hang(mapping: maps.Mapping, proc: Path = Path("/proc")) -> bool:
    """As is_slow(), but for what the machine's own host answers for: without that nothing runs."""
    return is_slow(mapping, proc) and _kind(mapping, proc) not in OF_THE_HOST


def answers(mapping: maps.Mapping, seconds: float, proc: Path = Path("/proc")) -> bool:
    """Whether the file could be read within that time, or not be opened."""
    waited: Slow[None] = Slow(proc)
    return not is_slow(mapping, proc) or (waited.ask(mapping, None) and waited.wait(seconds))


def is_served(pid: int, major: int, minor: int, proc: Path = Path("/proc")) -> bool:
    """Whether a process answers for the device: anybody's, and what it says of its files, their
    owner too, need not be true.
    """
    return _file_system(pid, major, minor, proc).partition(b".")[0] == b"fuse"


def _kind(mapping: maps.Mapping, proc: Path) -> bytes:
    return _file_system(mapping.pid, mapping.major, mapping.minor, proc)


def _file_system(pid: int, major: int, minor: int, proc: Path) -> bytes:
    """As mountinfo names its type; empty: a disk, or not known."""
    if major:
        return b""
    device = b"%d:%d" % (major, minor)
    for mounted_in in (str(pid), "self"):
        try:
            mounts = (proc / mounted_in / "mountinfo").read_bytes()
        except OSError:
            continue
        for line in mounts.splitlines():
            place, _, source = line.partition(b" - ")
            if place.split(b" ", 3)[2:3] == [device]:
                return source.partition(b" ")[0]
    return b""


class Slow(Generic[T]):
    """Files that are waited for."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._asked: queue.SimpleQueue[tuple[maps.Mapping, T]] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._waiting: list[T] = []
        self._thread: threading.Thread | None = None

    def ask(self, mapping: maps.Mapping, work: T) -> bool:
        """Has the work wait until the file could be read, or not be opened; False: too many do."""
        if len(self._waiting) >= MOST_WAITING:
            return False
        self._waiting.append(work)
        self._asked.put((mapping, work))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="slow", daemon=True)
            self._thread.start()
        return True

    def ready(self) -> list[T]:
        """Work that need not wait any more."""
        found = []
        while not self._ready.empty():
            found.append(self._ready.get())
            self._waiting.remove(found[-1])
        return found

    def wait(self, seconds: float) -> bool:
        """Whether any work need not wait any more within that time."""
        try:
            self._waiting.remove(self._ready.get(timeout=seconds))
        except queue.Empty:
            return False
        return True

    def rest(self) -> list[T]:
        """Work that still waits."""
        return list(self._waiting)

    def _work(self) -> None:
        while True:
            mapping, work = self._asked.get()
            self._read(mapping)
            self._ready.put(work)

    def _read(self, mapping: maps.Mapping) -> None:
        try:
            fd = opening.open_mapped(mapping, self._proc)
        except OSError:
            return  # whoever looks then is told so
        try:
            at = 0
            while data := os.pread(fd, PIECE, at):
                at += len(data)
        except OSError:
            pass
        finally:
            opening.close(fd)
