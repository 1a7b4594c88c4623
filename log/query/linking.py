# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines come in, the events that are shown go out: each call with what it caused, as when it
was live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from log.events import Call, Command, DomainEvent, Event, Recording, call_id
from log.filters.shown import Shown
from log.parsing.alike import LineParser
from log.parsing.fields import ForeignLine
from log.query.query import Query
from log.recent import Recent
from log.recording.format import Line

MOST_CHILDREN = 1000  # of a call that are shown below it
MOST_PARENTS = 65536  # that are waited for
_SEAL = b'{"type":"seal"'


class Found(NamedTuple):
    """An event, and the host that it was on where there are several."""

    host: str | None
    event: Event
    on: str | None = None  # the host that it was on, also where there is one only; None: not known


class Linking:
    """The events of one host."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._children: Recent[str, list[Event]] = Recent(MOST_PARENTS)
        self._more: dict[str, int] = {}
        self._shown = Shown(
            query.keeps if query.chooses else None, orphans=query.orphans, recorded=True
        )

    def of(self, event: Event) -> list[Event]:
        """What is shown now that this has happened."""
        if type(event) is Call:
            event = self._linked(event)
            query = self._query
            if event.parent is not None and query.takes_part(event) and query.about(event):
                self._add(event.parent, event)
        elif (type(event) is Command or type(event) is DomainEvent) and event.parent is not None:
            self._add(event.parent, event)
        return [
            shown
            for shown in self._shown.of([event])
            if (type(shown) is Call and self._query.chooses) or self._query.keeps(shown)
        ]

    def rest(self) -> list[Event]:
        """What waited for calls that are not in the record."""
        # a question to a monitor is shown with its call only
        waited = [event for event in self._shown.rest() if type(event) is not Command]
        if not self._query.alone and not self._query.chooses:
            # each was shown, but where it is folded away below a call that is not there
            waited = [
                event._replace(parent=None)  # type: ignore[call-arg]
                for _, events in self._children.items()
                for event in events
            ]
        return [event for event in waited if self._query.keeps(event)]

    def _linked(self, call: Call) -> Call:
        id = call_id(call.tid, call.time)
        children = self._children.pop(id)
        if not children:
            return call
        more = self._more.pop(id, 0)
        return call._replace(children=tuple(children), more_children=more, alike=None)

    def _add(self, parent: str, event: Event) -> None:
        children = self._children.learn(parent, lambda _: [])
        if len(children) < MOST_CHILDREN:
            children.append(event)
        else:
            if len(self._more) > MOST_PARENTS:
                self._more.clear()
            self._more[parent] = self._more.get(parent, 0) + 1


def events_of(
    lines: Iterator[Line], query: Query, foreign: Callable[[int], None] = lambda count: None
) -> Iterator[Found]:
    """The events that are shown; `foreign` is told in the end how many lines were none."""
    hosts: dict[str | None, Linking] = {}
    names: dict[str | None, str] = {}  # as the record itself has them
    parse, others = LineParser().parse, 0
    for host, text, on in lines:
        if text.startswith(_SEAL):
            continue
        try:
            event = parse(text)
        except ForeignLine:
            others += 1
            continue
        if event is None:
            continue
        if on is not None or type(event) is Recording:
            names[host] = on or event.host  # type: ignore[union-attr]
        linking = hosts.get(host)
        if linking is None:
            linking = hosts[host] = Linking(query)
        for shown in linking.of(event):
            yield Found(host, shown, names.get(host))
    for host, linking in hosts.items():
        for shown in linking.rest():
            yield Found(host, shown, names.get(host))
    if others:
        foreign(others)
