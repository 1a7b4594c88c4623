# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds the files to attach to: the host's libvirt, files the user names and whatever processes have mapped come in; targets come out.

A path proves nothing: it may be gone, replaced, or another one in another mount namespace. What a process runs is opened through
its mapping, and a target is an inode.
"""

from __future__ import annotations

import ctypes
import glob
import os
import re
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from log.errors import TraceError
from probes import api_private, bpf, maps, private
from probes.elf import Elf, Function, read_elf
from probes.layouts import Layout, choose_layout
from probes.mapwatch import Mapped

SONAMES = tuple(f"{name}.0" for name in maps.LIBRARIES)
STANDARD_FOLDERS = ("/usr/lib/*-linux-gnu", "/lib/*-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib", "/lib", "/usr/local/lib*")
PRIVATE_NAMES = frozenset(inner.name for inner in private.PRIVATE) | api_private.NAMES
OVERLAYFS = 0x794C7630  # linux/magic.h
MOST_FUNCTIONS = 1024  # of a file; libvirt 12.8 has 526
MOST_REFUSED = 4096  # files that were looked at and are no targets

_CACHED = re.compile(rf"^\s+(?:{'|'.join(map(re.escape, SONAMES))}) \(.*\) => (/.*)$", re.M)
_PUBLIC = re.compile(r"LIBVIRT_(?:QEMU_|LXC_)?([0-9]+(?:\.[0-9]+)*)")
_PRIVATE = re.compile(r"LIBVIRT_PRIVATE_([0-9]+(?:\.[0-9]+)*)")


@dataclass(frozen=True, eq=False)
class Target:
    """A library file to attach to, held open."""

    path: str  # as the host, the user or a process names it
    device: int
    inode: int
    fd: int
    soname: str  # "libvirt.so.0", "libvirt-qemu.so.0", "libvirt-lxc.so.0"
    version: str | None  # of libvirt: "9.0.0"
    functions: tuple[tuple[str, int], ...]  # public functions: name, offset in the file; an offset once
    aliases: Mapping[str, str]  # further public names of these functions
    private: Mapping[str, int]  # inner functions that are probed: name -> offset in the file
    text: tuple[int, int]  # where the code is in the file: offset, bytes
    layout: Layout
    is_32_bit: bool

    @property
    def path_for_kernel(self) -> str:
        """A path to this very inode, for system calls of this process."""
        return f"/proc/self/fd/{self.fd}"

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self.fd)


class Targets:
    """Every target that is known."""

    def __init__(self, libraries: Sequence[Path] = (), proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._given = list(libraries)
        self._known: dict[Hashable, Target] = {}
        self._untold: list[Target] = []  # known, but neither scan() nor mapped() has returned them
        self._kept: set[Target] = set()  # the host's and the user's: attached to whether they are mapped or not
        self._refused: OrderedDict[Hashable, None] = OrderedDict()
        self._by_mapping: dict[tuple[int, int, int], Target] = {}  # major, minor, inode

    def scan(self) -> list[Target]:
        """Targets that were not told before, of the user, the host and every process.

        Raises TraceError for a file of the user's that is no target; others are passed over.
        """
        while self._given:
            self._keep(str(self._given.pop(0)), is_given=True)
        for path in host_libraries():
            self._keep(path, is_given=False)
        for mapping in maps.scan(self._proc):
            self.of(mapping)
        new, self._untold = self._untold, []
        return new

    def host(self) -> list[Target]:
        """The host's own libraries, whether any process uses them or not."""
        for path in host_libraries():
            self._keep(path, is_given=False)
        return sorted(self._kept, key=lambda target: target.path)

    def mapped(self, record: Mapped) -> Target | None:
        """The target that a process has just mapped, if it was not told before."""
        target = self.of(as_mapping(record))
        if target is None or target not in self._untold:
            return None
        self._untold.remove(target)
        return target

    def of(self, mapping: maps.Mapping) -> Target | None:
        """The target that is mapped there; None when it is none or can't be opened."""
        place = (mapping.major, mapping.minor, mapping.inode)
        if not maps.is_library(mapping.path):
            return None
        if place in self._by_mapping:
            return self._by_mapping[place]
        fd = self._open(mapping)
        if fd is None:
            return None
        device = os.fstat(fd).st_dev
        try:
            target = self._learn(fd, mapping.path)
        except TraceError:
            return None
        # where they differ (btrfs), the pair in the mapping stands for several files
        if (os.major(device), os.minor(device)) == place[:2]:
            self._by_mapping[place] = target
        return target

    def unused(self) -> list[Target]:
        """Targets that no process maps any more, now forgotten: detach from them and close them.

        An open file keeps the file system of a container that has ended, and the space of a deleted library.
        """
        used = {self.of(mapping) for mapping in maps.scan(self._proc)}
        gone = {target for target in self._known.values() if target not in self._kept and target not in used}
        self._known = {key: target for key, target in self._known.items() if target not in gone}
        self._by_mapping = {key: target for key, target in self._by_mapping.items() if target not in gone}
        for target in gone.intersection(self._untold):
            self._untold.remove(target)
            gone.remove(target)
            target.close()
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
            # not to wait for the other end, should it be a pipe
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            self._kept.add(self._learn(fd, path))
        except OSError as error:
            if is_given:
                raise TraceError(f"can't open {path}: {error.strerror}") from error
        except TraceError:
            if is_given:
                raise

    def _open(self, mapping: maps.Mapping) -> int | None:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        folder = f"{self._proc}/{mapping.pid}/map_files"
        try:
            return os.open(f"{folder}/{mapping.start:x}-{mapping.end:x}", flags)
        except OSError:
            pass
        # the loader may map the whole file before it maps its parts, each with its own protection
        for entry in maps.read(mapping.pid, self._proc):
            if (entry.major, entry.minor, entry.inode, entry.path) == mapping[3:]:
                try:
                    return os.open(f"{folder}/{entry.start:x}-{entry.end:x}", flags)
                except OSError:
                    continue
        # the process has gone, but the next one may map the same file
        try:
            fd = os.open(mapping.path, flags)
        except OSError:
            return None
        status = os.fstat(fd)
        if (os.major(status.st_dev), os.minor(status.st_dev), status.st_ino) == mapping[3:6]:
            return fd
        os.close(fd)
        return None

    def _learn(self, fd: int, path: str) -> Target:
        """The target of the open file; takes over the descriptor. Raises TraceError when it is none."""
        status = os.fstat(fd)
        sought, remembered = _identities(fd, status)
        for key in sought:
            if key in self._known:
                os.close(fd)
                return self._known[key]
        fingerprint = (status.st_dev, *_fingerprint(status))
        try:
            if fingerprint in self._refused:
                raise TraceError(f"{path} is not a usable library")
            target = _read(fd, status, path)
        except TraceError:
            os.close(fd)
            self._refused[fingerprint] = None
            if len(self._refused) > MOST_REFUSED:
                self._refused.popitem(last=False)
            raise
        self._known.update(dict.fromkeys(remembered, target))
        self._untold.append(target)
        return target


def as_mapping(record: Mapped) -> maps.Mapping:
    """The mapping that was just made."""
    end = record.start + record.length
    return maps.Mapping(record.pid, record.start, end, record.major, record.minor, record.inode, record.path)


def host_libraries() -> list[str]:
    """The paths of the host's own libraries, from the loader's cache, else from the usual folders."""
    environment = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL": "C"}
    try:
        listing = subprocess.run(["ldconfig", "-p"], env=environment, capture_output=True, timeout=10, check=True).stdout
        paths = _CACHED.findall(os.fsdecode(listing))
    except (OSError, subprocess.SubprocessError):
        paths = []
    if not paths:
        paths = [path for folder in STANDARD_FOLDERS for soname in SONAMES for path in sorted(glob.glob(f"{folder}/{soname}"))]
    return list(dict.fromkeys(os.path.realpath(path) for path in paths))


def _identities(fd: int, status: os.stat_result) -> tuple[list[Hashable], list[Hashable]]:
    """What to look the file up by, and what to remember it by.

    A uprobe belongs to the inode beneath an overlay, which all overlays on it share. Nothing tells which inode that is, but
    number, size and times are its own; two images that were copied bit by bit may be taken for one.
    """
    place, fingerprint = ("place", status.st_dev, status.st_ino), _fingerprint(status)
    buffer = ctypes.create_string_buffer(256)  # struct statfs begins with its type, a long
    if bpf.libc.fstatfs(fd, buffer) == 0 and ctypes.c_long.from_buffer(buffer).value == OVERLAYFS:
        return [("overlay", fingerprint), ("beneath", fingerprint)], [("overlay", fingerprint)]
    return [place, ("overlay", fingerprint)], [place, ("beneath", fingerprint)]


def _fingerprint(status: os.stat_result) -> tuple[int, int, int, int]:
    # an overlay may keep the number of its layer in the upper bits (xino)
    return status.st_ino & (1 << 56) - 1, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(fd: int, status: os.stat_result, path: str) -> Target:
    """What there is to know of the file; TraceError when it is not one of libvirt's libraries."""
    elf = read_elf(fd, path)
    if not elf.soname and maps.is_driver(path):  # modules have no name of their own
        inner = {sys.intern(f.name): f.offset for f in elf.functions if f.name in PRIVATE_NAMES}
        layout = Layout("module" if elf.bits == 64 and elf.machine == "x86-64" else None, None, {})
        return Target(
            path, status.st_dev, status.st_ino, fd, os.path.basename(path), _version(elf), (), {}, inner, elf.text, layout, elf.bits == 32
        )
    if elf.soname not in SONAMES:
        raise TraceError(f"{path} is none of {', '.join(SONAMES)}: it calls itself {elf.soname or 'nothing'}")
    functions, aliases = _public_functions(elf.functions)
    if len(functions) > MOST_FUNCTIONS:
        raise TraceError(f"{path} is not libvirt: it has too many functions")
    return Target(
        path=path,
        device=status.st_dev,
        inode=status.st_ino,
        fd=fd,
        soname=elf.soname,
        version=_version(elf),
        functions=functions,
        aliases=aliases,
        private=_private_functions(elf, fd),
        text=elf.text,
        layout=choose_layout(elf, fd),
        is_32_bit=elf.bits == 32,
    )


def _private_functions(elf: Elf, fd: int) -> Mapping[str, int]:
    found = {sys.intern(f.name): f.offset for f in elf.functions if f.name in PRIVATE_NAMES}
    seen = {f.name: os.pread(fd, min(f.size, 256), f.offset) for f in elf.functions if f.name in private.CONNECTION_EVIDENCE}
    if not all(code in seen.get(name, b"") for name, code in private.CONNECTION_EVIDENCE.items()) and private.DISPATCH in found:
        found[private.DISPATCH_ELSEWHERE] = found.pop(private.DISPATCH)
    return found


def _public_functions(functions: Sequence[Function]) -> tuple[tuple[tuple[str, int], ...], Mapping[str, str]]:
    """The functions of public version nodes, each offset once, and the other names of those that have several."""
    names: dict[int, str] = {}
    aliases: dict[str, str] = {}
    for function in sorted(functions):
        if function.version and _PUBLIC.fullmatch(function.version):
            name = names.setdefault(function.offset, sys.intern(function.name))
            if name != function.name:
                aliases[function.name] = name
    return tuple((name, offset) for offset, name in names.items()), aliases


def _version(elf: Elf) -> str | None:
    """The private version node names the release; -qemu and -lxc need that of their libvirt.so.0. Else the newest public one."""
    for node in (*elf.versions, *elf.needs):
        if found := _PRIVATE.fullmatch(node):
            return found[1]
    if elf.soname != SONAMES[0]:
        return None
    numbers = [found[1] for node in elf.versions if (found := _PUBLIC.fullmatch(node))]
    return max(numbers, key=lambda text: [int(part) for part in text.split(".")], default=None)
