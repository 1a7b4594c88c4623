# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tracing session: attaches to every libvirt there is and comes, and turns what the rings
hold into events.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from log.counted import Counted
from log.errors import UsageError
from log.events import Caller, Event, Owed, UnderWay
from log.filters.shown import Shown
from log.owing.owing import Owing
from log.owing.pairs import followed
from probes.api.load import load_api
from probes.calls.calls import Calls
from probes.calls.counted import KernelCounts
from probes.calls.losses import Losses
from probes.calls.serving.endings import Endings
from probes.calls.serving.tasks import Choice, Task, Tasks
from probes.hanging.hanging import Hanging
from probes.hanging.limits import DaemonLimits
from probes.hanging.witnesses import Witnesses
from probes.host.clock import WallClock
from probes.host.daemons.before import Before
from probes.host.daemons.guests import Guests
from probes.host.daemons.programs import Daemons
from probes.host.daemons.stacks import Inside, Stacks
from probes.host.libraries import coroutines
from probes.host.libraries.mapwatch import Dropped, Mapped, Online, Record, watch_maps
from probes.host.libraries.modules import Modules
from probes.host.libraries.symbols import Symbols
from probes.host.libraries.targets import Targets
from probes.host.looking import maps
from probes.host.looking.held import LOOKING
from probes.host.looking.owners import Owners
from probes.host.looking.turns import Turns
from probes.host.memory import give_back, hold_little
from probes.host.processes.callers import Processes
from probes.host.processes.lives import NO_ID, Exec, Exited, Forked, Missed, OutOfMemory, Signalled
from probes.host.processes.tree import Tree
from probes.host.processes.users import Users
from probes.internals.private import DISPATCH
from probes.kernel import records
from probes.kernel.loading.features import NONE, PAIR, RETS
from probes.kernel.rings.reader import SETTLED_NS, Reader, key_of, time_of
from probes.plans.meaning.captured import Limits
from probes.tracing.attachments import Attachments, listed
from probes.tracing.covering import Guard
from probes.tracing.filters import Filters
from probes.tracing.loading import Loading
from probes.tracing.rows import Rows

# s: as long after it, at most, it is known that a process began or became another program
NOTICED = 0.002
SWEEP_NS = 1_000_000_000
SWEEPS_UNUSED = 60
# who waits so long for what nobody is known to have waits for what began before tracing
WAITS_NS = 1_000_000_000
# processes that ended so long ago are not asked for any more
ENDED_NS = 60_000_000_000
REMEMBERING = 0.02  # s at a time
MOST_NAMED = 4  # processes
PRIORITY = -10  # others may be busy, and fill the rings


Happened = Exited | Exec | Forked | Signalled | OutOfMemory | Mapped


class Options(NamedTuple):
    """What a session is to do."""

    filters: Filters
    limits: Limits
    libraries: tuple[Path, ...]
    version: str
    full_cmdlines: bool = False  # command lines with all their words


class Session:
    """Everything that is attached, and the calls under way; `loading`: what was begun early."""

    def __init__(self, options: Options, guard: Guard, loading: Loading) -> None:
        hold_little()
        self._program, way = loading.take()
        self._options, self._way = options, way
        self._table = table = load_api()
        self._witnesses = Witnesses(self._hanging)
        self.limits = DaemonLimits(self._hanging)  # of daemons
        self._servers: set[int] = set()  # processes that are daemons
        self.warnings = [*table.warnings, *([way.warning] if way.warning else [])]
        if way.name == PAIR and (
            risky := coroutines.find(sorted({mapping.pid for mapping in maps.scan()}))
        ):
            self.warnings.append(
                f"process {', '.join(map(str, risky[:MOST_NAMED]))} has coroutines, which return "
                "probes may kill before Linux 6.13: leave out --returns=probe"
            )
        # which object it is matters only where all is seen that gives references up
        limits = options.limits._replace(tells_apart=options.filters.plumbing)
        self._rows = Rows(self._program.shared, table, options.filters, limits, way=way.name)
        self._daemons = Daemons()
        shared = self._program.shared
        self._counts = (
            KernelCounts(shared.counts, shared.begun, self._rows.counted, shared.stripes)
            if shared.counts and shared.begun
            else None
        )
        self.counted: list[Counted] = []  # in the end, calls that were only counted
        # to processes, in their records' order
        self._happened: list[Happened] = []
        self._swept = self._sweeps = 0
        self._detached = self._stopped = False
        filters = options.filters
        self._shown = Shown(None if filters.keeps_all else filters.keeps)
        self._clock = WallClock(seen=self._program.shared.settings)
        self._users = Users()
        self._processes = Processes(user_name=self._users.name, full_cmdlines=options.full_cmdlines)
        self._reader = Reader(self._program.shared.rings)
        self._losses = Losses(
            self._program.shared.users, self._program.shared.settings, self._processes.user
        )
        self._tree = Tree(os.getpid()) if filters.tree else None
        self._before = Before(self._daemons)
        self._guests = Guests(self._sender, self._daemons.is_daemon)
        self._tasks = Tasks(self._processes, self._daemons, self._tree.add if self._tree else None)
        self._owners = Owners()
        self._left = coroutines.Left(self._program.shared.copies_no_stacks, self._owners)
        self._remembering: Turns[int] = Turns()  # processes whose mappings are to be remembered
        targets = Targets(options.libraries, finds_returns=way.name == RETS)
        self._attachments = Attachments(
            self._program, self._rows, targets, guard.libraries, options.version, self._owners
        )
        self._coverage = guard.covering(self._daemons)
        self._modules = Modules()
        self._symbols = Symbols()
        traced = {one.name: filters.wants(one) for one in table.functions}
        self._owing = Owing(
            followed(lambda name: traced.get(name, False), plumbing=filters.plumbing),
            sure=not filters.by_process,
        )
        self._watch = watch_maps(self._program.tasks, self._symbols)
        self._calls = Calls(
            self._rows.rows,
            table,
            self._tasks.find,
            self._clock.epoch,
            covered=self._coverage.covered_for,
            covered_here=self._coverage.own_for,
            unseen=self._before.has,
            endings=Endings(self._guests),
            choice=Choice(
                self._passes if filters.by_process else None,
                filters.has_wild_names,
                filters.hides_changes(table.functions),
                filters.writes,
            ),
            redact=options.limits.redact,
            name_of=self._symbols.describe,
            is_own=self._modules.has,
            nested=options.filters.nested,
            left=self._left.ask if way.believes else lambda pid: None,
            elder=self._witnesses,
        )

    def start(self, say: Callable[[str], None] = lambda text: None) -> list[Event]:
        """Attaches to every libvirt on the host; then calls are seen. The first event says to
        what; `say` takes a line meanwhile.
        """
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, min(PRIORITY, os.getpriority(os.PRIO_PROCESS, 0)))
        shared, filters = self._program.shared, self._options.filters
        settings = filters.settings(shared, os.getpid())
        shared.settings[: len(settings)] = settings
        shared.settings[records.SPARE] = self._way.spares_confined.to_bytes(4, "little")
        events = self._attachments.start(say)
        self._rows.keep()
        unknown = filters.unknown(self._rows.names())
        if unknown and filters.wants_none_of(self._rows.names()):
            raise UsageError(*unknown)
        self.warnings += unknown
        if self._rows.undecoded:
            self.warnings.append(
                "arguments are shown as numbers, because a newer libvirt-api.xml describes them: "
                f"{listed(self._rows.undecoded)}"
            )
        everything = list(maps.scan())
        for mapping in everything:
            if maps.is_enforcer(mapping.path):
                self._coverage.enforced(mapping.pid)
            else:
                self._coverage.loaded(mapping.pid)
        if self._way.believes:
            for pid in sorted({mapping.pid for mapping in everything}):
                self._left.ask(pid)
            self._left.run(REMEMBERING)
        self._clock.watch()
        self._processes.look_around()
        shared.settings[:4] = (1).to_bytes(4, "little")
        # now: what begins from here on is seen
        pids = {mapping.pid for mapping in everything}
        self._before.scan(pids)
        self._servers.update(pid for pid in pids if self._daemons.is_daemon(pid))
        self._guests.look_at(self.daemons())
        return events

    def poll(self) -> list[Event]:
        """The events since the last time, in order of their end."""
        settled = time.monotonic_ns() - SETTLED_NS
        # what a call refers to was known before it: its task, and the exec that made its process
        batch = self._reader.read(settled)
        self._notice(self._watch.poll())
        events: list[Event] = [*self._clock.events()]
        self._learn_tasks(batch.tasks)
        events.extend(self._shown.of(self._put_together(batch.calls, batch.upto)))
        if names := self._users.learned():
            self._tasks.name(names)
            self._calls.forget_decoded()
        if not self._detached:
            events.extend(self._attachments.check())
        if settled > self._swept + SWEEP_NS:
            self._swept = settled
            self._sweep()
        self._left.run(REMEMBERING)
        events.extend(self._losses.events(settled))
        return events

    def detach(self) -> None:
        """Ends the tracing of calls; those that were made can still be polled."""
        if self._detached:
            return
        self._detached = True
        self._program.shared.settings[:4] = bytes(4)
        self._attachments.detach()

    def stop(self, least: int | None = None) -> list[Event]:
        """Detaches; the last events, among them the calls that are under way yet, if they have
        lasted for `least` (ns). A second time there are none.
        """
        if self._stopped:
            return []
        self._stopped = True
        self.detach()
        time.sleep(NOTICED)
        batch = self._reader.rest()
        self._notice(self._watch.poll())
        events: list[Event] = []
        self._learn_tasks(batch.tasks)
        ended = self._put_together(batch.calls, time.monotonic_ns() + SETTLED_NS)
        events.extend(self._shown.of(ended))
        if least is not None:
            events.extend(self.under_way(least))
            events.extend(self.owed())
        events.extend(self._shown.of(self._calls.close()))
        events.extend(self._attachments.last())
        events.extend(self._losses.final(self._calls.ended_without_entry))
        if self._counts:
            self.counted = self._counts.found()
        self._clock.close()
        self._watch.close()
        self._attachments.close()
        self._program.close()
        return events

    def take_warnings(self) -> list[str]:
        """What the user should know, since the last time."""
        warnings, self.warnings = self.warnings + LOOKING.take(), []
        return warnings

    def waiting_bytes(self) -> int:
        """How much was not looked at yet."""
        return self._reader.waiting()

    def wakers(self) -> list[int]:
        """Descriptors that can be read when there is something for poll()."""
        return [
            *self._program.wakers,
            *self._watch.wakers(),
            *self._attachments.wakers(),
        ]

    def is_settled(self) -> bool:
        """Whether nothing is left for poll() before one of these can be read."""
        return (
            not self._reader.waiting()
            and self._watch.is_settled()
            and self._attachments.is_settled()
            and not self._remembering
            and self._left.is_done()
        )

    def open_calls(self) -> int:
        """How many calls are under way."""
        return self._calls.open_calls()

    def oldest_call(self) -> float:
        """How long the oldest of them has been (s); 0 if there is none."""
        oldest = self._calls.oldest()
        return 0.0 if oldest is None else (time.monotonic_ns() - oldest) / 1e9

    def count_owed(self) -> int:
        """How much was begun and not ended."""
        return len(self._owing)

    def under_way(self, least: int = 0) -> list[UnderWay]:
        """Calls that have lasted for `least` (ns), the oldest first."""
        now = time.monotonic_ns()
        told = self._calls.under_way(now, least)
        if self._counts is None:
            return told
        told += self._counts.under_way(self._tasks.find, self._clock.epoch, now, least)
        return sorted(told, key=lambda one: one.age_ns or 0, reverse=True)

    def owed(self) -> list[Owed]:
        """What was begun and not ended, the oldest first."""
        if left_out := self._owing.left_out():
            self.warnings.append(left_out)
        owed = self._owing.open(self._clock.epoch(time.monotonic_ns()))
        return [one for one in owed if self._options.filters.keeps(one)]

    def begun_before(self, inside: Sequence[Inside]) -> list[UnderWay]:
        """Of calls that were under way before, those that are so yet, and are seen by nothing
        else.
        """
        unseen = [one for one in inside if not self._calls.has_called(one.tid)]
        found = self._hanging().describe(unseen, self._clock.epoch(time.monotonic_ns()))
        return [one for one in found if self._options.filters.keeps(one)]

    def look_at_waiting(self) -> None:
        """Finds out who has the jobs that calls wait for, if that began before tracing."""
        self._witnesses.watch_now(self._calls.unexplained(time.monotonic_ns()))

    def daemons(self) -> list[int]:
        """Processes that are daemons of libvirt's."""
        return sorted(self._servers)

    def _hanging(self) -> Hanging:
        return Hanging(Stacks(), self._table, self._tasks.seen, redact=self._options.limits.redact)

    def _notice(self, seen: Sequence[Record]) -> None:
        """Processes that begin and end, and libraries that they load."""
        self._owners.refresh()
        for record in seen:
            if isinstance(record, Mapped):
                self._happened.append(record)
                self._modules.changed(record.pid)
                self._remembering.put(self._owners.of(record.pid), record.pid, record.pid)
                self._attachments.mapped(record)
            elif isinstance(record, Exited | Signalled | OutOfMemory):
                self._happened.append(record)
            elif isinstance(record, Exec):
                self._happened.append(record)
                self._modules.changed(record.pid)
                self._processes.noticed(record)
            elif isinstance(record, Forked):
                self._happened.append(record)
                self._processes.noticed(record)
                self._owners.forked(record.pid, record.ppid)
                if self._tree:
                    self._tree.forked(record)
            elif isinstance(record, Missed):
                self._processes.noticed(record)
                self._losses.dropped(record.records)
            elif isinstance(record, Dropped | Online):
                self._missed(record)
        self._remembering.run(lambda _, pid: self._symbols.remember(pid), REMEMBERING)

    def _missed(self, record: Dropped | Online) -> None:
        """Libraries may have been mapped unseen."""
        if isinstance(record, Online):
            self.warnings.append(
                f"CPU {record.cpu} was switched on: libraries that were loaded "
                "there in the moment before are looked for"
            )
        else:
            self._losses.unseen(record.records)
        if not self._detached:
            self._attachments.missed()

    def _put_together(self, raws: list[bytes], settled: int) -> list[Event]:
        """The calls that ended up to the time `settled`; what is later may still get company
        from before it.
        """
        self._calls.covering = self._coverage.covers
        due = sorted(
            (record for record in self._happened if record.time <= settled),
            key=lambda record: record.time,
        )
        self._happened = [record for record in self._happened if record.time > settled]
        ended: list[Event] = []
        at = 0
        for record in due:
            before = bisect.bisect_right(raws, key_of(record.time), at, key=time_of)
            if before > at:
                ended.extend(self._owing.of(self._calls.feed(raws[at:before])))
                at = before
            self._happens(record, ended)
        ended.extend(self._owing.of(self._calls.feed(raws[at:])))
        ended.extend(self._calls.let_go(settled - SETTLED_NS))
        if self._way.name == NONE:
            ended.extend(self._calls.give_up(settled - SETTLED_NS))
        return ended

    def _happens(self, record: Happened, ended: list[Event]) -> None:
        """It happens to a process after the calls that were fed and before those that will be."""
        if not isinstance(record, Mapped):
            self._guests.happens(record)
        if isinstance(record, Mapped):
            if maps.is_enforcer(record.path):
                self._coverage.enforced(record.pid)
            elif maps.is_library(record.path):
                self._coverage.loaded(record.pid)
                if self._daemons.is_daemon(record.pid):
                    self._servers.add(record.pid)
            self._calls.covering = self._coverage.covers
        elif isinstance(record, Exec):
            ended.extend(self._calls.process_replaced(record.pid, record.time))
            self._before.forget(record.pid)
            self._coverage.replaced(record.pid)
        elif isinstance(record, Forked):
            self._forget(record.pid)  # who had the number before
            self._coverage.forked(record.pid, record.ppid)
        elif isinstance(record, Exited):
            ended.extend(self._calls.thread_exited(record.tid))
            if self._counts:
                self._counts.thread_ended(record.tid, record.time)
            self._before.serves(record.pid, record.tid)
            if record.is_last:
                self._forget(record.pid)
                self._processes.ended(record.pid, record.time)
                ended.extend(self._owing.process_ended(record.pid, self._clock.epoch(record.time)))

    def _sender(self, pid: int, uid: int | None, at: int) -> Caller:
        """Who sent a signal, and may have gone since."""
        found = self._processes.lookup(pid, at=at)
        if found.uid != NO_ID or uid is None:
            return found
        return found._replace(uid=uid, user=self._processes.user(uid))

    def _forget(self, pid: int) -> None:
        self._before.forget(pid)
        self._calls.process_exited(pid)
        self._coverage.forget(pid)
        self._servers.discard(pid)

    def _sweep(self) -> None:
        """Threads whose end was not told (events of the kernel get lost, or there are none),
        and libraries that nobody uses.
        """
        now = time.monotonic_ns()
        self._coverage.refresh()
        self._modules.refresh()
        if unexplained := self._calls.unexplained(now - WAITS_NS):
            self._witnesses.watch(unexplained)
        for pid, tid in self._calls.open_threads():
            if not os.path.exists(f"/proc/{pid}/task/{tid}"):
                self._happened.append(Exited(now, pid, tid, not os.path.exists(f"/proc/{pid}")))
        for pid in self._owing.debtors():
            if not os.path.exists(f"/proc/{pid}"):
                self._happened.append(Exited(now, pid, pid, True))
        self._sweeps += 1
        if self._sweeps % SWEEPS_UNUSED == 0:
            self._calls.forget_idle()
            self._processes.forget_ended(now - ENDED_NS)
            if self._attachments.sweep():
                self._calls.forget_decoded()
            give_back()

    def _learn_tasks(self, raws: Sequence[bytes]) -> None:
        """Who threads are, and for whom they work."""
        for raw in raws:
            kind, _, _, row, _, _, tid, _, _, tgid = records.HEAD.unpack_from(raw)
            of = None if kind == records.REC_TASK else self._rows.rows[row]
            self._tasks.learn(raw, of.private if of else None, of.entry if of else None)
            if of and of.private == DISPATCH:
                self._before.serves(tgid, tid)

    def _passes(self, wanted: bool, task: Task) -> bool:
        """Whether what a thread does is wanted; `wanted`: the kernel says so of it."""
        caller, client, in_tree = task.caller, task.believed, wanted
        if self._tree and not wanted:
            pid, served = client.pid, task.served
            in_tree = pid is not None and self._tree.has(
                pid, served.client_start if served else None
            )
            in_tree = in_tree or self._tree.has(caller.pid)
        return self._options.filters.passes(wanted, caller, task.comm, client, in_tree)
