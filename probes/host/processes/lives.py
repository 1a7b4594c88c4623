# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens to processes, as named tuples. All times are in ns."""

from __future__ import annotations

from typing import NamedTuple

NO_ID = 0xFFFFFFFF  # the kernel's own "no user"


class Exec(NamedTuple):
    """A process became another program."""

    time: int  # CLOCK_MONOTONIC
    pid: int
    comm: str
    exe: str | None = None  # as /proc/PID/exe would show it; None: its path is too long
    cmdline: bytes | None = None  # words that end with NUL; its first 1024 bytes
    start: int = 0  # when the process began, on CLOCK_BOOTTIME; 0: not known
    ppid: int = 0
    uid: int = NO_ID  # effective
    gid: int = NO_ID
    real_uid: int = NO_ID
    loginuid: int | None = None
    cgroup_id: int = 0
    major: int = 0  # of the program's file
    minor: int = 0
    inode: int = 0


class Forked(NamedTuple):
    """A process came to be."""

    time: int
    pid: int
    ppid: int  # who forked
    start: int = 0


class Exited(NamedTuple):
    """A thread ended."""

    time: int
    pid: int
    tid: int
    is_last: bool  # and its process with it


class Signalled(NamedTuple):
    """A signal was sent that may end a process."""

    time: int
    pid: int
    tid: int
    signal: int
    code: int  # si_code
    sender: int | None  # a process; None: the kernel
    sender_uid: int | None
    sender_comm: str | None


class OutOfMemory(NamedTuple):
    """The kernel ends a process for want of memory."""

    time: int
    pid: int


class Missed(NamedTuple):
    """So many of these were lost."""

    records: int


Life = Exec | Forked | Exited | Signalled | OutOfMemory | Missed
