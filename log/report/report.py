# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events of a record come in; tables go out: who did what to what, how often and how long, and
how domains have ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from log.events import Call, DomainEvent, Event, Gap, Lost, Reads, call_id
from log.filters.about import client_of, is_denied, object_of
from log.recent import Recent
from log.render.why import why
from log.report.spent import Shares
from log.sinks.screen.summary import Counts
from log.values import CutText, Handle, Value

MOST_ROWS = 4096  # of a table; what comes then is counted together
MOST_ENDINGS = 16384
MOST_CAUSES = 65536  # that are waited for
ENDINGS = ("stopped", "crashed")
TIMES = ("p50", "p95", "p99", "max")
COUNTED = ("calls", "failed", "denied")
COLUMNS = (*COUNTED, "total", *TIMES)
Key = tuple[str, ...]  # the words of a row; none: of all that there was no row for


class Ending(NamedTuple):
    """A domain that ceased to run."""

    time: int  # ns
    domain: str
    uuid: str | None
    how: str  # "stopped: destroyed"
    cause: str  # "virDomainDestroy"; else words that say what is known of it
    by: Key  # the client of that call


class Report:
    """What is counted. Its memory is limited, whatever names there are."""

    def __init__(self, *, both: bool = False) -> None:
        """`both`: what daemons do for a call counts as calls of their own."""
        self._both = both
        self.all = Shares()
        self.tables: dict[str, dict[Key, Shares]] = {"client": {}, "object": {}, "function": {}}
        self.endings: dict[tuple[int, int], Ending] = {}
        self.endings_left_out = self.lost = self.gaps = 0
        self.first: int | None = None
        self.last = 0
        self._caused: Recent[str, list[tuple[int, int]]] = Recent(MOST_CAUSES)

    def add(self, event: Event) -> None:
        """Count an event."""
        if type(event) is Call:
            self._explain(event)
            if event.parent is None or self._both:
                self._span(event.time, event.time + (event.duration_ns or 0))
                denied = was_denied(event, both=self._both)
                for counts in self._rows(event, object_of(event)):
                    counts.add(event, denied=denied)
        elif type(event) is Reads:
            if not event.caused or self._both:
                self._span(event.time, event.until)
                for counts in self._rows(event, event.object):
                    counts.add_reads(event)
        elif type(event) is DomainEvent and event.event in ENDINGS:
            self._span(event.time, event.time)
            self._end(event)
        elif type(event) is Lost:
            self.lost += event.count
        elif type(event) is Gap:
            self.gaps += 1
            self.lost += event.lost or 0

    def _span(self, first: int, last: int) -> None:
        self.first = first if self.first is None else min(self.first, first)
        self.last = max(self.last, last)

    def _rows(self, event: Call | Reads, about: Handle | None) -> Iterable[Counts]:
        yield self.all
        client = client_of(event.comm, event.caller, event.client)
        words = () if about is None else (about.type, said(about.label))
        for table, key in (
            ("client", client),
            ("object", words or ("", "")),
            ("function", (event.function,)),
        ):
            rows = self.tables[table]
            counts = rows.get(key)
            if counts is None:
                counts = rows.setdefault(key if len(rows) < MOST_ROWS else (), Shares())
            yield counts

    def _end(self, event: DomainEvent) -> None:
        at = (event.time, event.tid)
        if len(self.endings) >= MOST_ENDINGS and at not in self.endings:
            self.endings_left_out += 1
            return
        fields = event.domain.fields
        uuid = fields.get("uuid")
        how = f"{event.event}: {event.detail}"
        self.endings[at] = Ending(
            event.time,
            said(event.domain.label),
            uuid if isinstance(uuid, str) else None,
            how,
            cause_of(event),
            (),
        )
        if event.parent is not None:
            self._caused.learn(event.parent, lambda _: []).append(at)

    def _explain(self, call: Call) -> None:
        for at in self._caused.pop(call_id(call.tid, call.time)) or ():
            by = client_of(call.comm, call.caller, call.client)
            self.endings[at] = self.endings[at]._replace(cause=call.function, by=by)


def was_denied(call: Call, *, both: bool) -> bool:
    """Whether an enforcer sent it back; without `both`, one in a daemon, too."""
    return is_denied(call) or (
        not both and any(type(one) is Call and is_denied(one) for one in call.children)
    )


def cause_of(event: DomainEvent) -> str:
    """Why a domain has changed, in words, until the call that did it is known."""
    return why(event).removeprefix("by ").removeprefix("cause ")


def said(label: Value) -> str:
    """What an object is called, as far as that is known."""
    if isinstance(label, CutText):
        return label.whole or f"{label.text}..."
    return label if isinstance(label, str) else "?"
