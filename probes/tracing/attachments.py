# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keeps probes in every libvirt there is: files that appear come in, links to them are held, and
what can't be attached to is told.

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
from log.events import Attached, Event, TargetInfo
from probes.host.libraries.enforcers import Enforcer, Enforcers
from probes.host.libraries.finding import Finder
from probes.host.libraries.library import Target
from probes.host.libraries.mapwatch import Mapped
from probes.host.libraries.refusals import Refusals
from probes.host.libraries.targets import Targets
from probes.host.looking import opening
from probes.host.looking.owners import Owners, account_of
from probes.host.writes import Writes
from probes.kernel.links import Links, Probe, close_together
from probes.kernel.loading.program import Program
from probes.tracing.rows import ROW, Rows, cookie

NAMED = 5  # functions that are left out
PATIENCE = 1.0  # s, for the thread when tracing ends
MANY = 200  # processes: attaching takes a second or more
LONGEST_INSTRUCTION = 16  # bytes
CHECK_NS = 40_000_000  # between two looks at the files
NOT_ATTACHED = (
    "tracing ended before it was attached to; the calls that were made through it were missed"
)
WRITTEN = (
    "it was written to while programs use it, which probes would crash: replace a library by "
    "renaming the new file to it. "
    "It is attached to again when the programs that have it mapped have ended"
)


class FileState(NamedTuple):
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
    state: FileState | None
    reason: str
    took_ms: float
    mapped: int | None  # when (ns), of a file that came while others were traced


class Attachments:
    """Every library file that probes are in, and the enforcer's."""

    def __init__(
        self,
        program: Program,
        rows: Rows,
        targets: Targets,
        enforcers: Callable[[], Sequence[Path]],
        version: str,
        owners: Owners,
    ) -> None:
        """`enforcers`: tells the host's own library files of the enforcer."""
        self._program, self._rows, self._targets, self._version = program, rows, targets, version
        self._refusals = Refusals()
        self._finder = Finder(targets, Enforcers(enforcers), owners, self._refusals)
        self._links: dict[Target | Enforcer, Links] = {}
        self._states: dict[Target | Enforcer, FileState] = {}
        self._writes = Writes()
        self._checked = 0  # ns
        # files of other users than root are attached to by a thread: they may be mapped by
        # thousands of processes
        # None: no more come
        self._others: queue.SimpleQueue[tuple[Job, int | None] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._pending: set[Target] = set()
        self._thread: threading.Thread | None = None
        self._detached = False

    def start(self, say: Callable[[str], None]) -> list[Event]:
        """Attaches to what there is; the first event says to what. Loads the program, for which
        this has waited.

        `say` takes a line for the user, who has to wait.
        """
        found, processes = self._finder.start()
        targets = [file for file, _ in found if isinstance(file, Target)]
        if not targets:
            raise TraceError(
                "no libvirt.so.0 on this host: install libvirt0, or name the file "
                "with --library PATH"
            )
        jobs = self._jobs(targets)
        self._program.load()
        if processes > MANY:
            say(
                f"attaching in {processes} processes, each of which takes the kernel some "
                "milliseconds"
            )
        first = [
            job for job in jobs if job.target.owner == 0 or self._targets.is_given(job.target)
        ] or jobs
        started = time.monotonic_ns()
        done = [self._try(job, None) for job in first]
        attached = self._attached(done, (time.monotonic_ns() - started) / 1e6)
        failed = [each for each in done if each.links is None]
        if len(failed) == len(done):
            raise TraceError(
                f"can't attach to any libvirt: {failed[0].job.target.path}: {failed[0].reason}"
            )
        for each in failed:
            if self._targets.is_given(each.job.target):
                raise TraceError(f"can't attach to {each.job.target.path}: {each.reason}")
        self._later([job for job in jobs if job not in first], None)
        self._refuse(self._lacks(done))
        self._attach_enforcers(file for file, _ in found if isinstance(file, Enforcer))
        return [attached, *self._refusals.take()]

    def mapped(self, record: Mapped) -> None:
        """A process has mapped a library; check() attaches to it."""
        self._finder.mapped(record.mapping, record.time)
        self._checked = 0

    def wakers(self) -> list[int]:
        """Descriptors that can be read when there is something to check()."""
        return self._writes.wakers

    def is_settled(self) -> bool:
        """Whether nothing is left to check() before."""
        return self._finder.is_done() and not self._pending and self._done.empty()

    def missed(self) -> None:
        """Mappings have been missed: every process is to be looked at, while there is tracing."""
        if not self._detached:
            self._finder.missed()

    def last(self) -> list[Event]:
        """What was not told yet."""
        self._finder.last()
        return [*self._refusals.take(last=True)]

    def check(self) -> list[Event]:
        """Attaches to what has come; events about that, and of what can't be attached to."""
        now = time.monotonic_ns()
        if now >= self._checked + CHECK_NS:
            self._checked = now
            self._written()
        found = self._finder.go_on()
        self._attach_enforcers(file for file, _ in found if isinstance(file, Enforcer))
        events = self._attach_new(
            [(file, since) for file, since in found if isinstance(file, Target)]
        )
        while not self._done.empty():
            done = self._done.get()
            self._pending.discard(done.job.target)
            events += self._told_of([done])
        for file in self._finder.unused(self._pending):
            self._let_go(file)
            if isinstance(file, Target):
                self._rows.release(file)
            file.close()
        return [*events, *self._refusals.take()]

    def sweep(self) -> bool:
        """Is to let go of files that nobody uses any more; whether plan rows are for other
        functions from now on.
        """
        self._finder.sweep()
        return self._rows.rested()

    def detach(self) -> None:
        """Ends the tracing of calls."""
        self._detached = True
        self._others.put(None)
        if self._thread and self._pending:
            self._thread.join(PATIENCE)  # what it is at may take long; it ends with us
        while not self._done.empty():
            done = self._done.get()
            self._pending.discard(done.job.target)
            if done.links:
                done.links.close()
            self._refusals.add(
                done.job.target.path, NOT_ATTACHED, account_of(done.job.target.owner)
            )
        for target in self._pending:
            self._refusals.add(target.path, NOT_ATTACHED, account_of(target.owner))
        close_together([*(links.close for links in self._links.values()), self._writes.close])
        self._links.clear()
        self._states.clear()

    def close(self) -> None:
        """Lets go of the files."""
        self._finder.close()

    def _let_go(self, file: Target | Enforcer) -> None:
        self._states.pop(file, None)
        self._writes.remove(file.fd)
        if links := self._links.pop(file, None):
            links.close()

    def _written(self) -> None:
        """Lets go of files that were written to: the kernel goes on with the instructions that
        it has read before.
        """
        self._writes.forget()
        for file, state in list(self._states.items()):
            try:
                stamp = _stamp(file.fd)
            except OSError:  # its file system has gone: nobody writes there
                del self._states[file]
                self._writes.remove(file.fd)
                continue
            if stamp == state.stamp:
                continue
            if _sum(file.fd, state.offsets) == state.code:
                self._states[file] = state._replace(stamp=stamp)
                continue
            self._let_go(file)
            if isinstance(file, Target):
                self._targets.keep_no_more(file)
            self._refusals.add(file.path, WRITTEN)

    def _jobs(self, targets: Iterable[Target]) -> list[Job]:
        return [Job(target, *self._rows.probes(target)) for target in targets]

    def _attach_new(self, found: Iterable[tuple[Target, int | None]]) -> list[Event]:
        events: list[Event] = []
        for target, since in found:
            jobs = self._jobs([target])
            if target.owner:
                self._later(jobs, since)
            else:
                events += self._told_of([self._try(job, since) for job in jobs])
        return events

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
        self._refuse(self._lacks(done))
        return [attached] if attached.targets else []

    def _attached(self, done: Sequence[Done], took_ms: float) -> Attached:
        """Keeps the links."""
        shown, count, missed = [], 0, None
        for job, links, state, _, _, mapped in done:
            if links is None or state is None:
                continue
            self._hold(job.target, links, state)
            if mapped is not None:
                missed = (time.monotonic_ns() - mapped) / 1e6
            # else it is a module of a daemon, where only inner functions are probed
            if job.target.functions:
                left_out = set(links.left_out)
                count += sum(
                    self._rows.rows[probe.cookie & ROW].is_public
                    for probe in job.probes
                    if probe not in left_out
                )
                shown.append(TargetInfo(job.target.path, job.target.version, job.target.note))
        kind = (
            "uprobe_session"
            if self._program.session
            else "uprobe_multi"
            if self._program.multi
            else "perf_event"
        )
        return Attached(
            time.time_ns(), self._version, count, tuple(shown), round(took_ms, 1), kind, missed
        )

    def _attach_enforcers(self, found: Iterable[Enforcer]) -> None:
        """Has their verdicts reported. Every policy in force may be new to us."""
        for enforcer in found:
            try:
                probe = Probe(
                    enforcer.offset,
                    cookie(self._rows.verdicts(), enforcer.offset, enforcer.text),
                    False,
                )
                self._hold(enforcer, *self._link(enforcer, [probe], "on_verdict", "on_verdict"))
            except TraceError as error:
                self._refusals.add(enforcer.path, str(error))

    def _link(
        self, file: Target | Enforcer, probes: list[Probe], entry: str, ret: str
    ) -> tuple[Links, FileState]:
        offsets = tuple(probe.offset for probe in probes)
        state = FileState(_stamp(file.fd), offsets, _sum(file.fd, offsets))
        session = self._program.session and isinstance(file, Target)
        return Links(
            file.path_for_kernel,
            probes,
            self._program.of(entry),
            self._program.of(ret),
            multi=self._program.multi,
            session=session,
        ), state

    def _hold(self, file: Target | Enforcer, links: Links, state: FileState) -> None:
        self._links[file] = links
        if not opening.is_remote(file.fd):
            self._states[file] = state
            self._writes.add(file.fd)

    def _lacks(self, done: Iterable[Done]) -> Iterator[tuple[Target, str]]:
        """Files of which not everything is seen, and why."""
        for job, links, _, reason, _, _ in done:
            if links is None:
                yield job.target, reason
            elif links.left_out:
                rows = [self._rows.rows[probe.cookie & ROW] for probe in links.left_out]
                names = [row.function.name if row.function else row.private or "?" for row in rows]
                yield job.target, f"{listed(names)}: {links.reason}"
            if links is not None and job.no_room:
                yield (
                    job.target,
                    (
                        f"{listed(job.no_room)}: unknown functions, of which others "
                        "have more than there is room for"
                    ),
                )

    def _refuse(self, failures: Iterable[tuple[Target, str]]) -> None:
        for target, reason in failures:
            self._refusals.add(target.path, reason, account_of(target.owner))


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
