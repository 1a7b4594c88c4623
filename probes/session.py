# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tracing session: attaches to every libvirt there is and comes, and turns what the rings hold into events."""

from __future__ import annotations

import bisect
import os
import struct
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from log.errors import TraceError
from log.events import Attached, Call, Event, Lost
from log.events import Target as TargetEvent
from probes import plans, private, records
from probes.api import Function, load_api
from probes.calls import Calls, Row, Task
from probes.confined import returns_kill_confined
from probes.copying import Limits, Offsets
from probes.filters import Filters
from probes.links import Links, Probe
from probes.mapwatch import Dropped, Exec, Exited, Mapped, Record, watch_maps
from probes.processes import Captured, Processes
from probes.program import Program
from probes.targets import Target, Targets

_TIME = struct.Struct("<Q")
_TIME_AT = 8
# a record is stamped before it is sent, and may sleep in between to fault a page in
SETTLED_NS = 10_000_000
TASKS = 65536
SWEEP_NS = 1_000_000_000
SWEEPS_UNUSED = 60
LOST_REASONS = {"both": "buffer full", "thread": "no memory", "depth": "calls nested too deeply"}


class Options(NamedTuple):
    """What a session is to do."""

    filters: Filters
    limits: Limits
    ring_bytes: int
    force_returns: bool  # return probes even where they kill confined processes
    libraries: tuple[Path, ...]
    version: str


class Session:
    """Everything that is attached, and the calls under way."""

    def __init__(self, options: Options) -> None:
        self._program = Program(options.ring_bytes)  # first: its compiler works in the background
        self._options = options
        self._table = load_api()
        self.returns = options.force_returns or not returns_kill_confined()
        self.warnings = list(self._table.warnings)
        self._rows: list[Row] = []
        self._row_of: dict[tuple[str | None, str], int] = {}
        self._tasks: OrderedDict[int, Task] = OrderedDict()
        self._links: dict[int, Links] = {}  # by the target's descriptor
        self._unsettled: list[bytes] = []
        self._exits: list[Exited | Exec] = []
        self._swept = self._sweeps = 0
        self._stopped = False
        self._reported = {(ring, name): 0 for ring in (0, 1) for name in records.COUNTERS}
        self._processes = Processes()
        self._targets = Targets(options.libraries)
        self._watch = watch_maps()
        if not self.returns:
            self.warnings.append(
                "on this kernel return probes kill confined processes: no results and durations; --returns uses them all the same"
            )
        self._calls = Calls(self._rows, self._table, self._find_task, time.time_ns() - time.monotonic_ns())

    def start(self) -> Attached:
        """Attaches to every libvirt on the host; from here on calls are seen."""
        program, filters = self._program, self._options.filters
        settings = filters.settings(program, os.getpid())
        program.settings[: len(settings)] = settings
        targets = self._targets.scan()
        if not targets:
            raise TraceError("no libvirt.so.0 on this host: install libvirt0, or name the file with --library PATH")
        probes = [self._probes(target) for target in targets]
        program.load()
        self.warnings += filters.unknown(self._table.by_name)
        event = self._attach(targets, probes, None)
        program.settings[:4] = (1).to_bytes(4, "little")
        return event

    def poll(self) -> list[Event]:
        """The events since the last time, in order of their end."""
        settled = time.monotonic_ns() - SETTLED_NS
        # what a call refers to was known before it: its task, and the exec that made its process
        calls, tasks = self._read_rings()
        events = self._notice(self._watch.poll())
        events.extend(self._kept(self._put_together(calls, tasks, settled)))
        if settled > self._swept + SWEEP_NS:
            self._swept = settled
            self._sweep()
        events.extend(self._lost())
        return events

    def stop(self) -> list[Event]:
        """Detaches; the last events. A second time there are none."""
        if self._stopped:
            return []
        self._stopped = True
        self._program.settings[:4] = bytes(4)
        for links in self._links.values():
            links.close()
        self._links.clear()
        calls, tasks = self._read_rings()
        events = self._notice(self._watch.poll())
        ended = self._put_together(calls, tasks, time.monotonic_ns() + SETTLED_NS)
        events.extend(self._kept(ended + self._calls.close()))
        events.extend(self._lost(final=True))
        self._watch.close()
        self._targets.close()
        self._program.close()
        return events

    def waiting_bytes(self) -> int:
        """How much the rings hold."""
        return sum(ring.used() for ring in self._program.rings.values())

    def open_calls(self) -> int:
        """How many calls are under way."""
        return self._calls.open_calls()

    def _attach_new(self, targets: Sequence[Target], mapped: int | None) -> Attached:
        return self._attach(targets, [self._probes(target) for target in targets], mapped)

    def _attach(self, targets: Sequence[Target], probes: Sequence[list[Probe]], mapped: int | None) -> Attached:
        started = time.monotonic_ns()
        shown, count, kind = [], 0, "uprobe_multi" if self._program.multi else "perf_event"
        programs = self._program.programs
        for target, chosen in zip(targets, probes, strict=True):
            links = Links(target.path_for_kernel, chosen, programs["on_entry"], programs["on_return"], multi=self._program.multi)
            self._links[target.fd] = links
            count += sum(1 for name, _ in target.functions if self._options.filters.probes(self._function(name, target.soname)))
            shown.append(TargetEvent(target.path, target.version, target.layout.reason))
        took = (time.monotonic_ns() - started) / 1e6
        missed = None if mapped is None else (time.monotonic_ns() - mapped) / 1e6
        return Attached(time.time_ns(), self._options.version, count, tuple(shown), round(took, 1), kind, missed)

    def _function(self, name: str, library: str) -> Function:
        function = self._table.by_name.get(name)
        if function is None:
            self._table = self._table.with_unknown({library: [name]})
            function = self._table.by_name[name]
        return function

    def _probes(self, target: Target) -> list[Probe]:
        layout, probes = target.layout, []
        for name, offset in target.functions:
            function = self._function(name, target.soname)
            if self._options.filters.probes(function):
                row = self._public_row(function, layout.name, layout.offsets, target)
                probes.append(self._probe(row, offset, target))
        for inner in private.PRIVATE:
            offset = target.private.get(inner.name, 0)
            if offset and layout.name:
                probes.append(self._probe(self._private_row(inner, target), offset, target))
        return probes

    def _probe(self, row: int, offset: int, target: Target) -> Probe:
        start, size = target.text
        cookie = row | (offset - start & 0xFFFFFFFF) << 16 | min(size + 0xFFFF >> 16, 0xFFFF) << 48
        return Probe(offset, cookie, self.returns and self._rows[row].ret is not None)

    def _public_row(self, function: Function, layout: str | None, offsets: Offsets, target: Target) -> int:
        key = (layout, function.name)
        if key in self._row_of:
            return self._row_of[key]
        flags = records.PLAN_WRITE_RING if function.is_write else 0
        flags |= records.PLAN_WANTED if self._options.filters.wants(function) else 0
        flags |= records.PLAN_CALLS_BACK if function.calls_back else 0
        flags |= 0 if self.returns else records.PLAN_NO_RETURN
        if function.result.kind == "handle":
            opens = function.result.object == "connect" and not any(param.kind == "handle" for param in function.params)
            flags |= records.PLAN_OPENS if opens else records.PLAN_NO_OBJECT
        limits, table = self._options.limits, self._table
        if target.is_32_bit:
            entry = ret = plans.raw_plan(flags, registers=0)
        elif not function.params and function.result.kind == "raw":
            entry, ret = plans.raw_plan(flags, registers=6), plans.raw_plan(flags, registers=0)
        else:
            entry = plans.entry_plan(function, table, offsets, limits, flags)
            ret = plans.return_plan(function, table, offsets, limits, flags)
        kind = function.result.kind
        returns = "void" if kind == "void" else "pointer" if kind in ("string", "handle", "pointer", "callback") else "integer"
        return self._add_row(key, Row(function, None, function.library, entry, ret, returns))

    def _private_row(self, inner: private.Private, target: Target) -> int:
        key = (target.layout.name, inner.name)
        if key in self._row_of:
            return self._row_of[key]
        entry, ret = plans.private_plans(inner, self._options.limits, records.PLAN_PRIVATE | records.PLAN_WANTED)
        return self._add_row(key, Row(None, inner.name, target.soname, entry, ret, "void"))

    def _add_row(self, key: tuple[str | None, str], row: Row) -> int:
        number = self._row_of[key] = len(self._rows)
        if number >= records.MAX_PLANS:
            raise TraceError(f"more than {records.MAX_PLANS} functions to probe")  # only where libraries are made up
        self._rows.append(row)
        size, program = records.PLAN_SIZE, self._program
        program.entry_plans[number * size : (number + 1) * size] = row.entry.pack()
        program.return_plans[number * size : (number + 1) * size] = (row.ret or row.entry).pack()
        return number

    def _read_rings(self) -> tuple[list[bytes], list[bytes]]:
        rings = self._program.rings
        read, write = rings["read"].read(), rings["write"].read()
        tasks = rings["task"].read()  # last: a call's task was sent before it
        raws = self._unsettled + read + write
        if (read and write) or self._unsettled:
            raws.sort(key=_time_of)
        return raws, tasks

    def _notice(self, seen: Sequence[Record]) -> list[Event]:
        """Processes that begin and end, and libraries that they load."""
        events: list[Event] = []
        for record in seen:
            if isinstance(record, Exited):
                self._exits.append(record)
            elif isinstance(record, Mapped):
                self._processes.mapped(record)
                if not self._stopped and (target := self._targets.mapped(record)):
                    events.append(self._attach_new([target], record.time))
            else:
                if isinstance(record, Exec):
                    self._exits.append(record)
                self._processes.noticed(record)
                if not self._stopped and isinstance(record, Dropped) and (new := self._targets.scan()):
                    events.append(self._attach_new(new, None))
        return events

    def _put_together(self, raws: list[bytes], tasks: Sequence[bytes], settled: int) -> list[Call]:
        """The calls that ended up to the time `settled`; what is later may still get company from before it."""
        self._learn_tasks(tasks)
        due = sorted((record for record in self._exits if record.time <= settled), key=lambda record: record.time)
        self._exits = [record for record in self._exits if record.time > settled]
        if due:
            raws.sort(key=_time_of)  # those of one ring alone are only nearly in order
        end = bisect.bisect_right(raws, settled, key=_time_of) if raws and _time_of(raws[-1]) > settled else len(raws)
        ended: list[Call] = []
        at = 0
        for record in due:
            before = bisect.bisect_right(raws, record.time, at, end, key=_time_of)
            ended.extend(self._calls.feed(raws[at:before]))
            at = before
            if isinstance(record, Exec):
                ended.extend(self._calls.process_replaced(record.pid, record.time))
                continue
            ended.extend(self._calls.thread_exited(record.tid))
            if record.pid == record.tid:
                self._calls.process_exited(record.pid)
        ended.extend(self._calls.feed(raws[at:end]))
        self._unsettled = raws[end:]
        return ended

    def _sweep(self) -> None:
        """Threads whose end was not told (events of the kernel get lost, or there are none), and libraries that nobody uses."""
        now = time.monotonic_ns()
        for pid, tid in self._calls.open_threads():
            if not os.path.exists(f"/proc/{pid}/task/{tid}"):
                self._exits.append(Exited(now, pid, tid))
        self._sweeps += 1
        if self._sweeps % SWEEPS_UNUSED == 0:
            for target in self._targets.unused():
                if links := self._links.pop(target.fd, None):
                    links.close()
                target.close()

    def _kept(self, calls: list[Call]) -> list[Event]:
        keeps = self._options.filters.keeps
        return [call for call in calls if keeps(call)]

    def _learn_tasks(self, raws: Sequence[bytes]) -> None:
        for raw in raws:
            _, _, _, _, time_ns, task, _, _, _, tgid = records.HEAD.unpack_from(raw)
            start, cgroup, ppid, uid, gid, loginuid, _, size, comm = records.TASK.unpack_from(raw, records.HEAD.size)
            name = comm.partition(b"\0")[0].decode(errors="backslashreplace")
            captured = Captured(
                tgid, ppid, uid, gid, None if loginuid == 0xFFFFFFFF else loginuid, cgroup, start,
                raw[records.TASK_TEXT : records.TASK_TEXT + size] or None, name, None,
            )  # fmt: skip
            self._tasks[task] = Task(self._processes.lookup(tgid, start, captured, time_ns), name)
        while len(self._tasks) > TASKS:
            self._tasks.popitem(last=False)

    def _find_task(self, task: int, pid: int, tid: int) -> Task:
        found = self._tasks.get(task)
        if found is not None:
            return found
        # its record was lost
        try:
            comm = Path(f"/proc/{pid}/task/{tid}/comm").read_text(errors="backslashreplace").rstrip("\n")
        except OSError:
            comm = "?"
        return Task(self._processes.lookup(pid), comm)

    def _lost(self, *, final: bool = False) -> list[Event]:
        counters = struct.unpack_from(f"<{2 * len(records.COUNTERS)}Q", self._program.counters)
        events: list[Event] = []
        for ring, ring_name in enumerate(("read", "write")):
            values = dict(zip(records.COUNTERS, counters[ring * len(records.COUNTERS) :], strict=False))
            for name, reason in LOST_REASONS.items():
                new = values[name] - self._reported[ring, name]
                if new:
                    self._reported[ring, name] = values[name]
                    events.append(Lost(time.time_ns(), new, ring_name, reason))
            if final:
                # entries that were lost and whose calls never returned
                rest = values["entry"] - values["both"] - self._calls.shown_without_entry[ring]
                if rest > 0:
                    events.append(Lost(time.time_ns(), rest, ring_name, "buffer full"))
        return events


def _time_of(raw: bytes) -> int:
    return int(_TIME.unpack_from(raw, _TIME_AT)[0])
