# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keeps probes in every libvirt there is: files that appear come in, links to them are held, and what can't be attached to is told.

Anybody can present a file here. Whatever it is, it may cost its own calls, but nobody else's.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from log.errors import TraceError
from log.events import Attached, Event, Unattached
from log.events import Target as TargetEvent
from probes.host import maps, opening
from probes.host.enforcers import Enforcer, Enforcers
from probes.host.mapwatch import Mapped
from probes.host.pace import Pace
from probes.host.targets import Target, Targets, as_mapping
from probes.kernel.links import Links, Probe
from probes.kernel.program import Program
from probes.rows import ROW, Rows, cookie

SCAN_SHARE, SCAN_NS = 0.1, 1_000_000_000  # of the time, for looking at all processes while others make us; and not more often than that
MOST_TOLD, TOLD_NS = 20, 60_000_000_000  # events about files that can't be attached to, in so much time; others are summed up
NAMED = 5  # functions that are left out
PATIENCE = 1.0  # s, for the thread when tracing ends
MANY = 200  # processes: attaching takes a second or more
LONGEST_INSTRUCTION = 16  # bytes
CHECK_NS = 40_000_000  # between two looks at the files
WRITTEN = (
    "it was written to while programs use it, which probes would crash: replace a library by renaming the new file to it. "
    "It is attached to again when the programs that have it mapped have ended"
)


class State(NamedTuple):
    """What a file was like when it was attached to."""

    stamp: tuple[int, int, int]
    offsets: tuple[int, ...]  # of its probes
    code: int  # a sum of the code there


class Job(NamedTuple):
    """A file to attach to."""

    target: Target
    probes: list[Probe]
    no_room: list[str]  # functions of it that are left out


class Done(NamedTuple):
    """A file that was attached to, or why it was not."""

    job: Job
    links: Links | None
    state: State | None
    reason: str
    took_ms: float
    mapped: int | None  # when (ns), of a file that came while others were traced


class Attachments:
    """Every library file that probes are in, and the enforcer's."""

    def __init__(self, program: Program, rows: Rows, targets: Targets, enforcers: Callable[[], Sequence[Path]], version: str) -> None:
        """`enforcers`: tells the host's own library files of the enforcer."""
        self._program, self._rows, self._targets, self._version = program, rows, targets, version
        self._enforcers = Enforcers(enforcers)
        self._links: dict[Target | Enforcer, Links] = {}
        self._states: dict[Target | Enforcer, State] = {}
        self._checked = 0  # ns
        self._pace = Pace(SCAN_SHARE, 0)
        self._scan_at = 0  # ns; when the processes may be looked at again
        self._rescan = False
        # files of other users than root are attached to by a thread: they may be mapped by thousands of processes
        self._others: queue.SimpleQueue[tuple[Job, int | None] | None] = queue.SimpleQueue()  # None: no more come
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._pending: set[Target] = set()
        self._thread: threading.Thread | None = None
        self._detached = False
        self._told = 0  # events since
        self._told_since = 0
        self._untold = 0  # files that were not told of, and the last of them
        self._last = ("", "")

    def start(self, say: Callable[[str], None]) -> list[Event]:
        """Attaches to what there is; the first event says to what. Loads the program, for which this has waited.

        `say` takes a line for the user, who has to wait.
        """
        targets = self._targets.scan()
        if not targets:
            raise TraceError("no libvirt.so.0 on this host: install libvirt0, or name the file with --library PATH")
        jobs = self._jobs(targets)
        self._program.load()
        if self._targets.processes > MANY:
            say(f"attaching in {self._targets.processes} processes, each of which takes the kernel some milliseconds")
        first = [job for job in jobs if job.target.owner == 0 or self._targets.is_given(job.target)] or jobs
        started = time.monotonic_ns()
        done = [self._try(job, None) for job in first]
        attached = self._attached(done, (time.monotonic_ns() - started) / 1e6)
        failed = [each for each in done if each.links is None]
        if len(failed) == len(done):
            raise TraceError(f"can't attach to any libvirt: {failed[0].job.target.path}: {failed[0].reason}")
        for each in failed:
            if self._targets.is_given(each.job.target):
                raise TraceError(f"can't attach to {each.job.target.path}: {each.reason}")
        self._later([job for job in jobs if job not in first], None)
        return [attached, *self._refused(self._lacks(done))]

    def scan_enforcers(self, mapped: Iterable[maps.Mapping]) -> list[Event]:
        """Attaches to the host's enforcer and to those that processes have mapped."""
        return self._attach_enforcers(self._enforcers.scan(mapped))

    def mapped(self, record: Mapped) -> list[Event]:
        """A process has mapped a library."""
        return self._written() + self._mapped(record)

    def _mapped(self, record: Mapped) -> list[Event]:
        if maps.is_enforcer(record.path):
            return self._attach_enforcers(filter(None, [self._enforcers.of(as_mapping(record))]))
        target = self._targets.mapped(record)
        return self._attach_new([target], record.time) if target else self._refused(())

    def missed(self) -> None:
        """Mappings have been missed: every process is to be looked at."""
        self._rescan = True

    def last(self) -> list[Event]:
        """What was not told yet."""
        self._told_since = 0
        return self._refused(())

    def check(self) -> list[Event]:
        """What is due: files that could not be looked at before, and the sum of what was not told."""
        now, events = time.monotonic_ns(), list[Event]()
        if now >= self._checked + CHECK_NS:
            self._checked = now
            events += self._written()
        if (self._rescan or self._targets.is_behind) and now >= self._scan_at and self._pace.ready():
            self._rescan = False
            self._scan_at = now + SCAN_NS
            with self._pace:
                events += self._attach_new(self._targets.scan(), None)
        while not self._done.empty():
            done = self._done.get()
            self._pending.discard(done.job.target)
            events += self._told_of([done])
        events += self._refused(())
        return events

    def sweep(self) -> bool:
        """Lets go of files that nobody uses any more; whether plan rows are for other functions from now on."""
        rested = self._rows.rested()
        for target in self._targets.unused(self._pending):
            self._let_go(target)
            self._rows.release(target)
            target.close()
        for enforcer in self._enforcers.unused():
            self._let_go(enforcer)
            enforcer.close()
        return rested

    def detach(self) -> None:
        """Ends the tracing of calls."""
        self._detached = True
        self._others.put(None)
        if self._thread and self._pending:
            self._thread.join(PATIENCE)  # what it is at may take long; it ends with us
        while not self._done.empty():
            if links := self._done.get().links:
                links.close()
        for links in self._links.values():
            links.close()
        self._links.clear()
        self._states.clear()

    def close(self) -> None:
        """Lets go of the files."""
        self._targets.close()
        self._enforcers.close()

    def _let_go(self, file: Target | Enforcer) -> None:
        self._states.pop(file, None)
        if links := self._links.pop(file, None):
            links.close()

    def _written(self) -> list[Event]:
        """Lets go of files that were written to: the kernel goes on with the instructions that it has read before."""
        failures = []
        for file, state in list(self._states.items()):
            if (stamp := _stamp(file.fd)) == state.stamp:
                continue
            if _sum(file.fd, state.offsets) == state.code:
                self._states[file] = state._replace(stamp=stamp)
                continue
            self._let_go(file)
            if isinstance(file, Target):
                self._targets.keep_no_more(file)
            failures.append((file.path, WRITTEN))
        return self._refused(failures) if failures else []

    def _jobs(self, targets: Iterable[Target]) -> list[Job]:
        return [Job(target, *self._rows.probes(target)) for target in targets]

    def _attach_new(self, targets: Sequence[Target], mapped: int | None) -> list[Event]:
        jobs = self._jobs(targets)
        self._later([job for job in jobs if job.target.owner], mapped)
        return self._told_of([self._try(job, mapped) for job in jobs if not job.target.owner])

    def _later(self, jobs: Sequence[Job], mapped: int | None) -> None:
        """Has the thread attach to these; check() tells what came of it."""
        for job in jobs:
            self._pending.add(job.target)
            self._others.put((job, mapped))
        if jobs and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="attach", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while (todo := self._others.get()) and not self._detached:
            self._done.put(self._try(*todo))

    def _try(self, job: Job, mapped: int | None) -> Done:
        started = time.monotonic_ns()
        try:
            links, state = self._link(job.target, job.probes, "on_entry", "on_return")
        except (TraceError, OSError) as error:
            return Done(job, None, None, str(error), 0, mapped)
        return Done(job, links, state, "", (time.monotonic_ns() - started) / 1e6, mapped)

    def _told_of(self, done: Sequence[Done]) -> list[Event]:
        """Events about what was attached to, and what could not be."""
        attached = self._attached(done, sum(each.took_ms for each in done))
        return [*([attached] if attached.targets else []), *self._refused(self._lacks(done))]

    def _attached(self, done: Sequence[Done], took_ms: float) -> Attached:
        """Keeps the links."""
        shown, count, missed = [], 0, None
        for job, links, state, _, _, mapped in done:
            if links is None or state is None:
                continue
            self._hold(job.target, links, state)
            if mapped is not None:
                missed = (time.monotonic_ns() - mapped) / 1e6
            if job.target.functions:  # else it is a module of a daemon, where only inner functions are probed
                left_out = set(links.left_out)
                count += sum(self._rows.rows[probe.cookie & ROW].is_public for probe in job.probes if probe not in left_out)
                shown.append(TargetEvent(job.target.path, job.target.version, job.target.note))
        kind = "uprobe_multi" if self._program.multi else "perf_event"
        return Attached(time.time_ns(), self._version, count, tuple(shown), round(took_ms, 1), kind, missed)

    def _attach_enforcers(self, found: Iterable[Enforcer]) -> list[Event]:
        """Has their verdicts reported. Every policy in force may be new to us."""
        failures = []
        for enforcer in found:
            try:
                probe = Probe(enforcer.offset, cookie(self._rows.verdicts(), enforcer.offset, enforcer.text), False)
                self._hold(enforcer, *self._link(enforcer, [probe], "on_verdict", "on_verdict"))
            except TraceError as error:
                failures.append((enforcer.path, str(error)))
        return self._refused(failures)

    def _link(self, file: Target | Enforcer, probes: list[Probe], entry: str, ret: str) -> tuple[Links, State]:
        programs, offsets = self._program.programs, tuple(probe.offset for probe in probes)
        state = State(_stamp(file.fd), offsets, _sum(file.fd, offsets))
        return Links(file.path_for_kernel, probes, programs[entry], programs[ret], multi=self._program.multi), state

    def _hold(self, file: Target | Enforcer, links: Links, state: State) -> None:
        self._links[file] = links
        if not opening.is_remote(file.fd):
            self._states[file] = state

    def _lacks(self, done: Iterable[Done]) -> Iterator[tuple[str, str]]:
        """Files of which not everything is seen, and why."""
        for job, links, _, reason, _, _ in done:
            if links is None:
                yield job.target.path, reason
            elif links.left_out:
                rows = [self._rows.rows[probe.cookie & ROW] for probe in links.left_out]
                yield (
                    job.target.path,
                    f"{listed([row.function.name if row.function else row.private or '?' for row in rows])}: {links.reason}",
                )
            if links is not None and job.no_room:
                yield job.target.path, f"{listed(job.no_room)}: unknown functions, of which others have more than there is room for"

    def _refused(self, failures: Iterable[tuple[str, str]]) -> list[Event]:
        """Events about these and what the searches have found; when there are too many, one about the rest of them after a while."""
        now, events = time.time_ns(), list[Event]()
        if time.monotonic_ns() > self._told_since + TOLD_NS:
            self._told_since, self._told = time.monotonic_ns(), 0
            if self._untold:
                more = f" (and {self._untold - 1} other files)" if self._untold > 1 else ""
                events.append(Unattached(now, self._last[0], f"{self._last[1]}{more}"))
                self._untold = 0
        for source in (failures, self._targets.refused, self._enforcers.refused):
            for path, reason in source:
                if self._told < MOST_TOLD:
                    self._told += 1
                    events.append(Unattached(now, path, reason))
                else:
                    self._untold += 1
                    self._last = path, reason
        self._targets.refused.clear()
        self._enforcers.refused.clear()
        return events


def listed(names: Sequence[str]) -> str:
    """Some names, and how many there are."""
    more = f" and {len(names) - NAMED} more functions" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _stamp(fd: int) -> tuple[int, int, int]:
    status = os.fstat(fd)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _sum(fd: int, offsets: Iterable[int]) -> int:
    total = 0
    for offset in offsets:
        with contextlib.suppress(OSError):
            total = zlib.crc32(os.pread(fd, LONGEST_INSTRUCTION, offset), total)
    return total
