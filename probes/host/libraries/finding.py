# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds the files to attach to: what processes map comes in, and all processes are looked at where
that is needed; new files go out.

Anybody can map anything, as often as they like. What is known is passed at once; the rest waits for
its user's turn.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from probes.host.libraries.enforcers import Enforcer, Enforcers
from probes.host.libraries.library import Target
from probes.host.libraries.refusals import Refusals
from probes.host.libraries.targets import Targets
from probes.host.looking import maps
from probes.host.looking.owners import Owners
from probes.host.looking.pace import Pace
from probes.host.looking.slow import Slow, is_slow
from probes.host.looking.turns import Turns

# for looking at all processes: of the time, s at once, and for how long before records are read
# again
SCAN_SHARE, SCAN_BURST, SCAN_STEP = 0.1, 0.3, 0.02
SWEEP_SHARE = 0.0005  # of the time, for that where only files that nobody uses are looked for
# s, for looking at files: at a time, when tracing begins, and when it ends
LOOK_STEP, FIRST_LOOK, LAST_LOOK = 0.05, 2.0, 0.5
LARGE = 1 << 20  # bytes of what a process has mapped: ten times as much as a daemon's
BEHIND = (
    "its user maps more such files than can be looked at in so short a time: calls are "
    "missed until it is this one's turn"
)
UNANSWERED = "its file system does not answer; calls are missed until it does"
NOT_LOOKED_AT = (
    "tracing ended before it could be looked at; if it is libvirt, the calls that "
    "were made through it were missed"
)
TOO_LATE = (
    "tracing ended when it had just been mapped; the calls that were made through it were missed"
)
TOO_MUCH = (
    "too much is mapped there to look at all of it: what comes behind that is only "
    "noticed when it is mapped anew"
)


class Arrival(NamedTuple):
    """A file that is mapped, and was not looked at."""

    mapping: maps.Mapping
    since: int | None  # when it was mapped at the earliest (ns); None: before tracing began
    has_answered: bool = False  # its file system, if that may take long


class NewFile(NamedTuple):
    """A new file."""

    file: Target | Enforcer
    since: int | None


class Finder:
    """The files that processes have mapped, and those of the host and the user."""

    def __init__(
        self,
        targets: Targets,
        enforcers: Enforcers,
        owners: Owners,
        refusals: Refusals,
        proc: Path = Path("/proc"),
    ) -> None:
        self.targets, self.enforcers = targets, enforcers
        self._owners, self._refusals, self._proc = owners, refusals, proc
        self._turns: Turns[Arrival] = Turns()
        self._slow: Slow[tuple[int, Arrival]] = Slow(proc)
        self._found: list[NewFile] = []
        self._pace = Pace(SCAN_SHARE, SCAN_BURST)
        self._walking: Iterator[bool] | None = None  # looks at one process after the other
        self._again = False  # they are to be looked at, once more
        self._began = 0  # ns: when that began
        # the last go_on(); up to when nothing was missed
        self._polled = self._complete = time.monotonic_ns()
        self._is_swept = False
        self._took = self._rested = 0.0  # s: of this look at all; when there may be another sweep

    def start(self) -> tuple[list[NewFile], int]:
        """All that there is, and how many processes have it mapped."""
        self.targets.refresh()
        self.enforcers.refresh()
        count = sum(self._walk(None))
        self._complete = time.monotonic_ns()
        self._turns.run(self._look, FIRST_LOOK)
        return self._take(), count

    def mapped(self, mapping: maps.Mapping, since: int | None) -> bool:
        """A process has mapped a file; whether it is known."""
        if self._known_by(mapping):
            return True
        self._wait(self._owners.of(mapping.pid), Arrival(mapping, since))
        return False

    def missed(self) -> None:
        """Mappings were not told: every process is to be looked at."""
        self._again = True
        self._complete = min(self._complete, self._polled) if self._walking else self._polled

    def sweep(self) -> None:
        """Every process is to be looked at, as some files may not be in use any more: where there
        are many, not often.
        """
        if self._walking is None and time.monotonic() >= self._rested:
            self._again = True

    def go_on(self) -> list[NewFile]:
        """New files; some more of the work is done."""
        for account, arrival in self._slow.ready():
            self._wait(account, arrival._replace(has_answered=True))
        self._turns.run(self._look, LOOK_STEP)
        if (self._walking or self._again) and self._pace.ready():
            with self._pace:
                self._scan(SCAN_STEP)
        self._polled = time.monotonic_ns()
        return self._take()

    def is_done(self) -> bool:
        """Whether no work is left for go_on()."""
        return not (self._walking or self._again or self._turns or self._slow.rest())

    def unused(self, pending: Collection[Target]) -> list[Target | Enforcer]:
        """Files that no process maps any more, now forgotten, since all were looked at; but not
        those that are `pending`.
        """
        if not self._is_swept:
            return []
        self._is_swept = False
        return [*self.targets.unused(pending), *self.enforcers.unused()]

    def last(self) -> None:
        """No more is attached to: tells of what comes too late."""
        self._turns.run(self._look, LAST_LOOK)
        for found in self._take():
            if isinstance(found.file, Target) and found.file.functions:
                self._refusals.add(found.file.path, TOO_LATE)
        for account, arrival in [*self._turns.rest(), *self._slow.rest()]:
            self._refusals.add(arrival.mapping.path, NOT_LOOKED_AT, account, once=True)

    def close(self) -> None:
        """Lets go of the files."""
        self.targets.close()
        self.enforcers.close()

    def _known_by(self, mapping: maps.Mapping) -> bool:
        return (
            self.enforcers.knows(mapping)
            if maps.is_enforcer(mapping.path)
            else self.targets.knows(mapping)
        )

    def _scan(self, seconds: float) -> None:
        """Looks at some more processes."""
        until, began = time.monotonic() + seconds, time.thread_time()
        if self._walking is None:
            self._again = False
            self._began = time.monotonic_ns()
            self.targets.refresh()
            self.targets.begin()
            self.enforcers.begin()
            self._walking = self._walk(self._complete)
        for _ in self._walking:
            if time.monotonic() > until:
                self._took += time.thread_time() - began
                return
        self._took += time.thread_time() - began
        self._rested, self._took = time.monotonic() + self._took / SWEEP_SHARE, 0.0
        self._walking = None
        if not self._again:
            self._complete = self._began
        self._is_swept = True

    def _walk(self, since: int | None) -> Iterator[bool]:
        """Whether processes have a library mapped, one after the other; those that have the
        most mapped come last.
        """
        large = []
        for pid in maps.pids(self._proc):
            data = maps.text(pid, self._proc, LARGE)
            if len(data) < LARGE:
                yield self._look_into(pid, data, since)
            else:
                large.append(pid)
        for pid in large:
            yield self._look_into(pid, maps.text(pid, self._proc, maps.MOST_TEXT), since)

    def _look_into(self, pid: int, data: bytes, since: int | None) -> bool:
        count = 0
        for mapping in maps.find(pid, data):
            count += 1
            self.mapped(mapping, since)
        if len(data) >= maps.MOST_TEXT or data.count(b"/libvirt") > maps.MOST_FOUND:
            self._refusals.add(
                f"{self._proc}/{pid}/maps", TOO_MUCH, self._owners.of(pid), once=True
            )
        return count > 0

    def _wait(self, account: int, arrival: Arrival) -> None:
        mapping = arrival.mapping
        key = (mapping.pid, mapping.major, mapping.minor, mapping.inode, mapping.path)
        if not self._turns.put(account, key, arrival):
            self._refusals.add(mapping.path, BEHIND, account, once=True)
            self._again = True

    def _look(self, account: int, arrival: Arrival) -> None:
        mapping = arrival.mapping
        if self._known_by(mapping):
            return
        if not arrival.has_answered and is_slow(mapping, self._proc):
            if not self._slow.ask(mapping, (account, arrival)):
                self._refusals.add(mapping.path, UNANSWERED, account, once=True)
            return
        source = self.enforcers if maps.is_enforcer(mapping.path) else self.targets
        source.of(mapping)
        self._found += [NewFile(file, arrival.since) for file in source.take()]
        self._collect(account)

    def _take(self) -> list[NewFile]:
        """Also what was found without a mapping."""
        self._found += [
            NewFile(file, None)
            for source in (self.targets, self.enforcers)
            for file in source.take()
        ]
        self._collect(0)
        found, self._found = self._found, []
        return found

    def _collect(self, account: int) -> None:
        for source in (self.targets, self.enforcers):
            for path, reason in source.refused:
                self._refusals.add(path, reason, account)
            source.refused.clear()
