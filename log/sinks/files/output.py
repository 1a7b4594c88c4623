# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events come in, a batch at a time; whole lines go out to a file, a pipe or standard output,
one write a batch.
"""

from __future__ import annotations

import bisect
import itertools
import os
import re
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from log.errors import TraceError
from log.events import Call, Event, Lost
from log.filters.about import is_denied
from log.quote import name
from log.render import FORMS
from log.render.forms import Render, render
from log.sinks.files.channel import Batch, Channel, LineWriter, NotRead, Weight, may_block
from log.sinks.files.file import open_path, send
from log.sinks.files.sink import Complain, GivenUp

FORMATS: dict[str, Render] = {form: render(form, os.uname().nodename) for form in FORMS}
STDOUT = 1
NOTHING: Weight = ("", 0, 0)
NOT_READ = "its reader does not keep up"
_COMPLAIN_AGAIN = 60  # s
_LOOK_AGAIN = 0.05  # s, while the end waits for a reader
_STUCK = 1  # s: longer than a thread takes that can be told to give up
_WEIGHTS: dict[bool, Weight] = {True: ("write", 1, 1), False: ("read", 1, 1)}
# what is open already: to open these again would give the file a second offset, and they are
# symbolic links
_own_descriptor = re.compile(r"/dev/(?:(stdout)|(stderr)|fd/([0-9]+))").fullmatch


class Output:
    """The sink that writes lines: to a file at once, to anything else in a thread, which may have
    to wait.

    What can't be written (disk full, reader gone or asleep) is left out, counted and complained of;
    what comes next is tried again, and `lost` lines then tell how many calls are missing.
    """

    def __init__(
        self,
        fd: int,
        label: str,
        render: Render,
        complain: Complain,
        path: str | None = None,
        *,
        shared: bool = False,
    ) -> None:
        """`label` names the destination in complaints; `path` is what `reopen` opens, if
        anything, `shared` as `open_file` has it.
        """
        self._fd = fd
        self._label = label
        self._render = render
        self._complain = complain
        self._path = path
        self._shared = shared
        self._rest = b""  # of a line that was begun
        self._rest_weight = NOTHING
        self._lock = threading.Lock()  # of the next four
        self._missing: Counter[str] = Counter()  # calls by ring, since the last `lost` line
        self._missing_ever = 0  # calls
        self._cause = ""
        self._has_failed = False  # since that was last looked at
        self._gone = False  # nobody reads standard output any more
        self._complained: float | None = None  # s, monotonic
        self._closing = False
        self._begin()

    def write(self, events: Sequence[Event]) -> None:
        """Write a line each. BrokenPipeError: this is standard output and nobody reads it any
        more.
        """
        events = self._with_missing(events)
        lines = [self._render(event) for event in events]
        self._put(
            lines,
            lambda: [
                weight_of(event) if line else NOTHING
                for event, line in zip(events, lines, strict=True)
            ],
        )
        self._say()

    def message(self, lines: str) -> None:
        """Write lines that are no event."""
        self._put([f"{lines}\n"], lambda: [NOTHING])

    def tick(self, open_calls: int) -> None:
        """Complain, if there is something to complain of. BrokenPipeError as for `write`."""
        self._say()

    def reopen(self) -> None:
        """Open the file's name anew; where that fails, keep the file that is open and complain."""
        if self._path is None or self._channel:
            return  # a pipe is not moved away
        try:
            fd = open_path(self._path, shared=self._shared)
        except TraceError as error:
            self._complain(f"{error}; still writing to the file that was open")
            return
        os.close(self._fd)
        self._fd, self._rest = fd, b""
        self._begin()

    def close(self, given_up: GivenUp = lambda idle: False) -> None:
        """Try once more what was left out, and say how much is missing in the end."""
        self._closing = True
        written = self._drain(given_up)
        if written and (self._missing or self._rest) and not self._gone:
            self.write([])
            written = self._drain(given_up)
        if self._writer:
            self._leave_out(self._writer.end())
        if self._rest:
            self._leave_out([self._rest_weight])
        if self._missing_ever and not self._gone:
            self._complain(
                f"{self._label}: {self._missing_ever} calls were not written ({self._cause})"
            )
        if self._channel and written:
            self._channel.close()
        if self._fd != STDOUT and written:
            os.close(self._fd)

    def _begin(self) -> None:
        self._channel = Channel(self._fd) if may_block(self._fd) else None
        self._writer = (
            LineWriter(lambda batch: self._send(batch.lines, lambda: batch.weights))
            if self._channel
            else None
        )

    def _put(self, lines: list[str], weigh: Callable[[], list[Weight]]) -> list[Weight]:
        """Have lines written; those that there is no room for. `weigh`: what they weigh, which is
        only asked where it matters.
        """
        if self._writer is None:
            self._send(lines, weigh)
            return []
        left_out = self._writer.put(Batch(lines, weigh()))
        if left_out:
            self._leave_out(left_out)
            self._fails(NOT_READ)
        return left_out

    def _send(self, lines: list[str], weigh: Callable[[], list[Weight]]) -> None:
        """Write lines, in the thread if there is one."""
        sent, error = self._hand_over(self._rest)
        self._rest = self._rest[sent:]
        data, sent = "".join(lines).encode(), 0
        if error is None:
            sent, error = self._hand_over(data)
        if error is None:
            return
        weights = weigh()
        ends = list(itertools.accumulate(len(line.encode()) for line in lines))
        whole = data.rfind(b"\n", 0, sent) + 1
        if sent > whole:
            whole = self._mend(data, whole, sent)
            last = bisect.bisect_left(ends, whole)
            # else of one that is left out as a whole
            self._rest_weight = weights[last] if ends[last] == whole else NOTHING
        self._leave_out(weights[bisect.bisect_right(ends, whole) :])
        self._gone |= self._is_gone(error)
        if isinstance(error, NotRead):
            self._fails(NOT_READ)
        else:
            self._fails(
                "its reader is gone"
                if isinstance(error, BrokenPipeError)
                else os.strerror(error.errno or 0).lower()
            )

    def _hand_over(self, data: bytes) -> tuple[int, OSError | None]:
        return self._channel.send(data) if self._channel else send(self._fd, data)

    def _is_gone(self, error: OSError) -> bool:
        return self._fd == STDOUT and isinstance(error, BrokenPipeError)

    def _mend(self, data: bytes, whole: int, sent: int) -> int:
        """Undo a line of which only a part was taken, or note its rest to be sent first;
        returns the bytes that count as written.
        """
        if self._path is not None and stat.S_ISREG(os.fstat(self._fd).st_mode):
            # only in a file of our own: behind standard output another program's text may have
            # followed
            os.ftruncate(self._fd, os.lseek(self._fd, 0, os.SEEK_CUR) - (sent - whole))
            return whole
        end = data.find(b"\n", sent) + 1 or len(data)
        self._rest = data[sent:end]
        return end

    def _with_missing(self, events: Sequence[Event]) -> Sequence[Event]:
        """The events, behind what is to be told of those that are missing."""
        if not self._missing:
            return events
        now = time.time_ns()
        with self._lock:
            lost = [
                Lost(now, count, ring, f"not written: {self._cause}")
                for ring, count in self._missing.items()
            ]
            self._missing.clear()
        return [*lost, *events]

    def _leave_out(self, weights: Sequence[Weight]) -> None:
        """Count calls as missing."""
        with self._lock:
            for ring, count, calls in weights:
                if count:
                    self._missing[ring] += count
                    self._missing_ever += calls

    def _fails(self, cause: str) -> None:
        with self._lock:
            self._cause, self._has_failed = cause, True

    def _say(self) -> None:
        """Complain now and then. BrokenPipeError: nobody reads standard output any more."""
        if self._closing:
            return
        if self._gone:
            raise BrokenPipeError
        with self._lock:
            failed, self._has_failed = self._has_failed, False
        now = time.monotonic()
        if failed and (self._complained is None or now - self._complained > _COMPLAIN_AGAIN):
            self._complained = now
            self._complain(
                f"{self._label}: {self._cause}; tracing goes on, and calls that can't "
                "be written there are counted"
            )

    def _drain(self, given_up: GivenUp) -> bool:
        """Wait until all is written or given up; False if the thread can't be told to give up."""
        begun = time.monotonic()
        while self._writer and self._channel and not self._writer.wait(_LOOK_AGAIN):
            if given_up(time.monotonic() - max(begun, self._channel.moved)):
                self._channel.give_up()
                self._fails(NOT_READ)
                return self._writer.wait(_STUCK)
        return True


def open_file(path: str, render: Render, complain: Complain, *, shared: bool = False) -> Output:
    """The sink for `-o`: appends to `path`, which is created with mode 0600; `shared`: others may
    own, read or write what is there.

    A pipe, a terminal or an own descriptor (/dev/stdout, /dev/fd/N) will do; TraceError for
    symbolic links and anything else.
    """
    own = _own_descriptor(path)
    if not own:
        return Output(
            open_path(path, shared=shared), name(path), render, complain, path, shared=shared
        )
    number = 1 if own[1] else 2 if own[2] else int(own[3])
    try:
        return Output(os.dup(number), name(path), render, complain)
    except (OSError, OverflowError):
        raise TraceError(f"{name(path)}: no such descriptor is open") from None


def weight_of(event: Event) -> Weight:
    """What is missing where the line of this event is."""
    if type(event) is Call:
        return _WEIGHTS[event.write or is_denied(event)]
    return (event.ring, event.count, 0) if type(event) is Lost else NOTHING
