# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bytes of a file or a pipe come in; the contents of its zstd frames go out, whatever is torn
or damaged between them said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from log.recording import format
from log.recording.format import MAGIC, SKIPPABLE

AT_ONCE = 16 << 20  # bytes of one frame's content that are handed out together, at most
_READ = 1 << 20  # bytes
# bytes of a frame that can be looked through again when it turns out to be damaged
_MOST_KEPT = 64 << 20
_MAGIC = MAGIC.to_bytes(4, "little")
_DICTIONARY = (0, 1, 2, 4)  # bytes of its id
_RAW, _RLE, _COMPRESSED = range(3)


class Content(NamedTuple):
    """What a frame holds, or a part of a long one."""

    offset: int  # of the frame in the file
    size: int  # bytes of the frame; 0: more follows
    data: bytes
    skippable: int = 0  # its magic number: `data` is the frame's own content


class Fault(NamedTuple):
    """Bytes that are no frame."""

    offset: int
    size: int
    torn: bool  # the end of a frame is missing, and so is everything behind it


class Input:
    """What was read and may be looked at again. `read`: the next bytes, at most so many; none
    at the end.
    """

    def __init__(self, read: Callable[[int], bytes], offset: int = 0) -> None:
        self._read = read
        self._kept = bytearray()
        self.begin = offset  # of what is kept
        self.at = offset  # where the next byte is

    def mark(self) -> None:
        """What is before this is done with."""
        del self._kept[: self.at - self.begin]
        self.begin = self.at

    def take(self, count: int) -> bytes:
        """The next bytes; fewer at the end."""
        start = self.at - self.begin
        while len(self._kept) < start + count:
            data = self._read(max(_READ, start + count - len(self._kept)))
            if not data:
                break
            self._kept += data
        taken = bytes(self._kept[start : start + count])
        self.at += len(taken)
        return taken

    def skip(self, count: int) -> bool:
        """Pass over so many bytes; False if there are not so many."""
        while count:
            self.mark()
            taken = len(self.take(min(count, _READ)))
            if not taken:
                return False
            count -= taken
        return True

    def to_next(self) -> bool:
        """Go to where the next frame may begin, behind the mark; False at the end."""
        self.at = self.begin + 1
        while True:
            found = self._kept.find(_MAGIC, self.at - self.begin)
            if found >= 0:
                self.at = self.begin + found
                return True
            self.at = max(self.at, self.begin + len(self._kept) - 3)
            self.mark()
            data = self._read(_READ)
            if not data:
                self.at += len(self._kept)
                return False
            self._kept += data


class _Torn(Exception):
    """The end of the input is inside of a frame."""


class _Damaged(Exception):
    """This is no frame."""


def frames(read: Callable[[int], bytes], offset: int = 0) -> Iterator[Content | Fault]:
    """The contents, in order; `offset`: of what is read first."""
    source = Input(read, offset)
    while True:
        source.mark()
        begin = source.at
        head = source.take(4)
        if not head:
            return
        torn = False
        try:
            if len(head) < 4:
                raise _Torn
            magic = int.from_bytes(head, "little")
            if magic & ~0xF == SKIPPABLE:
                yield _skippable(source, begin, magic)
            elif magic == MAGIC:
                yield from _frame(source, begin)
            else:
                raise _Damaged
            continue
        except _Torn:
            torn = True
        except _Damaged:
            pass
        if source.begin > begin:  # too long to look through it again
            while source.take(_READ):
                source.mark()
            yield Fault(begin, source.at - begin, True)
            return
        source.at = source.begin
        more = source.to_next()
        yield Fault(begin, source.at - begin, torn and not more)


def _skippable(source: Input, begin: int, magic: int) -> Content:
    size = int.from_bytes(_exactly(source, 4), "little")
    if size > AT_ONCE:
        if not source.skip(size):
            raise _Torn
        return Content(begin, size + 8, b"", magic)
    return Content(begin, size + 8, _exactly(source, size), magic)


def _frame(source: Input, begin: int) -> Iterator[Content]:
    unpacker = format.unpacker().decompressobj()
    parts, size = [], 0
    for raw in _blocks(source):
        try:
            part = unpacker.decompress(raw)
        except (format.ZstdError, MemoryError):
            raise _Damaged from None
        parts.append(part)
        size += len(part)
        if size > AT_ONCE:
            yield Content(begin, 0, b"".join(parts))
            parts, size = [], 0
        if source.at - source.begin > _MOST_KEPT:
            source.mark()
    if not unpacker.eof:
        raise _Damaged
    yield Content(begin, source.at - begin, b"".join(parts))


def _blocks(source: Input) -> Iterator[bytes]:
    """The frame's bytes behind its magic number, cut before each block: no block makes more
    than 128 KiB.
    """
    descriptor = _exactly(source, 1)
    flags = descriptor[0]
    single = flags >> 5 & 1
    rest = (
        (1 - single) + _DICTIONARY[flags & 3] + (single if flags >> 6 == 0 else 1 << (flags >> 6))
    )
    yield _MAGIC + descriptor + _exactly(source, rest)
    last = False
    while not last:
        head = _exactly(source, 3)
        number = int.from_bytes(head, "little")
        last, kind, size = bool(number & 1), number >> 1 & 3, number >> 3
        if kind > _COMPRESSED or size > 1 << 17:
            raise _Damaged
        yield head + _exactly(source, 1 if kind == _RLE else size)
    if flags >> 2 & 1:
        yield _exactly(source, 4)


def _exactly(source: Input, count: int) -> bytes:
    data = source.take(count)
    if len(data) < count:
        raise _Torn
    return data
