# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds a copy plan: what to copy comes in, one thing after the other; operations for the kernel and their decoder go out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from log.events import Value
from probes import records, values

Offsets = Mapping[str, Mapping[str, int]]  # object type -> field -> bytes


class Constants:
    """What a process's threads have sent once: (ONCE_*, address) -> value; `version` changes when one is replaced."""

    def __init__(self) -> None:
        self.version = 0
        self._values: dict[tuple[int, int], Value] = {}

    def get(self, key: tuple[int, int]) -> Value:
        """The value; None where its record was lost."""
        return self._values.get(key)

    def learn(self, key: tuple[int, int], value: Value) -> None:
        """Another connection may be at the address now."""
        if self._values.get(key) != value:
            self.version += 1
            self._values[key] = value


Read = Callable[[bytes, list[values.Copied], Constants], Value]


class Limits(NamedTuple):
    """How much is captured: bytes of a string, and whether secrets are shown."""

    string: int
    redact: bool


class Condition(NamedTuple):
    """What makes a call one that changes something: one of records.ALWAYS_SO, ANY_BIT, EQUALS; an argument and its bits."""

    kind: int = records.ALWAYS_SO
    argument: int = 0
    bits: int = 0


class Plan(NamedTuple):
    """What the kernel copies at one probe, and how to read it."""

    flags: int
    fixed: int
    objects: int
    ops: tuple[tuple[int, int, int, int, int, int], ...]
    texts: tuple[values.Text, ...]
    fields: tuple[tuple[str, Read], ...]
    condition: Condition = Condition()

    def pack(self) -> bytes:
        """A row of the plan map."""
        row = records.PLAN_HEAD.pack(self.flags, self.fixed, *self.condition, self.objects) + b"".join(
            records.OP.pack(*op) for op in self.ops
        )
        return row.ljust(records.PLAN_SIZE, b"\0")

    def decode(self, raw: bytes, pieces: Mapping[int, list[values.Piece]], constants: Constants) -> dict[str, Value]:
        """The record's values by name."""
        texts = values.read_texts(raw, self.texts, self.fixed, pieces)
        return {name: read(raw, texts, constants) for name, read in self.fields}


class Builder:
    """Operations and their places in the record, one after the other."""

    def __init__(self, fixed: int, limits: Limits) -> None:
        self.fixed = fixed
        self.limits = limits
        self.ops: list[tuple[int, int, int, int, int, int]] = []
        self.texts: list[values.Text] = []
        self.objects = 0

    def _room(self, size: int) -> int:
        at = self.fixed
        self.fixed += (size + 7) & ~7
        return at

    def block(self, source: int, offset: int, length: int) -> int:
        """Copies `length` bytes at *source + offset; where to."""
        at = self._room(length)
        self.ops.append((records.OP_BLOCK, source, at, length, offset, 0))
        return at

    def text(self, source: int, *, keep: int | None = None, name: bool = False, mark: int = 0) -> int:
        """Copies the string at *source; its index among the texts. `keep` bytes of it, by default as many as the user wants."""
        keep = self.limits.string if keep is None else keep
        size = min(keep, records.INLINE_MAX)
        slot = self._room(4)
        if name:
            self.objects |= 1 << len(self.ops)
        self.texts.append(values.Text(len(self.ops), source, slot, size, mark))
        self.ops.append((records.OP_STRING, source, slot, size, 0, keep))
        return len(self.texts) - 1

    def once(self, source: int, which: int, build: Callable[[int], Read]) -> Read:
        """What `build` copies hangs on the address at `source` and doesn't change: a thread sends it once."""
        mark = self._room(4)
        at = len(self.ops)
        self.ops.append((records.OP_ONCE, source, mark, 0, 0, which))
        inner = build(mark)
        self.ops[at] = (records.OP_ONCE, source, mark, len(self.ops) - at - 1, 0, which)

        def read(raw: bytes, texts: list[values.Copied], constants: Constants) -> Value:
            key = (which, u64(raw, source))
            if values.was_sent_before(raw, mark):
                return constants.get(key)
            value = inner(raw, texts, constants)
            constants.learn(key, value)
            return value

        return read

    def plan(self, flags: int, fields: list[tuple[str, Read]]) -> Plan:
        """The finished plan."""
        if len(self.ops) > records.MAX_OPS or self.fixed > records.FIXED:
            raise ValueError(f"copy plan too large: {len(self.ops)} operations, {self.fixed} bytes")
        return Plan(flags, self.fixed, self.objects, tuple(self.ops), tuple(self.texts), tuple(fields))


def u64(raw: bytes, at: int) -> int:
    """The number in the eight bytes there."""
    return int.from_bytes(raw[at : at + 8], "little")


def read_text(index: int, redact: bool) -> Read:
    """Reads the string that Builder.text() gave that index."""
    return lambda raw, texts, constants: values.string_value(texts[index], redact=redact)
