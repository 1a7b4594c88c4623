# SPDX-License-Identifier: LGPL-2.1-or-later
"""What everything that takes events has in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from log.events import Event

Complain = Callable[[str], None]  # takes one line for standard error, without the program's name
# whether not to wait for a reader any longer, who has taken nothing for so long (s)
GivenUp = Callable[[float], bool]


class Sink(Protocol):
    """Where events go. No method but `close` waits for anybody."""

    def write(self, events: Sequence[Event]) -> None:
        """Take a batch, in order. BrokenPipeError: nobody reads standard output any more, so
        the tracer ends.
        """

    def tick(self, open_calls: int) -> None:
        """Say what has happened meanwhile; `open_calls` have begun and not returned.
        BrokenPipeError as for `write`.
        """

    def reopen(self) -> None:
        """Let go of a file that was moved away (SIGHUP) and begin a new one."""

    def close(self, given_up: GivenUp) -> None:
        """No events will follow. Wait for the reader."""
