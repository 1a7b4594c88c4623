# SPDX-License-Identifier: LGPL-2.1-or-later
"""Remembers which processes descend from one: forks as the kernel tells them come in, also of
processes that have ended since.
"""

from __future__ import annotations

from pathlib import Path

from log.recent import Recent
from probes.host.looking import maps
from probes.host.looking.proc import NEAR_NS, began, read_stat
from probes.host.processes.lives import Forked

MOST_PROCESSES = 65536
MOST_STARTS = 4  # of one number


class Tree:
    """The descendants of `root`, which are told by their number and, where it is known, by when
    they began (ns, CLOCK_BOOTTIME).
    """

    def __init__(self, root: int, proc: Path = Path("/proc")) -> None:
        self._root, self._proc = root, proc
        # by number: whether who has it now is one
        self._alive: Recent[int, bool] = Recent(MOST_PROCESSES)
        self._starts: Recent[int, tuple[int, ...]] = Recent(MOST_PROCESSES)
        for pid in maps.pids(proc):
            if pid != root and self._descends(pid):
                self.add(pid, began(pid, proc) or 0)

    def add(self, pid: int, start: int) -> None:
        """It is one."""
        self._alive.put(pid, True)
        known = self._starts.get(pid, ())
        if not any(abs(start - other) <= NEAR_NS for other in known):
            self._starts.put(pid, (*known, start)[-MOST_STARTS:])

    def forked(self, record: Forked) -> None:
        """A process came to be: with its parent, in this order."""
        if record.ppid == self._root or self._alive.get(record.ppid):
            self.add(record.pid, record.start)
        elif record.pid in self._alive:
            self._alive.put(record.pid, False)  # its number is another's now

    def has(self, pid: int, start: int | None = None) -> bool:
        """Whether the process is one, or was."""
        starts = self._starts.get(pid)
        if starts and (start is None or any(abs(start - other) <= NEAR_NS for other in starts)):
            return True
        now = began(pid, self._proc)  # where forks are not told
        if (
            now is None
            or (start is not None and abs(start - now) > NEAR_NS)
            or not self._descends(pid)
        ):
            return False
        self.add(pid, now)
        return True

    def _descends(self, pid: int) -> bool:
        while pid > 1 and pid != self._root:
            stat = read_stat(pid, self._proc)
            if stat is None:
                return False
            pid = stat.ppid
        return pid == self._root
