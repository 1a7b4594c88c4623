# SPDX-License-Identifier: LGPL-2.1-or-later
"""The enforcer's library files: mappings come in; files that may be believed, and where their
verdict function is, go out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from log.errors import TraceError
from log.recent import Recent
from log.trust import ROOT, is_only_of
from probes.host.looking import maps, opening, slow
from probes.internals.elf import read_elf
from probes.kernel.records import VERDICT_FUNCTION

MOST_ENFORCERS, MOST_OTHERS = 64, 1024  # files that are held, and that were looked at and are not
NOT_BELIEVED = (
    "verdicts in it are not believed: only a file that root owns and others can't write is"
)


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
        opening.close(self.fd)


class Enforcers:
    """Every file of the enforcer that was seen; each is told once.

    Whoever can write such a file can have it say anything of its own process. So those are believed
    that only root can write, and the host's own, which is where our own code is.
    """

    def __init__(self, host: Callable[[], Sequence[Path]], proc: Path = Path("/proc")) -> None:
        self._proc, self._host = proc, host
        self._known: dict[Hashable, Enforcer] = {}
        self._others: Recent[Hashable, None] = Recent(MOST_OTHERS)  # files that were looked at
        self._by_mapping: dict[opening.Place, Enforcer] = {}
        self._kept: set[Enforcer] = set()
        self._untold: list[Enforcer] = []
        self._used: set[Enforcer] = set()  # were seen to be mapped since begin()
        self._idle: set[Enforcer] = set()  # were not, the last time
        # files that are not attached to, and why: to be told
        self.refused: list[tuple[str, str]] = []

    def refresh(self) -> None:
        """Looks for the host's own."""
        for path in self._host():
            with contextlib.suppress(OSError):
                if enforcer := self._learn(opening.open_file(str(path), follow=True), str(path)):
                    self._kept.add(enforcer)

    def knows(self, mapping: maps.Mapping) -> bool:
        """Whether what is mapped there needs no look."""
        enforcer = self._by_mapping.get((mapping.major, mapping.minor, mapping.inode))
        if enforcer is not None:
            self._used.add(enforcer)
        return enforcer is not None

    def of(self, mapping: maps.Mapping) -> Enforcer | None:
        """The one that is mapped there; None when it is none."""
        place = (mapping.major, mapping.minor, mapping.inode)
        if self.knows(mapping):
            return self._by_mapping[place]
        if slow.is_served(mapping.pid, mapping.major, mapping.minor, self._proc):
            self._refuse(place, mapping.path, NOT_BELIEVED)
            return None
        try:
            fd = opening.open_mapped(mapping, self._proc)
        except OSError as error:
            self._refuse(place, mapping.path, f"it can't be opened: {error.strerror}")
            return None
        status = os.fstat(fd)
        found = self._learn(fd, mapping.path)
        if found is not None:
            self._used.add(found)
            if (os.major(status.st_dev), os.minor(status.st_dev)) == place[:2]:
                self._by_mapping[place] = found
        return found

    def take(self) -> list[Enforcer]:
        """Those that were not told before."""
        new, self._untold = self._untold, []
        return new

    def begin(self) -> None:
        """All processes will be looked at from now on: of() is asked for each of these files
        that they have mapped.
        """
        self._used = set()

    def unused(self) -> list[Enforcer]:
        """Those that no process had mapped when all were looked at twice, now forgotten: detach
        from them and close them.
        """
        idle = set(self._known.values()) - self._kept - self._used - set(self._untold)
        gone, self._idle = idle & self._idle, idle - self._idle
        self._known = {
            key: enforcer for key, enforcer in self._known.items() if enforcer not in gone
        }
        self._by_mapping = {
            key: enforcer for key, enforcer in self._by_mapping.items() if enforcer not in gone
        }
        return sorted(gone, key=lambda enforcer: enforcer.path)

    def close(self) -> None:
        """Lets go of the files."""
        for enforcer in set(self._known.values()):
            enforcer.close()
        self._known.clear()
        self._by_mapping.clear()

    def _learn(self, fd: int, path: str) -> Enforcer | None:
        """The enforcer in the open file; takes over the descriptor."""
        status = os.fstat(fd)
        sought, remembered = opening.identities(fd, status)
        known = next((self._known[key] for key in sought if key in self._known), None)
        if known is None and (code := self._code(fd, status, path)) is not None:
            enforcer = Enforcer(path, fd, *code)
            self._known.update(dict.fromkeys(remembered, enforcer))
            self._untold.append(enforcer)
            return enforcer
        opening.close(fd)
        return known

    def _code(
        self, fd: int, status: os.stat_result, path: str
    ) -> tuple[int, tuple[int, int]] | None:
        """Where the verdict function is, and the code; None: the file has none, or is not to be
        believed.
        """
        key = (status.st_dev, *opening.fingerprint(status))
        if key in self._others:
            return None
        if not is_only_of(ROOT, status) and not self._is_host(status):
            self._refuse(
                key,
                path,
                NOT_BELIEVED,
            )
            return None
        if len(set(self._known.values())) >= MOST_ENFORCERS:
            self._refuse(
                ("most", *key),
                path,
                f"{MOST_ENFORCERS} files of the enforcer are in use, which is the most",
            )
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
