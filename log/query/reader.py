# SPDX-License-Identifier: LGPL-2.1-or-later
"""Paths come in; the lines of what is recorded there go out, in order of time where there are
several hosts.

A path is a folder of segments or of hosts' folders, a segment, a file of JSON lines, or "-". What
can't be read is said in a line and skipped.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import stat
import sys
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from log.errors import TraceError
from log.parsing.fields import ForeignLine, moment
from log.query.lines import Look, Medium, Wait, lines_of, walked_lines
from log.query.picking import Picker
from log.quote import name
from log.recording.folder import Folder, contents_of, open_folder, opened, order
from log.recording.format import SUFFIX, Line, need_zstandard
from log.recording.frames import Content, frames

STDIN = "-"
_OWN = (b'{"type":"recording"', b'{"type":"seal"')  # when it was written, not when it happened


class Recorded(NamedTuple):
    """The record of one host: what it is called, and its lines in order."""

    host: str | None
    lines: Iterator[bytes]
    on: str | None = None


def read(paths: list[str], look: Look) -> tuple[Iterator[Line], bool]:
    """The lines that may be meant, and whether they are of several hosts. TraceError for a path
    that is not there.
    """
    records = [recorded for path in paths for recorded in _open(path, look)]
    if look.wait and len(records) > 1:
        raise TraceError("--follow goes on with one record only: name one")
    several = len({recorded.host for recorded in records if recorded.host is not None}) > 1
    if len(records) == 1 or not several:
        return (Line(None, line, it.on) for it in records for line in it.lines), several
    return _merged(records), several


def _open(path: str, look: Look) -> list[Recorded]:
    if path == STDIN:
        look = look._replace(wait=None)
        source = Medium("standard input", look, Picker(look.query))
        return [Recorded(None, lines_of(sys.stdin.fileno(), source))]
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
        hosts.setdefault(host_of(folder, segment.name), []).append(segment.name)
    records = [
        Recorded(host, _segments(folder, files, look), host) for host, files in hosts.items()
    ]
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


def host_of(folder: Folder, file: str) -> str:
    """The host by the segment's first line, else by its name."""
    try:
        with opened(folder, file) as fd:
            first = next(frames(contents_of(fd)), None)
        if isinstance(first, Content) and not first.skippable:
            host = json.loads(first.data.partition(b"\n")[0])["host"]
            if isinstance(host, str):
                return host
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass
    return order(file)[1].rpartition("-")[0]


def _segments(folder: Folder, files: list[str], look: Look) -> Iterator[bytes]:
    picker = Picker(look.query)
    for file in files[:-1] if look.wait else files:
        # the end of the newest one may just be being written
        lenient = file == files[-1] and folder.recorder() is not None
        yield from _segment(folder, file, look, picker, lenient)
    while look.wait:
        yield from _growing(folder, files[-1], look, picker, look.wait)
        newer = [
            segment.name
            for segment in folder.segments()[0]
            if order(segment.name) > order(files[-1])
        ]
        files = newer or files
        for file in files[:-1] if newer else ():
            yield from _segment(folder, file, look, picker, False)


def _segment(
    folder: Folder, file: str, look: Look, picker: Picker, lenient: bool
) -> Iterator[bytes]:
    label = name(os.path.join(folder.path, file))
    try:
        with opened(folder, file) as fd:
            reopen = partial(opened, folder, file)
            look = look._replace(wait=None)
            yield from lines_of(fd, Medium(label, look, picker, reopen, lenient))
    except OSError as error:
        look.say(f"{label}: {os.strerror(error.errno or 0).lower()}")


def _growing(folder: Folder, file: str, look: Look, picker: Picker, wait: Wait) -> Iterator[bytes]:
    """The lines of the newest segment, and those that are written to it, until there is a newer
    one.
    """
    need_zstandard()
    label = name(os.path.join(folder.path, file))
    with opened(folder, file) as fd:
        read_on = contents_of(fd)

        def grown(count: int) -> bytes:
            while True:
                has_newer = any(
                    order(segment.name) > order(file) for segment in folder.segments()[0]
                )
                data = read_on(count)
                if data or has_newer:
                    return data
                wait()

        yield from walked_lines(grown, Medium(label, look, picker))


def _open_file(path: str, look: Look) -> Recorded:
    def lines() -> Iterator[bytes]:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as error:
            raise TraceError(f"{name(path)}: {os.strerror(error.errno or 0).lower()}") from None
        try:
            source = Medium(
                name(path), look, Picker(look.query), lambda: contextlib.nullcontext(fd)
            )
            yield from lines_of(fd, source)
        finally:
            os.close(fd)

    return Recorded(os.path.basename(path) if path.endswith(SUFFIX) else path, lines())


def _merged(records: list[Recorded]) -> Iterator[Line]:
    """The lines of all, by time; each host's own stay in their order."""

    def timed(number: int, recorded: Recorded) -> Iterator[tuple[int, int, int, Line]]:
        latest = 0
        for count, line in enumerate(recorded.lines):
            if not line.startswith(_OWN):
                latest = max(latest, ended(line))
            yield latest, number, count, Line(recorded.host, line, recorded.on)

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
