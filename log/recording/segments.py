# SPDX-License-Identifier: LGPL-2.1-or-later
"""Segments on disk: lines come in; a sealed frame of them is appended to the segment that is open,
one behind the other. What fails leaves the file as it was.
"""

from __future__ import annotations

import calendar
import contextlib
import os
import re
import time
from collections.abc import Callable, Sequence

from log.events import Gap, Recording
from log.moments import rfc3339
from log.quote import name
from log.recording.ends import LastSeal, last_end
from log.recording.entry import Entry, Summing, entry_of
from log.recording.folder import Folder, segment_name, time_of
from log.recording.format import NO_CHAIN, compress, seal_line
from log.recording.host import boot_id
from log.recording.index import Index, tail

_NAMED = "%Y%m%dT%H%M%SZ"
_TIME = re.compile(r"(\d{4})(0[1-9]|1[0-2])(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII)


class Segments:
    """The segment that is open, if one is, and the chain of all."""

    def __init__(
        self,
        folder: Folder,
        describe: Callable[[dict[str, object] | None], Recording],
        complain: Callable[[str], None],
        anchor: Callable[[str], None],
    ) -> None:
        """As Writer's."""
        self._folder, self._describe, self._anchor = folder, describe, anchor
        self._complain = complain
        end = last_end(folder)
        self.frame, self._chain = (end.frame, end.chain) if end else (0, NO_CHAIN)
        self._previous = end.segment if end else None
        self._fd = -1
        self.name, self.size, self.begun, self.index = "", 0, 0, Index()  # begun: ns
        self.sealed = self.anchored = 0  # ns
        self._first: list[Entry] = [
            entry_of(gap) for gap in [gap_since(end, time.time_ns())] if gap
        ]

    def is_open(self) -> bool:
        """Whether there is one to append to."""
        return self._fd >= 0

    def write(self, entries: Sequence[Entry]) -> None:
        """Append a frame."""
        if self._fd >= 0 and not os.fstat(self._fd).st_nlink:
            self._is_removed()
        if self._fd < 0:
            self.begin()
        summing, now = Summing(), time.time_ns()
        lines = []
        for entry in entries:
            summing.add(entry)
            lines.append(entry.line)
        content = "".join(lines).encode()
        seal, chain = seal_line(rfc3339(now), self.frame + 1, content, len(lines), self._chain)
        summing.last = max(summing.last, now)
        summing.first = summing.first or now
        data = compress(content + seal)
        self._append(data)
        self.index.add(summing.row(len(data), len(content) + len(seal)), summing.marks)
        self.size += len(data)
        self.frame, self._chain, self.sealed = self.frame + 1, chain, now

    def _is_removed(self) -> None:
        """Somebody has removed the segment: what went there from now on would be gone."""
        os.close(self._fd)
        self._previous, self._fd = self.name, -1
        self._complain(
            f"{name(self._folder.path)}: {self.name} was removed while it was written; another "
            "segment begins"
        )
        gap = Gap(self.begun, time.time_ns(), "removed while it was written")
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
                os.ftruncate(self._fd, self.size)
            except OSError:
                os.close(self._fd)
                self._previous, self._fd = self.name, -1
            raise

    def begin(self) -> None:
        """Begin a segment, with its first line in a frame of its own."""
        now = time.time_ns()
        host = os.uname().nodename
        previous: dict[str, object] | None = None
        if self._previous is not None:
            previous = {"segment": self._previous, "frame": self.frame, "chain": self._chain}
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
        self._fd, self.name, self.size = fd, label, 0
        self.begun, self.index = time.time_ns(), Index()
        first, self._first = self._first, []
        try:
            self.write([entry_of(self._describe(previous)), *first])
        except OSError:
            self._first = first
            os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(OSError):
                self._folder.remove(label)
            raise
        self.keep_anchor()

    def end(self) -> None:
        """Close the segment."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        self._previous = self.name
        try:
            data, sent = tail(self.index), 0
            try:
                while sent < len(data):
                    sent += os.write(fd, data[sent:])
                os.fdatasync(fd)
            except OSError:
                os.ftruncate(fd, self.size)  # it can be read without its index
                raise
        finally:
            os.close(fd)
        self.keep_anchor()

    def keep_anchor(self) -> None:
        """Have it kept elsewhere how far the chain is."""
        self.anchored = time.time_ns()
        self._anchor(
            f"record: frame {self.frame} of {self.name or self._previous}, chain {self._chain}"
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
