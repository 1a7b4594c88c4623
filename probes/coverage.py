# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which functions a process's policies cover: the host's policy and those in force in processes come in, sets of numbers go out.

The enforcer keeps its policies in sealed memory files, which can be read through the process's mappings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from enforcer.compiled import Summary, read_summary
from enforcer.files import SYSTEM_POLICY
from probes.daemons import Daemons
from probes.maps import ENFORCER

MEMORY_FILE = "libvirt-trace-policy"  # as in policy_file.c
POLICY_MAX = 64 << 20
_MAPPED = re.compile(rf"^([0-9a-f]+-[0-9a-f]+) \S+ \S+ \S+ \S+ +/memfd:{MEMORY_FILE}\b", re.M)
_ENFORCER_FOLDER = Path(__file__).resolve().parent.parent / "enforcer"


def host_enforcers() -> list[Path]:
    """The host's own library, where it is built or installed."""
    return [path for path in (_ENFORCER_FOLDER / ENFORCER, _ENFORCER_FOLDER / "build" / ENFORCER) if path.exists()]


def policies_of(pid: int, proc: Path = Path("/proc")) -> Iterator[Summary]:
    """The policies in force in the process."""
    try:
        text = (proc / str(pid) / "maps").read_text(errors="surrogateescape")
    except OSError:
        return
    for place in _MAPPED.findall(text):
        if summary := _read(proc / str(pid) / "map_files" / place):
            yield summary


def system_policy() -> Summary | None:
    """The host's; None: there is none that can be read."""
    return _read(SYSTEM_POLICY)


def _read(path: Path) -> Summary | None:
    try:
        with path.open("rb") as file:
            return read_summary(file.read(POLICY_MAX))
    except OSError:
        return None


class _State(NamedTuple):
    mtime_ns: int
    inode: int


class Coverage:
    """What is covered in each process, as of the last refresh()."""

    def __init__(self, daemons: Daemons) -> None:
        self._daemons = daemons
        self._system: frozenset[int] = frozenset()
        self._state: _State | None = None
        self._processes: dict[int, frozenset[int]] = {}
        self._enforced: set[int] = set()
        self._has_enforcers = False  # or had
        self.refresh()

    def refresh(self) -> None:
        """Looks at policies again."""
        self._processes.clear()
        try:
            status = SYSTEM_POLICY.stat()
            state = _State(status.st_mtime_ns, status.st_ino)
        except OSError:
            self._state, self._system = None, frozenset()
            return
        if state != self._state:
            summary = system_policy()
            self._state, self._system = state, summary.covered if summary else frozenset()

    @property
    def covers(self) -> bool:
        """Whether there may be a policy anywhere, or was: that a process has loaded the enforcer may be told late."""
        return bool(self._system or self._has_enforcers)

    def covered_for(self, pid: int) -> frozenset[int]:
        """Numbers of the functions that a policy covers for this process."""
        if pid not in self._enforced:
            return self._system
        found = self._processes.get(pid)
        if found is None and self._daemons.is_daemon(pid):
            # every client's call has a verdict; those without one are libvirt's own, made by threads of its drivers
            found = self._processes[pid] = frozenset()
        if found is None:
            found = self._system.union(*(summary.covered for summary in policies_of(pid)))
            self._processes[pid] = found
        return found

    def enforced(self, pid: int) -> None:
        """It has loaded the enforcer."""
        self._enforced.add(pid)
        self._has_enforcers = True
        self._processes.pop(pid, None)

    def forked(self, pid: int, parent: int) -> None:
        """It is a copy of its parent."""
        if parent in self._enforced:
            self._enforced.add(pid)

    def forget(self, pid: int) -> None:
        """It has ended or became another program."""
        self._enforced.discard(pid)
        self._processes.pop(pid, None)
