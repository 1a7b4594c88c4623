# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events come in; a thread hands them to a target elsewhere (a journal, a collector) while the
tracer goes on. What the target does not take in time is left out, counted and said.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from log.events import Call, End, Event
from log.sinks.files.sink import Complain
from log.values import CutText, Handle, Value, Values, Xml

ROOM = 16 << 20  # bytes of events that wait, about; of them half for calls that only read
MOST = 1 << 16  # events that wait
AT_ONCE = 512  # events
PATIENCE = 2.0  # s that the end waits for targets, all together
LONGEST_WAIT = 300.0  # s between two tries, whatever the target asks for
_FIRST_WAIT, _LAST_WAIT = 0.5, 30.0  # s between two tries, if it does not ask
_TOGETHER = 0.2  # s that events wait for others
_SAY_AGAIN = 60.0  # s
_LOOK_AGAIN = 5.0  # s, at what is held back
_NO_ROOM = "it does not keep up"
_EVENT = 600  # bytes of an event without its values, about


class Unsent(Exception):
    """It was not taken, and may be later: why, after how many seconds (None: nobody said), and
    how many events were taken before.
    """

    def __init__(self, why: str, after: float | None = None, taken: int = 0) -> None:
        super().__init__(why)
        self.after, self.taken = after, taken


class Refused(Exception):
    """It will not be taken: why, and how many events (None: all)."""

    def __init__(self, why: str, count: int | None = None) -> None:
        super().__init__(why)
        self.count = count


class Destination(Protocol):
    """Where events go. Only `wants` is called by the tracer's thread, and it waits for nobody."""

    label: str  # for people, without secrets
    resumes: bool  # whether a record is sent from where it stopped, and not as a whole

    def wants(self, event: Event) -> bool:
        """Whether such events are sent there."""

    def send(self, host: str | None, events: Sequence[Event]) -> None:
        """Have them taken. Unsent, or Refused, where they are not; a call waits some seconds at
        most. After Unsent the same list comes again, if none of it was taken. None at all: it is
        time to send what was held back for long.
        """

    def flush(self) -> None:
        """Send what was held back to be sent together with what comes. Unsent or Refused."""

    def holds(self) -> int:
        """Events that are held back."""

    def close(self) -> None:
        """Let go of it."""


class Health(NamedTuple):
    """How an exporter is."""

    name: str
    sent: int  # events
    dropped: int
    waiting: int
    fails: bool


class Gauge(NamedTuple):
    """A number that another part knows."""

    name: str
    text: str
    value: Callable[[], float | None]  # None: not known now
    counts: bool = False  # it only grows


class Exporter:
    """The sink of one target."""

    def __init__(
        self, name: str, target: Destination, complain: Complain, host: str | None
    ) -> None:
        """`host`: that the events are of."""
        self.name = name
        self.target, self._complain, self._host = target, complain, host
        self._changed = threading.Condition()  # of all below
        self._waiting: deque[tuple[Event, int]] = deque()
        self._size = 0  # bytes of what waits
        self._sending = 0  # events
        self._flushes = self._ends = self._given_up = False
        self._sent = self._dropped = 0  # events
        self._cause, self._fails, self._fresh = "", False, False
        self._said: float | None = None  # s, monotonic
        # begun by the first batch: there may be a fork before it
        self._thread: threading.Thread | None = None

    def write(self, events: Sequence[Event]) -> None:
        """Have a batch sent, as far as there is room."""
        wants = self.target.wants
        wanted = [(event, size_of(event)) for event in events if wants(event)]
        if not wanted:
            return
        with self._changed:
            for item in wanted:
                self._put(*item)
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="libvirt-trace", daemon=True)
            self._thread.start()
        self._say()

    def tick(self, open_calls: int) -> None:
        """Say what has gone wrong meanwhile."""
        self._say()

    def reopen(self) -> None:
        """Nothing is open that is moved away."""

    def finish(self, deadline: float) -> int:
        """Wait until all is sent, at the latest then (s, monotonic); how many events of all were
        not.
        """
        with self._changed:
            self._flushes = True
            self._changed.notify_all()
            self._changed.wait_for(self._is_idle, max(deadline - time.monotonic(), 0))
            if not self._is_idle():
                self._given_up = True
                held = self.target.holds()
                self._sent -= held
                self._drop(len(self._waiting) + self._sending + held, self._cause or _NO_ROOM)
                self._waiting.clear()
                self._size = self._sending = 0
            self._flushes = False
            return self._dropped

    def close(self, given_up: Callable[[float], bool] = lambda idle: False) -> None:
        """Send the rest, and say how much could not be sent."""
        self.finish(time.monotonic() + PATIENCE)
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(PATIENCE / 10)
        if self._thread is None or not self._thread.is_alive():
            self.target.close()
        if self._dropped:
            self._complain(
                f"{self.target.label}: {self._dropped} events were not sent ({self._cause})"
            )

    def health(self) -> Health:
        """How it is now."""
        with self._changed:
            waiting = len(self._waiting) + self._sending
            return Health(self.name, self._sent, self._dropped, waiting, self._fails)

    def _put(self, event: Event, size: int) -> None:
        only_reads = type(event) is Call and not event.write
        room = ROOM // 2 if only_reads else ROOM
        most = MOST // 2 if only_reads else MOST
        if self._given_up or self._size + size > room or len(self._waiting) >= most:
            if type(event) is not End:  # which tells how many these are
                self._drop(1, self._cause if self._fails else _NO_ROOM)
            return
        self._size += size
        self._waiting.append((event, size))

    def _is_idle(self) -> bool:
        return self._thread is None or not (self._waiting or self._sending or self._flushes)

    def _drop(self, count: int, cause: str) -> None:
        self._dropped += count
        self._cause, self._fresh = cause, True

    def _say(self) -> None:
        with self._changed:
            fresh, self._fresh = self._fresh, False
        now = time.monotonic()
        if fresh and (self._said is None or now - self._said > _SAY_AGAIN):
            self._said = now
            self._complain(
                f"{self.target.label}: {self._cause}; tracing goes on, and events that can't be "
                "sent there are counted"
            )

    def _run(self) -> None:
        while True:
            events = self._next()
            if events is None:
                return
            if events or not self._flushes:
                self._deliver(events)
            failure = self._try(self.target.flush) if self._flushes else None
            with self._changed:
                if isinstance(failure, Unsent) and not self._given_up:
                    self._changed.wait_for(lambda: self._given_up, failure.after or _FIRST_WAIT)
                elif not self._waiting:
                    self._flushes = False
                self._changed.notify_all()

    def _next(self) -> list[Event] | None:
        """What is sent next: some that came together. None at the end."""
        with self._changed:
            patience = _LOOK_AGAIN if self.target.holds() else None
            self._changed.wait_for(lambda: self._waiting or self._flushes or self._ends, patience)
            if self._ends and not self._waiting:
                return None
            self._changed.wait_for(
                lambda: len(self._waiting) >= AT_ONCE or self._flushes or self._ends, _TOGETHER
            )
            events: list[Event] = []
            while self._waiting and len(events) < AT_ONCE:
                event, size = self._waiting.popleft()
                self._size -= size
                events.append(event)
            self._sending = len(events)
            return events

    def _deliver(self, events: list[Event]) -> None:
        """Send them, however long that takes, unless it is given up."""
        wait = _FIRST_WAIT
        if not events:
            self._try(partial(self.target.send, self._host, events))
        while events:
            failure = self._try(partial(self.target.send, self._host, events))
            taken = failure.taken if isinstance(failure, Unsent) else len(events)
            with self._changed:
                if not self._given_up:  # else `finish` has counted them
                    if isinstance(failure, Unsent | None):
                        self._sent += taken
                    else:
                        refused = taken if failure.count is None else min(failure.count, taken)
                        self._sent += taken - refused
                        self._drop(refused, str(failure))
                    self._sending -= taken
                events = events[taken:] if taken else events
                if isinstance(failure, Unsent):
                    asked = wait if failure.after is None else min(failure.after, LONGEST_WAIT)
                    self._changed.wait_for(lambda: self._given_up or self._ends, asked)
                    wait = min(wait * 2, _LAST_WAIT)
                    if self._given_up or self._ends:
                        return

    def _try(self, do: Callable[[], None]) -> Unsent | Refused | None:
        """What went wrong, if anything; that is noted."""
        failure: Unsent | Refused | None = None
        try:
            do()
        except (Unsent, Refused) as error:
            failure = error
        except Exception as error:  # a mistake of ours costs a batch, and not the tracing
            import traceback  # seldom used, and long to import

            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{os.path.basename(where.filename)}:{where.lineno}"
            failure = Refused(f"internal error: {type(error).__name__} in {place}")
        with self._changed:
            self._fails = failure is not None
            if failure is not None:
                self._cause, self._fresh = str(failure), True
        return failure


def size_of(event: Event) -> int:
    """How many bytes of memory an event keeps, about."""
    if type(event) is not Call:
        return _EVENT
    size = _EVENT
    for values in (event.args, event.out):
        if values is not None:
            known: int | None = values.rendered.get("size")
            if known is None:
                known = values.rendered["size"] = _size_of_values(values)
            size += known
    return size


def _size_of_values(values: Values) -> int:
    return sum(_size_of_value(value) for value in values.values.values())


def _size_of_value(value: Value) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, CutText):
        return len(value.text) + len(value.whole or "")
    if isinstance(value, Xml):
        return _size_of_value(value.shown) + len(value.captured) + len(value.before or "")
    if isinstance(value, Handle):
        return _size_of_value(dict(value.fields))
    if isinstance(value, list | tuple):
        return 56 + sum(map(_size_of_value, value))
    if isinstance(value, dict):
        return 64 + sum(map(_size_of_value, value.values()))
    return 32
