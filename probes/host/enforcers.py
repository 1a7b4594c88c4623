# SPDX-License-Identifier: LGPL-2.1-or-later
"""The enforcer's library files: mappings come in; files that may be believed, and where their verdict function is, go out."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from log.errors import TraceError
from probes.host import maps, opening
from probes.host.recent import Recent
from probes.internals.elf import read_elf
from probes.kernel.records import VERDICT_FUNCTION

MOST_ENFORCERS, MOST_OTHERS = 64, 1024  # files that are held, and that were looked at and are not


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
