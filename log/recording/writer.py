# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines come in; sealed frames go to disk, in segments that follow each other. A thread writes: a
slow disk stops nobody.

What can't be written now is kept and tried again; when too much waits, what comes is left out, and
the record says so.
"""

from __future__ import annotations

import calendar
import contextlib
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from log.errors import TraceError
from log.events import Event, Gap, Recording, Removed
from log.moments import rfc3339
from log.quote import name
from log.recording.ends import LastSeal, last_end
from log.recording.entry import URGENT, Entry, Summing, entry_of
from log.recording.folder import Folder, segment_name, time_of
from log.recording.format import NO_CHAIN, compress, seal_line
from log.recording.index import MOST_FRAMES, Index, tail

SOON = 0.02  # s: events that come together share a frame
LATE = 1.0  # s: what is not urgent is on disk
MOST_CONTENT = 1 << 20  # bytes of a frame's lines
SEAL_NS = 50_000_000_000  # without events, too, so that one is there each minute
ROOM = 32 << 20  # characters that wait for the disk, at most
AGAIN = 1.0  # s between two tries
STALLED = 30.0  # s at the end without a frame on disk: it hangs, which only the kernel can end
ANCHOR_NS = 15 * 60_000_000_000
DAY_NS = 24 * 3600 * 1_000_000_000
_NAMED = "%Y%m%dT%H%M%SZ"
_TIME = re.compile(r"(\d{4})(0[1-9]|1[0-2])(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII)
LARGEST_SEGMENT = 64 << 20  # bytes


@dataclass(frozen=True)
class Keeping:
    """How much of the record is kept."""

    keep_ns: int = 30 * DAY_NS
    max_bytes: int = 2 << 30
    spare: float = 0.1  # of the file system, which is left to others

    @property
    def segment_bytes(self) -> int:
        """How long a segment becomes."""
        return max(min(LARGEST_SEGMENT, self.max_bytes // 8), 1)


class RecordHealth(NamedTuple):
    """How a record does."""

    frames: int  # on disk, of all segments
    last: int  # ns: when the latest of them was written; one is at least each minute
    waiting: int  # characters of lines that are not on disk yet


class Writer:
    """The thread that writes a record, and what waits for it."""

    def __init__(
        self,
        folder: Folder,
        keeping: Keeping,
        describe: Callable[[dict[str, object] | None], Recording],
        complain: Callable[[str], None],
        anchor: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`describe`: the first line of a segment that begins now, behind the one that is told;
        `anchor`: keeps a line elsewhere.
        """
        self._folder, self._keeping, self._describe, self._anchor = (
            folder,
            keeping,
            describe,
            anchor,
        )
        self._complain = complain
        self._changed = threading.Condition()
        self._waiting: deque[Entry] = deque()
        self._size = 0  # characters
        self._due: float | None = None  # s, monotonic: when what waits is written
        self._ends = self._given_up = self._failed = self._turns = False
        self._storing, self._in_hand = False, 0  # lines
        self._gap: Gap | None = None  # that is to be told
        self._since = 0  # ns: when writing failed
        self.cause = ""  # why
        end = last_end(folder)
        self._frame, self._chain = (end.frame, end.chain) if end else (0, NO_CHAIN)
        self._previous = end.segment if end else None
        self._fd = -1
        self._segment, self._offset, self._begun, self._index = "", 0, 0, Index()
        self._sealed = self._anchored = 0  # ns
        self._first: list[Entry] = [
            entry_of(gap) for gap in [gap_since(end, time.time_ns())] if gap
        ]
        self._thread = threading.Thread(target=self._run, name="libvirt-trace", daemon=True)

    def start(self) -> None:
        """Begin the first segment. TraceError where that is not possible."""
        try:
            self._begin()
        except OSError as error:
            raise TraceError(
                f"{name(self._folder.path)}: can't record there: "
                f"{os.strerror(error.errno or 0).lower()}"
            ) from None
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether it still writes."""
        return self._thread.is_alive()

    def has_failed(self) -> bool:
        """Whether what was to be written is waiting for the disk."""
        return self._failed

    def health(self) -> RecordHealth:
        """How it does now."""
        return RecordHealth(self._frame, self._sealed, self._size)

    def put(self, entries: Sequence[Entry]) -> bool:
        """Have lines written; False where too much waits already."""
        if not entries:
            return True
        size = sum(len(entry.line) for entry in entries)
        urgent = any(entry.holds & URGENT for entry in entries)
        with self._changed:
            if self._size and self._size + size > ROOM:
                return False
            self._size += size
            self._waiting.extend(entries)
            due = time.monotonic() + (SOON if urgent else LATE)
            self._due = due if self._due is None else min(self._due, due)
            self._changed.notify_all()
        return True

    def missed(self, calls: int) -> None:
        """So many calls were left out since the last time that this was told."""
        with self._changed:
            if self._gap:
                self._gap = self._gap._replace(lost=(self._gap.lost or 0) + calls)

    def turn(self) -> None:
        """End the segment with the next frame, which is written now; another begins with what comes
        then.
        """
        with self._changed:
            self._turns = True
            self._changed.notify_all()

    def close(self, given_up: Callable[[float], bool]) -> int:
        """Write all that waits, and end the segment; how many lines could not be written."""
        begun = since = time.monotonic()
        frame = self._frame
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        while self._thread.is_alive():
            self._thread.join(0.05)
            if self._frame != frame:
                frame, since = self._frame, time.monotonic()
            if not self._failed and time.monotonic() - since > STALLED:
                self.cause = "the disk does not answer"
                break
            if self._failed and not self._given_up and given_up(time.monotonic() - begun):
                with self._changed:
                    self._given_up = True
                    self._changed.notify_all()
        with self._changed:
            return len(self._waiting) + (self._in_hand if self._thread.is_alive() else 0)

    def _run(self) -> None:
        while True:
            entries = self._next()
            if entries is None:
                break
            if not self._store(entries):
                return
            self._storing = False
        with contextlib.suppress(OSError):
            self._end()

    def _next(self) -> list[Entry] | None:
        """What is written next, as soon as it is time: nothing but a seal, maybe. None at the
        end.
        """
        with self._changed:
            while not self._ends:
                now = time.monotonic()
                if self._size >= MOST_CONTENT or (self._due is not None and self._due <= now):
                    break
                if self._turns and self._fd < 0 and not self._waiting:
                    self._turns = False  # it has just ended
                if self._turns:
                    break
                left = (self._sealed + SEAL_NS - time.time_ns()) / 1e9
                if left <= 0 or left > SEAL_NS / 1e9:  # the clock may have been set
                    return []
                self._changed.wait(left if self._due is None else min(left, self._due - now))
            if self._ends and not self._waiting:
                return None
            entries, size = [], 0
            while self._waiting and size < MOST_CONTENT:
                entries.append(self._waiting.popleft())
                size += len(entries[-1].line)
            self._size -= size
            self._storing = True  # until that is on disk
            self._in_hand = len(entries)
            self._due = None if not self._waiting else time.monotonic()
            return entries

    def _store(self, entries: list[Entry]) -> bool:
        """Write a frame, however long that takes; False if it was given up."""
        while True:
            try:
                self._write(entries)
                if self._failed:
                    self._recovered()
                break
            except OSError as error:
                self._fails(error)
            with self._changed:
                if self._ends and self._given_up:
                    self._waiting.extendleft(reversed(entries))
                    return False
                self._changed.wait(AGAIN)
        with contextlib.suppress(OSError):
            self._look_after()
        return True

    def _fails(self, error: OSError) -> None:
        cause = "disk full" if error.errno in (28, 122) else os.strerror(error.errno or 0).lower()
        if not self._failed:
            self._complain(
                f"{name(self._folder.path)}: {cause}; the record goes on when that is over"
            )
            self._since = time.time_ns()
            with self._changed:
                self._gap = Gap(self._since, self._since, cause, 0)
        self._failed, self.cause = True, cause
        with contextlib.suppress(OSError):
            self._retain()  # an older segment may give room

    def _recovered(self) -> None:
        now = time.time_ns()
        with self._changed:
            gap, self._gap = self._gap, None
            self._failed = False
            if gap:
                entry = entry_of(gap._replace(until=now))
                self._waiting.appendleft(entry)
                self._size += len(entry.line)
                self._due = time.monotonic()
        self._complain(f"{name(self._folder.path)}: the record goes on")

    def _write(self, entries: Sequence[Entry]) -> None:
        if self._fd >= 0 and not os.fstat(self._fd).st_nlink:
            self._is_removed()
        if self._fd < 0:
            self._begin()
        summing, now = Summing(), time.time_ns()
        lines = []
        for entry in entries:
            summing.add(entry)
            lines.append(entry.line)
        content = "".join(lines).encode()
        seal, chain = seal_line(rfc3339(now), self._frame + 1, content, len(lines), self._chain)
        summing.last = max(summing.last, now)
        summing.first = summing.first or now
        data = compress(content + seal)
        self._append(data)
        self._index.add(summing.row(len(data), len(content) + len(seal)), summing.marks)
        self._offset += len(data)
        self._frame, self._chain, self._sealed = self._frame + 1, chain, now

    def _is_removed(self) -> None:
        """Somebody has removed the segment: what went there from now on would be gone."""
        os.close(self._fd)
        self._previous, self._fd = self._segment, -1
        self._complain(
            f"{name(self._folder.path)}: {self._segment} was removed while it was written; another "
            "segment begins"
        )
        gap = Gap(self._begun, time.time_ns(), "removed while it was written")
        self._first.append(entry_of(gap))

    def _append(self, data: bytes) -> None:
        """Put it at the end of the file and on disk, or leave the file as it was."""
        view, sent = memoryview(data), 0
        try:
            while sent < len(data):
                sent += os.write(self._fd, view[sent:])
            os.fdatasync(self._fd)
        except OSError:
            # what is there of it would be torn; where it can't be taken back, another segment
            # begins
            try:
                os.ftruncate(self._fd, self._offset)
            except OSError:
                os.close(self._fd)
                self._previous, self._fd = self._segment, -1
            raise

    def _begin(self) -> None:
        """Begin a segment, with its first line in a frame of its own."""
        now = time.time_ns()
        host = os.uname().nodename
        previous: dict[str, object] | None = None
        if self._previous is not None:
            previous = {"segment": self._previous, "frame": self._frame, "chain": self._chain}
        second = now // 10**9
        if self._previous is not None and (last := _second(self._previous)) is not None:
            second = max(second, last + 1)  # names are in order, even where the clock goes back
        while True:
            label = segment_name(host, time.strftime(_NAMED, time.gmtime(second)))
            try:
                fd = self._folder.create(label)
                break
            except FileExistsError:
                second += 1
        self._fd, self._segment, self._offset = fd, label, 0
        self._begun, self._index = time.time_ns(), Index()
        first, self._first = self._first, []
        try:
            self._write([entry_of(self._describe(previous)), *first])
        except OSError:
            self._first = first
            os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(OSError):
                self._folder.remove(label)
            raise
        self._keep_anchor()

    def _end(self) -> None:
        """Close the segment."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        self._previous = self._segment
        try:
            data, sent = tail(self._index), 0
            try:
                while sent < len(data):
                    sent += os.write(fd, data[sent:])
                os.fdatasync(fd)
            except OSError:
                os.ftruncate(fd, self._offset)  # it can be read without its index
                raise
        finally:
            os.close(fd)
        self._keep_anchor()

    def _look_after(self) -> None:
        """Go on in another segment where this one is long or old; take away what is too much."""
        now = time.time_ns()
        with self._changed:
            turns, self._turns = self._turns, False
        if (
            turns
            or self._offset >= self._keeping.segment_bytes
            or len(self._index.rows) >= MOST_FRAMES
            or not 0 <= now - self._begun < DAY_NS
        ):
            with contextlib.suppress(OSError):
                self._end()
            self._retain()
        elif now - self._anchored >= ANCHOR_NS or now < self._anchored:
            self._keep_anchor()
            self._retain()

    def _retain(self) -> None:
        """Take away whole segments, the oldest first, until the record is as young, as short
        and as sparing as it is to be.
        """
        segments, _ = self._folder.segments()
        old = [segment for segment in segments if segment.name != self._segment]
        total = sum(segment.size for segment in segments)
        for segment in old:
            reason = self._surplus(segment.changed, total)
            if reason is None:
                return
            end = last_end(self._folder, segment.name)
            self._folder.remove(segment.name)
            total -= segment.size
            chain, frame = (end.chain, end.frame) if end else ("", 0)
            self._tell(Removed(time.time_ns(), segment.name, reason, chain, frame))

    def _surplus(self, changed: int, total: int) -> str | None:
        if time.time_ns() - changed > self._keeping.keep_ns:
            return "old"
        if total > self._keeping.max_bytes:
            return "the record is long"
        return "the disk is full" if self._folder.spare() < self._keeping.spare else None

    def _tell(self, event: Event) -> None:
        entry = entry_of(event)
        with self._changed:
            self._waiting.append(entry)
            self._size += len(entry.line)
            if self._due is None:
                self._due = time.monotonic()

    def _keep_anchor(self) -> None:
        self._anchored = time.time_ns()
        self._anchor(
            f"record: frame {self._frame} of {self._segment or self._previous}, chain {self._chain}"
        )


def gap_since(end: LastSeal | None, now: int) -> Gap | None:
    """What is missing between a record's end and now."""
    if end is None:
        return None
    reason = "not running" if end.ended else "killed"
    if not end.ended and end.boot and end.boot != boot_id():
        reason = "the host went down"
    return Gap(min(end.time, now), now, reason)


def _second(segment: str) -> int | None:
    digits = _TIME.fullmatch(time_of(segment))
    # strptime would load a module: an upgrade may have taken it away since this began
    return calendar.timegm(tuple(map(int, digits.groups()))) if digits else None


def boot_id() -> str | None:
    """The kernel's id of this boot."""
    return _line_of("/proc/sys/kernel/random/boot_id")


def machine_id() -> str | None:
    """systemd's id of this machine."""
    return _line_of("/etc/machine-id")


def _line_of(path: str) -> str | None:
    try:
        with open(path, encoding="ascii") as file:
            return file.readline().strip() or None
    except (OSError, ValueError):
        return None
