# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tracing session: attaches to every libvirt there is and comes, and turns what the rings hold into events."""

from __future__ import annotations

import bisect
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from log.errors import UsageError
from log.events import Call, Event
from probes import bpf, maps, records, serving, symbols
from probes.api import load_api
from probes.attachments import Attachments, listed
from probes.calls import Calls, Row, Task
from probes.clock import Clock
from probes.confined import returns_kill_confined
from probes.copying import Constants, Limits
from probes.coverage import Coverage
from probes.daemons import Daemons
from probes.filters import Filters
from probes.links import allow_files
from probes.losses import Losses
from probes.mapwatch import Dropped, Exec, Exited, Forked, Mapped, Online, Record, watch_maps
from probes.modules import Modules
from probes.processes import Captured, Processes
from probes.program import Program
from probes.reader import SETTLED_NS, Reader, key_of, time_of
from probes.recent import Recent
from probes.rows import Rows
from probes.serving import Clients
from probes.targets import Targets
from probes.users import Users

TASKS = 65536
SWEEP_NS = 1_000_000_000
SWEEPS_UNUSED = 60
PRIORITY = -10  # others may be busy, and fill the rings


class Options(NamedTuple):
    """What a session is to do."""

    filters: Filters
    limits: Limits
    ring_bytes: int
    force_returns: bool  # return probes even where they kill confined processes
    libraries: tuple[Path, ...]
    version: str
    full_cmdlines: bool = False  # command lines with all their words


class Session:
    """Everything that is attached, and the calls under way."""

    def __init__(self, options: Options) -> None:
        bpf.check_machine()
        allow_files()
        self._program = Program(options.ring_bytes)  # first: its compiler works in the background
        self._options = options
        table = load_api()
        kills = False if options.force_returns else returns_kill_confined()
        self._returns = returns = kills is False  # where it can't be found out, nobody is put at risk
        self.warnings = list(table.warnings)
        self._rows = Rows(self._program, table, options.filters, options.limits, returns=returns)
        self._tasks: Recent[int, Task] = Recent(TASKS)
        self._own: Recent[int, int] = Recent(TASKS)  # threads -> their last task, when they serve nobody
        self._daemons = Daemons()
        self._drivers: Recent[int, tuple[bool, bool]] = Recent(TASKS)  # pid -> whether it is a daemon, and has drivers as modules
        self._exits: list[Exited | Exec] = []
        self._swept = self._sweeps = 0
        self._detached = self._stopped = False
        self._keeps_all, self._keeps_own = options.filters.keeps_all, options.filters.keeps_own
        self._clock = Clock()
        self._users = Users()
        self._processes = Processes(user_name=self._users.name, full_cmdlines=options.full_cmdlines)
        self._reader = Reader(self._program.rings)
        self._losses = Losses(self._program.users, self._program.settings, self._processes.user)
        self._clients = Clients(self._processes.lookup)
        self._attachments = Attachments(self._program, self._rows, Targets(options.libraries), options.version)
        self._coverage = Coverage(self._daemons)
        self._modules = Modules()
        self._watch = watch_maps()
        if not returns:
            self.warnings.append(
                "on this kernel return probes kill confined processes: no results and durations; --returns uses them all the same"
                if kills
                else "whether return probes kill confined processes can't be found out: no results and durations; --returns uses them"
            )
        self._calls = Calls(
            self._rows.rows,
            table,
            self._find_task,
            self._clock.epoch,
            covered=self._coverage.covered_for,
            redact=options.limits.redact,
            is_own=self._modules.has,
            nested=options.filters.nested,
        )

    def start(self, say: Callable[[str], None] = lambda text: None) -> list[Event]:
        """Attaches to every libvirt on the host; then calls are seen. The first event says to what; `say` takes a line meanwhile."""
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, min(PRIORITY, os.getpriority(os.PRIO_PROCESS, 0)))
        program, filters = self._program, self._options.filters
        settings = filters.settings(program, os.getpid())
        program.settings[: len(settings)] = settings
        events = self._attachments.start(say)
        unknown = filters.unknown(self._rows.names())
        if unknown and filters.wants_none_of(self._rows.names()):
            raise UsageError(*unknown)
        self.warnings += unknown
        if self._rows.undecoded:
            self.warnings.append(
                f"arguments are shown as numbers, because a newer libvirt-api.xml describes them: {listed(self._rows.undecoded)}"
            )
        mapped = [mapping for mapping in maps.scan() if maps.is_enforcer(mapping.path)]
        events += self._attachments.scan_enforcers(mapped)
        for mapping in mapped:
            self._coverage.enforced(mapping.pid)
        self._clock.watch()
        program.settings[:4] = (1).to_bytes(4, "little")
        return events

    def poll(self) -> list[Event]:
        """The events since the last time, in order of their end."""
        settled = time.monotonic_ns() - SETTLED_NS
        # what a call refers to was known before it: its task, and the exec that made its process
        batch = self._reader.read(settled)
        events = self._notice(self._watch.poll())
        events.extend(self._clock.events())
        events.extend(self._kept(self._put_together(batch.calls, batch.tasks, batch.upto)))
        if names := self._users.learned():
            self._name(names)
        if not self._detached:
            events.extend(self._attachments.check())
        if settled > self._swept + SWEEP_NS:
            self._swept = settled
            self._sweep()
        events.extend(self._losses.events(settled))
        return events

    def detach(self) -> None:
        """Ends the tracing of calls; those that were made can still be polled."""
        if self._detached:
            return
        self._detached = True
        self._program.settings[:4] = bytes(4)
        self._attachments.detach()

    def stop(self) -> list[Event]:
        """Detaches; the last events. A second time there are none."""
        if self._stopped:
            return []
        self._stopped = True
        self.detach()
        batch = self._reader.rest()
        events = self._notice(self._watch.poll())
        ended = self._put_together(batch.calls, batch.tasks, time.monotonic_ns() + SETTLED_NS)
        events.extend(self._kept(ended + self._calls.close()))
        events.extend(self._attachments.last())
        events.extend(self._losses.final(self._calls.shown_without_entry))
        self._watch.close()
        self._attachments.close()
        self._program.close()
        return events

    def take_warnings(self) -> list[str]:
        """What the user should know, since the last time."""
        warnings, self.warnings = self.warnings, []
        return warnings

    def waiting_bytes(self) -> int:
        """How much was not looked at yet."""
        return self._reader.waiting()

    def open_calls(self) -> int:
        """How many calls are under way."""
        return self._calls.open_calls()

    def _notice(self, seen: Sequence[Record]) -> list[Event]:
        """Processes that begin and end, and libraries that they load."""
        events: list[Event] = []
        for record in seen:
            if isinstance(record, Exited):
                self._exits.append(record)
                self._own.pop(record.tid, None)
                if record.pid == record.tid:
                    self._drivers.pop(record.pid, None)
            elif isinstance(record, Mapped):
                self._processes.mapped(record)
                self._modules.changed(record.pid)
                symbols.remember(record.pid)
                if self._detached:
                    continue
                if maps.is_enforcer(record.path):
                    self._coverage.enforced(record.pid)
                if not record.is_program or maps.is_library(record.path):
                    events.extend(self._attachments.mapped(record))
            else:
                if isinstance(record, Online):
                    self.warnings.append(f"CPU {record.cpu} was switched on: what programs did there in the moment before was not noticed")
                    record = Dropped(0)
                if isinstance(record, Exec):
                    self._exits.append(record)
                    self._drivers.pop(record.pid, None)
                    self._coverage.forget(record.pid)
                    self._modules.changed(record.pid)
                elif isinstance(record, Forked):
                    self._coverage.forked(record.pid, record.ppid)
                self._processes.noticed(record)
                if isinstance(record, Dropped):
                    self._attachments.missed()
                    self._losses.dropped(record.records)
        return events

    def _put_together(self, raws: list[bytes], tasks: Sequence[bytes], settled: int) -> list[Event]:
        """The calls that ended up to the time `settled`; what is later may still get company from before it."""
        self._learn_tasks(tasks)
        self._calls.covering = self._coverage.covers
        due = sorted((record for record in self._exits if record.time <= settled), key=lambda record: record.time)
        self._exits = [record for record in self._exits if record.time > settled]
        ended: list[Event] = []
        at = 0
        for record in due:
            before = bisect.bisect_right(raws, key_of(record.time), at, key=time_of)
            ended.extend(self._calls.feed(raws[at:before]))
            at = before
            if isinstance(record, Exec):
                ended.extend(self._calls.process_replaced(record.pid, record.time))
                continue
            ended.extend(self._calls.thread_exited(record.tid))
            if record.pid == record.tid:
                self._calls.process_exited(record.pid)
                self._coverage.forget(record.pid)
        ended.extend(self._calls.feed(raws[at:]))
        ended.extend(self._calls.let_go(settled - SETTLED_NS))
        if not self._returns:
            ended.extend(self._calls.give_up(settled - SETTLED_NS))
        return ended

    def _sweep(self) -> None:
        """Threads whose end was not told (events of the kernel get lost, or there are none), and libraries that nobody uses."""
        now = time.monotonic_ns()
        self._coverage.refresh()
        self._modules.refresh()
        for pid, tid in self._calls.open_threads():
            if not os.path.exists(f"/proc/{pid}/task/{tid}"):
                self._exits.append(Exited(now, pid, tid))
        self._sweeps += 1
        if self._sweeps % SWEEPS_UNUSED == 0:
            self._calls.forget_idle()
            if self._attachments.sweep():
                self._calls.forget_decoded()

    def _name(self, names: Mapping[int, str]) -> None:
        """Names of users that are known only now."""
        for number, task in list(self._tasks.items()):
            if task.caller.uid in names and task.caller.user is None:
                self._tasks[number] = task._replace(caller=task.caller._replace(user=names[task.caller.uid]))
        self._calls.forget_decoded()

    def _kept(self, events: list[Event]) -> list[Event]:
        keeps = self._options.filters.keeps
        if self._keeps_all:
            return events
        if self._keeps_own:
            return [event for event in events if (type(event) is Call and event.client is None) or keeps(event)]
        return [event for event in events if keeps(event)]

    def _learn_served(self, raw: bytes, row: Row, task: int, tid: int, tgid: int) -> None:
        """What a thread does for a client: `task` stands for it from now on, until the next."""
        if row.private == serving.CLAIM:
            if (known := self._tasks.get(task)) and known.served:
                self._clients.claimed(raw, row.entry, known.served, tgid)
        elif row.private != serving.IDENTITY:
            fields = row.entry.decode(raw, {}, Constants())
            before = self._tasks.get(self._own.get(tid, 0))
            if before is None:
                before = self._find_task(0, tgid, tid)
            self._tasks.put(task, before._replace(served=serving.dispatched(fields)))
        elif (known := self._tasks.get(task)) and known.served and known.served.client is None:  # drivers change it for a while
            client = self._clients.of(raw, row.entry, known.served, tgid)
            self._tasks.put(task, known._replace(served=known.served._replace(client=client)))

    def _learn_tasks(self, raws: Sequence[bytes]) -> None:
        for raw in raws:
            kind, _, _, row, time_ns, task, tid, _, _, tgid = records.HEAD.unpack_from(raw)
            if kind != records.REC_TASK:
                self._learn_served(raw, self._rows.rows[row], task, tid, tgid)
                continue
            start, cgroup, ppid, uid, gid, loginuid, _, size, real_uid, _, comm = records.TASK.unpack_from(raw, records.HEAD.size)
            name = comm.partition(b"\0")[0].decode(errors="backslashreplace")
            captured = Captured(
                tgid, ppid, uid, gid, None if loginuid == 0xFFFFFFFF else loginuid, cgroup, start,
                raw[records.TASK_TEXT : records.TASK_TEXT + size] or None, name, None, real_uid,
            )  # fmt: skip
            caller = self._processes.lookup(tgid, start, captured, time_ns)
            self._tasks.put(task, Task(caller, name, None, *self._drivers.learn(tgid, self._has_drivers)))
            self._own.put(tid, task)

    def _has_drivers(self, pid: int) -> tuple[bool, bool]:
        return self._daemons.is_daemon(pid), maps.has_modules(pid)

    def _find_task(self, task: int, pid: int, tid: int) -> Task:
        found = self._tasks.get(task)
        if found is not None:
            return found
        # its record was lost
        try:
            comm = Path(f"/proc/{pid}/task/{tid}/comm").read_text(errors="backslashreplace").rstrip("\n")
        except OSError:
            comm = "?"
        return Task(self._processes.lookup(pid), comm, None, *self._drivers.learn(pid, self._has_drivers))
