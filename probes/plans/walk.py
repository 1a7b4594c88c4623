# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds the walk of a copy plan: lists and what hangs on their elements come in; operations and
readers of what they copy go out.

The kernel sends what a walk copies as one stream, each thing behind a head (records.ITEM); the
readers take it in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from log.values import CutList, Unreadable, Value
from probes.kernel import records
from probes.plans.meaning.captured import Copied, Piece

MOST = 64  # elements of a list that are taken
ALL_ONES = 0xFFFFFFFF
TO_THE_END = -1  # in place of an operation


class Ended(Exception):
    """There is no more of the stream: records were lost, or the kernel's steps were used up."""


class Item(NamedTuple):
    """A thing in the stream; `data` is "" where nothing could be read."""

    got: int  # bytes, of a list elements; below 0: records.STR_*
    total: int  # elements in all
    address: int
    data: bytes


class Stream:
    """What a walk has copied."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def head(self) -> Item:
        """The next thing without its data."""
        start, end = self._at, self._at + records.ITEM.size
        if end > len(self._data):
            self._at = len(self._data)
            raise Ended
        self._at = end
        got, total, address = records.ITEM.unpack_from(self._data, start)
        return Item(got, total, address, b"")

    def data(self, size: int) -> bytes:
        """So many bytes of it."""
        start = self._at
        if start + size > len(self._data):
            self._at = len(self._data)
            raise Ended
        self._at = start + ((size + 7) & ~7)
        return self._data[start : start + size]

    def item(self) -> Item:
        """The next thing with its data."""
        head = self.head()
        return head._replace(data=self.data(head.got)) if head.got > 0 else head


Take = Callable[[Stream], Value]
TakeText = Callable[[Stream], Copied]
TakeElement = Callable[[Stream, bytes], Value]  # with the element's own bytes
Finish = Callable[[list[Value]], list[Value] | dict[str, Value]]


def joined(pieces: Mapping[int, list[Piece]]) -> bytes:
    """The stream, up to the first record that was lost."""
    data = b""
    for piece in pieces.get(records.WALK_MORE, []):
        if piece.offset != len(data):
            break
        data += piece.text
    return data


def take_all(take: Take, stream: Stream) -> Value:
    """What `take` makes of the stream, or that nothing of it is left."""
    try:
        return take(stream)
    except Ended:
        return CutList([], None)


def is_whole(pieces: Mapping[int, list[Piece]] | None) -> bool:
    """Whether the stream's last record is there."""
    found = pieces.get(records.WALK_MORE) if pieces else None
    return bool(found) and found[-1].op == records.WALK_LAST  # type: ignore[index]  # found is not empty


class Walk:
    """Operations one after the other; `room` finds a place in the record's fixed part, which
    serves as registers.
    """

    def __init__(self, room: Callable[[int], int]) -> None:
        # as records.OP; operations are numbered from the walk's first one
        self.ops: list[list[int]] = []
        self._room = room

    def _add(
        self, kind: int, source: int, target: int, length: int, offset: int, keep: int
    ) -> list[int]:
        op = [kind, len(self.ops) + 1, source, target, length, offset, keep]
        self.ops.append(op)
        return op

    def guard(self, result: int) -> None:
        """Ends the walk if the number there is negative."""
        self._add(records.OP_LEAVE, result, self._room(8), TO_THE_END, -1, 0)

    def product(self, one: int, other: int) -> int:
        """Where the product of the numbers at these places is."""
        at = self._room(8)
        self._add(records.OP_PRODUCT, one, at, other, 0, 0)
        return at

    def number(self, place: int) -> Callable[[Stream], int]:
        """The number there."""
        # a list of which nothing is taken: its head tells
        self._add(records.OP_LIST, place, self._room(16), place, 0, 0)
        return lambda stream: stream.head().total

    def block(self, source: int, offset: int, length: int) -> int:
        """Copies bytes at *source + offset; where they are for what hangs on them. They are the
        stream's next item.
        """
        at = self._room(length)
        self._add(records.OP_BLOCK, source, at, length, offset, 0)
        return at

    def text(
        self, source: int, keep: int, *, offset: int = 0, only: tuple[int, int] | None = None
    ) -> TakeText:
        """Copies the string at *source + offset; only if the number at the place only[0] is
        only[1].
        """
        kind, (place, value) = (
            (records.OP_STRING | records.OP_IF, only) if only else (records.OP_STRING, (0, 0))
        )
        self._add(kind, source, place, value, offset, keep)
        return lambda stream: _take_text(stream, keep)

    def array(
        self, source: int, count: int, bits: int, read: Callable[[bytes, int], Value]
    ) -> Take:
        """Copies as many elements of so many bits as the number at `count` says. `read`: their
        bytes, how many there are.
        """
        self._add(records.OP_ARRAY, source, bits, count, 0, records.WALK_PIECE)

        def take(stream: Stream) -> Value:
            item = stream.item()
            if item.got == records.STR_NULL:
                return None
            return Unreadable(item.address) if item.got < 0 else read(item.data, item.total)

        return take

    def each(
        self,
        base: int,
        count: int,
        stride: int,
        length: int,
        body: Callable[[int, int], TakeElement],
        finish: Finish = lambda items: items,
    ) -> Take:
        """The elements of a list at *base, as many as the number at `count` says (0: up to a NULL),
        `stride` bytes each.

        `length` bytes of each are copied; `body` gets the place of the copy and of the element's
        address, and may copy more.
        """
        places, copy = self._room(16), self._room(length)
        self._add(records.OP_LIST, base, places, count, stride, MOST)
        element = self._add(records.OP_ELEMENT, places, copy, stride, length, 0)
        first = len(self.ops) - 1
        leave = None if count else self._add(records.OP_LEAVE, copy, self._room(8), 0, 0, ALL_ONES)
        inner = body(copy, places)
        end = len(self.ops)
        # what would go on behind the list goes on with its next element
        for op in self.ops[first:end]:
            op[1] = first if op[1] == end else op[1]
            place = {records.OP_ELEMENT: 6, records.OP_LEAVE: 4}.get(op[0])
            if place and op[place] == end:
                op[place] = first
        element[6] = end
        if leave:
            leave[4] = end

        def take(stream: Stream) -> Value:
            try:
                head = stream.head()
            except Ended:
                return CutList(finish([]), None)
            if head.got == records.STR_NULL:
                return None
            items: list[Value] = []
            whole = False
            try:
                for _ in range(min(head.got, MOST)):
                    item = stream.item()
                    if leave and item.got >= 0 and not any(item.data):
                        whole = True
                        break
                    value = inner(stream, item.data if item.got >= 0 else bytes(length))
                    items.append(value if item.got >= 0 else Unreadable(item.address))
            except Ended:
                return CutList(finish(items), head.total if count else None)
            if count:
                whole = head.total == len(items)
            return finish(items) if whole else CutList(finish(items), head.total if count else None)

        return take

    def packed(self, first: int) -> bytes:
        """The operations as they are in a plan whose operation number `first` is the walk's
        first.
        """
        end = len(self.ops)
        result = b""
        for kind, then, source, target, length, offset, keep in self.ops:
            if kind == records.OP_LEAVE:
                length = first + (end if length == TO_THE_END else length)
            if kind == records.OP_ELEMENT:
                keep += first
            result += records.OP.pack(kind, first + then, source, target, length, offset, keep)
        return result


def _take_text(stream: Stream, keep: int) -> Copied:
    """A string in pieces; the last one is not full."""
    text, done = b"", 0
    address = 0
    try:
        while True:
            head = stream.head()
            address = address or head.address
            if head.got < 0:
                return Copied(head.address if head.got != records.STR_NULL else 0, None, None)
            text += stream.data(max(0, min(head.got, keep - done)))
            done += head.got
            if head.got < records.WALK_PIECE:
                return Copied(address, text, done)
            if done >= records.LENGTH_LIMIT:
                return Copied(address, text, None)
    except Ended:
        if not address:
            raise
        return Copied(address, text, None)
