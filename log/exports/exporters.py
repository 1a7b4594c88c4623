# SPDX-License-Identifier: LGPL-2.1-or-later
"""Words such as otlp=https://collector:4318 come in; the targets they name go out, one class a
file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from log.errors import UsageError
from log.sinks.exporter import Destination, Exporter
from log.sinks.files.sink import Complain, Sink
from log.sinks.service import log_line

if TYPE_CHECKING:
    from log.exports.metrics import Metrics


def _otlp(where: str, live: bool) -> Destination:
    from log.exports.spans import Otlp

    return Otlp(where, live=live)


def _prometheus(where: str, live: bool) -> Destination:
    from log.exports.metrics import MetricsOfRecord

    return MetricsOfRecord(where)


def _journal(where: str, live: bool) -> Destination:
    from log.exports.journal import Journal

    return Journal(where, live=live)


def _syslog(where: str, live: bool) -> Destination:
    from log.exports.syslog import Syslog

    return Syslog(where)


# by name: what opens the target for WHERE of NAME=WHERE ("": it was left out); `live`: events are
# of now, and not of a record
NAMES: dict[str, Callable[[str, bool], Destination]] = {
    "journal": _journal,
    "otlp": _otlp,
    "prometheus": _prometheus,
    "syslog": _syslog,
}


def open_target(words: str, *, live: bool) -> Destination:
    """The target of NAME or NAME=WHERE; each is imported where it is used only. TraceError."""
    name, _, where = words.partition("=")
    if name not in NAMES:
        raise UsageError(f"there is no export to {name!r}: name one of {', '.join(sorted(NAMES))}")
    return NAMES[name](where, live)


def open_exporters(wanted: Sequence[str], complain: Complain) -> list[Sink]:
    """The sinks that export what happens on this host now."""
    exporters: list[Exporter] = []
    counting: list[Metrics] = []
    for words in dict.fromkeys(wanted):
        name, _, where = words.partition("=")
        if name == "prometheus":
            from log.exports.metrics import Metrics

            counting.append(Metrics(where))
        else:
            target = open_target(words, live=True)
            exporters.append(Exporter(name, target, complain, host_name()))
    for metrics in counting:
        metrics.numbers.exporters = exporters
    return [*counting, *exporters]


def anchor_of(sinks: Sequence[Sink]) -> Callable[[str], None]:
    """What keeps a line about the record elsewhere: the journal, with fields, where it is exported
    to; else the system's log.
    """
    for sink in sinks:
        target = sink.target if isinstance(sink, Exporter) else None
        anchor: Callable[[str], None] | None = getattr(target, "anchor", None)
        if anchor is not None:
            return anchor
    return log_line


def host_name() -> str:
    """What this host calls itself."""
    return os.uname().nodename
