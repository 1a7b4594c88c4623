# SPDX-License-Identifier: LGPL-2.1-or-later
"""Paths come in; the lines of what is recorded there go out, in order of time where there are
several hosts.

A path is a folder of segments or of hosts' folders, a segment, a file of JSON lines, or "-". What
can't be read is said in a line and skipped.
"""

from __future__ import annotations

import heapq
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from log.errors import TraceError
from log.quote import name
from log.recording.folder import Folder, open_folder, opened, order
from log.recording.format import (
    INDEX,
    LONGEST_LINE,
    MAGIC,
    SKIPPABLE,
    SUFFIX,
    Row,
    decompress,
    need_zstandard,
    read_index,
    seek_table,
    table_size,
)
from log.recording.frames import Content, Fault, frames
from log.recording.parse import ForeignLine, moment
from log.recording.query import Query

_READ = 1 << 20  # bytes
_FOOTER = 9  # bytes
STDIN = "-"
# the end of the line before one that is no call's
_OTHERS = re.compile(rb'\n(?!\{"type":"(?:call|unfinished|verdict)")')
_OWN = (b'{"type":"recording"', b'{"type":"seal"')  # when it was written, not when it happened
Say = Callable[[str], None]
Read = Callable[[int], bytes]  # the next bytes, at most so many; none at the end
Wait = Callable[[], None]


class Look(NamedTuple):
    """How a record is read."""

    query: Query
    say: Say
    # called before looking again for what is being written; None: the end is the end
    wait: Wait | None = None
    will: Callable[[int], None] = lambda count: None  # told how many bytes there will be
    seen: Callable[[int], None] = lambda count: None  # and of each that was read, or need not be


class Line(NamedTuple):
    """A line of a record."""

    host: str | None  # where there are several
    text: bytes


class Recorded(NamedTuple):
    """The record of one host: what it is called, and its lines in order."""

    host: str | None
    lines: Iterator[bytes]


def read(paths: list[str], look: Look) -> tuple[Iterator[Line], bool]:
    """The lines that may be meant, and whether they are of several hosts. TraceError for a path
    that is not there.
    """
    records = [recorded for path in paths for recorded in _open(path, look)]
    if look.wait and len(records) > 1:
        raise TraceError("--follow goes on with one record only: name one")
    several = len({recorded.host for recorded in records if recorded.host is not None}) > 1
    if len(records) == 1 or not several:
        return (Line(None, line) for recorded in records for line in recorded.lines), several
    return _merged(records), several


def _open(path: str, look: Look) -> list[Recorded]:
    if path == STDIN:
        return [
            Recorded(None, lines_of(sys.stdin.fileno(), "standard input", look._replace(wait=None)))
        ]
    try:
        status = os.stat(path)
    except OSError as error:
        raise TraceError(f"{name(path)}: {os.strerror(error.errno or 0).lower()}") from None
    except ValueError:
        raise TraceError(f"{name(path)}: is not a file name") from None
    if not stat.S_ISDIR(status.st_mode):
        look.will(status.st_size)
        return [_open_file(path, look)]
    return _open_folder(path, look)


def _open_folder(path: str, look: Look, *, inner: bool = False) -> list[Recorded]:
    folder = open_folder(path)
    names, refused = folder.segments()
    for line in refused:
        look.say(line)
    hosts: dict[str, list[str]] = {}
    for segment in names:
        look.will(segment.size)
        hosts.setdefault(_host_of(folder, segment.name), []).append(segment.name)
    records = [Recorded(host, _segments(folder, files, look)) for host, files in hosts.items()]
    if not inner:
        for below in sorted(os.scandir(folder.fd), key=lambda entry: entry.name):
            if below.is_dir(follow_symlinks=False):
                try:
                    records += _open_folder(os.path.join(path, below.name), look, inner=True)
                except TraceError as error:
                    look.say(str(error))
    if not records and not inner:
        look.say(f"{name(path)}: there is no record in it")
    return records


def _host_of(folder: Folder, file: str) -> str:
    """The host by the segment's first line, else by its name."""
    try:
        with opened(folder, file) as fd:
            first = next(frames(lambda count: os.read(fd, count)), None)
        if isinstance(first, Content) and not first.skippable:
            host = json.loads(first.data.partition(b"\n")[0])["host"]
            if isinstance(host, str):
                return host
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass
    return order(file)[1].rpartition("-")[0]


def _segments(folder: Folder, files: list[str], look: Look) -> Iterator[bytes]:
    for file in files[:-1] if look.wait else files:
        # the end of the newest one may just be being written
        lenient = file == files[-1] and folder.recorder() is not None
        yield from _segment(folder, file, look, lenient)
    while look.wait:
        yield from _growing(folder, files[-1], look, look.wait)
        newer = [
            segment.name
            for segment in folder.segments()[0]
            if order(segment.name) > order(files[-1])
        ]
        files = newer or files
        for file in files[:-1] if newer else ():
            yield from _segment(folder, file, look, False)


def _segment(folder: Folder, file: str, look: Look, lenient: bool) -> Iterator[bytes]:
    label = name(os.path.join(folder.path, file))
    try:
        with opened(folder, file) as fd:
            yield from lines_of(fd, label, look._replace(wait=None), lenient=lenient)
    except OSError as error:
        look.say(f"{label}: {os.strerror(error.errno or 0).lower()}")


def _growing(folder: Folder, file: str, look: Look, wait: Wait) -> Iterator[bytes]:
    """The lines of the newest segment, and those that are written to it, until there is a newer
    one.
    """
    need_zstandard()
    label = name(os.path.join(folder.path, file))
    with opened(folder, file) as fd:

        def grown(count: int) -> bytes:
            while True:
                has_newer = any(
                    order(segment.name) > order(file) for segment in folder.segments()[0]
                )
                data = os.read(fd, count)
                if data or has_newer:
                    return data
                wait()

        yield from _walked_lines(grown, label, look, False)


def _open_file(path: str, look: Look) -> Recorded:
    def lines() -> Iterator[bytes]:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as error:
            raise TraceError(f"{name(path)}: {os.strerror(error.errno or 0).lower()}") from None
        try:
            yield from lines_of(fd, name(path), look)
        finally:
            os.close(fd)

    return Recorded(os.path.basename(path) if path.endswith(SUFFIX) else path, lines())


def lines_of(fd: int, label: str, look: Look, *, lenient: bool = False) -> Iterator[bytes]:
    """The lines of a file or a pipe that may be meant; where there is something to wait for it
    goes on behind its end.
    """

    def following(count: int) -> bytes:
        while not (data := os.read(fd, count)) and look.wait:
            look.wait()
        look.seen(len(data))
        return data

    try:
        head = _first(following)
        if not head:
            if not lenient:
                look.say(f"{label}: is empty")
            return
        if _is_zstd(head):
            need_zstandard()
            rows = None if look.wait else rows_of(fd)
            if rows is None:
                pushed = [head]
                read = lambda count: pushed.pop() if pushed else following(count)  # noqa: E731
                yield from _walked_lines(read, label, look, lenient)
            else:
                yield from _indexed_lines(fd, rows, label, look)
        else:
            yield from _plain_lines(following, head, label, look)
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


def rows_of(fd: int) -> list[Row] | None:
    """The index of a closed segment, if what it says fits the file."""
    try:
        size = os.fstat(fd).st_size
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        footer = os.pread(fd, _FOOTER, max(size - _FOOTER, 0))
        length = table_size(footer) if len(footer) == _FOOTER else 0
        if not 0 < length <= size:
            return None
        table = seek_table(os.pread(fd, length, size - length))
        if not table or sum(frame[0] for frame in table) + length != size:
            return None
        index = os.pread(fd, table[-1][0], size - length - table[-1][0])
        if int.from_bytes(index[:4], "little") != INDEX:
            return None
        rows = read_index(index[8:])
    except OSError:
        return None
    if rows is None or [(row.size, row.content) for row in rows] != table[:-1]:
        return None
    at = 0
    for row in rows:
        if row.offset != at:
            return None
        at += row.size
    return rows


def _indexed_lines(fd: int, rows: list[Row], label: str, look: Look) -> Iterator[bytes]:
    query = look.query
    for row in rows:
        look.seen(row.size)
        if not query.may_hold(row):
            continue
        try:
            content = decompress(os.pread(fd, row.size, row.offset))
        except ValueError:
            look.say(f"{label}: the frame at byte {row.offset} is damaged; it is skipped")
            continue
        needles = None if row.holds & ~0xF else query.needles
        if needles is None or any(needle in content for needle in needles):
            yield from _meant(content, query)


def _walked_lines(read: Read, label: str, look: Look, lenient: bool) -> Iterator[bytes]:
    """The lines of frames that nothing tells where they are."""
    rest = b""
    for content in frames(read):
        if isinstance(content, Fault):
            rest = b""
            if content.torn and lenient:
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
            yield from _meant(data[:whole], look.query)
    if rest:
        yield from _meant(rest, look.query)


def _plain_lines(read: Read, head: bytes, label: str, look: Look) -> Iterator[bytes]:
    rest, skipping = head, False
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
            look.say(f"{label}: a line has more than {LONGEST_LINE >> 20} MiB; skipped")
            rest, skipping = b"", True
        yield from _meant(data[:whole], look.query)
    if rest and not skipping:
        yield from _meant(rest, look.query)


def _meant(content: bytes, query: Query) -> Iterator[bytes]:
    may_mean = query.may_mean
    lines = _lines_with(content, query.parts) if query.parts else iter(content.split(b"\n"))
    return (line for line in lines if line and may_mean(line))


def _lines_with(content: bytes, parts: tuple[bytes, ...]) -> Iterator[bytes]:
    """The lines of calls that hold one of the parts, and all that are not of calls. The others
    are not even cut out.
    """
    begins = {0, *(found.end() for found in _OTHERS.finditer(content))}
    for part in parts:
        at = content.find(part)
        while at >= 0:
            begins.add(content.rfind(b"\n", 0, at) + 1)
            end = content.find(b"\n", at)
            at = content.find(part, end + 1) if end >= 0 else -1
    for begin in sorted(begins):
        end = content.find(b"\n", begin)
        yield content[begin : end if end >= 0 else None]


def _merged(records: list[Recorded]) -> Iterator[Line]:
    """The lines of all, by time; each host's own stay in their order."""

    def timed(number: int, recorded: Recorded) -> Iterator[tuple[int, int, int, Line]]:
        latest = 0
        for count, line in enumerate(recorded.lines):
            if not line.startswith(_OWN):
                latest = max(latest, ended(line))
            yield latest, number, count, Line(recorded.host, line)

    return (
        item[3]
        for item in heapq.merge(
            *(timed(number, recorded) for number, recorded in enumerate(records))
        )
    )


def ended(line: bytes) -> int:
    """When what a line tells was over, ns; 0: it does not say."""
    at = line.find(b'"time":"')
    if at < 0:
        return 0
    try:
        begun = moment(line[at + 8 : at + 38].decode())
    except (ForeignLine, ValueError):
        return 0
    at = line.find(b'"duration_ns":')
    digits = line[at + 14 : at + 34].partition(b",")[0] if at >= 0 else b""
    return begun + (int(digits) if digits.isdigit() else 0)
