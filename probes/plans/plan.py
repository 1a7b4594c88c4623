# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds a copy plan: what to copy comes in, one thing after the other; operations for the
kernel and their decoder go out.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import NamedTuple

from log.recent import Recent
from log.values import Code, Unreadable, Value
from probes.api import undescribed
from probes.api.table import Function
from probes.kernel import records
from probes.plans import values, walk
from probes.plans.walk import Take, Walk

MOST_ONCE = 4096  # values of a process that are sent once
NAME = 256  # bytes of an object's name, at least
Offsets = Mapping[str, Mapping[str, int]]  # object type -> field -> bytes


class Constants:
    """What a process's threads have sent once: (ONCE_*, address) -> value.

    `version` is a number that no others had; it changes when a value is replaced.
    """

    _versions = itertools.count()

    def __init__(self, name_of: Callable[[int], str | None] = lambda address: None) -> None:
        """`name_of`: names code of the process, by its address."""
        self.version = next(self._versions)
        self._name_of = name_of
        self._values: Recent[tuple[int, int], Value] = Recent(MOST_ONCE)

    def symbol(self, address: int) -> Value:
        """What is at an address of the process's code."""
        name = self._name_of(address) if address else None
        return Code(address, name) if name else values.pointer_value(address)

    def get(self, key: tuple[int, int]) -> Value:
        """The value; None where its record was lost."""
        return self._values.get(key)

    def learn(self, key: tuple[int, int], value: Value) -> None:
        """Another connection may be at the address now."""
        if self._values.get(key) != value:
            self.retire()
            self._values.put(key, value)

    def retire(self) -> None:
        """What was decoded with them is not right any more."""
        self.version = next(self._versions)


Read = Callable[[bytes, list[values.Copied], Constants], Value]
Key = Callable[[bytes], Hashable]
NULL = bytes(8)


class Limits(NamedTuple):
    """How much is captured: bytes of a string, and whether secrets are shown."""

    string: int
    redact: bool
    tells_apart: bool = False  # whether it matters which of several alike objects it is


class WriteCondition(NamedTuple):
    """What makes a call one that changes something: one of records.ALWAYS_SO, ANY_BIT, EQUALS;
    an argument and its bits.
    """

    kind: int = records.ALWAYS_SO
    argument: int = 0
    bits: int = 0


class Op(NamedTuple):
    """A struct op, which tells what its fields mean to each kind; places are bytes from the
    record's beginning.
    """

    kind: int  # one of records.OP_*
    src: int  # where the record has the address
    dst: int  # where the copy goes, or the text's length
    len: int = 0  # bytes; of OP_ONCE operations
    off: int = 0  # bytes from the address
    keep: int = 0  # bytes of a text; of OP_ONCE one of the addresses that a thread remembers
    only: int = 0  # of a text: what the number before its address must be

    def pack(self) -> bytes:
        """As the kernel has it."""
        return records.OP.pack(
            self.kind, self.only, self.src, self.dst, self.len, self.off, self.keep
        )


class Plan(NamedTuple):
    """What the kernel copies at one probe, and how to read it."""

    flags: int  # records.PLAN_*
    fixed: int  # bytes of the record's fixed part
    objects: int  # bit n: operation n copies a name that the object filter looks at
    ops: tuple[Op, ...]
    texts: tuple[values.TextSlot, ...]
    fields: tuple[tuple[str, Read], ...]
    key: Key  # what of a record the values depend on, if is_told_by_key()
    present: tuple[int, ...] = ()  # where addresses are that are no NULL then
    condition: WriteCondition = WriteCondition()
    walk: bytes = b""  # operations that follow once the record was sent
    walks: tuple[tuple[str, Take], ...] = ()  # what these copy, in their order
    omits: bool = False  # whether some values may be left out
    # of calls that the kernel may count: their place there, from 1; records.FAILS_*
    counts: int = 0
    fails: int = records.FAILS_NEVER

    def pack(self) -> bytes:
        """A row of the plan map."""
        kind, argument, bits = self.condition
        first = len(self.ops) + 1 if self.walk else 0
        row = records.PLAN_HEAD.pack(
            self.flags,
            self.fixed,
            kind,
            argument,
            first,
            bits,
            self.objects,
            self.counts,
            self.fails,
        )
        row += b"".join(op.pack() for op in self.ops)
        return (row + (bytes(records.OP.size) + self.walk if first else b"")).ljust(
            records.PLAN_SIZE, b"\0"
        )

    def decode(
        self, raw: bytes, pieces: Mapping[int, list[values.Piece]], constants: Constants
    ) -> dict[str, Value]:
        """The record's values by name; what a record that is too short lacks reads as zeros."""
        raw = raw if len(raw) >= self.fixed else raw.ljust(self.fixed, b"\0")
        texts = values.read_texts(raw, self.texts, self.fixed, pieces)
        found = {name: read(raw, texts, constants) for name, read in self.fields}
        if self.walks:
            stream = walk.Stream(walk.joined(pieces))
            for name, take in self.walks:
                value = walk.take_all(take, stream)
                if found[name] is not values.LEFT_OUT_VALUE:
                    found[name] = value
        return (
            {name: value for name, value in found.items() if value is not values.LEFT_OUT_VALUE}
            if self.omits
            else found
        )

    def is_told_by_key(self, raw: bytes) -> bool:
        """Whether a record with the same key has the same values: all was readable, nothing
        NULL, empty, cut or sent once.
        """
        if self.walks or any(raw[records.BAD]) or not all(u64(raw, at) for at in self.present):
            return False
        for text in self.texts:
            if text.mark:
                if not values.was_sent_before(raw, text.mark):
                    return False
            elif (
                not 0
                < int.from_bytes(raw[text.slot : text.slot + 4], "little", signed=True)
                < text.size
            ):
                return False
        return True


class PlanRow(NamedTuple):
    """What a plan row stands for."""

    function: Function | None
    private: str | None  # name of an inner function
    library: str
    entry: Plan
    ret: Plan | None  # None: has no return probe
    returns: str  # "pointer", "integer", "void"
    stub: int = undescribed.NO_STUB  # its number in the enforcer's library

    @property
    def is_public(self) -> bool:
        """Whether it is for a function that programs may call."""
        return self.function is not None and self.function.name not in undescribed.NAMES


class Builder:
    """Operations and their places in the record, one after the other."""

    def __init__(self, fixed: int, limits: Limits) -> None:
        self.fixed = fixed
        self.limits = limits
        self.ops: list[Op] = []
        self.texts: list[values.TextSlot] = []
        self.objects = 0
        self.walk = Walk(self._register)
        self.walks: list[tuple[str, Take]] = []
        self.omits = False
        self._shown: list[slice] = []
        self._present: list[int] = []
        self._blocks: dict[tuple[int, int, int], int] = {}
        self._registers = records.FIXED  # from the end, as the record doesn't have them

    def shows(self, at: int, size: int) -> int:
        """A reader looks at these bytes, which are not those of a text; where they are."""
        self._shown.append(slice(at, at + size))
        return at

    def follows(self, at: int) -> None:
        """A reader wants to know of the address there only whether it is NULL."""
        self._present.append(at)

    def _room(self, size: int) -> int:
        at = self.fixed
        self.fixed += (size + 7) & ~7
        return at

    def _register(self, size: int) -> int:
        self._registers -= (size + 7) & ~7
        return self._registers

    def block(self, source: int, offset: int, length: int) -> int:
        """Copies `length` bytes at *source + offset; where to."""
        at = self._room(length)
        self.ops.append(Op(records.OP_BLOCK, source, at, length, offset))
        return at

    def shared(self, source: int, offset: int, length: int) -> int:
        """As block(), but once for several readers."""
        key = (source, offset, length)
        if key not in self._blocks:
            self._blocks[key] = self.block(*key)
        return self._blocks[key]

    def memory(self, source: int, length: int, read: Callable[[bytes], Value]) -> Read:
        """What `read` makes of `length` bytes at *source; NULL and memory that is not readable
        are told.
        """
        at = self.shared(source, 0, length)
        bit = 1 << [op.dst for op in self.ops].index(at)
        self.shows(at, length)
        self.follows(source)

        def decode(raw: bytes, texts: list[values.Copied], constants: Constants) -> Value:
            address = u64(raw, source)
            if not address:
                return None
            if int.from_bytes(raw[records.BAD], "little") & bit:
                return Unreadable(address)
            return read(raw[at : at + length])

        return decode

    def text(
        self,
        source: int,
        *,
        keep: int | None = None,
        name: bool = False,
        mark: int = 0,
        only: int = 0,
    ) -> int:
        """Copies the string at *source; its index among the texts. `keep` bytes of it, by default
        as many as the user wants.

        `only`: unless the u32 eight bytes before the pointer is that, it is none. A name is kept
        whole, as it is compared.
        """
        keep = self.limits.string if keep is None else keep
        keep = max(keep, NAME) if name else keep
        size = min(keep, records.INLINE_MAX)
        slot = self._room(4)
        if name:
            self.objects |= 1 << len(self.ops)
        if not mark:
            self.shows(slot, 4)
        self.texts.append(values.TextSlot(len(self.ops), source, slot, size, mark))
        self.ops.append(Op(records.OP_STRING, source, slot, size, keep=keep, only=only))
        return len(self.texts) - 1

    def once(self, source: int, which: int, build: Callable[[int], Read]) -> Read:
        """What `build` copies hangs on the address at `source` and doesn't change: a thread
        sends it once.
        """
        self.shows(source, 8)
        mark = self.shows(self._room(4), 4)
        at = len(self.ops)
        self.ops.append(Op(records.OP_ONCE, source, mark, keep=which))
        inner = build(mark)
        self.ops[at] = self.ops[at]._replace(len=len(self.ops) - at - 1)

        def read(raw: bytes, texts: list[values.Copied], constants: Constants) -> Value:
            key = (which, u64(raw, source))
            if values.was_sent_before(raw, mark):
                return constants.get(key)
            value = inner(raw, texts, constants)
            constants.learn(key, value)
            return value

        return read

    def _doubtful(self) -> list[int]:
        """Where addresses are of which the bytes that are shown may not tell whether they are NULL,
        as those behind NULL read as zeros. A text that is not empty tells.
        """
        told = {text.source for text in self.texts if not text.mark}
        for op in reversed(self.ops):
            if op.kind == records.OP_BLOCK and told & set(range(op.dst, op.dst + op.len)):
                told.add(op.src)
        return [at for at in self._present if at not in told]

    def plan(self, flags: int, fields: list[tuple[str, Read]]) -> Plan:
        """The finished plan."""
        # each part has an end
        count = len(self.ops) + (len(self.walk.ops) + 2 if self.walk.ops else 0)
        if count > records.MAX_OPS or self.fixed > self._registers:
            raise ValueError(
                f"copy plan too large: {count} operations, {self.fixed} bytes, "
                f"registers from {self._registers}"
            )
        return Plan(
            flags,
            self.fixed,
            self.objects,
            tuple(self.ops),
            tuple(self.texts),
            tuple(fields),
            _with_addresses(key_of(self.fixed, self._shown), self._doubtful()),
            tuple(self._present),
            walk=self.walk.packed(len(self.ops) + 1),
            walks=tuple(self.walks),
            omits=self.omits,
        )


def key_of(fixed: int, shown: Iterable[slice]) -> Key:
    """A Plan.key of these bytes, of which operations failed, and of the texts behind the fixed
    part.
    """
    pieces: list[slice] = []
    for piece in sorted([records.BAD, *shown, slice(fixed, None)], key=lambda piece: piece.start):
        if pieces and pieces[-1].stop is not None and piece.start <= pieces[-1].stop:
            end = None if piece.stop is None else max(piece.stop, pieces[-1].stop)
            pieces[-1] = slice(pieces[-1].start, end)
        else:
            pieces.append(piece)
    return operator.itemgetter(*pieces)


def _with_addresses(key: Key, places: Iterable[int]) -> Key:
    """The key of a record, and which of these addresses are NULL if one is."""
    addresses = [slice(at, at + 8) for at in places]
    if not addresses:
        return key

    def checked(raw: bytes) -> Hashable:
        for address in addresses:
            if raw[address] == NULL:
                return tuple(raw[at] == NULL for at in addresses), key(raw)
        return key(raw)

    return checked


def u64(raw: bytes, at: int) -> int:
    """The number in the eight bytes there."""
    return int.from_bytes(raw[at : at + 8], "little")


def read_text(index: int, redact: bool, shown: int | None = None) -> Read:
    """Reads the string that Builder.text() gave that index; `shown`: bytes of it, at most."""
    return lambda raw, texts, constants: values.string_value(
        texts[index], redact=redact, shown=shown
    )
