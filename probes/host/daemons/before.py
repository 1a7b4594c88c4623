# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls that began before tracing: processes as they are at its start come in; which may still be
inside such a call goes out.

A worker thread of a daemon whose stack has a return address in libvirt's dispatcher is serving
somebody. It is over when the thread serves the next one, which is seen. Of other programs with
drivers in them nothing can be told.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path

from log.errors import TraceError
from probes.host.daemons.programs import Daemons
from probes.host.looking.held import LOOKING
from probes.internals.elf import read_elf
from probes.internals.private import DISPATCH

STACK = 16384  # bytes of a stack that are looked at
_CODE = re.compile(
    r"^([0-9a-f]+-[0-9a-f]+) r-xp ([0-9a-f]+) \S+ \S+ +/.*/libvirt\.so\.0\S*(?: "
    r"\(deleted\))?$",
    re.M,
)


class Before:
    """Processes and their threads that may be inside a call of which nothing was seen."""

    def __init__(self, daemons: Daemons, proc: Path = Path("/proc")) -> None:
        self._daemons, self._proc = daemons, proc
        self._threads: dict[int, set[int]] = {}
        self._programs: set[int] = set()

    def scan(self, pids: Iterable[int]) -> None:
        """Looks at processes that have libvirt loaded."""
        for pid in set(pids):
            if not self._daemons.is_daemon(pid):
                self._programs.add(pid)
            elif threads := self._serving(pid):
                self._threads[pid] = threads

    def serves(self, pid: int, tid: int) -> None:
        """The thread begins to serve somebody."""
        if threads := self._threads.get(pid):
            threads.discard(tid)

    def forget(self, pid: int) -> None:
        """Another program, or nobody, has the number."""
        self._threads.pop(pid, None)
        self._programs.discard(pid)

    def has(self, pid: int) -> bool:
        """Whether there may be such a call in the process."""
        return pid in self._programs or bool(self._threads.get(pid))

    def _serving(self, pid: int) -> set[int]:
        return LOOKING.ask(pid, lambda: self._look(pid), set(), self._proc)

    def _look(self, pid: int) -> set[int]:
        try:
            threads = {int(tid) for tid in os.listdir(self._proc / str(pid) / "task")}
            dispatcher = self._dispatcher(pid)
        except (OSError, TraceError, ValueError):
            return set()
        return {
            tid for tid in threads if dispatcher is None or self._is_inside(pid, tid, dispatcher)
        }

    def _dispatcher(self, pid: int) -> range | None:
        """Where it is in the process; None: not found."""
        for place, offset in _CODE.findall(
            (self._proc / str(pid) / "maps").read_text(errors="surrogateescape")
        ):
            fd = os.open(self._proc / str(pid) / "map_files" / place, os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = next(
                    (one for one in read_elf(fd, place).functions if one.name == DISPATCH), None
                )
            finally:
                os.close(fd)
            if found is not None:
                start = int(place.partition("-")[0], 16) - int(offset, 16) + found.offset
                return range(start, start + found.size)
        return None

    def _is_inside(self, pid: int, tid: int, dispatcher: range) -> bool:
        folder = self._proc / str(pid) / "task" / str(tid)
        with contextlib.suppress(OSError, ValueError, IndexError):
            state = (folder / "syscall").read_text().split()
            if state[0] == "running":
                return (folder / "comm").read_text().startswith(("rpc-", "prio-rpc-"))
            with open(folder / "mem", "rb", buffering=0) as memory:
                memory.seek(int(state[-2], 16))
                stack = memory.read(STACK) or b""
            return any(
                word in dispatcher for (word,) in struct.iter_unpack("<Q", stack[: len(stack) & ~7])
            )
        return False
