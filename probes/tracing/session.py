# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tracing session: attaches to every libvirt there is and comes, and turns what the rings
hold into events.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from log.counted import Counted
from log.errors import UsageError
from log.events import Event
from log.filters.shown import Shown
from log.owing.owing import Owing
from log.owing.pairs import followed
from probes.api.load import load_api
from probes.calls.calls import Calls
from probes.calls.counted import KernelCounts
from probes.calls.losses import Losses
from probes.calls.serving.endings import Endings
from probes.calls.serving.tasks import Choice
from probes.hanging.hanging import Hanging
from probes.hanging.limits import DaemonLimits
from probes.hanging.witnesses import Witnesses
from probes.host.clock import WallClock
from probes.host.daemons.before import Before
from probes.host.daemons.guests import Guests
from probes.host.daemons.programs import Daemons
from probes.host.daemons.stacks import Stacks
from probes.host.libraries import coroutines
from probes.host.libraries.mapwatch import watch_maps
from probes.host.libraries.modules import Modules
from probes.host.libraries.symbols import Symbols
from probes.host.libraries.targets import Targets
from probes.host.looking import maps
from probes.host.looking.held import LOOKING
from probes.host.looking.owners import Owners
from probes.host.memory import give_back, hold_little
from probes.kernel import records
from probes.kernel.loading.features import NONE, PAIR, RETS
from probes.kernel.rings.reader import SETTLED_NS, Reader
from probes.plans.meaning.captured import Limits
from probes.tracing.attachments import Attachments, listed
from probes.tracing.covering import Guard
from probes.tracing.filters import Filters
from probes.tracing.in_order import InOrder
from probes.tracing.loading import Loading
from probes.tracing.noticing import REMEMBERING, Noticing
from probes.tracing.rows import Rows
from probes.tracing.standing import Standing
from probes.tracing.whose import Whose

# s: as long after it, at most, it is known that a process began or became another program
NOTICED = 0.002
SWEEP_NS = 1_000_000_000
SWEEPS_UNUSED = 60
# processes that ended so long ago are not asked for any more
ENDED_NS = 60_000_000_000
MOST_NAMED = 4  # processes
PRIORITY = -10  # others may be busy, and fill the rings


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
        shared = self._program.shared
        self._counts = (
            KernelCounts(shared.counts, shared.begun, self._rows.counted, shared.stripes)
            if shared.counts and shared.begun
            else None
        )
        self.counted: list[Counted] = []  # in the end, calls that were only counted
        self._swept = self._sweeps = 0
        self._detached = self._stopped = False
        filters = options.filters
        self._shown = Shown(None if filters.keeps_all else filters.keeps)
        self._clock = WallClock(seen=self._program.shared.settings)
        self._daemons = Daemons()
        self._before = Before(self._daemons)
        self._whose = whose = Whose(
            filters,
            self._rows.rows,
            self._daemons,
            self._before,
            full_cmdlines=options.full_cmdlines,
        )
        self._reader = Reader(self._program.shared.rings)
        self._losses = Losses(
            self._program.shared.users, self._program.shared.settings, whose.processes.user
        )
        self._guests = Guests(whose.sender, self._daemons.is_daemon)
        self._owners = Owners()
        self._left = coroutines.Left(self._program.shared.copies_no_stacks, self._owners)
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
            whose.tasks.find,
            self._clock.epoch,
            covered=self._coverage.covered_for,
            covered_here=self._coverage.own_for,
            unseen=self._before.has,
            endings=Endings(self._guests),
            choice=Choice(
                whose.passes if filters.by_process else None,
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
        self._in_order = InOrder(
            self._calls,
            self._owing,
            self._counts,
            self._coverage,
            self._daemons,
            self._before,
            self._guests,
            whose.processes,
            self._clock,
            gives_up=way.name == NONE,
        )
        self._noticing = Noticing(
            self._attachments,
            self._modules,
            self._symbols,
            self._owners,
            whose.processes,
            whose.tree,
            self._losses,
            self._warn,
        )
        self.standing = Standing(
            self._calls,
            self._counts,
            self._owing,
            whose.tasks,
            self._clock,
            filters,
            self._hanging,
            self._witnesses,
            self._warn,
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
        self._whose.processes.look_around()
        shared.settings[:4] = (1).to_bytes(4, "little")
        # now: what begins from here on is seen
        pids = {mapping.pid for mapping in everything}
        self._before.scan(pids)
        self._in_order.servers.update(pid for pid in pids if self._daemons.is_daemon(pid))
        self._guests.look_at(self.daemons())
        return events

    def poll(self) -> list[Event]:
        """The events since the last time, in order of their end."""
        settled = time.monotonic_ns() - SETTLED_NS
        # what a call refers to was known before it: its task, and the exec that made its process
        batch = self._reader.read(settled)
        self._in_order.add(self._noticing.notice(self._watch.poll()))
        events: list[Event] = [*self._clock.events()]
        self._whose.learn(batch.tasks)
        events.extend(self._shown.of(self._in_order.put_together(batch.calls, batch.upto)))
        if names := self._whose.users.learned():
            self._whose.tasks.name(names)
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
        self._in_order.add(self._noticing.notice(self._watch.poll()))
        events: list[Event] = []
        self._whose.learn(batch.tasks)
        ended = self._in_order.put_together(batch.calls, time.monotonic_ns() + SETTLED_NS)
        events.extend(self._shown.of(ended))
        if least is not None:
            events.extend(self.standing.under_way(least))
            events.extend(self.standing.owed())
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
            and self._noticing.is_settled()
            and self._left.is_done()
        )

    def open_calls(self) -> int:
        """How many calls are under way."""
        return self._calls.open_calls()

    def daemons(self) -> list[int]:
        """Processes that are daemons of libvirt's."""
        return sorted(self._in_order.servers)

    def _warn(self, text: str) -> None:
        self.warnings.append(text)

    def _hanging(self) -> Hanging:
        return Hanging(
            Stacks(), self._table, self._whose.tasks.seen, redact=self._options.limits.redact
        )

    def _sweep(self) -> None:
        """Threads whose end was not told (events of the kernel get lost, or there are none),
        and libraries that nobody uses.
        """
        now = time.monotonic_ns()
        self._coverage.refresh()
        self._modules.refresh()
        self.standing.look_after_a_while(now)
        self._in_order.look_for_ended(now)
        self._sweeps += 1
        if self._sweeps % SWEEPS_UNUSED == 0:
            self._calls.forget_idle()
            self._whose.processes.forget_ended(now - ENDED_NS)
            if self._attachments.sweep():
                self._calls.forget_decoded()
            give_back()
