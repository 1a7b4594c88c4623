# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records come in; a target gets what is in them, from where the last run stopped, which is kept
in a small file beside the record.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from log.errors import TraceError
from log.events import Event, Recording
from log.parsing.fields import ForeignLine
from log.parsing.parse import parse
from log.query.lines import Look
from log.query.query import Query
from log.query.reader import host_of, read
from log.quote import name
from log.recording.folder import Folder, contents_of, open_folder, opened, order
from log.recording.format import need_zstandard
from log.recording.frames import Content, frames
from log.recording.index import Indexes
from log.sinks.exporter import AT_ONCE, LONGEST_WAIT, Destination, Refused, Unsent
from log.sinks.files.whole import write_whole

Say = Callable[[str], None]
_STATE_MAX = 1 << 20  # bytes
_TRIES = 5  # without success, before an export that does not follow stops
_FIRST_WAIT, _LAST_WAIT = 0.5, 30.0  # s
_SAVE_AGAIN = 1.0  # s


class Place(NamedTuple):
    """How far a host's record was sent."""

    segment: str
    lines: int  # of it


class State:
    """The file that says how far it was; while this is open, for one run alone."""

    def __init__(self, path: str) -> None:
        """TraceError for a file that is none of ours, or that another run goes on with."""
        self._path = path
        self._lock = _locked(f"{path}.lock")
        self._saved, self._is_new = 0.0, False  # when (s, monotonic); whether it is not written
        try:
            self.places: dict[str, Place] = _places_in(path)
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Another run may have it."""
        os.close(self._lock)

    def keep(self, host: str, place: Place, *, now: bool) -> None:
        """Note it; write it, if it is time or has to be `now`. What is there is replaced as a
        whole.
        """
        self._is_new |= self.places.get(host) != place
        self.places[host] = place
        if self._is_new and (now or time.monotonic() >= self._saved + _SAVE_AGAIN):
            self._saved, self._is_new = time.monotonic(), False
            hosts = {host: place._asdict() for host, place in self.places.items()}
            write_whole(self._path, [json.dumps({"hosts": hosts}), "\n"])


def _locked(path: str) -> int:
    """The descriptor of a file that is locked until it is closed. The state itself is replaced."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise TraceError(f"{name(path)}: can't lock it: {reason}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise TraceError(
            f"{name(path)}: another export sends this record there; end it first, or name a state "
            "of your own with --state"
        ) from None
    return fd


def _places_in(path: str) -> dict[str, Place]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise TraceError(f"{name(path)}: {os.strerror(error.errno or 0).lower()}") from None
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if (
            not stat.S_ISREG(status.st_mode)
            or status.st_uid != os.geteuid()
            or status.st_mode & 0o077
        ):
            raise TraceError(f"{name(path)}: others may have written it; remove it to begin anew")
        try:
            hosts = json.loads(file.read(_STATE_MAX))["hosts"]
            return {
                str(host): Place(str(place["segment"]), int(place["lines"]))
                for host, place in hosts.items()
            }
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise TraceError(
                f"{name(path)}: says not how far an export was; remove it to begin anew"
            ) from None


class Exporting:
    """A run of `export`."""

    def __init__(
        self,
        to: str,
        target: Destination,
        query: Query,
        say: Say,
        *,
        state: str | None = None,
        wait: Callable[[], None] | None = None,
    ) -> None:
        """`to`: what the user calls the target; `state`: the file, else one in each folder;
        `wait`: called before looking again for what is being recorded, None: the end is the end.
        """
        self._to, self._target, self._query, self._say = to, target, query, say
        self._state_path, self._wait = state, wait
        self._host: str | None = None
        self._batch: list[tuple[Event, Place | None]] = []
        self._seen: Place | None = None  # the last line that was looked at
        self._reached: Place | None = None  # all up to there was taken
        self._fails = False
        self.sent = self.refused = self._foreign = 0  # events

    def run(self, paths: list[str]) -> None:
        """Send what is in all of them. TraceError where the target does not take it."""
        folders, files = [], []
        for path in paths:
            if path != "-" and os.path.isdir(path):
                folders += _records_in(path, self._say)
            else:
                files.append(path)
        if self._wait and (files or len(folders) != 1):
            raise TraceError("--follow goes on with one record only: name one folder")
        if self._state_path and len({folder.path for folder, _, _ in folders}) > 1:
            raise TraceError("--state is of one folder: name one")
        for folder, host, segments in folders:
            self._run_record(folder, host, segments)
        for path in files:
            self._run_file(path)
        if self._foreign:
            lines = "line is" if self._foreign == 1 else "lines are"
            self._say(f"{self._foreign} {lines} no event; left out")

    def _run_record(self, folder: Folder, host: str, segments: list[str]) -> None:
        need_zstandard()
        state = State(self._state_path or os.path.join(folder.path, state_name(self._to)))
        self._host, place = host, state.places.get(host) if self._target.resumes else None
        self._seen = self._reached = place

        def keep(*, now: bool) -> None:
            reached = self._reached
            if reached is not None and self._target.resumes and not self._target.holds():
                state.keep(host, reached, now=now)

        def idle() -> None:
            self._deliver()
            keep(now=False)

        try:
            for reached, line in self._lines(folder, segments, place, idle):
                self._take(line, reached)
                if len(self._batch) >= AT_ONCE:
                    idle()
            self._deliver()
            self._insist(self._target.flush)
        finally:
            try:
                keep(now=True)
            finally:
                state.close()

    def _run_file(self, path: str) -> None:
        lines, _ = read([path], Look(Query(alone=True), Indexes(), self._say))
        for _, line, _ in lines:
            self._take(line, None)
            if len(self._batch) >= AT_ONCE:
                self._deliver()
        self._deliver()
        self._insist(self._target.flush)

    def _take(self, line: bytes, place: Place | None) -> None:
        event = self._event_of(line)
        if type(event) is Recording and event.host != self._host:
            self._deliver()
            self._host = event.host
        self._seen = place
        if event is not None and self._target.wants(event) and self._query.keeps(event):
            self._batch.append((event, place))

    def _event_of(self, line: bytes) -> Event | None:
        if line.startswith(b'{"type":"seal"'):
            return None
        try:
            return parse(line)
        except ForeignLine:
            self._foreign += 1
            return None

    def _deliver(self) -> None:
        """Send the batch; TraceError where that is not possible."""
        while self._batch:
            events = [event for event, _ in self._batch]
            taken = self._insist(partial(self._target.send, self._host, events))
            if taken is not None:
                self._reached = self._batch[taken - 1][1]
                self._batch = self._batch[taken:]
            else:
                self._batch = []
        self._reached = self._seen

    def _insist(self, do: Callable[[], None]) -> int | None:
        """Do it until it is done (None), or a part of it (how many events)."""
        wait, tries = _FIRST_WAIT, 0
        count = len(self._batch)
        while True:
            try:
                do()
            except Refused as error:
                refused = count if error.count is None else min(error.count, count)
                self.refused += refused
                self.sent += count - refused
                self._say(f"{self._target.label}: {error}; {refused} events are left out")
                return None
            except Unsent as error:
                if error.taken:
                    self.sent += error.taken
                    return error.taken
                tries += 1
                if not self._wait and tries >= _TRIES:
                    raise TraceError(
                        f"{self._target.label}: {error}; the next run goes on from here"
                    ) from None
                if not self._fails:
                    self._fails = True
                    self._say(f"{self._target.label}: {error}; it is tried again")
                time.sleep(wait if error.after is None else min(error.after, LONGEST_WAIT))
                wait = min(wait * 2, _LAST_WAIT)
            else:
                self.sent += count
                self._fails = False
                return None

    def _lines(
        self, folder: Folder, files: list[str], place: Place | None, idle: Callable[[], None]
    ) -> Iterator[tuple[Place, bytes]]:
        """The lines behind a place, and where each is."""
        if place is not None and place.segment not in files:
            newer = [file for file in files if order(file) > order(place.segment)]
            if newer:
                self._say(
                    f"{name(place.segment)} is gone: what was behind line {place.lines} of it "
                    "can't be sent"
                )
        while files:
            for file in files:
                done = place.lines if place is not None and place.segment == file else 0
                if place is None or order(file) >= order(place.segment):
                    for place, line in self._segment(folder, file, done, files[-1], idle):
                        yield place, line
            if not self._wait:
                return
            last = files[-1]
            files = []
            while not files:
                files = [file for file in _names(folder) if order(file) > order(last)]

    def _segment(
        self, folder: Folder, file: str, done: int, newest: str, idle: Callable[[], None]
    ) -> Iterator[tuple[Place, bytes]]:
        """The lines of a segment behind the first `done`; of the newest those that are being
        written, too, if that is asked for.
        """
        label, count, rest = name(os.path.join(folder.path, file)), 0, b""
        try:
            with opened(folder, file) as fd:
                follows, read_on = self._wait is not None and file == newest, contents_of(fd)

                def data(size: int) -> bytes:
                    while not (found := read_on(size)) and follows:
                        if any(order(other) > order(file) for other in _names(folder)):
                            return read_on(size)
                        idle()
                        assert self._wait
                        self._wait()
                    return found

                lenient = file == newest and folder.recorder() is not None
                for content in frames(data):
                    if not isinstance(content, Content):
                        rest = b""
                        if not (content.torn and lenient):
                            self._say(
                                f"{label}: {content.size} bytes at byte {content.offset} are no "
                                "frame; skipped"
                            )
                    elif not content.skippable:
                        *lines, rest = (rest + content.data).split(b"\n")
                        for line in lines:
                            count += 1
                            if count > done:
                                yield Place(file, count), line
        except OSError as error:
            self._say(f"{label}: {os.strerror(error.errno or 0).lower()}")


def state_name(to: str) -> str:
    """The state's file in a record's folder: another for each target."""
    kind, _, where = to.partition("=")
    other = f"-{hashlib.sha256(where.encode(errors='surrogateescape')).hexdigest()[:8]}"
    return f".export-{kind}{other if where else ''}.json"


def _names(folder: Folder) -> list[str]:
    return [segment.name for segment in folder.segments()[0]]


def _records_in(path: str, say: Say, *, inner: bool = False) -> list[tuple[Folder, str, list[str]]]:
    """The records of a folder and of hosts' folders in it: each with its host and segments."""
    folder = open_folder(path)
    segments, refused = folder.segments()
    for line in refused:
        say(line)
    hosts: dict[str, list[str]] = {}
    for segment in segments:
        hosts.setdefault(host_of(folder, segment.name), []).append(segment.name)
    found = [(folder, host, files) for host, files in hosts.items()]
    if not inner:
        for below in sorted(os.scandir(folder.fd), key=lambda entry: entry.name):
            if below.is_dir(follow_symlinks=False):
                try:
                    found += _records_in(os.path.join(path, below.name), say, inner=True)
                except TraceError as error:
                    say(str(error))
    if not found and not inner:
        say(f"{name(path)}: there is no record in it")
    return found
