# SPDX-License-Identifier: LGPL-2.1-or-later
"""A segment, another file or a pipe comes in; those of its lines go out that an answer may depend
on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from log.query.past import Closed, Open, Window
from log.query.picking import Picker
from log.query.query import Query
from log.recording.folder import contents_of
from log.recording.format import LONGEST_LINE, MAGIC, SKIPPABLE, decompress, need_zstandard
from log.recording.frames import Fault, frames
from log.recording.index import Index, Indexes

_READ = 1 << 20  # bytes
Say = Callable[[str], None]
Read = Callable[[int], bytes]  # the next bytes, at most so many; none at the end
Wait = Callable[[], None]


class Look(NamedTuple):
    """How a record is read."""

    query: Query
    indexes: Indexes
    say: Say
    # called before looking again for what is being written; None: the end is the end
    wait: Wait | None = None
    will: Callable[[int], None] = lambda count: None  # told how many bytes there will be
    seen: Callable[[int], None] = lambda count: None  # and of each that was read, or need not be


class Medium(NamedTuple):
    """What is read."""

    label: str  # for people
    look: Look
    picker: Picker  # of its host
    reopen: Open | None = None  # where that is possible
    lenient: bool = False  # its end may just be being written


def lines_of(fd: int, source: Medium) -> Iterator[bytes]:
    """The lines of a file or a pipe that may be meant; where there is something to wait for it
    goes on behind its end.
    """
    label, look = source.label, source.look

    read_on = contents_of(fd)

    def following(count: int) -> bytes:
        while not (data := read_on(count)) and look.wait:
            look.wait()
        look.seen(len(data))
        return data

    try:
        head = _first(following)
        if not head:
            if not source.lenient:
                look.say(f"{label}: is empty")
            return
        if _is_zstd(head):
            need_zstandard()
            index = None if look.wait or source.reopen is None else look.indexes.of(fd)
            if index is None:
                pushed = [head]
                read = lambda count: pushed.pop() if pushed else following(count)  # noqa: E731
                yield from walked_lines(read, source)
            else:
                yield from _indexed_lines(fd, index, source)
        else:
            yield from _plain_lines(following, head, source)
    except OSError as error:
        look.say(f"{label}: {(os.strerror(error.errno) if error.errno else str(error)).lower()}")


def _first(read: Read) -> bytes:
    head = b""
    while len(head) < 4 and (data := read(4 - len(head))):
        head += data
    return head


def _is_zstd(head: bytes) -> bool:
    magic = int.from_bytes(head, "little")
    return len(head) == 4 and (magic == MAGIC or magic & ~0xF == SKIPPABLE)


def _indexed_lines(fd: int, index: Index, source: Medium) -> Iterator[bytes]:
    label, look, picker, reopen, _ = source
    assert reopen
    closed = Closed(reopen, index, look.indexes)
    picker.past.begin(closed)
    query, offsets = look.query, index.offsets()
    frames_of = query.frames_of(index)
    chosen = None if frames_of is None else f"{frames_of:b}"[::-1].ljust(len(index.rows), "0")
    for number, row in enumerate(index.rows):
        look.seen(row.size)
        meant = (chosen is None or chosen[number] == "1") and query.may_hold(row)
        if not meant and not picker.awaits(row.first):
            continue
        closed.at = number
        try:
            content = decompress(os.pread(fd, row.size, offsets[number]))
        except ValueError:
            look.say(f"{label}: the frame at byte {offsets[number]} is damaged; it is skipped")
            continue
        yield from picker.frame(content, row.holds, closed)


def walked_lines(read: Read, source: Medium) -> Iterator[bytes]:
    """The lines of frames that nothing tells where they are."""
    label, look, rest, window = source.label, source.look, b"", Window()
    source.picker.past.begin(window)
    for content in frames(read):
        if isinstance(content, Fault):
            rest = b""
            if content.torn and source.lenient:
                return
            what = "its end is torn off" if content.torn else "they are no frame"
            look.say(f"{label}: {content.size} bytes at byte {content.offset}: {what}; skipped")
        elif not content.skippable:
            data = rest + content.data if rest else content.data
            whole = data.rfind(b"\n") + 1
            rest = data[whole:]
            if len(rest) > LONGEST_LINE:
                look.say(f"{label}: a line has more than {LONGEST_LINE >> 20} MiB; skipped")
                rest = b""
            yield from source.picker.piece(data[:whole], window)
    if rest:
        yield from source.picker.piece(rest, window)


def _plain_lines(read: Read, head: bytes, source: Medium) -> Iterator[bytes]:
    rest, skipping, window = head, False, Window()
    source.picker.past.begin(window)
    while True:
        data = read(_READ)
        if not data:
            break
        data = rest + data
        whole = data.rfind(b"\n") + 1
        rest = data[whole:]
        if skipping:
            if not whole:
                rest = b""
                continue
            begin = data.index(b"\n") + 1
            data, whole, skipping = data[begin:], whole - begin, False
        if len(rest) > LONGEST_LINE:
            source.look.say(
                f"{source.label}: a line has more than {LONGEST_LINE >> 20} MiB; skipped"
            )
            rest, skipping = b"", True
        yield from source.picker.piece(data[:whole], window)
    if rest and not skipping:
        yield from source.picker.piece(rest, window)
