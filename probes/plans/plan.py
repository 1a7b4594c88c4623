# SPDX-License-Identifier: LGPL-2.1-or-later
"""Copy plans: what the kernel copies at a probe, and how a record of it is read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

from log.recent import Recent
from log.values import Code, Value
from probes.api import undescribed
from probes.api.table import Function
from probes.kernel import records
from probes.plans import walk
from probes.plans.meaning import values
from probes.plans.meaning.captured import Copied, Piece, TextSlot, u64
from probes.plans.strings import read_texts, was_sent_before
from probes.plans.walk import Take

MOST_ONCE = 4096  # values of a process that are sent once


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


Read = Callable[[bytes, list[Copied], Constants], Value]
Key = Callable[[bytes], Hashable]
NULL = bytes(8)


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
    texts: tuple[TextSlot, ...]
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
        self, raw: bytes, pieces: Mapping[int, list[Piece]], constants: Constants
    ) -> dict[str, Value]:
        """The record's values by name; what a record that is too short lacks reads as zeros."""
        raw = raw if len(raw) >= self.fixed else raw.ljust(self.fixed, b"\0")
        texts = read_texts(raw, self.texts, self.fixed, pieces)
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
                if not was_sent_before(raw, text.mark):
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
