# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sink that records: events come in, what is kept of them goes to the writer, and nothing
goes missing unsaid.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from log.events import Call, End, Event, Gap, Lost, Reads, Recording
from log.recording.counting import COUNTED, Counting
from log.recording.entry import entry_of
from log.recording.folder import Folder
from log.recording.format import need_zstandard
from log.recording.host import boot_id, machine_id
from log.recording.keeping import Keeping
from log.recording.writer import Writer
from log.render.units import clock
from log.sinks.exporter import Gauge

SLOW = "the disk is too slow"
PATIENCE = 3.0  # s that the end waits for a disk that is full


class Recorder:
    """The sink. Numbers of what went through it are for `status`."""

    def __init__(
        self,
        folder: Folder,
        about: Recording,
        complain: Callable[[str], None],
        *,
        keeping: Keeping,
        reads: str = COUNTED,
        slower_ns: int | None = None,
        anchor: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`about`: what the segments say of themselves; TraceError where another records in the
        folder.
        """
        need_zstandard()
        folder.hold()
        self._folder, self._complain = folder, complain
        self._about = about
        self._counting = Counting(reads, slower_ns)
        self._missing: Counter[tuple[str, str]] = Counter()  # calls, by ring and why
        self.written = self.counted = self.missed = 0  # calls
        self._writer = Writer(folder, keeping, self._describe, complain, anchor)
        self._writer.start()
        self._is_closed = False

    def write(self, events: Sequence[Event]) -> None:
        """Record a batch."""
        if events and type(events[-1]) is End:
            self._put(self._counting.rest())  # nothing comes behind it
        self._put(self._counting.of(events, time.time_ns()))

    def tick(self, open_calls: int) -> None:
        """Write what is due."""
        self._put(self._counting.due(time.time_ns()))

    def reopen(self) -> None:
        """What comes goes to another segment: those that are there can be taken away."""
        self._writer.turn()

    def fail(self, why: str) -> None:
        """Tracing has ended before it began."""
        if not self._is_closed:
            now = time.time_ns()
            self._put([Gap(now, now, f"tracing could not start: {why}"), End(now, 0, 0, 0, 0, 0)])
            self.close()

    def is_well(self) -> bool:
        """Whether the thread that writes is there."""
        return self._writer.is_alive()

    def status(self) -> str:
        """A line for the service manager."""
        state = f"not writing: {self._writer.cause}" if self._writer.has_failed() else "recording"
        calls = f"{self.written} calls written, {self.counted} counted, {self.missed} missing"
        health, length = self._writer.health(), self._bytes()
        size = "" if length is None else f"; {length / 1e6:.1f} MB"
        return f"{state}; {calls}{size}; last on disk: frame {health.frames}, {clock(health.last)}"

    def gauges(self) -> list[Gauge]:
        """Numbers of it."""
        health = self._writer.health
        return [
            Gauge("record_written_calls", "Calls in the record.", lambda: self.written, True),
            Gauge("record_counted_calls", "Calls counted there.", lambda: self.counted, True),
            Gauge("record_missing_calls", "Calls not in it.", lambda: self.missed, True),
            Gauge("record_failing", "Whether it is not written now.", self._writer.has_failed),
            Gauge("record_bytes", "How long the record is.", self._bytes),
            Gauge("record_segments", "Its files.", self._segments),
            Gauge("record_frames", "Sealed on disk, ever.", lambda: health().frames, True),
            Gauge("record_waiting_bytes", "What is not on disk.", lambda: health().waiting),
            Gauge(
                "record_last_write_seconds",
                "When a frame came on disk, since the epoch; at least each minute.",
                lambda: health().last / 1e9,
            ),
        ]

    def _bytes(self) -> float | None:
        try:
            return sum(segment.size for segment in self._folder.segments()[0])
        except OSError:
            return None

    def _segments(self) -> float | None:
        try:
            return len(self._folder.segments()[0])
        except OSError:
            return None

    def close(self, given_up: Callable[[float], bool] = lambda idle: False) -> None:
        """Write the rest, and wait until it is on disk."""
        self._is_closed = True
        self._put(self._counting.rest())
        left = self._writer.close(lambda idle: idle > PATIENCE or given_up(idle))
        if left:
            self._complain(
                f"{self._folder.path}: {left} lines of the record could not be written "
                f"({self._writer.cause})"
            )
        self._folder.close()

    def _put(self, events: Sequence[Event]) -> None:
        if not events and not self._missing:
            return
        entries = [entry_of(event) for event in (*self._lost(), *events)]
        if self._writer.put(entries):
            self._missing.clear()
            for event in events:
                if type(event) is Call:
                    self.written += 1
                elif type(event) is Reads:
                    self.counted += event.calls
            return
        calls = 0
        why = self._writer.cause if self._writer.has_failed() else SLOW
        for event in events:
            if type(event) is Call:
                self._missing["write" if event.write else "read", why] += 1
                calls += 1
            elif type(event) is Reads:
                self._missing["read", why] += event.calls
                calls += event.calls
            elif type(event) is Lost:
                self._missing[event.ring, why] += event.count
        self.missed += calls
        self._writer.missed(calls)

    def _lost(self) -> list[Event]:
        now = time.time_ns()
        return [
            Lost(now, count, ring, f"not recorded: {why}")
            for (ring, why), count in self._missing.items()
        ]

    def _describe(self, previous: dict[str, Any] | None) -> Recording:
        clock = {
            "monotonic_ns": time.monotonic_ns(),
            "boottime_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        }
        about = self._about
        return about._replace(
            time=time.time_ns(),
            machine=machine_id(),
            boot=boot_id(),
            clock=clock,
            previous=previous,
        )
