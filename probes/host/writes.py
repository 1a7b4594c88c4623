# SPDX-License-Identifier: LGPL-2.1-or-later
"""Wakes who waits when a file is written to: descriptors of files come in; one that can be read
then goes out.

It is only a hint: what programs write to memory that they share with the file is not told, nor is
anything on a file system of another machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import os

from probes.kernel.libc import libc

IN_MODIFY = 2
_MOST = 1 << 16  # bytes that are read at once


class Writes:
    """Watches files with inotify; where there is none, nobody is woken."""

    def __init__(self) -> None:
        fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        self.wakers = [fd] if fd >= 0 else []
        self._watches: dict[int, int] = {}  # by the file's descriptor

    def add(self, fd: int) -> None:
        """Watch this file."""
        for waker in self.wakers:
            watch = libc.inotify_add_watch(
                waker, f"/proc/self/fd/{fd}".encode(), ctypes.c_uint32(IN_MODIFY)
            )
            if watch >= 0:
                self._watches[fd] = watch

    def remove(self, fd: int) -> None:
        """Watch it no more."""
        watch = self._watches.pop(fd, None)
        if watch is not None and watch not in self._watches.values():
            libc.inotify_rm_watch(self.wakers[0], watch)

    def forget(self) -> None:
        """What was written so far is known."""
        for waker in self.wakers:
            with contextlib.suppress(OSError):  # nothing was
                os.read(waker, _MOST)

    def close(self) -> None:
        """Wakes nobody any more."""
        while self.wakers:
            os.close(self.wakers.pop())
