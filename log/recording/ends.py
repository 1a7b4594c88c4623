# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a record ends: the last whole frame of its newest segment, which the next one goes on
from.
"""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from log.parsing.fields import ForeignLine, moment
from log.recording.folder import Folder, contents_of, opened
from log.recording.format import decompress
from log.recording.frames import Content, frames
from log.recording.index import FOOTER, seek_table, table_size


class LastSeal(NamedTuple):
    """The last seal of a segment."""

    segment: str
    frame: int
    chain: str
    time: int  # ns
    ended: bool  # the recorder said that it ends
    boot: str | None  # of the host, when the segment began


def last_end(folder: Folder, segment: str | None = None) -> LastSeal | None:
    """The end of the record, or of one segment; None where nothing is sealed."""
    names = [segment] if segment else [found.name for found in reversed(folder.segments()[0])]
    for name in names:
        try:
            with opened(folder, name) as fd:
                found = _end_of(fd, name)
        except OSError:
            continue
        if found:
            return found
    return None


def _end_of(fd: int, name: str) -> LastSeal | None:
    size = os.fstat(fd).st_size
    data = _last_content(fd, size)
    first = data
    if data is None:
        for content in frames(contents_of(fd)):
            if isinstance(content, Content) and not content.skippable and content.size:
                first = first or content.data
                if sealed(content.data):
                    data = content.data
    else:
        first = next(
            (content.data for content in frames(contents_of(fd)) if isinstance(content, Content)),
            data,
        )
    return None if data is None else _end(data, name, _boot_of(first or b""))


def _last_content(fd: int, size: int) -> bytes | None:
    """The content of the last frame of a closed segment."""
    footer = os.pread(fd, FOOTER, max(size - FOOTER, 0))
    length = table_size(footer) if len(footer) == FOOTER else 0
    if not 0 < length <= size:
        return None
    table = seek_table(os.pread(fd, length, size - length))
    if table is None or len(table) < 2 or sum(entry[0] for entry in table) + length != size:
        return None
    compressed = table[-2][0]
    try:
        return decompress(os.pread(fd, compressed, size - length - table[-1][0] - compressed))
    except ValueError:
        return None


def sealed(content: bytes) -> bytes | None:
    """The seal's line at a frame's end."""
    start = content.rfind(b"\n", 0, len(content) - 1) + 1
    line = content[start:]
    return line if line.startswith(b'{"type":"seal",') and line.endswith(b"}\n") else None


def _end(content: bytes, name: str, boot: str | None) -> LastSeal | None:
    line = sealed(content)
    try:
        seal = json.loads(line or b"null")
        frame, chain, time = seal["frame"], seal["chain"], moment(seal["time"])
    except (ValueError, TypeError, KeyError, ForeignLine, RecursionError):
        return None
    if type(frame) is not int or type(chain) is not str:
        return None
    return LastSeal(name, frame, chain, time, b'\n{"type":"end",' in b"\n" + content, boot)


def _boot_of(content: bytes) -> str | None:
    try:
        boot = json.loads(content.partition(b"\n")[0])["boot"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return boot if type(boot) is str else None
