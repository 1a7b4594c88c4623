# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a segment of a record is made of, as bytes: zstd frames of JSON lines, their seals, and the
index at the end of a closed one.

A frame is a zstd frame of its own; its last line is its seal. Behind the last one come two
skippable frames, which other
readers of zstd pass over: our index, one row a frame, and the seek table of zstd's seekable format.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from log.errors import TraceError

try:
    import zstandard
except ModuleNotFoundError:
    zstandard = None  # type: ignore[assignment]

ZstdError: type[Exception] = ValueError if zstandard is None else zstandard.ZstdError

SUFFIX = ".jsonl.zst"
MAGIC = 0xFD2FB528  # of a zstd frame
SKIPPABLE = 0x184D2A50  # to 0x184D2A5F
INDEX = 0x184D2A5D
SEEK_TABLE = 0x184D2A5E
SEEKABLE = 0x8F92EAB1
LONGEST_LINE = 16 << 20  # bytes
LARGEST_FRAME = 256 << 20  # bytes of lines that are unpacked at once, at most
_HEAD = struct.Struct("<II")  # of a skippable frame: magic number, bytes that follow
_ENTRY = struct.Struct("<II")  # of the seek table: bytes of the frame, and of its content
_FOOTER = struct.Struct("<IBI")  # number of frames, descriptor, SEEKABLE
_NO_CHECKSUMS = 0
LEVEL = 3
WINDOW = 1 << 27  # bytes
NO_CHAIN = "0" * 64  # before the first frame of all

# what a frame may hold; NOTICES: anything but calls, commands and changes of domains
WRITES, FAILED, DENIED, DOMAINS, NOTICES = 1, 2, 4, 8, 16
MOST_NAMES = 512  # of a frame; where there are more, it may hold any


class Row(NamedTuple):
    """What the index says of a frame."""

    offset: int  # bytes, of the file
    size: int  # bytes, compressed
    content: int  # bytes of lines
    first: int  # ns: the earliest begin of its events
    last: int  # ns: the latest end
    events: int  # without the seal
    calls: int
    holds: int  # WRITES, ...
    names: tuple[int, ...] | None  # hashes of the objects' names and UUIDs; None: too many


def need_zstandard() -> None:
    """TraceError where the library is not installed."""
    if zstandard is None:
        raise TraceError(
            "Python's module zstandard is missing: install the package python3-zstandard"
        )


def compress(content: bytes) -> bytes:
    """A zstd frame, which says how long its content is and has a checksum."""
    return zstandard.ZstdCompressor(
        level=LEVEL, write_checksum=True, write_content_size=True
    ).compress(content)


def seal_line(time: str, frame: int, content: bytes, count: int, chain: str) -> tuple[bytes, str]:
    """The seal behind a frame's lines, and the new head of the chain."""
    digest = hashlib.sha256(content).hexdigest()
    start = f'{{"type":"seal","time":"{time}","frame":{frame},"count":{count},"sha256":"{digest}"'
    head = hashlib.sha256(f"{chain}{start}".encode()).hexdigest()
    return f'{start},"chain":"{head}"}}\n'.encode(), head


def chained(chain: str, line: bytes) -> str | None:
    """The chain's head behind a seal's line; None if it is no seal."""
    start, found, _ = line.rpartition(b',"chain":"')
    return hashlib.sha256(chain.encode() + start).hexdigest() if found else None


def name_hash(name: str) -> int:
    """What the index keeps of an object's name: 32 bits."""
    return int.from_bytes(
        hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=4).digest(), "little"
    )


def skippable(magic: int, content: bytes) -> bytes:
    """A frame that readers of zstd pass over."""
    return _HEAD.pack(magic, len(content)) + content


def tail(rows: Iterable[Row]) -> bytes:
    """What closes a segment: the index and the seek table."""
    rows = list(rows)
    index = skippable(INDEX, compress(json.dumps({"frames": rows}, separators=(",", ":")).encode()))
    entries = [_ENTRY.pack(row.size, row.content) for row in rows]
    entries.append(_ENTRY.pack(len(index), 0))
    return index + skippable(
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


def read_index(data: bytes) -> list[Row] | None:
    """The rows of an index frame's content; None if it is none."""
    try:
        frames = json.loads(decompress(data))["frames"]
        return [_row(row) for row in frames]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return None


def unpacker() -> zstandard.ZstdDecompressor:
    """What unpacks frames; as zstd itself, none that need more than 128 MiB at once."""
    return zstandard.ZstdDecompressor(max_window_size=WINDOW)


def _row(row: list[Any]) -> Row:
    offset, size, content, first, last, events, calls, holds = map(_number, row[:8])
    names = None if row[8] is None else tuple(map(_number, row[8]))
    return Row(offset, size, content, first, last, events, calls, holds, names)


def _number(item: Any) -> int:
    if type(item) is not int or item < 0:
        raise ValueError
    return item


def decompress(data: bytes, most: int = LARGEST_FRAME) -> bytes:
    """The content of one zstd frame. ValueError for anything else, and for more than `most`
    bytes.
    """
    try:
        size = zstandard.frame_content_size(data)
        if size > most:
            raise ValueError("too large")
        if size < 0:
            raise ValueError("not said how large")
        return unpacker().decompress(data)
    except (ZstdError, MemoryError) as error:
        raise ValueError(str(error)) from None


assert sys.byteorder == "little"  # as everywhere in this program
