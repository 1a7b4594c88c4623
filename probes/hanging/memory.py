# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a process's memory: addresses come in; words, strings, libvirt's objects, identities and
jobs go out. Nothing is stopped, and what can't be read is not known.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from log.redact.uri import redact_uri
from log.values import Handle, Value
from probes.internals.gobject import PARAMETER, PARAMETER_TYPE, PARAMETER_VALUE, STRING_TYPE, URI
from probes.internals.private import MOST_ATTRIBUTES
from probes.internals.waiting import JOBS
from probes.plans.handles import join_uri
from probes.plans.meaning import values
from probes.plans.meaning.objects import FIELDS, PARENT, SHOWN_AS

MOST_TEXT = 256  # bytes of a string; of a longer one nothing is told
_JOBS = max(place.since for place in JOBS.values()) + 8  # bytes
_IDENTITY_COUNT, _IDENTITY_PARAMETERS = 24, 32  # private.READS believes it

Offsets = Mapping[str, Mapping[str, int]]


class Held(NamedTuple):
    """Who has a domain's job."""

    tid: int  # of the daemon
    since: int  # ms since the epoch
    name: str | None  # of what the thread does


class ProcessMemory:
    """Of one process; `fd`: its file in /proc."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, at: int, length: int) -> bytes | None:
        """All of these bytes."""
        try:
            data = os.pread(self._fd, length, at)
        except (OSError, OverflowError, ValueError):
            return None
        return data if len(data) == length else None

    def word(self, at: int) -> int:
        """Eight bytes as a number; 0 where they can't be read."""
        return int.from_bytes(self.read(at, 8) or b"", "little")

    def number(self, at: int) -> int:
        """Four bytes, likewise."""
        return int.from_bytes(self.read(at, 4) or b"", "little")

    def text(self, at: int) -> str | None:
        """A string; None: there is none, or it is too long."""
        if not at:
            return None
        for length in (MOST_TEXT, 4096 - at % 4096):  # to the end of the page: none may follow
            data = self.read(at, min(length, MOST_TEXT))
            if data is not None:
                text, end, _ = data.partition(b"\0")
                return text.decode(errors="backslashreplace") if end else None
        return None


@contextmanager
def memory_of(pid: int, proc: Path = Path("/proc")) -> Iterator[ProcessMemory]:
    """Of the process of that number; OSError where it may not be looked into."""
    fd = os.open(proc / str(pid) / "mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield ProcessMemory(fd)
    finally:
        os.close(fd)


def handle(
    memory: ProcessMemory, kind: str, at: int, layout: Offsets, *, redact: bool
) -> Handle | None:
    """The object there, as a call's argument is told."""
    if kind not in layout or not at:
        return None
    if kind == "connect":
        return _connection(memory, at, layout, redact=redact)
    place, fields = layout[kind], dict[str, Value]()
    for field, how, _ in FIELDS[kind]:
        found: Value
        if how == "uuid":
            raw = memory.read(at + place[field], 16)
            found = None if raw is None else values.uuid_value(raw)
        else:
            found = memory.text(memory.word(at + place[field]))
        fields[SHOWN_AS.get(field, field)] = found
    owner = memory.word(at + connection_place(kind, layout))
    if kind in PARENT:
        above = "domain" if PARENT[kind] == "domain" else "network"
        fields[above] = memory.text(memory.word(owner + layout[above]["name"]))
        owner = memory.word(owner + layout[above]["conn"])
    connection = _connection(memory, owner, layout, redact=redact)
    fields["driver"] = connection.fields["driver"] if connection else None
    return Handle(kind, fields, at, owner or None)


def connection_place(kind: str, layout: Offsets) -> int:
    """Where an object's connection is, or the object that it is of."""
    return layout[kind][PARENT.get(kind, "conn")]


def _connection(memory: ProcessMemory, at: int, layout: Offsets, *, redact: bool) -> Handle | None:
    place = layout["connect"]
    uri = memory.word(at + place["uri"])
    if not uri:
        return None
    parts: dict[str, Value] = {
        name: memory.text(memory.word(uri + where)) for name, where in URI.items() if name != "port"
    }
    (port,) = struct.unpack("<i", memory.read(uri + URI["port"], 4) or bytes(4))
    whole = join_uri(parts, port) if parts["scheme"] else None
    driver = memory.text(memory.word(memory.word(at + place["driver"])))
    shown = redact_uri(whole) if whole and redact else whole
    fields: dict[str, Value] = {"uri": shown, "driver": driver}
    if memory.number(at + place["flags"]) & 1:
        fields["readonly"] = True
    return Handle("connect", fields, at)


def connection_of(memory: ProcessMemory, found: Handle, layout: Offsets, *, redact: bool) -> Value:
    """The URI of an object's connection."""
    if found.type != "connect":
        owned = _connection(memory, found.owner or 0, layout, redact=redact)
        return owned.fields["uri"] if owned else None
    return found.fields["uri"]


def identity(memory: ProcessMemory, at: int) -> Mapping[str, Value] | None:
    """A client's identity, as a record of it has its fields."""
    count = memory.number(at + _IDENTITY_COUNT)
    first = memory.word(at + _IDENTITY_PARAMETERS)
    if not first or not 0 < count <= MOST_ATTRIBUTES + 1:
        return None
    fields: dict[str, Value] = {"block": count}
    for i in range(MOST_ATTRIBUTES):
        raw = memory.read(first + i * PARAMETER, PARAMETER) if i < count else bytes(PARAMETER)
        if raw is None:
            return None
        kind, value = raw[PARAMETER_TYPE : PARAMETER_TYPE + 4], raw[PARAMETER_VALUE:]
        is_text = int.from_bytes(kind, "little") == STRING_TYPE
        fields[f"name{i}"] = int.from_bytes(raw[:16], "little")
        fields[f"value{i}"] = int.from_bytes(raw[PARAMETER_TYPE:], "little")
        fields[f"text{i}"] = memory.text(int.from_bytes(value, "little")) if is_text else None
    return fields


def holder(memory: ProcessMemory, jobs: int, kind: str) -> Held | None:
    """Who has a job of the domain's whose jobs are there."""
    place = JOBS[kind]
    raw = memory.read(jobs, _JOBS) if jobs else None
    if raw is None or raw != memory.read(jobs, _JOBS):  # it is just being changed
        return None
    tid, name, since = (int.from_bytes(raw[at : at + 8], "little") for at in place[1:])
    if not tid or not any(raw[place.active : place.active + 4]):
        return None
    return Held(tid, since, memory.text(name))
