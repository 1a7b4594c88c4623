# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records of the kernel's tracepoints, made up."""

from __future__ import annotations

from probes.kernel import records

DEVICE = 8 << 20 | 1


class Told:
    """Where they come from."""

    def __init__(self, *raws: bytes) -> None:
        self.raws, self.missed = list(raws), 0

    def read(self) -> list[bytes]:
        """Once."""
        raws, self.raws = self.raws, []
        return raws

    def lost(self) -> int:
        """Once."""
        missed, self.missed = self.missed, 0
        return missed


def forked(time: int, pid: int, ppid: int, start: int = 77) -> bytes:
    """A process came to be."""
    return records.LIFE.pack(records.TASK_FORK, 0, pid, time, pid, ppid, start)


def executed(
    time: int, pid: int, path: bytes, cmdline: bytes = b"", flags: int = 0, start: int = 77
) -> bytes:
    """It became another program."""
    names = b"".join(name + b"\0" for name in reversed(path.split(b"/")[1:]))
    head = records.LIFE.pack(records.TASK_EXEC, flags, pid, time, pid, 10, start)
    comm = path.rpartition(b"/")[2][:15]
    return (
        head
        + records.EXEC.pack(5, 99, DEVICE, 0, 6, 1000, 1001, len(names), len(cmdline), comm)
        + names
        + cmdline
    )


def ended(time: int, pid: int, tid: int, *, last: bool = False) -> bytes:
    """A thread did."""
    return records.LIFE.pack(
        records.TASK_EXIT, records.TASK_LAST if last else 0, pid, time, tid, 0, 77
    )


def signalled(time: int, pid: int, signal: int, code: int, sender: int) -> bytes:
    """A signal was sent."""
    return records.LIFE.pack(
        records.TASK_SIGNAL, 0, pid, time, pid, sender, 77
    ) + records.SIGNAL.pack(signal, code, 1000, b"kill")


def starved(time: int, pid: int) -> bytes:
    """The kernel ends it for want of memory."""
    return records.LIFE.pack(records.TASK_OOM, 0, pid, time, pid, 0, 77)
