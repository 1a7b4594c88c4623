# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines come in and wait; a thread has them written when it is time: a slow disk stops nobody.

What can't be written now is kept and tried again; when too much waits, what comes is left out, and
the record says so.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from log.errors import TraceError
from log.events import Event, Gap, Recording
from log.quote import name
from log.recording.entry import URGENT, Entry, entry_of
from log.recording.folder import Folder
from log.recording.index import MOST_FRAMES
from log.recording.keeping import DAY_NS, Keeping, retain
from log.recording.segments import Segments

SOON = 0.02  # s: events that come together share a frame
LATE = 1.0  # s: what is not urgent is on disk
MOST_CONTENT = 1 << 20  # bytes of a frame's lines
SEAL_NS = 50_000_000_000  # without events, too, so that one is there each minute
ROOM = 32 << 20  # characters that wait for the disk, at most
AGAIN = 1.0  # s between two tries
STALLED = 30.0  # s at the end without a frame on disk: it hangs, which only the kernel can end
ANCHOR_NS = 15 * 60_000_000_000


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
        self._folder, self._keeping, self._complain = folder, keeping, complain
        self._changed = threading.Condition()
        self._waiting: deque[Entry] = deque()
        self._size = 0  # characters
        self._due: float | None = None  # s, monotonic: when what waits is written
        self._ends = self._given_up = self._failed = self._turns = False
        self._storing, self._in_hand = False, 0  # lines
        self._gap: Gap | None = None  # that is to be told
        self._since = 0  # ns: when writing failed
        self.cause = ""  # why
        self._segments = Segments(folder, describe, complain, anchor)
        self._thread = threading.Thread(target=self._run, name="libvirt-trace", daemon=True)

    def start(self) -> None:
        """Begin the first segment. TraceError where that is not possible."""
        try:
            self._segments.begin()
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
        return RecordHealth(self._segments.frame, self._segments.sealed, self._size)

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
        frame = self._segments.frame
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        while self._thread.is_alive():
            self._thread.join(0.05)
            if self._segments.frame != frame:
                frame, since = self._segments.frame, time.monotonic()
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
            self._segments.end()

    def _next(self) -> list[Entry] | None:
        """What is written next, as soon as it is time: nothing but a seal, maybe. None at the
        end.
        """
        with self._changed:
            while not self._ends:
                now = time.monotonic()
                if self._size >= MOST_CONTENT or (self._due is not None and self._due <= now):
                    break
                if self._turns and not self._segments.is_open() and not self._waiting:
                    self._turns = False  # it has just ended
                if self._turns:
                    break
                left = (self._segments.sealed + SEAL_NS - time.time_ns()) / 1e9
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
                self._segments.write(entries)
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

    def _look_after(self) -> None:
        """Go on in another segment where this one is long or old; take away what is too much."""
        now = time.time_ns()
        with self._changed:
            turns, self._turns = self._turns, False
        if (
            turns
            or self._segments.size >= self._keeping.segment_bytes
            or len(self._segments.index.rows) >= MOST_FRAMES
            or not 0 <= now - self._segments.begun < DAY_NS
        ):
            with contextlib.suppress(OSError):
                self._segments.end()
            self._retain()
        elif now - self._segments.anchored >= ANCHOR_NS or now < self._segments.anchored:
            self._segments.keep_anchor()
            self._retain()

    def _retain(self) -> None:
        for removed in retain(self._folder, self._keeping, self._segments.name):
            self._tell(removed)

    def _tell(self, event: Event) -> None:
        entry = entry_of(event)
        with self._changed:
            self._waiting.append(entry)
            self._size += len(entry.line)
            if self._due is None:
                self._due = time.monotonic()
