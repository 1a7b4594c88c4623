# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events come in; their numbers are there for Prometheus: over HTTP for who asks, or in a file for
node_exporter's textfile collector.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from log.errors import TraceError, UsageError
from log.events import Call, Event, Lost, Reads
from log.exports.exposition import is_file, place_of
from log.exports.metering import Metering
from log.quote import name as shown
from log.sinks.exporter import Gauge
from log.sinks.files.whole import write_whole

_LOOK_AGAIN = 1.0  # s


class Metrics:
    """The sink that counts. Its numbers are exact: it has no queue."""

    def __init__(self, where: str) -> None:
        """`where`: ADDRESS:PORT, or the file's path. TraceError where neither will do."""
        need_prometheus_client()
        self.numbers = Metering()
        self._place = place_of(where, self.numbers.text)
        self.label = self._place.label
        self._is_shown = False
        self._gauges: list[Gauge] = []
        self._asked = 0.0  # s, monotonic

    def know(self, gauges: Sequence[Gauge]) -> None:
        """Show these, too; they are asked here, by the thread that counts."""
        self._gauges += gauges

    def write(self, events: Sequence[Event]) -> None:
        """Count a batch."""
        self.numbers.add(events)
        if not self._is_shown:  # there may be a fork before
            self._is_shown = True
            self._place.start()

    def tick(self, open_calls: int) -> None:
        """Note what is under way, and now and then what others know."""
        self.numbers.open_calls = open_calls
        now = time.monotonic()
        if now - self._asked >= _LOOK_AGAIN:
            self._asked = now
            asked = [(gauge, gauge.value()) for gauge in self._gauges]
            self.numbers.of_others = [(it, value) for it, value in asked if value is not None]

    def reopen(self) -> None:
        """Files are replaced anyway."""

    def close(self, given_up: object = None) -> None:
        """Nobody is waited for."""
        self._place.close()


class MetricsOfRecord:
    """The target of a record's numbers, which are all of it: a run does not go on where one has
    stopped.
    """

    resumes = False

    def __init__(self, where: str) -> None:
        need_prometheus_client()
        if not is_file(where):
            raise UsageError("the numbers of a record go to a file: --to prometheus=FILE.prom")
        self._numbers, self._path = Metering(), where
        self.label = shown(where)

    def wants(self, event: Event) -> bool:
        """What can be counted."""
        return isinstance(event, Call | Reads | Lost)

    def send(self, host: str | None, events: Sequence[Event]) -> None:
        """Count them."""
        self._numbers.add(events)

    def flush(self) -> None:
        """Write the file. TraceError where that is not possible."""
        write_whole(self._path, [self._numbers.text().decode()], mode=0o644)

    def holds(self) -> int:
        """None."""
        return 0

    def close(self) -> None:
        """Nothing is open."""


def need_prometheus_client() -> None:
    """TraceError where the library is not installed."""
    try:
        import prometheus_client as _  # noqa: F401
    except ModuleNotFoundError:
        raise TraceError(
            "Python's module prometheus_client is missing: install the package "
            "python3-prometheus-client"
        ) from None
