# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which functions a process's policies cover: the host's policy and those of processes come in,
sets of numbers go out.

The enforcer checks a policy and keeps it in a sealed memory file, which can be read through the
process's mappings. Any process can
make such a file: it is read within limits, once, and tells about that process only.

A policy is also meant for what an enforced process starts, though that may be without the library
(it is set-uid, or has another
environment): for its descendants, except a daemon's, and for whoever has its path in the
environment that it was started with.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from enforcer.compiled.files import MEMORY_FILE, RUN_FOLDER, SYSTEM_POLICY
from enforcer.compiled.layout import SIZE_MAX
from enforcer.compiled.summary import PolicySummary, read_summary, summary
from enforcer.launch.library import table
from log.recent import Recent
from log.trust import ROOT, is_only_of
from probes.api.undescribed import NO_STUB
from probes.host.daemons.programs import Daemons
from probes.host.looking import maps
from probes.host.looking.held import LOOKING
from probes.host.looking.opening import open_file

SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
# of a process that are looked at; two are in force, and others may still be in use
MOST_POLICIES = 16
MOST_MAPPINGS = 1 << 20  # bytes of the list of a process's mappings: some 10,000; libvirtd has 800
# bytes of such lists between two refresh(): 50 ms of work; who comes later must wait
MOST_LOOKED_AT = 4 << 20
MOST_FILES = 4096
MOST_ENVIRONMENT = 1 << 20  # bytes of a process's environment that are looked at
# so many refresh() after the last enforced process has gone calls may be told of it; a process
# without policies is looked at again
KEPT, AGAIN = 3, 8
_MAPPED = re.compile(rb"([0-9a-f]+-[0-9a-f]+) \S+ \S+ \S+ [0-9]+ +/memfd:([^/ ]+)(?: \(deleted\))?")
_NAMED = re.compile(rb"(?:^|\0)LIBVIRT_TRACE_POLICY=(/[^\0]*)")
_ENFORCER_FOLDER = Path(__file__).resolve().parent

Identity = tuple[int, ...]  # of a file


def host_enforcers() -> list[Path]:
    """The host's own library, where it is built or installed."""
    return [
        path
        for path in (_ENFORCER_FOLDER / maps.ENFORCER, _ENFORCER_FOLDER / "build" / maps.ENFORCER)
        if path.exists()
    ]


def policies_of(pid: int, proc: Path = Path("/proc")) -> Iterator[PolicySummary]:
    """The policies in force in the process."""
    for place in places_of(maps.text(pid, proc, MOST_MAPPINGS), MEMORY_FILE):
        path = proc / str(pid) / "map_files" / place
        if (found := LOOKING.ask(pid, partial(_read_sealed, path), None, proc)) is not None:
            yield found


def system_policy() -> PolicySummary | None:
    """The host's; None: there is none that the enforcer would take."""
    try:
        with os.fdopen(open_file(str(SYSTEM_POLICY), follow=True), "rb") as file:
            status = os.fstat(file.fileno())
            # as is_trusted() in policy_copy.c
            if not is_only_of(ROOT, status) or status.st_size > SIZE_MAX:
                return None
            return read_summary(file.read(status.st_size))
    except OSError:
        return None


def named_policy(pid: int, proc: Path = Path("/proc")) -> str | None:
    """The policy that the process was started with in its environment; None: there is none, or
    the process has gone.
    """
    found = _NAMED.search(_environment(pid, proc))
    return os.fsdecode(found[1]) if found else None


class _Held(NamedTuple):
    """What is covered in a process by policies that are in force there."""

    covered: frozenset[int]
    until: int  # the refresh() that it must be looked at again after
    # its policies: paths of the mappings, and which file was there
    files: tuple[tuple[str, Identity], ...]
    is_enforced: bool  # the library was there, too: it was not another program by then


class Coverage:
    """What is covered in each process, as of the last refresh()."""

    def __init__(self, daemons: Daemons, proc: Path = Path("/proc")) -> None:
        self._daemons, self._proc = daemons, proc
        self._known = table()
        self._all = frozenset(
            number
            for number, function in enumerate(self._known.functions)
            if function.access != "plumbing"
        )
        self._system: frozenset[int] = frozenset()
        self._system_says: PolicySummary | None = None
        self._state: Identity | None = None
        self._processes: dict[int, _Held] = {}
        # whether its policies are meant for what it starts: a daemon's are not
        self._enforced: dict[int, bool] = {}
        self._unread: set[int] = set()  # processes whose environment was not looked at yet
        # what policies cover that are meant for the process
        self._meant: dict[int, frozenset[int]] = {}
        # processes that a policy is meant for of which nothing is known
        self._astray: set[int] = set()
        self._files: Recent[Identity, frozenset[int]] = Recent(MOST_FILES)
        self._generation = 0
        self._used = -KEPT  # generation in which there was an enforced process
        self._left = MOST_LOOKED_AT
        self.refresh()

    def refresh(self) -> None:
        """Looks whether policies have changed: at the host's now, at those of a process when it
        is asked for.
        """
        self._generation += 1
        self._left = MOST_LOOKED_AT
        if self._enforced:
            self._used = self._generation
        try:
            state: Identity | None = _identity(os.stat(SYSTEM_POLICY))
        except OSError:
            state = None
        if state != self._state:
            self._state = state
            self._system_says = system_policy()
            self._system = self._covered(self._system_says)
            self._processes.clear()
            self._files.clear()

    @property
    def covers(self) -> bool:
        """Whether there may be a policy anywhere, or was a moment ago: that a process has
        loaded the enforcer may be told late.
        """
        there = self._system or self._enforced or self._meant or self._astray or self._unread
        return bool(there or self._generation - self._used < KEPT)

    def covered_for(self, pid: int) -> frozenset[int]:
        """Numbers of the functions that a policy covers for this process; NO_STUB: those that
        have none, too.
        """
        own = self.own_for(pid)
        # every client's call of a daemon has a verdict; those without one are libvirt's own, made
        # by threads of its drivers
        if pid in self._enforced and self._daemons.is_daemon(pid):
            return (self._system | own) & {NO_STUB}
        return self._system | own if own else self._system

    def own_for(self, pid: int) -> frozenset[int]:
        """The same of its own policies: what the host's says may be judged in a daemon instead."""
        if pid in self._unread:
            self._read_environment(pid)
        meant = self._meant.get(pid, self._all if pid in self._astray else frozenset())
        return self._in_force(pid).covered | meant if pid in self._enforced else meant

    def loaded(self, pid: int) -> None:
        """It has loaded libvirt."""
        if pid not in self._meant:
            self._unread.add(pid)
            self._read_environment(pid)

    def enforced(self, pid: int) -> None:
        """It has loaded the enforcer."""
        self._enforced[pid] = not self._daemons.is_daemon(pid)
        self._used = self._generation
        self._processes.pop(pid, None)
        self._astray.discard(pid)

    def forked(self, pid: int, parent: int) -> None:
        """It is a copy of its parent."""
        if (binds := self._enforced.get(parent)) is not None:
            self._enforced[pid] = binds
            if binds:
                self._processes[pid] = self._in_force(parent)
        if (meant := self._meant.get(parent)) is not None:
            self._meant[pid] = meant
        if parent in self._astray:
            self._astray.add(pid)

    def replaced(self, pid: int) -> None:
        """It became another program; a policy that was in force in it is meant for that one,
        too.
        """
        held = self._processes.pop(pid, None)
        if self._enforced.pop(pid, False):
            if held is None or not held.is_enforced:
                self._astray.add(pid)
            elif held.covered:
                self._meant[pid] = self._meant.get(pid, frozenset()) | held.covered

    def forget(self, pid: int) -> None:
        """It has ended."""
        self._enforced.pop(pid, None)
        self._processes.pop(pid, None)
        self._meant.pop(pid, None)
        self._unread.discard(pid)
        self._astray.discard(pid)

    def _read_environment(self, pid: int) -> None:
        if self._left <= 0:
            return  # another time
        self._unread.discard(pid)
        environment = _environment(pid, self._proc)
        self._left -= len(environment)
        if found := _NAMED.search(environment):
            self._meant[pid] = self._meant.get(pid, frozenset()) | self._named(
                os.fsdecode(found[1])
            )

    def _named(self, path: str) -> frozenset[int]:
        """What the policy of that path covers: everything, where it can't be told. A path that
        others choose is not opened.
        """
        if os.path.dirname(path) != str(RUN_FOLDER):
            return self._all
        try:
            fd = open_file(path)
        except OSError:
            return self._all
        try:
            return (
                self._covered(
                    summary(lambda at, length: os.pread(fd, length, at), os.fstat(fd).st_size)
                )
                or self._all
            )
        except OSError:
            return self._all
        finally:
            os.close(fd)

    def _in_force(self, pid: int) -> _Held:
        held = self._processes.get(pid)
        if held is None or held.until <= self._generation:
            held = (
                held._replace(until=self._generation + 1)
                if held and self._is_same(held)
                else self._look(pid, held)
            )
            self._processes[pid] = held
        return held

    def _is_same(self, held: _Held) -> bool:
        """Whether the process still has its policies: one that is replaced is unmapped."""
        try:
            return bool(held.files) and all(
                _identity(os.stat(path)) == identity for path, identity in held.files
            )
        except OSError:
            return False

    def _look(self, pid: int, before: _Held | None) -> _Held:
        if self._left <= 0:
            return _Held(
                before.covered if before else frozenset(),
                self._generation + 1,
                (),
                bool(before and before.is_enforced),
            )
        covered: frozenset[int] = frozenset()
        files = []
        text = maps.text(pid, self._proc, MOST_MAPPINGS)
        self._left -= len(text)
        is_enforced = f"/{maps.ENFORCER}".encode() in text
        if before and before.is_enforced and not is_enforced:
            # nothing unloads the library: the process has gone, or is another program by now,
            # and what it did before is still to be told
            return before._replace(until=self._generation + 1)
        for place in places_of(text, MEMORY_FILE):
            path = f"{self._proc}/{pid}/map_files/{place}"
            try:
                status = LOOKING.ask(pid, partial(os.stat, path), None, self._proc)
            except OSError:
                continue
            if status is None:
                continue
            identity = _identity(status)
            files.append((path, identity))
            # a sealed file never changes; and nobody else gets its number
            covered |= self._files.learn(
                identity,
                lambda _, path=path: self._own(  # type: ignore[misc]
                    LOOKING.ask(pid, partial(_read_sealed, Path(path)), None, self._proc)
                ),
            )
        return _Held(covered, self._generation + (1 if files else AGAIN), tuple(files), is_enforced)

    def _own(self, found: PolicySummary | None) -> frozenset[int]:
        """What the policy covers, if it is no copy of the host's."""
        return frozenset() if found == self._system_says else self._covered(found)

    def _covered(self, summary: PolicySummary | None) -> frozenset[int]:
        """The numbers, if they are numbers of the table that is known here."""
        return (
            summary.covered
            if summary is not None and summary.table_hash == self._known.hash
            else frozenset()
        )


def _environment(pid: int, proc: Path) -> bytes:
    return LOOKING.ask(pid, lambda: _read_environment(pid, proc), b"", proc, only_reads=True)


def _read_environment(pid: int, proc: Path) -> bytes:
    try:
        with open(f"{proc}/{pid}/environ", "rb", buffering=0) as file:
            data = b""
            while len(data) < MOST_ENVIRONMENT and (
                part := file.read(min(1 << 16, MOST_ENVIRONMENT - len(data)))
            ):
                data += part
            return data
    except OSError:
        return b""


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def places_of(text: bytes, name: str) -> list[str]:
    """Where memory files of that name are mapped, as the names in map_files."""
    sought, at, found = f"/memfd:{name}".encode(), -1, []
    for _ in range(MOST_POLICIES):
        if (at := text.find(sought, at + 1)) < 0:
            break
        match = _MAPPED.fullmatch(_line_at(text, at))
        if match and match[2] == name.encode():
            found.append(match[1].decode())
    return found


def _line_at(text: bytes, at: int) -> bytes:
    end = text.find(b"\n", at)
    return text[text.rfind(b"\n", 0, at) + 1 : len(text) if end < 0 else end]


def _read_sealed(path: Path) -> PolicySummary | None:
    """What the sealed memory file says; None: it is none, or says nothing of the kind."""
    try:
        fd = open_file(str(path), follow=True)  # a link of the kernel's
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS != SEALS or status.st_size > SIZE_MAX:
            return None
        return summary(lambda at, length: os.pread(fd, length, at), status.st_size)
    except OSError:
        return None
    finally:
        os.close(fd)
