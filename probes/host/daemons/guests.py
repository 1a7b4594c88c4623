# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which process runs which guest: forks, execs and ends come in as the kernel tells them; the
process of a daemon's guest goes out, and what has ended it.

Anybody can call a process of his own like a guest, so only that is believed to be one which a
daemon has made: a process that it forked, or that forked this one, and that has executed nothing
else on the way. Those that ran before are in files that the daemon has written, where root runs it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from log.events import Caller
from log.recent import Recent
from probes.host.looking.opening import open_file
from probes.host.processes.lives import Exec, Exited, Forked, OutOfMemory, Signalled
from probes.host.processes.numbers import host_pid

MOST_FORKED, MOST_GUESTS = 16384, 4096
DEEPEST = 3  # processes between a daemon and a guest: it makes one, and that the guest
NAMED = b"\0-name\0guest="
_PID_FILES = "run/libvirt/qemu"  # of a daemon that root runs
_UNCATCHABLE = 9


class Killed(NamedTuple):
    """A signal that ends a process was sent to it."""

    time: int  # ns, CLOCK_MONOTONIC
    signal: int
    sender: int | None  # a process; None: the kernel
    by: Caller | None
    comm: str | None


class Guest:
    """A process that runs a guest."""

    __slots__ = ("ended", "is_oom", "killed", "pid", "since")

    def __init__(self, pid: int, since: int) -> None:
        self.pid, self.since = pid, since  # since: ns, CLOCK_MONOTONIC
        self.killed: Killed | None = None
        self.is_oom = False
        self.ended: int | None = None  # when, ns, CLOCK_MONOTONIC


class Guests:
    """`describe`: a process of that number and real user as it was at a time (ns,
    CLOCK_MONOTONIC). `is_daemon`: whether a process is one of libvirt's daemons, by its number.
    """

    def __init__(
        self,
        describe: Callable[[int, int | None, int], Caller | None],
        is_daemon: Callable[[int], bool] = lambda pid: False,
        proc: Path = Path("/proc"),
    ) -> None:
        self._describe, self._is_daemon, self._proc = describe, is_daemon, proc
        # who forked it, of processes that have executed nothing since
        self._parents: Recent[int, int] = Recent(MOST_FORKED)
        # by daemon (or who else has the driver in it) and name
        self._guests: Recent[tuple[int, str], Guest] = Recent(MOST_GUESTS)
        self._by_pid: Recent[int, Guest] = Recent(MOST_GUESTS)
        self._of_daemons: Recent[int, None] = Recent(MOST_GUESTS)  # daemons that have guests

    def look_at(self, daemons: Iterable[int]) -> None:
        """Guests that these daemons have started before."""
        for daemon in daemons:
            self._of_daemons.put(daemon, None)
            folder = self._proc / str(daemon) / "root" / _PID_FILES
            with contextlib.suppress(OSError):
                if not _is_roots(folder):
                    continue
                for file in sorted(folder.glob("*.pid")):
                    self._read(daemon, file)

    def _read(self, daemon: int, file: Path) -> None:
        with contextlib.suppress(OSError, ValueError):
            fd = open_file(str(file))
            try:
                text = os.read(fd, 32)
            finally:
                os.close(fd)
            pid = host_pid(int(text), daemon, self._proc)
            if pid is not None and name_in(_cmdline(self._proc, pid)) == file.stem:
                self._add((daemon, file.stem), Guest(pid, time.monotonic_ns()))

    def happens(self, record: Forked | Exec | Exited | Signalled | OutOfMemory) -> None:
        """What the kernel tells, in order of time."""
        if isinstance(record, Forked):
            self._parents.put(record.pid, record.ppid)
        elif isinstance(record, Exec):
            self._executed(record)
        elif guest := self._by_pid.get(record.pid):
            if isinstance(record, Signalled):
                self._signalled(guest, record)
            elif isinstance(record, OutOfMemory):
                guest.is_oom = True
            elif record.is_last:
                guest.ended = record.time
                self._by_pid.pop(record.pid)

    def _executed(self, record: Exec) -> None:
        above: list[int] = []
        pid = record.pid
        while len(above) < DEEPEST and (parent := self._parents.get(pid)) is not None:
            above.append(parent)
            pid = parent
        self._parents.pop(record.pid)
        name = name_in(record.cmdline or b"")
        if name is not None and above:
            guest = Guest(record.pid, record.time)
            for one in above:
                self._add((one, name), guest)
                if self._is_daemon(one):
                    self._of_daemons.put(one, None)

    def _signalled(self, guest: Guest, record: Signalled) -> None:
        before = guest.killed
        if before and before.signal == _UNCATCHABLE:
            return  # nothing after that matters
        sender, uid = record.sender, record.sender_uid
        by = None if sender is None else self._describe(sender, uid, record.time)
        guest.killed = Killed(record.time, record.signal, sender, by, record.sender_comm)

    def _add(self, key: tuple[int, str], guest: Guest) -> None:
        self._guests.put(key, guest)
        self._by_pid.put(guest.pid, guest)

    def of(self, daemon: int, name: str) -> Guest | None:
        """The guest of that daemon which has the name, or had it last."""
        found = self._guests.get((daemon, name))
        if found is None:  # another daemon of this one's name may have started it, before
            if self._is_daemon(daemon):
                self.look_at([daemon])
            found = self._guests.get((daemon, name)) or self._orphan(name)
            if found is not None:
                self._guests.put((daemon, name), found)
        return found

    def _orphan(self, name: str) -> Guest | None:
        """The guest of a daemon that has ended, if there is no doubt."""
        found = {
            guest
            for (daemon, called), guest in self._guests.items()
            if called == name
            and daemon in self._of_daemons
            and not (self._proc / str(daemon)).exists()
        }
        return next(iter(found)) if len(found) == 1 else None


def name_in(cmdline: bytes) -> str | None:
    """The guest's name in the command line of its process; None: it is none, or is cut."""
    _, found, rest = cmdline.partition(NAMED)
    if not found:
        return None
    word, end, _ = rest.partition(b"\0")
    if not end:
        return None
    # a comma in the name is doubled, another one ends it
    name = word.replace(b",,", b"\0").partition(b",")[0].replace(b"\0", b",")
    return os.fsdecode(name)


def _is_roots(folder: Path) -> bool:
    status = folder.stat()
    return status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _cmdline(proc: Path, pid: int) -> bytes:
    with open(proc / str(pid) / "cmdline", "rb", buffering=0) as file:
        return file.read(4096)
