# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records of the kernel's tracepoints come in; what happened to processes goes out."""

from __future__ import annotations

import os
import struct

from probes.host.processes.lives import (
    NO_ID,
    Exec,
    Exited,
    Forked,
    Life,
    OutOfMemory,
    Signalled,
)
from probes.kernel import records

DELETED = " (deleted)"  # as /proc has it


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
