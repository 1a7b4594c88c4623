# SPDX-License-Identifier: LGPL-2.1-or-later
"""The API table: what is known about every public libvirt function."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

LIBRARIES = ("libvirt.so.0", "libvirt-qemu.so.0", "libvirt-lxc.so.0")
XML_FILES = {
    "libvirt-api.xml": "libvirt.so.0",
    "libvirt-qemu-api.xml": "libvirt-qemu.so.0",
    "libvirt-lxc-api.xml": "libvirt-lxc.so.0",
}
OBJECTS = {
    "virConnectPtr": "connect",
    "virDomainPtr": "domain",
    "virNetworkPtr": "network",
    "virInterfacePtr": "interface",
    "virStoragePoolPtr": "pool",
    "virStorageVolPtr": "volume",
    "virNodeDevicePtr": "nodedevice",
    "virSecretPtr": "secret",
    "virNWFilterPtr": "nwfilter",
    "virNWFilterBindingPtr": "nwfilterbinding",
    "virNetworkPortPtr": "networkport",
    "virDomainSnapshotPtr": "snapshot",
    "virDomainCheckpointPtr": "checkpoint",
    "virStreamPtr": "stream",
}
SENTINELS = ("_LAST", "_MEMORY_STAT_NR")  # how constants end that only count the others

SCALAR_KINDS = frozenset({"i32", "u32", "i64", "u64", "u8", "double"})
# raw: nothing is known about it; void: results only
KINDS = SCALAR_KINDS | {"string", "xml", "handle", "callback", "pointer", "void", "raw"}


class Enum(NamedTuple):
    """A libvirt enum; of two constants with one value the first is the one to show.

    Beside libvirt's own there are derived ones: "A|B" (flags of two enums in one argument) and
    "A-NAME" (A without NAME).
    Sentinels are left out: in a newer libvirt their value means something else.
    """

    name: str
    constants: Mapping[str, int]  # ascending; flags are unsigned, up to 1 << 31
    is_flags: bool


class Param(NamedTuple):
    """An argument, in the order of the C prototype."""

    name: str
    ctype: str  # as libvirt declares it: "virDomainPtr", "int *"
    kind: str  # one of KINDS
    object: str | None = None  # of a handle: "domain", "network", ...
    enum: str | None = None  # key of ApiTable.enums; for "int *" it tells what is stored there
    flags: bool = False  # a bitwise-or; enum None: no flags are defined, the value should be 0
    secret: bool = False  # never to be shown, nor what it points to
    direction: str = "in"  # of what is behind a pointer: "in", "out", "in-out"; "": nobody knows
    length: str = ""  # of what is behind a pointer, as api_passing.Passing has it


class Result(NamedTuple):
    """What a function returns."""

    ctype: str
    kind: str
    object: str | None = None
    enum: str | None = None
    secret: bool = False


class WriteWhen(NamedTuple):
    """What makes a call of a conditional function a write: a bit of `any_bits` in `argument`,
    or the value `equals`.
    """

    argument: str
    any_bits: int = 0
    equals: int | None = None


class Function(NamedTuple):
    """A public libvirt function.

    `failure` says which result means that the call failed:
    negative, null, zero: that result; minus_one: only -1 (virStreamRecv: -2 and -3 are answers);
    minus_one_if_error, null_if_error: that result, but only if an error was raised; none: it can't
    fail or doesn't tell.
    """

    number: int
    name: str
    library: str  # one of LIBRARIES
    since: str  # "0.9.10"; "" if unknown
    result: Result
    params: tuple[Param, ...]
    access: str  # "write", "conditional", "read" or "plumbing"
    failure: str
    write_when: WriteWhen | None = None  # of conditional functions

    @property
    def is_write(self) -> bool:
        """Whether some call of it can change something, or read what libvirt keeps from
        read-only connections.
        """
        return self.access in ("write", "conditional")


class _Table(NamedTuple):
    functions: tuple[Function, ...]
    enums: Mapping[str, Enum]
    # name -> (field, C type) in order; "char[80]" is an array, "union" 8 bytes
    structs: Mapping[str, tuple[tuple[str, str], ...]]
    field_enums: Mapping[str, str]  # "virDomainInfo.state" -> key of enums
    content: bytes  # what it was made of, and what was added to it then, a list of lines each
    added: tuple[Sequence[str], ...] = ()
    warnings: tuple[str, ...] = ()  # for the user: which installed XML could not be used, and why
    # how many functions come with libvirt-trace: the numbers below mean the same on every host
    bundled: int = 0


class ApiTable(_Table):
    """All functions (index == number), and the enums and structs that their arguments use."""

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 in hexadecimal; equal hashes mean equal numbers, signatures and constants."""
        from hashlib import sha256  # whoever wants an answer at once does not ask for it

        digest = sha256(self.content).hexdigest()
        for lines in self.added:
            digest = sha256("\n".join([digest, *lines]).encode()).hexdigest()
        return digest

    @functools.cached_property
    def by_name(self) -> dict[str, Function]:
        """The functions by their name."""
        return {function.name: function for function in self.functions}

    def struct_behind(self, ctype: str) -> str | None:
        """The struct that a pointer type leads to ("virDomainInfoPtr", "virDomainFSInfoPtr
        **"), if its fields are known.
        """
        name = ctype.removeprefix("const ").rstrip(" *").removesuffix("Ptr")
        # virDomainBlockStatsPtr points to virDomainBlockStatsStruct, because a function has the
        # shorter name
        return next((known for known in (name, name + "Struct") if known in self.structs), None)


def is_write_call(function: Function, args: Mapping[str, int]) -> bool:
    """Whether this call changes something, from its raw integer arguments by name; True where
    that can't be told.
    """
    if function.access != "conditional":
        return function.access == "write"
    when = function.write_when
    if when is None or when.argument not in args:
        return True
    value = args[when.argument]
    return value == when.equals if when.equals is not None else bool(value & when.any_bits)
