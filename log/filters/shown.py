# SPDX-License-Identifier: LGPL-2.1-or-later
"""Leaves out what the user did not ask for: events in order of their end come in, those that are
shown go out.

What a call caused is known before the call itself: whether the call is shown may only be told when
it has ended (it failed, it took long), so until then its company waits.
"""

from __future__ import annotations

from collections.abc import Callable

from log.events import BY_CALL, Call, Command, DomainEvent, Event, call_id
from log.recent import Recent

MOST_DECIDED = 65536
MOST_HELD = 65536  # events


class Shown:
    """The events that are shown. `keeps`: whether one is, by itself; None: all are."""

    def __init__(
        self,
        keeps: Callable[[Event], bool] | None,
        *,
        orphans: bool = False,
        recorded: bool = False,
    ) -> None:
        """`orphans`: also changes of domains by calls that are not shown; `recorded`: something may
        have been done for calls that are alike, too.
        """
        self._keeps, self._orphans, self._recorded = keeps, orphans, recorded
        # calls, by id: whether they are shown
        self._decided: Recent[str, bool] = Recent(MOST_DECIDED)
        self._held: dict[str, list[Event]] = {}  # by the id of the call that it waits for
        self._count = 0

    def of(self, events: list[Event]) -> list[Event]:
        """Those of these events, and of those that waited for them, that are shown."""
        if self._keeps is None:
            return events
        shown: list[Event] = []
        for event in events:
            if type(event) is not Call:
                self._follow(event, shown)
                continue
            wanted = self._keeps(event)
            if event.alike is None or self._recorded:
                id = call_id(event.tid, event.time)
                self._decided.put(id, wanted)
                for held in self._held.pop(id, ()):
                    self._count -= 1
                    self._follow(held, shown)
            if wanted and (event.parent or event.one_of):
                self._follow(event, shown)
            elif wanted:
                shown.append(event)
        return shown

    def rest(self) -> list[Event]:
        """Those that waited for calls that did not come: nothing that is shown has caused them."""
        held = [event for events in self._held.values() for event in events]
        self._held, self._count = {}, 0
        return [
            event._replace(parent=None)
            if type(event) is Command
            else event._replace(parent=None, one_of=())  # type: ignore[call-arg]
            for event in held
        ]

    def _follow(self, event: Event, shown: list[Event]) -> None:
        """Shows it, holds it, or, if it is no call, leaves it out as its cause was."""
        assert self._keeps
        if (
            type(event) is not Call
            and type(event) is not Command
            and type(event) is not DomainEvent
        ):
            if self._keeps(event):
                shown.append(event)
            return
        causes = (event.parent,) if event.parent else getattr(event, "one_of", ())
        for cause in causes:
            if cause not in self._decided:
                if self._count >= MOST_HELD:  # rather too much than too little
                    shown.append(event)
                    return
                self._held.setdefault(cause, []).append(event)
                self._count += 1
                return
        left = tuple(cause for cause in causes if self._decided.get(cause))
        if type(event) is not Call and not self._keeps(event):
            return
        if causes and not left and type(event) is not Call:
            if self._orphans and type(event) is DomainEvent:
                shown.append(event._replace(parent=None, one_of=(), cause=BY_CALL))
            return
        if left != causes:  # nothing has a parent that is nowhere in the log
            if type(event) is DomainEvent:
                event = event._replace(one_of=left, cause=None)
            elif type(event) is Call:
                event = event._replace(parent=None, one_of=left)
        shown.append(event)
