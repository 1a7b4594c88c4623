# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tells the time of day: the kernel's time of a record (CLOCK_MONOTONIC) comes in, ns since the
epoch, as the clock was then, come out.

The two go at one pace, until somebody sets the clock or the host sleeps. A thread is woken by the
kernel then, so that what was recorded before has the old time and what comes after the new one. It
may have to wait for a processor; so the programs in the kernel look, too, and say when they found
the clock set, where they can (Linux 6.1).
"""

from __future__ import annotations

import bisect
import ctypes
import errno
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from log.events import Clock as ClockSet
from probes.kernel import records
from probes.kernel.libc import libc

STEP_NS = 1_000_000  # what is less is the noise of looking
CALM_NS = 100_000  # that reading all clocks may take, to be believed
TRIES = 16
MOST_STEPS = 1024
CLOCK_REALTIME, ABSTIME, CANCEL_ON_SET = 0, 1, 2
FAR = 1 << 40  # s since the epoch: never


class _Sample(NamedTuple):
    """One look at all clocks, ns."""

    at: int  # CLOCK_MONOTONIC
    real: int
    offset: int  # from CLOCK_MONOTONIC to the time of day
    # likewise from CLOCK_BOOTTIME, which goes on while the host sleeps: it only changes when the
    # clock is set
    set_to: int
    tai: int  # likewise from CLOCK_MONOTONIC to CLOCK_TAI, which programs in the kernel can read


class WallClock:
    """The time of day at any moment since the start. `seen`: the settings of the programs in the
    kernel, by which they and this tell each other of the clock.
    """

    def __init__(
        self,
        real: Callable[[], int] = time.time_ns,
        mono: Callable[[], int] = time.monotonic_ns,
        boot: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        tai: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_TAI),
        seen: mmap.mmap | bytearray | None = None,
    ) -> None:
        self._real, self._mono, self._boot, self._tai = real, mono, boot, tai
        self._seen, self._told = seen, 0
        self._lock, self._arming = threading.Lock(), threading.Lock()
        self._timer, self._closed = -1, False
        self._thread: threading.Thread | None = None
        sample = self._look()
        self._set_to = sample.set_to
        # one tuple, which is read without the lock: CLOCK_MONOTONIC, from when on this offset is
        # right
        self._now = 0, sample.offset
        self._ends: list[int] = []  # until when those before were
        self._offsets: list[int] = []
        self._events: list[ClockSet] = []

    def epoch(self, when: int) -> int:
        """The time since the epoch; `when` is on CLOCK_MONOTONIC."""
        since, offset = self._now
        if when >= since:
            return when + offset
        with self._lock:
            offsets = [*self._offsets, self._now[1]]
            return when + offsets[bisect.bisect_right(self._ends, when)]

    def check(self) -> None:
        """Looks whether the clock was set."""
        with self._lock:
            found = self._found()  # before all clocks are looked at, or it might be news to these
            sample = self._look()
            self._tell(sample.tai)
            since, offset = self._now
            if abs(sample.offset - offset) < STEP_NS:
                last = self._ends[-2] if len(self._ends) > 1 else 0
                if last < found < since:  # it was on its way when that was learnt
                    self._ends[-1], self._now = found, (found, offset)
                return
            self._ends.append(found if since < found < sample.at else sample.at)
            self._offsets.append(offset)
            del self._ends[:-MOST_STEPS], self._offsets[:-MOST_STEPS]
            step = sample.set_to - self._set_to
            self._now = self._ends[-1], sample.offset
            if abs(step) >= STEP_NS:  # else the host was asleep
                self._set_to = sample.set_to
                self._events.append(ClockSet(sample.real, step))

    def events(self) -> list[ClockSet]:
        """How the clock was set since the last time."""
        self.check()
        with self._lock:
            events, self._events = self._events, []
        return events

    def watch(self) -> None:
        """Is told by the kernel from now on; without this, events() finds out."""
        self.check()
        self._timer = libc.timerfd_create(CLOCK_REALTIME, os.O_CLOEXEC)
        if self._timer >= 0:
            self._thread = threading.Thread(target=self._watch, name="clock", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Is told no more."""
        with self._lock:
            self._seen = None
        if self._thread is None:
            return
        with self._arming:
            self._closed = True
            # wakes the thread
            libc.timerfd_settime(self._timer, 0, (ctypes.c_long * 4)(0, 0, 0, 1), None)
        self._thread.join()
        self._thread = None
        os.close(self._timer)

    def _watch(self) -> None:
        while self._arm():
            try:
                os.read(self._timer, 8)
            except OSError as error:
                if error.errno != errno.ECANCELED:
                    return
                self.check()

    def _arm(self) -> bool:
        with self._arming:
            setting = (ctypes.c_long * 4)(0, 0, FAR, 0)
            return (
                not self._closed
                and libc.timerfd_settime(self._timer, ABSTIME | CANCEL_ON_SET, setting, None) == 0
            )

    def _found(self) -> int:
        """When a program in the kernel found that the clock was set (ns, CLOCK_MONOTONIC); 0: none
        has.
        """
        if self._seen is None:
            return 0
        _, found = records.CLOCK.unpack_from(self._seen, records.CLOCK_AT)
        if found:
            struct.pack_into("<Q", self._seen, records.CLOCK_SET_AT, 0)
        return int(found)

    def _tell(self, tai: int) -> None:
        """Tells these programs of the clock; somebody may have set how far CLOCK_TAI is ahead."""
        if self._seen is not None and abs(tai - self._told) >= STEP_NS:
            self._told = tai
            struct.pack_into("<q", self._seen, records.CLOCK_AT, tai)

    def _look(self) -> _Sample:
        best, shortest = _Sample(0, 0, 0, 0, 0), -1
        for _ in range(TRIES):
            before, real = self._mono(), self._real()
            boot, tai, after = self._boot(), self._tai(), self._mono()
            if shortest < 0 or after - before < shortest:
                shortest = after - before
                at = (before + after) // 2
                best = _Sample(at, real, real - at, real - boot, tai - at)
            if shortest <= CALM_NS:
                break
        return best
