# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace top: words come in; who keeps libvirt busy is shown, and the exit status goes
out.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from log.errors import say
from log.quote import escape
from log.report.busiest import SORTS, TITLES, Busiest, as_json, heading, tables
from log.sinks.screen.redrawn import BEGIN, END, Redrawn
from log.sinks.screen.terminal import is_dumb, need_rich
from probes.hanging.limits import Full, fields, in_words, unknown
from probes.host.allowed import unseen
from probes.host.keyboard import Keyboard, is_keyboard
from probes.tracing.covering import Guard
from probes.tracing.loading import Loading
from probes.tracing.session import Session
from probes.verbs.looking_on import begin
from probes.verbs.looks import BEHIND, SOON, Looks
from probes.verbs.options import chosen
from probes.verbs.parsers import top_parser
from probes.verbs.signals import Signals

KEYS = {by[0]: by for by in SORTS}
RARELY = 10.0  # s at least between two times that daemons are asked
MOST_NOTES = 3  # lines of what went wrong, the last ones


class Glance(NamedTuple):
    """What was seen in a while."""

    busiest: Busiest
    seconds: float
    daemons: list[Full]  # how full they are


class Shows(Protocol):
    """What shows the looks."""

    asks_at_the_end: bool  # how full daemons are, once it is to stop

    def show(self, look: Glance, notes: Sequence[str]) -> None:
        """One look, and what went wrong."""

    def heed(self) -> None:
        """Do what was asked meanwhile."""


def show_top(arguments: Sequence[str], guard: Guard) -> int:
    """libvirt-trace top: a look after the other, or one."""
    options = top_parser().parse_args(arguments)
    loading = Loading()
    is_screen = not (options.once or options.json) and is_keyboard() and not is_dumb()
    if is_screen:
        need_rich()
    signals = Signals(reopens=False, patience=2)
    session = begin(guard, loading, filters=chosen(options))
    session.start()
    try:
        notes = [note for note in (unseen(),) if note]
        if not is_screen:
            say(f"counting calls for {options.seconds:g} s{'' if options.once else ' each time'}")
        with contextlib.ExitStack() as stack:
            shows: Shows
            if is_screen:
                screen = stack.enter_context(Redrawn(sys.stdout))
                keys = signals.keys = stack.enter_context(Keyboard(BEGIN, END))
                shows = OnScreen(screen, session, options.sort, keys)
            else:
                shows = InLines(session, options.sort, options.rows, as_json=options.json)
            _look_on(session, signals, options.seconds, options.once, notes, shows)
    finally:
        session.stop()
    return 0


def _look_on(
    session: Session,
    signals: Signals,
    seconds: float,
    once: bool,
    notes: list[str],
    shows: Shows,
) -> None:
    """Until it is time to stop, which may be asked for within a look."""
    told, asking = set[str](), Asking(session)
    while True:
        look = _look(session, signals, seconds, shows, asking)
        is_last = once or signals.stop > 0
        if is_last:
            session.detach()
            look.busiest.add(session.stop())
        notes += [*session.take_warnings(), *look.busiest.left_out()]
        notes += [note for note in unknown(look.daemons) if note not in told]
        told.update(notes)
        shows.show(look, notes)
        notes.clear()
        if is_last:
            return


class Asking:
    """Asks daemons how full they are, while calls are counted."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.told: list[Full] = []
        self._thread: threading.Thread | None = None
        self._asked = -RARELY

    def is_due(self) -> bool:
        """Whether it is long enough since the last time."""
        return time.monotonic() >= self._asked + RARELY

    def begin(self) -> None:
        """Ask once more."""
        self._asked = time.monotonic()
        pids = self._session.daemons()
        self._thread = threading.Thread(target=self._ask, args=(pids,), name="ask", daemon=True)
        self._thread.start()

    def is_done(self) -> bool:
        """Whether all have answered, or need not any more."""
        return self._thread is None or not self._thread.is_alive()

    def _ask(self, pids: list[int]) -> None:
        self.told = self._session.limits.look(pids)


def _look(
    session: Session, signals: Signals, seconds: float, shows: Shows, asking: Asking
) -> Glance:
    """What ended within that time, and until daemons have said how full they are."""
    busiest, begun = Busiest(), time.monotonic()
    pace = Looks(session, signals.waker, keys=signals.keys is not None)
    has_asked = False
    try:
        while True:
            left = begun + seconds - time.monotonic()
            if signals.stop or left <= 0:
                is_asked_for = shows.asks_at_the_end if signals.stop else asking.is_due()
                if not has_asked and is_asked_for:
                    has_asked = True
                    asking.begin()
                elif not has_asked or asking.is_done():
                    break
                left = SOON
            events = session.poll()
            busiest.add(events)
            shows.heed()
            if session.waiting_bytes() < BEHIND:
                pace.rest(len(events), left)
        took = time.monotonic() - begun
        busiest.add(session.poll())
        return Glance(busiest, took, asking.told)
    finally:
        pace.close()


class InLines:
    """Text or JSON on standard output, a look after the other."""

    asks_at_the_end = True

    def __init__(self, session: Session, sort: str, rows: int, *, as_json: bool) -> None:
        self._session, self._sort, self._rows, self._as_json = session, sort, rows, as_json

    def show(self, look: Glance, notes: Sequence[str]) -> None:
        """Print it."""
        for note in notes:
            say(note)
        under_way, (busiest, seconds, daemons) = self._session.open_calls(), look
        if self._as_json:
            told = [fields(one) for one in daemons]
            text = as_json(busiest, seconds, self._sort, under_way, told)
        else:
            found = tables(busiest, seconds, self._sort, self._rows)
            parts = [heading(busiest, seconds, under_way), *limits_of(daemons)]
            text = "\n".join([*parts, *(table.plain() for table in found if table.rows), ""])
        print(text, end="", flush=True)

    def heed(self) -> None:
        """Nobody asks."""


class OnScreen:
    """The last look on a terminal, sorted by what the keys say."""

    asks_at_the_end = False

    def __init__(self, screen: Redrawn, session: Session, sort: str, keys: Keyboard) -> None:
        self._screen, self._session, self._keys = screen, session, keys
        self._sort = sort
        self._notes: list[str] = []
        self._last: Glance | None = None

    def show(self, look: Glance, notes: Sequence[str]) -> None:
        """Draw it."""
        fresh = [note for note in notes if note not in self._notes]
        self._notes = [*self._notes, *fresh][-MOST_NOTES:]
        self._last = look
        if not self._keys.has_terminal():
            return  # a shell has the screen
        busiest, seconds, daemons = look
        lines = [
            heading(busiest, seconds, self._session.open_calls()),
            *limits_of(daemons),
            f"sorted by {self._sort}, keys {', '.join(KEYS)} change that",
            *self._notes,
        ]
        room = self._screen.room(len(TITLES), len(lines))
        self._screen.show(lines, tables(busiest, seconds, self._sort, room))

    def heed(self) -> None:
        """A key sorts what is shown anew."""
        pressed = self._keys.pressed()
        for key in pressed.lower():
            self._sort = KEYS.get(key, self._sort)
        if pressed and self._last:
            self.show(self._last, ())


def limits_of(daemons: Sequence[Full]) -> list[str]:
    """Those that are reached."""
    return [escape(line) for one in daemons for line in in_words(one)]
