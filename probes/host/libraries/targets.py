# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds the files to attach to: the host's libvirt, files the user names and whatever processes
have mapped come in; targets come out.

A path proves nothing: it may be gone, replaced, or another one in another mount namespace. What a
process runs is opened through its mapping, and a target is an inode.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import subprocess
from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from pathlib import Path

from log.errors import TraceError
from log.recent import Recent
from probes.host.libraries.library import SONAMES, NotLibvirt, Target, read_library
from probes.host.looking import maps, opening
from probes.host.looking.owners import account_of

LOADER_CACHE = "/etc/ld.so.cache"
STANDARD_FOLDERS = (
    "/usr/lib/*-linux-gnu",
    "/lib/*-linux-gnu",
    "/usr/lib64",
    "/lib64",
    "/usr/lib",
    "/lib",
    "/usr/local/lib*",
)
MOST_REFUSED = 4096  # files that were looked at and are no targets
# files that are held at a time: of root's, of one other user's, of all others'
MOST_OF_ROOT, MOST_OF_ONE, MOST_OF_OTHERS = 1024, 64, 256
ENDED = (
    "its process ended before the file could be opened; the calls that it made, if any, were missed"
)

_CACHED = re.compile(rf"^\s+(?:{'|'.join(map(re.escape, SONAMES))}) \(.*\) => (/.*)$", re.M)


class Targets:
    """Every target that is known. `finds_returns`: it is to be known where functions return."""

    def __init__(
        self,
        libraries: Sequence[Path] = (),
        proc: Path = Path("/proc"),
        *,
        finds_returns: bool = False,
    ) -> None:
        self._proc, self._finds_returns = proc, finds_returns
        self._given = list(libraries)
        self._known: dict[Hashable, Target] = {}
        self._untold: list[Target] = []  # known, but take() has not returned them
        self._asked: set[Target] = set()  # the user's
        # the host's and the user's: attached to whether they are mapped or not
        self._kept: set[Target] = set()
        # files that are no targets, and why
        self._refused: Recent[Hashable, str] = Recent(MOST_REFUSED)
        self._by_mapping: dict[opening.Place, Target] = {}
        # places of files that could be looked at
        self._opened: Recent[Hashable, None] = Recent(MOST_REFUSED)
        self._said: Recent[Hashable, None] = Recent(MOST_REFUSED)
        self._used: set[Target] = set()  # were seen to be mapped since begin()
        self._idle: set[Target] = set()  # were not, the last time
        self._cached = 0  # when the loader's cache was written that the host's libraries are from
        # files that are not attached to, and why: to be told
        self.refused: list[tuple[str, str]] = []

    def refresh(self) -> None:
        """Looks for files of the user, and of the host if these have changed.

        Raises TraceError for a file of the user's that is no target; others are passed over.
        """
        while self._given:
            self._keep(str(self._given.pop(0)), is_given=True)
        if (cached := _time_of(LOADER_CACHE)) != self._cached:
            self._cached = cached
            for path in host_libraries():
                self._keep(path, is_given=False)

    def scan(self) -> list[Target]:
        """Targets that were not told before, of the user, the host and every process, however
        long that takes. Raises as refresh().
        """
        self.refresh()
        self.begin()
        for mapping in maps.scan(self._proc):
            self.of(mapping)
        return self.take()

    def take(self) -> list[Target]:
        """Targets that were not told before."""
        new, self._untold = self._untold, []
        return new

    def host(self) -> list[Target]:
        """The host's own libraries, whether any process uses them or not."""
        for path in host_libraries():
            self._keep(path, is_given=False)
        return sorted(self._kept, key=lambda target: target.path)

    def is_given(self, target: Target) -> bool:
        """Whether the user has named it."""
        return target in self._asked

    def keep_no_more(self, target: Target) -> None:
        """It goes with the last process that has it mapped."""
        self._kept.discard(target)

    def knows(self, mapping: maps.Mapping) -> bool:
        """Whether what is mapped there needs no look."""
        if not maps.is_library(mapping.path):
            return True
        target = self._by_mapping.get((mapping.major, mapping.minor, mapping.inode))
        if target is not None:
            self._used.add(target)
        return target is not None

    def of(self, mapping: maps.Mapping) -> Target | None:
        """The target that is mapped there; None when it is none or can't be opened."""
        place = (mapping.major, mapping.minor, mapping.inode)
        if self.knows(mapping):
            return self._by_mapping.get(place)
        fd = self._open(mapping)
        if fd is None:
            return None
        try:
            device = os.fstat(fd).st_dev
        except OSError:  # its file system has gone
            opening.close(fd)
            return None
        try:
            target = self._learn(fd, mapping.path)
        except TraceError:
            return None
        # where they differ (btrfs), the pair in the mapping stands for several files
        if (os.major(device), os.minor(device)) == place[:2]:
            self._by_mapping[place] = target
        self._used.add(target)
        return target

    def begin(self) -> None:
        """All processes will be looked at from now on: of() is asked for each library that they
        have mapped.
        """
        self._used = set()

    def unused(self, pending: Collection[Target] = ()) -> list[Target]:
        """Targets that no process had mapped when all were looked at twice, now forgotten: detach
        from them and close them.

        Twice, as a process may hand a library on to its child while others are looked at. Not those
        that are `pending`. An open file keeps the file system of a container that has ended, and
        the space of a deleted library.
        """
        idle = (
            {target for target in self._known.values() if target not in self._kept}
            - self._used
            - set(pending)
            - set(self._untold)
        )
        gone, self._idle = idle & self._idle, idle - self._idle
        self._known = {key: target for key, target in self._known.items() if target not in gone}
        self._by_mapping = {
            key: target for key, target in self._by_mapping.items() if target not in gone
        }
        return sorted(gone, key=lambda target: target.path)

    def close(self) -> None:
        """Closes every target."""
        for target in set(self._known.values()):
            target.close()
        self._known.clear()
        self._by_mapping.clear()
        self._kept.clear()

    def _keep(self, path: str, *, is_given: bool) -> None:
        """The target of that path stays for good."""
        try:
            target = self._learn(opening.open_file(path, follow=True), path, is_given=is_given)
            self._kept.add(target)
            if is_given:
                self._asked.add(target)
        except OSError as error:
            if is_given:
                raise TraceError(f"can't open {path}: {error.strerror}") from error
            self._refuse(path, path, f"it can't be opened: {error.strerror}")
        except TraceError:
            if is_given:
                raise

    def _open(self, mapping: maps.Mapping) -> int | None:
        place = (mapping.major, mapping.minor, mapping.inode)
        try:
            fd = opening.open_mapped(mapping, self._proc)
        except OSError as error:
            if place not in self._opened:  # else it is attached to
                ended = error.errno in (
                    errno.ENOENT,
                    errno.ESRCH,
                    errno.ESTALE,
                    errno.ENOTDIR,
                    errno.ELOOP,
                )
                self._refuse(
                    place,
                    mapping.path,
                    ENDED if ended else (f"it can't be opened: {error.strerror}"),
                )
            return None
        self._opened.put(place, None)
        return fd

    def _read(self, fd: int, status: os.stat_result, path: str, *, is_given: bool) -> Target:
        """Reads the file, if there is room for it. Raises TraceError when it is no target."""
        key = (status.st_dev, *opening.fingerprint(status))
        if key in self._refused:
            raise TraceError(self._refused[key])
        if not is_given and (reason := self._has_no_room(status.st_uid)):
            self._refuse(key, path, reason)
            raise TraceError(reason)
        try:
            return read_library(fd, status, path, finds_returns=self._finds_returns)
        except TraceError as error:
            self._refused.put(key, str(error))
            if not isinstance(error, NotLibvirt):
                self._refuse(key, path, str(error))
            raise

    def _has_no_room(self, owner: int) -> str | None:
        account = account_of(owner)
        held = Counter(account_of(target.owner) for target in set(self._known.values()))
        if account == 0:
            return (
                f"root has {MOST_OF_ROOT} such files in use, which is the most"
                if held[0] >= MOST_OF_ROOT
                else None
            )
        if held[account] >= MOST_OF_ONE:
            return f"user {owner} has {MOST_OF_ONE} such files in use, which is the most"
        if held.total() - held[0] >= MOST_OF_OTHERS:
            return (
                f"users other than root have {MOST_OF_OTHERS} such files in use, which is the most"
            )
        return None

    def _refuse(self, key: Hashable, path: str, reason: str) -> None:
        """Says once of a file why it is not attached to."""
        if key not in self._said:
            self._said.put(key, None)
            self.refused.append((path, reason))

    def _learn(self, fd: int, path: str, *, is_given: bool = False) -> Target:
        """The target of the open file; takes over the descriptor. Raises TraceError when it is
        none.
        """
        try:
            status = os.fstat(fd)
        except OSError as error:
            opening.close(fd)
            raise TraceError(f"{path}: it can't be looked at: {error.strerror}") from None
        sought, remembered = opening.identities(fd, status)
        for key in sought:
            if key in self._known:
                opening.close(fd)
                return self._known[key]
        try:
            target = self._read(fd, status, path, is_given=is_given)
        except TraceError:
            opening.close(fd)
            raise
        if opening.is_remote(fd):
            opening.only_name(fd)
        self._known.update(dict.fromkeys(remembered, target))
        self._untold.append(target)
        return target


def host_libraries() -> list[str]:
    """The paths of the host's own libraries, from the loader's cache, else from the usual
    folders.
    """
    environment = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL": "C"}
    try:
        listing = subprocess.run(
            ["ldconfig", "-p"], env=environment, capture_output=True, timeout=10, check=True
        ).stdout
        paths = _CACHED.findall(os.fsdecode(listing))
    except (OSError, subprocess.SubprocessError):
        paths = []
    if not paths:
        paths = [
            path
            for folder in STANDARD_FOLDERS
            for soname in SONAMES
            for path in sorted(glob.glob(f"{folder}/{soname}"))
        ]
    return list(dict.fromkeys(os.path.realpath(path) for path in paths))


def _time_of(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return -1
