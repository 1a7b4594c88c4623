# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the index of a closed segment says of its frames, as bytes and back: a row for each, and
which may hold a word: a name or UUID of an object, a function, a process.

It is kept by column, as a day has 100,000 frames; and of words as a signature file: each word has
two of 4096 marks, and each mark knows the frames that have a word with it. So it has a limit,
whatever words there are, and at worst says of a frame that it may hold what it does not.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from log.recording.format import INDEX, SEEK_TABLE, compress, decompress, skippable

SEEKABLE = 0x8F92EAB1
MOST_READ = 1 << 17  # rows of indexes that are kept in memory, some 40 MB
MOST_FRAMES = 16384  # of a segment
# what a frame may hold; NOTICES: anything but calls, commands and changes of domains; CAUSED: what
# was done for a call
WRITES, FAILED, DENIED, DOMAINS, NOTICES, CAUSED = 1, 2, 4, 8, 16, 32
_MARKS = 4096
_VERSION = 2
_HEAD = struct.Struct("<II")  # of a skippable frame
_ENTRY = struct.Struct("<II")  # of the seek table: bytes of the frame, and of its content
_FOOTER = struct.Struct("<IBI")  # number of frames, descriptor, SEEKABLE
_NO_CHECKSUMS = 0
FOOTER = _FOOTER.size


class FrameRow(NamedTuple):
    """What the index says of a frame, but for its words."""

    size: int  # bytes, compressed
    content: int  # bytes of lines
    first: int  # ns: the earliest begin of its events
    last: int  # ns: the latest end
    events: int  # without the seal
    calls: int
    holds: int  # WRITES, ...


@lru_cache(maxsize=4096)
def marks_of(word: str) -> tuple[int, int]:
    """The marks of a word."""
    data = hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=4).digest()
    number = int.from_bytes(data, "little")
    return number % _MARKS, number // _MARKS % _MARKS


def of_function(name: str) -> str:
    """The word for a function."""
    return f"{name}()"


def of_process(pid: int) -> str:
    """The word for a process."""
    return f"#{pid}"


class Index:
    """Rows in order, and the marks of their frames' words: sets of frames, as bits."""

    def __init__(self) -> None:
        self.rows: list[FrameRow] = []
        self.marks: dict[int, int] = {}
        self.any = 0  # frames that may hold any word

    def add(self, row: FrameRow, marks: Iterable[int] | None) -> None:
        """A frame comes behind the others; None: it may hold any word."""
        bit = 1 << len(self.rows)
        self.rows.append(row)
        if marks is None:
            self.any |= bit
        else:
            known = self.marks
            for mark in marks:
                known[mark] = known.get(mark, 0) | bit

    def frames_with(self, words: Iterable[str]) -> int:
        """The frames that may hold one of the words, as bits."""
        frames = self.any
        for word in words:
            first, second = marks_of(word)
            frames |= self.marks.get(first, 0) & self.marks.get(second, 0)
        return frames

    def offsets(self) -> list[int]:
        """Where in the file each frame begins, and the last one ends."""
        at, found = 0, [0]
        for row in self.rows:
            at += row.size
            found.append(at)
        return found

    def fits(self, other: Index) -> bool:
        """Whether it says the same as one that was made of what is in the frames; there, the
        words of some are not known.
        """
        if self.rows != other.rows:
            return False
        known = ~other.any
        return all(
            (self.marks.get(mark, 0) ^ other.marks.get(mark, 0)) & known == 0
            for mark in {*self.marks, *other.marks}
        ) and not (self.any & known)


def tail(index: Index) -> bytes:
    """What closes a segment: the index and the seek table, each a skippable frame."""
    columns: dict[str, Any] = {"version": _VERSION}
    for number, column in enumerate(FrameRow._fields):
        columns[column] = [row[number] for row in index.rows]
    columns["any"] = f"{index.any:x}"
    columns["marks"] = {str(mark): f"{bits:x}" for mark, bits in sorted(index.marks.items())}
    data = skippable(INDEX, compress(json.dumps(columns, separators=(",", ":")).encode()))
    entries = [_ENTRY.pack(row.size, row.content) for row in index.rows]
    entries.append(_ENTRY.pack(len(data), 0))
    return data + skippable(
        SEEK_TABLE, b"".join(entries) + _FOOTER.pack(len(entries), _NO_CHECKSUMS, SEEKABLE)
    )


def seek_table(data: bytes) -> list[tuple[int, int]] | None:
    """The frames by the seek table that a file's last bytes, `data`, end with: size and content
    of each.
    """
    if len(data) < _FOOTER.size:
        return None
    count, descriptor, magic = _FOOTER.unpack_from(data, len(data) - _FOOTER.size)
    size = _FOOTER.size + count * _ENTRY.size
    if magic != SEEKABLE or descriptor != _NO_CHECKSUMS or len(data) < size + _HEAD.size:
        return None
    if _HEAD.unpack_from(data, len(data) - size - _HEAD.size) != (SEEK_TABLE, size):
        return None
    return list(_ENTRY.iter_unpack(data[len(data) - size : -_FOOTER.size]))


def table_size(footer: bytes) -> int:
    """Bytes of the frame with the seek table, by its last ones; 0: there is none."""
    count, _, magic = _FOOTER.unpack_from(footer, len(footer) - _FOOTER.size)
    return _FOOTER.size + count * _ENTRY.size + _HEAD.size if magic == SEEKABLE else 0


def read_index(data: bytes) -> Index | None:
    """The index by its frame's content; None if it is none, or one of another version."""
    try:
        columns = json.loads(decompress(data))
        if columns["version"] != _VERSION:
            return None
        found = Index()
        rows = zip(*(_numbers(columns[field]) for field in FrameRow._fields), strict=True)
        found.rows = list(map(FrameRow._make, rows))
        found.any = _frames(columns["any"])
        found.marks = {int(mark): _frames(bits) for mark, bits in columns["marks"].items()}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
    return found


class Indexes:
    """Those of a question, which may look at a segment twice."""

    def __init__(self) -> None:
        self._read: dict[tuple[int, ...], Index] = {}  # by file
        self._room = MOST_READ

    def of(self, fd: int) -> Index | None:
        """The index of a closed segment, if what it says fits the file."""
        try:
            status = os.fstat(fd)
        except OSError:
            return None
        key = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        index = self._read.get(key)
        if index is None and stat.S_ISREG(status.st_mode):
            index = _index_of(fd, status.st_size)
            if index and len(index.rows) <= self._room:
                self._room -= len(index.rows)
                self._read[key] = index
        return index


def _index_of(fd: int, size: int) -> Index | None:
    try:
        footer = os.pread(fd, FOOTER, max(size - FOOTER, 0))
        length = table_size(footer) if len(footer) == FOOTER else 0
        if not 0 < length <= size:
            return None
        table = seek_table(os.pread(fd, length, size - length))
        if not table or sum(frame[0] for frame in table) + length != size:
            return None
        data = os.pread(fd, table[-1][0], size - length - table[-1][0])
    except OSError:
        return None
    if int.from_bytes(data[:4], "little") != INDEX:
        return None
    index = read_index(data[_HEAD.size :])
    if index is None or [row[:2] for row in index.rows] != table[:-1]:
        return None
    return index


def _numbers(column: Any) -> Sequence[int]:
    if not set(map(type, column)) <= {int} or min(column, default=0) < 0:
        raise ValueError
    return column  # type: ignore[no-any-return]


def _frames(text: str) -> int:
    if not text:
        raise ValueError
    # int() takes signs and underscores, too, and is slower
    return int.from_bytes(bytes.fromhex(text if len(text) % 2 == 0 else f"0{text}"), "big")
