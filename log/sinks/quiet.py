# SPDX-License-Identifier: LGPL-2.1-or-later
"""Leaves out calls and what came of them: events come in, what else there is to say goes to the
sink behind.
"""

from __future__ import annotations

from collections.abc import Sequence

from log.events import Call, Command, DomainEvent, Event
from log.sinks.files.sink import GivenUp, Sink

_CALLS = (Call, Command, DomainEvent)


class Quiet:
    """A sink of what the tracer says by itself, and of what it is asked."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, events: Sequence[Event]) -> None:
        """Pass them on, but for calls."""
        if told := [event for event in events if type(event) not in _CALLS]:
            self._sink.write(told)

    def tick(self, open_calls: int) -> None:
        """As the sink."""
        self._sink.tick(open_calls)

    def reopen(self) -> None:
        """As the sink."""
        self._sink.reopen()

    def close(self, given_up: GivenUp = lambda idle: False) -> None:
        """As the sink."""
        self._sink.close(given_up)
