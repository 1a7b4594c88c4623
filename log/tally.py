# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counts events: batches come in, the last event goes out."""

from __future__ import annotations

import time
from collections.abc import Sequence

from log.events import Call, End, Event, Lost
from log.filter import is_denied


class Tally:
    """What the last line reports."""

    def __init__(self) -> None:
        self.calls = self.failed = self.denied = self.lost = self.details_lost = 0
        self.started = time.monotonic()

    def add(self, events: Sequence[Event]) -> None:
        """Counts a batch."""
        for event in events:
            if type(event) is Call:
                self.calls += 1
                if is_denied(event):
                    self.denied += 1
                elif event.failed:
                    self.failed += 1
            elif type(event) is Lost:
                self.lost += event.count
                self.details_lost += event.details

    def end(self, not_exported: int = 0) -> End:
        """The last event."""
        seconds = round(time.monotonic() - self.started, 3)
        return End(
            time.time_ns(),
            self.calls,
            self.failed,
            self.denied,
            self.lost,
            seconds,
            self.details_lost,
            not_exported,
        )
