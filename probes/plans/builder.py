# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds a copy plan: what to copy comes in, one thing after the other; operations for the kernel
and their decoder go out.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable

from log.values import Unreadable, Value
from probes.kernel import records
from probes.plans.meaning import values
from probes.plans.meaning.captured import Copied, Limits, TextSlot, u64
from probes.plans.plan import NULL, Constants, Key, Op, Plan, Read
from probes.plans.strings import was_sent_before
from probes.plans.walk import Take, Walk

NAME = 256  # bytes of an object's name, at least


class Builder:
    """Operations and their places in the record, one after the other."""

    def __init__(self, fixed: int, limits: Limits) -> None:
        self.fixed = fixed
        self.limits = limits
        self.ops: list[Op] = []
        self.texts: list[TextSlot] = []
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

        def decode(raw: bytes, texts: list[Copied], constants: Constants) -> Value:
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
        self.texts.append(TextSlot(len(self.ops), source, slot, size, mark))
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

        def read(raw: bytes, texts: list[Copied], constants: Constants) -> Value:
            key = (which, u64(raw, source))
            if was_sent_before(raw, mark):
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


def read_text(index: int, redact: bool, shown: int | None = None) -> Read:
    """Reads the string that Builder.text() gave that index; `shown`: bytes of it, at most."""
    return lambda raw, texts, constants: values.string_value(
        texts[index], redact=redact, shown=shown
    )
