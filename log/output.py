# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events come in, a batch at a time; whole lines go out to a file, a pipe or standard output, one write a batch."""

from __future__ import annotations

import errno
import itertools
import os
import re
import select
import stat
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from log import jsonl, text, xml
from log.errors import TraceError
from log.events import Call, Event, Lost
from log.quote import name

Render = Callable[[Event], str]  # a line with its newline, or "" where the format has none for the event
Complain = Callable[[str], None]  # takes one line for standard error, without the program's name

FORMATS: dict[str, Render] = {"text": text.line, "json": jsonl.line, "xml": xml.line}
STDOUT = 1
_COMPLAIN_AGAIN = 60  # s
# what is open already: to open these again would give the file a second offset, and they are symbolic links
_own_descriptor = re.compile(r"/dev/(?:(stdout)|(stderr)|fd/([0-9]+))").fullmatch


class Sink(Protocol):
    """Where events go."""

    def write(self, events: Sequence[Event]) -> None:
        """Take a batch, in order. BrokenPipeError: nobody reads standard output any more, so the tracer ends."""

    def reopen(self) -> None:
        """Let go of a file that was moved away (SIGHUP) and begin a new one."""

    def close(self) -> None:
        """No events will follow."""


class Output:
    """The sink that writes lines.

    What can't be written (disk full, reader gone) is left out, counted and complained of; the next batch is tried again,
    and `lost` lines then tell how many calls are missing.
    """

    def __init__(self, fd: int, label: str, render: Render, complain: Complain, path: str | None = None) -> None:
        """`label` names the destination in complaints; `path` is what `reopen` opens, None where there is no such thing."""
        self._fd = fd
        self._label = label
        self._render = render
        self._complain = complain
        self._path = path
        self._rest = b""  # of a line that was begun
        self._missing: Counter[str] = Counter()  # calls by ring, since the last `lost` line
        self._missing_ever = 0  # calls
        self._cause = ""
        self._complained: float | None = None  # s, monotonic

    def write(self, events: Sequence[Event]) -> None:
        """Write a line each, in one go. BrokenPipeError: this is standard output and nobody reads it any more."""
        if self._missing:
            now = time.time_ns()
            events = [*(Lost(now, count, ring, f"not written: {self._cause}") for ring, count in self._missing.items()), *events]
            self._missing.clear()
        lines = [self._render(event) for event in events]
        data = "".join(lines).encode()
        sent, error = send(self._fd, self._rest)
        self._rest = self._rest[sent:]
        sent = 0
        if error is None:
            sent, error = send(self._fd, data)
        if error is None:
            return
        if self._fd == STDOUT and isinstance(error, BrokenPipeError):
            raise error
        whole = data.rfind(b"\n", 0, sent) + 1
        if sent > whole:
            whole = self._mend(data, whole, sent)
        ends = itertools.accumulate(len(line.encode()) for line in lines if line)
        self._leave_out(events, lines, sum(end <= whole for end in ends))
        self._failed(error)

    def reopen(self) -> None:
        """Open the file's name anew; where that fails, keep the file that is open and complain."""
        if self._path is None:
            return
        try:
            fd = _open(self._path)
        except TraceError as error:
            self._complain(f"{error}; still writing to the file that was open")
            return
        os.close(self._fd)
        self._fd, self._rest = fd, b""

    def close(self) -> None:
        """Try once more what was left out, and say how much is missing in the end."""
        if self._missing or self._rest:
            self.write([])
        if self._missing_ever:
            self._complain(f"{self._label}: {self._missing_ever} calls were not written ({self._cause})")
        if self._fd != STDOUT:
            os.close(self._fd)

    def _mend(self, data: bytes, whole: int, sent: int) -> int:
        """Undo a line of which only a part was taken, or note its rest to be sent first; returns the bytes that count as written."""
        if self._path is not None and stat.S_ISREG(os.fstat(self._fd).st_mode):
            # only in a file of our own: behind standard output another program's text may have followed
            os.ftruncate(self._fd, os.lseek(self._fd, 0, os.SEEK_CUR) - (sent - whole))
            return whole
        end = data.index(b"\n", sent) + 1
        self._rest = data[sent:end]
        return end

    def _leave_out(self, events: Sequence[Event], lines: Sequence[str], written: int) -> None:
        """Count the calls behind the first `written` lines as missing."""
        unwritten = [event for event, line in zip(events, lines, strict=True) if line][written:]
        for event in unwritten:
            if isinstance(event, Call):
                self._missing["write" if event.write else "read"] += 1
                self._missing_ever += 1
            elif isinstance(event, Lost):
                self._missing[event.ring] += event.count

    def _failed(self, error: OSError) -> None:
        gone = isinstance(error, BrokenPipeError)
        self._cause = "its reader is gone" if gone else os.strerror(error.errno or 0).lower()
        now = time.monotonic()
        if self._complained is None or now - self._complained > _COMPLAIN_AGAIN:
            self._complained = now
            self._complain(f"{self._label}: {self._cause}; tracing goes on, and calls that can't be written there are counted")


def open_file(path: str, render: Render, complain: Complain) -> Output:
    """The sink for `-o`: appends to `path`, which is created with mode 0600.

    A pipe, a terminal or an own descriptor (/dev/stdout, /dev/fd/N) will do; TraceError for symbolic links and anything else.
    """
    own = _own_descriptor(path)
    if not own:
        return Output(_open(path), name(path), render, complain, path)
    number = 1 if own[1] else 2 if own[2] else int(own[3])
    try:
        return Output(os.dup(number), name(path), render, complain)
    except (OSError, OverflowError):
        raise TraceError(f"{name(path)}: no such descriptor is open") from None


def send(fd: int, data: bytes) -> tuple[int, OSError | None]:
    """Write all of `data`; returns the bytes that were taken and, where that is not all, why."""
    sent = 0
    while sent < len(data):
        try:
            sent += os.write(fd, data[sent:] if sent else data)
        except BlockingIOError:
            # another program that shares this pipe or terminal made it non-blocking
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
        except OSError as error:
            return sent, error
    return sent, None


def _open(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
    try:
        # non-blocking, since opening a pipe would wait for its reader
        fd = os.open(path, flags | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise TraceError(f"{name(path)}: is a symbolic link; name the file itself") from None
        if error.errno == errno.ENXIO:
            raise TraceError(f"{name(path)}: nobody reads it; start its reader first") from None
        raise TraceError(f"{name(path)}: can't write there: {os.strerror(error.errno or 0).lower()}") from None
    except ValueError:
        raise TraceError(f"{name(path)}: is not a file name") from None
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        os.close(fd)
        raise TraceError(f"{name(path)}: is neither a file nor a pipe nor a terminal; name another file")
    os.set_blocking(fd, True)
    return fd
