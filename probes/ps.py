# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lists the processes that have libvirt loaded: the mappings of all processes come in, rows for a table or JSON lines come out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from log.quote import escape, well_formed
from probes import maps
from probes.admin import Connected, clients
from probes.processes import Processes
from probes.targets import Targets

SHORT_ID = 12  # characters of a container's id in the table, as its tools show it
_HEADINGS = ("PID", "USER", "COMM", "LIBVIRT", "ENFORCED", "UNIT", "CONTAINER", "EXE", "FILES")


class Row(NamedTuple):
    """A process that has libvirt loaded."""

    pid: int
    uid: int
    user: str | None
    comm: str
    exe: str | None
    files: tuple[str, ...]  # of libvirt, as mapped; one that was replaced or removed ends in " (deleted)"
    libvirt: tuple[str, ...]  # versions; more than one where files of several are loaded
    unit: str | None
    container: str | None
    enforced: bool  # the enforcer's library is loaded too
    clients: tuple[Connected, ...] | None = None  # of a daemon; None: it is none, or does not say


def list_processes(proc: Path = Path("/proc")) -> list[Row]:
    """The rows, by pid."""
    targets, processes = Targets(proc=proc), Processes(proc)
    rows = []
    for pid, group in itertools.groupby(maps.scan(proc), key=lambda mapping: mapping.pid):
        mappings = list(group)
        libraries = [mapping for mapping in mappings if not maps.is_enforcer(mapping.path) and not maps.is_driver(mapping.path)]
        if not libraries:
            continue
        found = (targets.of(mapping) for mapping in libraries)
        caller = processes.lookup(pid)
        row = Row(
            pid=pid,
            uid=caller.uid,
            user=caller.user,
            comm=_comm(proc, pid),
            exe=caller.exe,
            files=tuple(dict.fromkeys(mapping.path for mapping in libraries)),
            libvirt=tuple(dict.fromkeys(target.version for target in found if target and target.version)),
            unit=caller.unit,
            container=caller.container,
            enforced=any(maps.is_enforcer(mapping.path) for mapping in mappings),
            clients=_clients(pid, proc) if any(maps.is_driver(mapping.path) for mapping in mappings) else None,
        )
        rows.append(row)
    targets.close()
    return rows


def render_table(rows: Sequence[Row]) -> str:
    """Aligned columns with a heading; "-" where there is nothing; below a daemon its clients."""
    table = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in table]
    below = [[], *([f"  client of {client.line()}" for client in row.clients or ()] for row in rows)]
    return "".join(f"{line}\n" for line, more in zip(lines, below, strict=True) for line in (line, *more))


def render_json(rows: Iterable[Row]) -> str:
    """One object a line, the names of Row."""
    return "".join(json.dumps({name: _plain(value) for name, value in row._asdict().items()}, ensure_ascii=False) + "\n" for row in rows)


def _clients(pid: int, proc: Path) -> tuple[Connected, ...] | None:
    found = clients(pid, proc)
    return None if found is None else tuple(found)


def _plain(value: object) -> object:
    if isinstance(value, Connected):
        return {name: _plain(item) for name, item in value._asdict().items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return well_formed(value) if isinstance(value, str) else value


def _cells(row: Row) -> tuple[str, ...]:
    container = row.container[:SHORT_ID] if row.container and len(row.container) == 64 else row.container
    user = str(row.uid) if row.user is None else row.user
    enforced = "yes" if row.enforced else "no"
    texts = (str(row.pid), user, row.comm, ",".join(row.libvirt), enforced, row.unit, container, row.exe, ",".join(row.files))
    return tuple(escape(text) if text else "-" for text in texts)


def _comm(proc: Path, pid: int) -> str:
    try:
        return (proc / str(pid) / "comm").read_bytes().decode(errors="surrogateescape").removesuffix("\n")
    except OSError:
        return ""
