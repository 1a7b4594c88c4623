# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a segment of a record is made of, as bytes: zstd frames of JSON lines, and their seals.

A frame is a zstd frame of its own; its last line is its seal. Behind the last one of a closed
segment come two skippable frames, which other readers of zstd pass over: our index, and the seek
table of zstd's seekable format.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from typing import NamedTuple

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
LONGEST_LINE = 16 << 20  # bytes
LARGEST_FRAME = 256 << 20  # bytes of lines that are unpacked at once, at most
_HEAD = struct.Struct("<II")  # of a skippable frame: magic number, bytes that follow
LEVEL = 3
WINDOW = 1 << 27  # bytes
NO_CHAIN = "0" * 64  # before the first frame of all


class Line(NamedTuple):
    """A line of a record."""

    host: str | None  # where there are several
    text: bytes
    on: str | None = None  # the host that it was recorded on, where the record's place tells it


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


def skippable(magic: int, content: bytes) -> bytes:
    """A frame that readers of zstd pass over."""
    return _HEAD.pack(magic, len(content)) + content


def unpacker() -> zstandard.ZstdDecompressor:
    """What unpacks frames; as zstd itself, none that need more than 128 MiB at once."""
    return zstandard.ZstdDecompressor(max_window_size=WINDOW)


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
