# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads control groups: the cgroups of a process come in, its systemd unit and container come out.

Below a cgroup that a user owns, the user makes cgroups of any name. What one is called is believed
as far as the folders are root's that
lead to it: whoever owns a folder chooses the names in it.
"""

from __future__ import annotations

import ctypes
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from probes.kernel.libc import libc

FILEID_KERNFS = 0xFE  # linux/exportfs.h: the handle is the 64-bit number that BPF gives, since 5.5
_DELETED = " (deleted)"

# names of one cgroup; conmon, LXC's monitor and QEMU's machines (machine-qemu\x2d1\x2dweb1.scope)
# are not in a container
_BY_NAME = (
    # docker-ID.scope, libpod-ID.scope, crio-ID.scope, cri-containerd-ID.scope; with cgroupfs the
    # bare ID
    re.compile(r"(?!.*conmon-)(?:[a-z][a-z0-9]*-)*([0-9a-f]{64})(?:\.scope)?"),
    re.compile(r"lxc\.payload\.(.+)"),
    re.compile(r"systemd-nspawn@(.+)\.service"),
    # systemd-nspawn, libvirt's LXC driver
    re.compile(r"machine-(?!qemu-|vm-)(?:lxc-(?:[0-9]+-)?)?(.+)\.scope"),
    re.compile(r"(.+)\.libvirt-lxc"),  # the same without systemd
)
_BELOW = ("lxc", "lxc.payload")  # a container's cgroup is in one of that name
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


class Cgroup(NamedTuple):
    """Where a process belongs: the systemd unit and the id or name of the container, as far as
    there are such.
    """

    unit: str | None
    container: str | None


def _whole(controllers: str, path: str) -> str:
    return path


def parse(text: str, vouched: Callable[[str, str], str] = _whole) -> Cgroup:
    """The place that /proc/PID/cgroup describes: version 1, 2 or both.

    `vouched`: the beginning of a path that is to be believed, by the controllers of its hierarchy.
    """
    places = [
        place_of(vouched(controllers, path.removesuffix(_DELETED)))
        for _, controllers, path in sorted(_entries(text))
    ]
    unit = next((place.unit for place in places if place.unit), None)
    return Cgroup(unit, next((place.container for place in places if place.container), None))


def _entries(text: str) -> list[tuple[int, str, str]]:
    """Controllers and paths, those that systemd arranges first."""
    entries = []
    for line in text.splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        entries.append(
            (0 if hierarchy == "0" or controllers == "name=systemd" else 1, controllers, path)
        )
    return entries


def place_of(path: str) -> Cgroup:
    """The place of a cgroup: the innermost unit and container on its path."""
    parts = path.removesuffix(_DELETED).split("/")
    unit, container = None, None
    for above, part in zip(["", *parts], parts, strict=False):
        if part.endswith((".service", ".scope")):
            unit = part
        if name := _container(above, part):
            container = name
            unit = None if unit == part else unit  # its unit says no more than its id
    return Cgroup(unit, container)


def _container(above: str, part: str) -> str | None:
    plain = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), part)
    if above in _BELOW and part:
        return plain
    return next((match[1] for pattern in _BY_NAME if (match := pattern.fullmatch(plain))), None)


class Numbers:
    """Cgroups by the number that BPF knows them by, and whose their folders are."""

    def __init__(self, mounts: Path = Path("/proc/self/mountinfo")) -> None:
        self._root: str | None = None
        self._fd = -1
        # of version 1, by controllers; of version 2 by none
        self._mounts: dict[frozenset[str], str] = {}
        try:
            self._find(mounts.read_text(errors="surrogateescape").splitlines())
            self._root = self._mounts.get(frozenset())
            if self._root:
                self._fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self._root = None

    def _find(self, lines: list[str]) -> None:
        for line in lines:
            fields, _, rest = line.partition(" - ")
            kind, _, options = rest.split(" ", 2) if rest.count(" ") > 1 else ("", "", "")
            if kind in ("cgroup", "cgroup2"):
                of = frozenset(options.split(",")) if kind == "cgroup" else frozenset()
                self._mounts.setdefault(of, fields.split()[4])

    def vouched(self, controllers: str, path: str) -> str:
        """The beginning of a cgroup's path, as far as nobody but root can have chosen it; ""
        where that can't be told.
        """
        sought = frozenset(controllers.split(",")) if controllers else frozenset()
        folder = next(
            (
                mount
                for of, mount in self._mounts.items()
                if sought <= of and bool(sought) == bool(of)
            ),
            "",
        )
        kept = ""
        for name in path.split("/")[1:]:
            if name in ("", "..") or not _is_roots(folder):
                break
            kept, folder = f"{kept}/{name}", f"{folder}/{name}"
        return kept

    def path(self, number: int) -> str | None:
        """The path of that cgroup below the root of all; None when it has gone or there is no
        version 2.
        """
        if self._root is None:
            return None
        handle = ctypes.create_string_buffer(
            b"".join(
                part.to_bytes(size, "little")
                for part, size in ((8, 4), (FILEID_KERNFS, 4), (number, 8))
            )
        )
        fd = libc.open_by_handle_at(self._fd, handle, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if fd < 0:
            return None
        try:
            return os.readlink(f"/proc/self/fd/{fd}").removeprefix(self._root) or "/"
        except OSError:
            return None
        finally:
            os.close(fd)

    def close(self) -> None:
        """Lets go of the mount."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd, self._root = -1, None


def _is_roots(folder: str) -> bool:
    """Whether nobody but root makes names in it. One that has gone is nobody's."""
    try:
        status = os.stat(folder, follow_symlinks=False)
    except (OSError, ValueError):
        return False
    return status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
