# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a library of libvirt's: an open file comes in; what there is to attach to goes out."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from log.errors import TraceError
from probes.api import undescribed
from probes.host.looking import maps, opening
from probes.internals import private, returns
from probes.internals.elf import Elf, Symbol, read_elf
from probes.internals.layouts import Layout, choose_layout, code_of
from probes.kernel import abi

SONAMES = tuple(f"{name}.0" for name in maps.LIBRARIES)
PRIVATE_NAMES = frozenset(inner.name for inner in private.PRIVATE) | undescribed.NAMES
MOST_FUNCTIONS = 1024  # of a file; libvirt 12.8 has 526
MOST_NAMES = 1 << 16  # bytes of their names

_PUBLIC = re.compile(r"LIBVIRT_(?:QEMU_|LXC_)?([0-9]+(?:\.[0-9]+)*)")
_PRIVATE = re.compile(r"LIBVIRT_PRIVATE_([0-9]+(?:\.[0-9]+)*)")


class NotLibvirt(TraceError):
    """The file is another library, or has nothing to probe."""


@dataclass(frozen=True, eq=False)
class Target:
    """A library file to attach to, held open."""

    path: str  # as the host, the user or a process names it
    device: int
    inode: int
    fd: int
    soname: str  # "libvirt.so.0", "libvirt-qemu.so.0", "libvirt-lxc.so.0"
    version: str | None  # of libvirt: "9.0.0"
    # public functions: name, offset in the file; an offset once
    functions: tuple[tuple[str, int], ...]
    aliases: Mapping[str, str]  # further public names of these functions
    private: Mapping[str, int]  # inner functions that are probed: name -> offset in the file
    owner: int  # uid
    text: tuple[int, int]  # where the code is in the file: offset, bytes
    layout: Layout
    is_32_bit: bool
    note: str | None = None  # what can't be told of its calls, and why
    # by the offset of a function where it returns, if that is known, or where its callers go on;
    # the names of those that have this instead
    returns: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    told_after: frozenset[str] = frozenset()

    @property
    def path_for_kernel(self) -> str:
        """A path to this very inode, for system calls of this process."""
        return f"/proc/self/fd/{self.fd}"

    def close(self) -> None:
        """Lets go of the file."""
        opening.close(self.fd)


def read_library(fd: int, status: os.stat_result, path: str, *, finds_returns: bool) -> Target:
    """What there is to know of the file; TraceError when it is not one of libvirt's libraries."""
    elf = read_elf(fd, path)
    functions: tuple[tuple[str, int], ...] = ()
    aliases: Mapping[str, str] = {}
    notes: list[str] = []
    if not elf.soname and maps.is_driver(path):  # modules have no name of their own
        soname = os.path.basename(path)
        inner: Mapping[str, int] = {
            sys.intern(f.name): f.offset for f in elf.functions if f.name in PRIVATE_NAMES
        }
        layout = Layout(
            "module" if elf.bits == 64 and elf.machine == abi.HERE.name else None, None, {}
        )
    elif library := maps.library_of(elf.soname or ""):
        soname, layout = library, choose_layout(elf, fd)
        inner, notes = _private_functions(elf, fd) if layout.name else ({}, [])
        functions, aliases = _public_functions(elf.functions)
    else:
        raise NotLibvirt(
            f"{path} is none of {', '.join(SONAMES)}: it calls itself {elf.soname or 'nothing'}"
        )
    if not functions and not inner:
        raise NotLibvirt(f"{path} has no function to probe")
    names = [name for name, _ in functions] + list(aliases)
    if len(names) > MOST_FUNCTIONS or sum(map(len, names)) > MOST_NAMES:
        raise TraceError(f"{path} is not libvirt: it has too many functions")
    # now, as a file of another machine is open by name only when this has been read
    places, told_after = (
        returns.of_library(fd, path, {*dict(functions).values(), *inner.values()}, inner)
        if finds_returns
        else ({}, frozenset())
    )
    return Target(
        path=path,
        device=status.st_dev,
        inode=status.st_ino,
        fd=fd,
        owner=status.st_uid,
        soname=soname,
        version=_version(elf),
        functions=functions,
        aliases=aliases,
        private=inner,
        text=elf.text,
        layout=layout,
        note="; ".join(filter(None, [layout.reason, *notes])) or None,
        is_32_bit=elf.bits == 32,
        returns=places,
        told_after=told_after,
    )


def _private_functions(elf: Elf, fd: int) -> tuple[Mapping[str, int], list[str]]:
    """Where the inner functions are, and what can't be told of them."""
    functions = {
        sys.intern(f.name): f
        for f in elf.functions
        if f.name in private.EVIDENCE or f.name in PRIVATE_NAMES
    }
    found = {name: f.offset for name, f in functions.items() if name in PRIVATE_NAMES}
    return private.placed(
        found, lambda name: code_of(fd, functions[name]) if name in functions else b""
    )


def _public_functions(
    functions: Sequence[Symbol],
) -> tuple[tuple[tuple[str, int], ...], Mapping[str, str]]:
    """The functions of public version nodes, each offset once, and the other names of those
    that have several.
    """
    names: dict[int, str] = {}
    aliases: dict[str, str] = {}
    for function in sorted(functions):
        if function.version and _PUBLIC.fullmatch(function.version):
            name = names.setdefault(function.offset, sys.intern(function.name))
            if name != function.name:
                aliases[function.name] = name
    return tuple((name, offset) for offset, name in names.items()), aliases


def _version(elf: Elf) -> str | None:
    """The private version node names the release; -qemu and -lxc need that of their
    libvirt.so.0. Else the newest public one.
    """
    for node in (*elf.versions, *elf.needs):
        if found := _PRIVATE.fullmatch(node):
            return found[1]
    if maps.library_of(elf.soname or "") != SONAMES[0]:
        return None
    numbers = [found[1] for node in elf.versions if (found := _PUBLIC.fullmatch(node))]
    return max(numbers, key=lambda text: [int(part) for part in text.split(".")], default=None)
