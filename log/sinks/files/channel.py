# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines come in; a thread writes them to what may block (a terminal, a pipe, a socket) while
the tracer goes on, until it is given up.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple
from weakref import WeakValueDictionary

ROOM = 16 << 20  # characters that wait for a reader, at most; of them half for what only reads
_AT_A_TIME = 1 << 20  # characters
_AGAIN = 20  # ms
_MEMORY = 1  # the major number of /dev/null, /dev/full, /dev/zero

# what is missing where a line is: calls of that ring, and how many of these were not counted as
# missing before
Weight = tuple[str, int, int]


class Batch(NamedTuple):
    """Lines, and for each what it weighs."""

    lines: list[str]
    weights: list[Weight]


class NotRead(OSError):
    """The reader took nothing, and it was not waited for any longer."""


# whose turn it is to write, by device and inode of what is written to; each is its channels'
_turns: WeakValueDictionary[tuple[int, int], threading.Lock] = WeakValueDictionary()


class Channel:
    """A descriptor that one thread writes to: it waits for the reader, but no longer than until
    it is told not to.
    """

    def __init__(self, fd: int) -> None:
        """`fd` stays the caller's."""
        self.moved = time.monotonic()  # s: when the reader last took something
        self._given_up = False
        status = os.fstat(fd)
        self._turn = _turns.setdefault((status.st_dev, status.st_ino), threading.Lock())
        self._woken, self._wake = os.pipe()
        self._opened, self._write, self._close = _without_blocking(fd)
        self._polls = [select.poll(), select.poll()]
        self._polls[1].register(self._opened, select.POLLOUT)
        for poll in self._polls:
            poll.register(self._woken, select.POLLIN)

    def send(self, data: bytes, seconds: float | None = None) -> tuple[int, OSError | None]:
        """Write all of `data`; returns the bytes that were taken and, where that is not all,
        why: NotRead after `seconds`, too.
        """
        # who else writes to the same pipe waits for its turn, or a line could be torn
        if not self._turn.acquire(timeout=-1 if seconds is None else seconds):
            return 0, NotRead()
        try:
            return self._send(data, seconds)
        finally:
            self._turn.release()

    def _send(self, data: bytes, seconds: float | None) -> tuple[int, OSError | None]:
        view, sent, was_ready = memoryview(data), 0, False
        while sent < len(data):
            if self._given_up:
                return sent, NotRead()
            try:
                sent += self._write(view[sent:])
            except BlockingIOError:
                # a terminal may be ready and yet have no room for the next character
                ready = self._polls[not was_ready].poll(
                    _AGAIN if was_ready else None if seconds is None else seconds * 1000
                )
                if not ready and not was_ready:
                    return sent, NotRead()
                was_ready = not was_ready
            except OSError as error:
                return sent, error
            else:
                self.moved, was_ready = time.monotonic(), False
        return sent, None

    def give_up(self) -> None:
        """Have what waits now, and what is sent from now on, not written."""
        if not self._given_up:
            self._given_up = True
            os.write(self._wake, b"\0")

    def close(self) -> None:
        """Let go of what was opened here."""
        self._close()
        os.close(self._woken)
        os.close(self._wake)


class LineWriter:
    """The thread of a channel, and what waits for it."""

    def __init__(self, write: Callable[[Batch], None]) -> None:
        """`write` is called in the thread."""
        self._write = write
        self._changed = threading.Condition()
        self._waiting: deque[Batch] = deque()
        self._writing = Batch([], [])
        self._size = 0  # characters of both
        self._ends = False
        # begun by the first batch: there may be a fork before it
        self._thread: threading.Thread | None = None

    def put(self, batch: Batch) -> list[Weight]:
        """Have it written; what is left out as too much waits already: first calls that only
        read, all of the batch's.
        """
        if not any(batch.lines):
            return []
        left_out: list[Weight] = []
        size = _size(batch)
        with self._changed:
            if self._size and self._size + size > ROOM // 2:
                batch, left_out = _without_reads(batch)
                size = _size(batch)
                if self._size + size > ROOM:
                    return [*left_out, *batch.weights]
                if not size:
                    return left_out
            self._size += size
            self._waiting.append(batch)
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="libvirt-trace", daemon=True)
            self._thread.start()
        return left_out

    def wait(self, seconds: float) -> bool:
        """Whether all is written, at the latest after that long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._size, seconds)

    def end(self) -> list[Weight]:
        """End the thread; what it has not written, or is in the middle of."""
        with self._changed:
            self._ends = True
            self._changed.notify_all()
            return [weight for batch in (self._writing, *self._waiting) for weight in batch.weights]

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ends)
                if self._ends:
                    return
                self._writing = self._next()
            try:
                self._write(self._writing)
            finally:
                with self._changed:
                    self._size -= _size(self._writing)
                    self._writing = Batch([], [])
                    self._changed.notify_all()

    def _next(self) -> Batch:
        """What waits, as much as should be written at once."""
        together = Batch([], [])
        size = 0
        while self._waiting and size < _AT_A_TIME:
            batch = self._waiting.popleft()
            together.lines.extend(batch.lines)
            together.weights.extend(batch.weights)
            size += _size(batch)
        return together


def _without_reads(batch: Batch) -> tuple[Batch, list[Weight]]:
    """The batch without calls that only read, and these."""
    kept = Batch([], [])
    left_out = []
    for line, weight in zip(*batch, strict=True):
        if weight[0] == "read":
            left_out.append(weight)
        else:
            kept.lines.append(line)
            kept.weights.append(weight)
    return kept, left_out


def _size(batch: Batch) -> int:
    return sum(map(len, batch.lines))


def may_block(fd: int) -> bool:
    """Whether a write to it may have to wait for somebody: not to a file or to /dev/null and
    its like.
    """
    status = os.fstat(fd)
    return not (
        stat.S_ISREG(status.st_mode)
        or (stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) == _MEMORY)
    )


def _without_blocking(fd: int) -> tuple[int, Callable[[memoryview], int], Callable[[], None]]:
    """A descriptor for the same thing, how to write to it, where possible without blocking or
    changing it for others, how to close it.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        connection = socket.socket(fileno=os.dup(fd))
        return (
            connection.fileno(),
            lambda data: connection.send(data, socket.MSG_DONTWAIT),
            connection.close,
        )
    opened = -1
    if stat.S_ISFIFO(mode) or os.isatty(fd):
        # opened again, it has flags of its own; a reader that is gone, or the host's policy, may
        # not let us
        with contextlib.suppress(OSError):
            opened = os.open(
                f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            )
    if opened < 0:
        opened = os.dup(fd)
    return opened, lambda data: os.write(opened, data), lambda: os.close(opened)
