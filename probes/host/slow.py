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

from probes.host import maps, opening

MOST_WAITING = 256
PIECE = 1 << 20  # bytes
# as /proc/PID/mountinfo has them; and all that begin with "fuse."
TYPES = frozenset({b"nfs", b"nfs4", b"cifs", b"smb3", b"fuse", b"9p", b"ceph", b"afs", b"virtiofs"})

T = TypeVar("T")


def is_slow(mapping: maps.Mapping, proc: Path = Path("/proc")) -> bool:
    """Whether what is mapped there is on such a file system; found out without asking that."""
    if mapping.major:  # a disk
        return False
    device = b"%d:%d" % (mapping.major, mapping.minor)
    for pid in (str(mapping.pid), "self"):
        try:
            mounts = (proc / pid / "mountinfo").read_bytes()
        except OSError:
            continue
        for line in mounts.splitlines():
            place, _, source = line.partition(b" - ")
            if place.split(b" ", 3)[2:3] == [device]:
                kind = source.partition(b" ")[0]
                return kind in TYPES or kind.startswith(b"fuse.")
    return False


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
            os.close(fd)
