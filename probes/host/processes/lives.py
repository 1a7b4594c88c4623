# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens to processes: records of the kernel's tracepoints come in, named tuples come out.

All times are in ns.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from probes.kernel import records

NO_ID = 0xFFFFFFFF  # the kernel's own "no user"
DELETED = " (deleted)"  # as /proc has it


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


def parse(raw: bytes) -> Life | None:
    """What a record says; None: nothing that is known here."""
    try:
        kind, flags, pid, time, tid, ppid, start = records.LIFE.unpack_from(raw)
        if kind == records.TASK_FORK:
            return Forked(time, pid, ppid, start)
        if kind == records.TASK_EXIT:
            return Exited(time, pid, tid, bool(flags & records.TASK_LAST))
        if kind == records.TASK_EXEC:
            return _exec(raw, flags, pid, time, ppid, start)
        if kind == records.TASK_SIGNAL:
            signal, code, uid, comm = records.SIGNAL.unpack_from(raw, records.LIFE.size)
            return Signalled(
                time,
                pid,
                tid,
                signal,
                code,
                *((ppid, uid, _name(comm)) if ppid else (None, None, None)),
            )
        if kind == records.TASK_OOM:
            return OutOfMemory(time, pid)
    except struct.error:
        pass
    return None


def _exec(raw: bytes, flags: int, pid: int, time: int, ppid: int, start: int) -> Exec:
    cgroup, inode, device, uid, gid, real_uid, loginuid, path, arguments, comm = (
        records.EXEC.unpack_from(raw, records.LIFE.size)
    )
    text = raw[records.EXEC_TEXT :]
    names = text[:path].split(b"\0")[:-1]
    exe = None if flags & records.TASK_CUT else "/" + os.fsdecode(b"/".join(reversed(names)))
    if exe and flags & records.TASK_DELETED:
        exe += DELETED
    cmdline = text[path : path + arguments] or None
    login = None if loginuid == NO_ID else loginuid
    place = device >> 20, device & 0xFFFFF, inode
    return Exec(
        time, pid, _name(comm), exe, cmdline, start, ppid, uid, gid, real_uid, login, cgroup, *place
    )


def _name(comm: bytes) -> str:
    return os.fsdecode(comm.partition(b"\0")[0])
