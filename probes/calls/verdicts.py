# SPDX-License-Identifier: LGPL-2.1-or-later
"""The enforcer's verdicts as the tracer sees them: a record of its verdict function comes in, what it said goes out."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from log.errors import TraceError
from log.events import CallError, VerdictInfo
from probes.host import maps, opening
from probes.host.recent import Recent
from probes.internals.elf import read_elf
from probes.kernel import records
from probes.plans.plan import Builder, Constants, Limits, Plan, read_text

VERDICT_FUNCTION = "libvirt_trace_verdict"
TEXT_MAX = 512
MOST_ENFORCERS, MOST_OTHERS = 64, 1024  # files that are held, and that were looked at and are not
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


@dataclass(frozen=True, eq=False)
class Enforcer:
    """A library file of the enforcer, held open, and where its verdict function is in it."""

    path: str
    fd: int
    offset: int
    text: tuple[int, int]  # where its code is: offset, bytes

    @property
    def path_for_kernel(self) -> str:
        """A path to this very inode."""
        return f"/proc/self/fd/{self.fd}"

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self.fd)


class Enforcers:
    """Every file of the enforcer that was seen; each is told once.

    Whoever can write such a file can have it say anything of its own process. So those are believed that only root can write, and the
    host's own, which is where our own code is.
    """

    def __init__(self, host: Callable[[], Sequence[Path]], proc: Path = Path("/proc")) -> None:
        self._proc, self._host = proc, host
        self._known: dict[Hashable, Enforcer] = {}
        self._others: Recent[Hashable, None] = Recent(MOST_OTHERS)  # files that were looked at
        self._by_mapping: dict[opening.Place, Enforcer] = {}
        self._kept: set[Enforcer] = set()
        self.refused: list[tuple[str, str]] = []  # files that are not attached to, and why: to be told

    def scan(self, mappings: Iterable[maps.Mapping]) -> list[Enforcer]:
        """New ones, of the host and of those that processes have mapped."""
        before = set(self._known.values())
        for path in self._host():
            with contextlib.suppress(OSError):
                if enforcer := self._learn(opening.open_file(str(path), follow=True), str(path)):
                    self._kept.add(enforcer)
        for mapping in mappings:
            self._find(mapping)
        return sorted(set(self._known.values()) - before, key=lambda enforcer: enforcer.path)

    def of(self, mapping: maps.Mapping) -> Enforcer | None:
        """The one that is mapped there, if it is new."""
        before = set(self._known.values())
        found = self._find(mapping)
        return None if found in before else found

    def unused(self) -> list[Enforcer]:
        """Those that no process maps any more, now forgotten: detach from them and close them."""
        used = {self._find(mapping) for mapping in maps.scan(self._proc) if maps.is_enforcer(mapping.path)} | self._kept
        gone = {enforcer for enforcer in self._known.values() if enforcer not in used}
        self._known = {key: enforcer for key, enforcer in self._known.items() if enforcer not in gone}
        self._by_mapping = {key: enforcer for key, enforcer in self._by_mapping.items() if enforcer not in gone}
        return sorted(gone, key=lambda enforcer: enforcer.path)

    def close(self) -> None:
        """Lets go of the files."""
        for enforcer in set(self._known.values()):
            enforcer.close()
        self._known.clear()
        self._by_mapping.clear()

    def _find(self, mapping: maps.Mapping) -> Enforcer | None:
        place = (mapping.major, mapping.minor, mapping.inode)
        if place in self._by_mapping:
            return self._by_mapping[place]
        try:
            fd = opening.open_mapped(mapping, self._proc)
        except OSError as error:
            self._refuse(place, mapping.path, f"it can't be opened: {error.strerror}")
            return None
        status = os.fstat(fd)
        found = self._learn(fd, mapping.path)
        if found and (os.major(status.st_dev), os.minor(status.st_dev)) == place[:2]:
            self._by_mapping[place] = found
        return found

    def _learn(self, fd: int, path: str) -> Enforcer | None:
        """The enforcer in the open file; takes over the descriptor."""
        status = os.fstat(fd)
        sought, remembered = opening.identities(fd, status)
        known = next((self._known[key] for key in sought if key in self._known), None)
        if known is None and (code := self._code(fd, status, path)) is not None:
            enforcer = Enforcer(path, fd, *code)
            self._known.update(dict.fromkeys(remembered, enforcer))
            return enforcer
        os.close(fd)
        return known

    def _code(self, fd: int, status: os.stat_result, path: str) -> tuple[int, tuple[int, int]] | None:
        """Where the verdict function is, and the code; None: the file has none, or is not to be believed."""
        key = (status.st_dev, *opening.fingerprint(status))
        if key in self._others:
            return None
        if not _is_roots(status) and not self._is_host(status):
            self._refuse(key, path, "verdicts in it are not believed: only a file that root owns and others can't write is")
            return None
        if len(set(self._known.values())) >= MOST_ENFORCERS:
            self._refuse(key, path, f"{MOST_ENFORCERS} files of the enforcer are in use, which is the most")
            return None
        try:
            elf = read_elf(fd, path)
            return next((f.offset, elf.text) for f in elf.functions if f.name == VERDICT_FUNCTION)
        except (TraceError, StopIteration):
            self._refuse(key, path, f"it has no function {VERDICT_FUNCTION}")
            return None

    def _is_host(self, status: os.stat_result) -> bool:
        for path in self._host():
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(path), status):
                    return True
        return False

    def _refuse(self, key: Hashable, path: str, reason: str) -> None:
        if key not in self._others:
            self._others.put(key, None)
            self.refused.append((path, reason))


def _is_roots(status: os.stat_result) -> bool:
    return status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
