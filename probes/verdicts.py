# SPDX-License-Identifier: LGPL-2.1-or-later
"""The enforcer's verdicts as the tracer sees them: a record of its verdict function comes in, what it said goes out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from log.errors import TraceError
from log.events import CallError, VerdictInfo
from probes import maps, records
from probes.copying import Builder, Constants, Limits, Plan, read_text
from probes.elf import read_elf

VERDICT_FUNCTION = "libvirt_trace_verdict"
TEXT_MAX = 512
ACTIONS = {records.VERDICT_ALLOW: "allow", records.VERDICT_AUDIT: "audit", records.VERDICT_DENY: "deny"}
NOT_ENFORCED = VerdictInfo("not enforced", "")
ACCESS_DENIED = 88  # VIR_ERR_ACCESS_DENIED

_NO_CONSTANTS = Constants()


class Said(NamedTuple):
    """A verdict."""

    info: VerdictInfo
    number: int  # of the function in the bundled table
    sp: int  # of the call
    result: int  # what a denied call returns, 64 bits


def verdict_plan(limits: Limits) -> Plan:
    """Copies the enforcer's struct verdict, whose address is the function's argument, and its texts."""
    build = Builder(records.ENTRY_FIXED, limits)
    at = build.block(records.ENTRY_ARGS, 0, records.VERDICT.size)
    assert at == records.VERDICT_AT
    texts = [(name, build.text(at + offset, keep=TEXT_MAX)) for name, offset in (("rule", 72), ("message", 80), ("note", 88))]
    return build.plan(records.PLAN_NO_RETURN, [(name, read_text(index, False)) for name, index in texts])


def read_verdict(plan: Plan, raw: bytes) -> Said:
    """What the record says."""
    *_, sp, number, action, _, _, _, _, result = records.VERDICT.unpack_from(raw, records.VERDICT_AT)
    texts = {
        name: str(getattr(value, "text", value)) if value is not None else None
        for name, value in plan.decode(raw, {}, _NO_CONSTANTS).items()
    }
    info = VerdictInfo(ACTIONS.get(action, "allow"), texts["rule"] or "", texts["message"], texts["note"])
    return Said(info, number, sp, result)


def error_of(info: VerdictInfo) -> CallError:
    """The error that the caller of a denied call got."""
    text = info.message or f'by rule "{info.rule}"'
    return CallError(ACCESS_DENIED, "VIR_ERR_ACCESS_DENIED", "VIR_FROM_ACCESS", f"access denied: {text}")


class Enforcer(NamedTuple):
    """A library file of the enforcer, held open, and where its verdict function is in it."""

    fd: int
    offset: int

    @property
    def path_for_kernel(self) -> str:
        """A path to this very inode."""
        return f"/proc/self/fd/{self.fd}"


class Enforcers:
    """Every file of the enforcer that was seen; each is told once."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._known: set[tuple[int, int]] = set()
        self._fds: list[int] = []

    def scan(self, paths: Iterable[Path], mappings: Iterable[maps.Mapping]) -> list[Enforcer]:
        """New ones, of those paths and of those that processes have mapped."""
        found = [enforcer for path in paths if (enforcer := self._open(str(path)))]
        return found + [enforcer for mapping in mappings if (enforcer := self.of(mapping))]

    def of(self, mapping: maps.Mapping) -> Enforcer | None:
        """The one that is mapped there, if it is new."""
        place = f"{self._proc}/{mapping.pid}/map_files/{mapping.start:x}-{mapping.end:x}"
        return self._open(place) or self._open(f"{self._proc}/{mapping.pid}/root{mapping.path}")

    def _open(self, path: str) -> Enforcer | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        status = os.fstat(fd)
        key = (status.st_dev, status.st_ino)
        if key not in self._known:
            self._known.add(key)
            try:
                offset = next((f.offset for f in read_elf(fd, path).functions if f.name == VERDICT_FUNCTION), None)
            except TraceError:
                offset = None
            if offset is not None:
                self._fds.append(fd)
                return Enforcer(fd, offset)
        os.close(fd)
        return None

    def close(self) -> None:
        """Lets go of the files."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
