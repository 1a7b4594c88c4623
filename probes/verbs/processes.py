# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lists the processes that have libvirt loaded: the mappings of all processes come in, rows for
a table or JSON lines come out.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from log.events import Call, Event, Lost
from log.quote import escape, quote, well_formed
from log.render.units import counted, plural
from probes.api.load import load_api
from probes.host.daemons.admin import Connected, clients
from probes.host.daemons.programs import Daemons
from probes.host.libraries.targets import Targets
from probes.host.looking import maps, slow
from probes.host.looking.pace import Pace
from probes.host.processes.callers import Processes
from probes.tracing.covering import Guard

_DELETED = " (deleted)"
MOST_READING = 5.0  # s, for files that others may have made
MOST_WAITING = 1.0  # s, for one that another machine or process answers for
SHORT_ID = 12  # characters of a container's id in the table, as its tools show it
_HEADINGS = ("PID", "USER", "COMM", "LIBVIRT", "ENFORCED", "UNIT", "CONTAINER", "EXE", "FILES")


class Listed(NamedTuple):
    """A process that has libvirt loaded."""

    pid: int
    uid: int
    user: str | None
    comm: str
    exe: str | None
    # of libvirt, as mapped; one that was replaced or removed ends in " (deleted)"
    files: tuple[str, ...]
    libvirt: tuple[str, ...]  # versions; more than one where files of several are loaded
    unit: str | None
    container: str | None
    enforced: bool  # the enforcer's library is loaded too
    policies: tuple[Mapping[str, object], ...] = ()  # in force there: origin, mode, age_s, rules
    # public functions of its libvirt that the enforcer has no stub for
    uncovered: tuple[str, ...] = ()
    clients: tuple[Connected, ...] | None = None  # of a daemon; None: it is none, or does not say
    meant: str | None = None  # a policy that it was started with, but is not in force there


# calls by daemon and client: the pid of its process, or its address
Counts = Mapping[tuple[int, int | str | None], int]
MOST_COUNTED = 65_536  # of these pairs


class CountedCalls:
    """The calls that daemons make for others: counted as they come, since nothing is known of how
    many there will be.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[int, int | str | None]] = Counter()
        self._lost = self._left_out = 0

    def add(self, events: Iterable[Event]) -> None:
        """Count those among the events."""
        for event in events:
            if isinstance(event, Lost):
                self._lost += event.count
            elif isinstance(event, Call) and event.client is not None:
                key = event.caller.pid, event.client.pid or event.client.address
                if key in self.counts or len(self.counts) < MOST_COUNTED:
                    self.counts[key] += 1
                else:
                    self._left_out += 1

    def notes(self) -> list[str]:
        """What the numbers lack."""
        notes = []
        if self._lost:
            notes.append(f"{counted(self._lost, 'call')} lost: some numbers are too small")
        if self._left_out:
            notes.append(
                f"{counted(self._left_out, 'call')} of clients beyond {MOST_COUNTED} not counted"
            )
        return notes


def list_processes(
    guard: Guard, proc: Path = Path("/proc"), counts: Counts | None = None
) -> list[Listed]:
    """The rows, by pid; `counts`: if calls were counted."""
    targets, processes, daemons = Targets(proc=proc), Processes(proc), Daemons(proc)
    pace = Pace(0, MOST_READING)
    known = load_api(()).by_name
    rows = []
    for pid, group in itertools.groupby(maps.scan(proc), key=lambda mapping: mapping.pid):
        mappings = list(group)
        libraries = [
            mapping
            for mapping in mappings
            if not maps.is_enforcer(mapping.path) and not maps.is_driver(mapping.path)
        ]
        if not libraries:
            continue
        found = []
        for mapping in libraries:
            if targets.knows(mapping) or pace.ready():
                with pace:
                    if slow.answers(mapping, MOST_WAITING, proc):
                        found.append(targets.of(mapping))
        enforced = any(maps.is_enforcer(mapping.path) for mapping in mappings)
        in_force = tuple(guard.policies(pid, proc)) if enforced else ()
        caller = processes.lookup(pid)
        row = Listed(
            pid=pid,
            uid=caller.uid,
            user=caller.user,
            comm=_comm(proc, pid),
            exe=caller.exe,
            files=tuple(dict.fromkeys(mapping.path for mapping in libraries)),
            libvirt=tuple(
                dict.fromkeys(target.version for target in found if target and target.version)
            ),
            unit=caller.unit,
            container=caller.container,
            enforced=enforced,
            policies=in_force,
            uncovered=tuple(
                sorted({name for t in found if t for name, _ in t.functions} - known.keys())
            )
            if enforced
            else (),
            clients=_clients(pid, proc, counts) if daemons.is_daemon(pid) else None,
            meant=None if in_force else guard.meant(pid, proc),
        )
        rows.append(row)
    targets.close()
    return rows


def _rules(policy: Mapping[str, object]) -> Iterator[str]:
    """What the rules of a policy have decided in a process."""
    rules = policy.get("rules")
    for rule in rules if isinstance(rules, tuple) else ():
        calls = plural(rule["calls"], "call")
        yield f"  rule {quote(rule['rule'])}: {rule['action']}, {rule['calls']} {calls}"


def _age(seconds: object) -> str:
    assert isinstance(seconds, int)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _enforced(row: Listed) -> str:
    if not row.policies:
        return (("no policy") if row.enforced else "no") + (
            (f" (meant: {row.meant})") if row.meant else ""
        )
    return ", ".join(
        (
            f"{policy['origin']} "
            f"{'audit ' if policy['mode'] == 'audit' else ''}{_age(policy['age_s'])}"
        )
        for policy in row.policies
    )


def render_table(rows: Sequence[Listed]) -> str:
    """Aligned columns with a heading; "-" where there is nothing; below a daemon its clients."""
    table = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        ("  ").join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in table
    ]
    below = [
        [],
        *(
            [
                *(f"  client of {client.line()}" for client in row.clients or ()),
                *(line for policy in row.policies for line in _rules(policy)),
            ]
            for row in rows
        ),
    ]
    return "".join(
        f"{line}\n" for line, more in zip(lines, below, strict=True) for line in (line, *more)
    )


def render_json(rows: Sequence[Listed]) -> str:
    """One object a line, the names of Row."""
    return "".join(
        json.dumps(
            {name: _plain(value) for name, value in row._asdict().items()}, ensure_ascii=False
        )
        + "\n"
        for row in rows
    )


def _clients(pid: int, proc: Path, counts: Counts | None) -> tuple[Connected, ...] | None:
    found = clients(pid, proc)
    if found is None or counts is None:
        return None if found is None else tuple(found)
    return tuple(
        client._replace(calls=counts.get((pid, client.pid or client.address), 0))
        for client in found
    )


def _plain(value: object) -> object:
    if isinstance(value, Connected):
        return {name: _plain(item) for name, item in value._asdict().items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return well_formed(value) if isinstance(value, str) else value


def _cells(row: Listed) -> tuple[str, ...]:
    container = (
        row.container[:SHORT_ID] if row.container and len(row.container) == 64 else row.container
    )
    user = str(row.uid) if row.user is None else row.user
    texts = (
        str(row.pid),
        user,
        row.comm,
        ",".join(row.libvirt),
        _enforced(row),
        row.unit,
        container,
        row.exe,
        _files(row.files),
    )
    return tuple(escape(text) if text else "-" for text in texts)


def _files(files: Iterable[str]) -> str:
    """Several of a folder as the folder and how many they are."""
    folders: dict[tuple[str, str], list[str]] = {}
    for path in files:
        where = path.removesuffix(_DELETED)
        folders.setdefault((where.rpartition("/")[0], path[len(where) :]), []).append(path)
    return ",".join(
        paths[0]
        if len(paths) == 1
        else (f"{folder} ({len(paths)} files{', deleted' if gone else ''})")
        for (folder, gone), paths in folders.items()
    )


def _comm(proc: Path, pid: int) -> str:
    try:
        return (
            (proc / str(pid) / "comm")
            .read_bytes()
            .decode(errors="surrogateescape")
            .removesuffix("\n")
        )
    except OSError:
        return ""
