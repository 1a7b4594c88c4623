# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace top: words come in; who keeps libvirt busy is shown, and the exit status goes
out.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence

from log import VERSION
from log.errors import say
from log.recording.busiest import TITLES, Busiest, as_json, heading, tables
from log.sinks.redrawn import Redrawn
from log.sinks.terminal import need_rich
from probes.covering import Guard
from probes.filters import Filters
from probes.host.allowed import check_tracing, unseen
from probes.live import BEHIND, Looks, Signals
from probes.options import AUTO, top_parser
from probes.plans.plan import Limits
from probes.session import Options, Session

MOST_NOTES = 3  # lines of what went wrong, the last ones
Show = Callable[[Busiest, float, Sequence[str]], None]  # seconds, what went wrong


def show_top(arguments: Sequence[str], guard: Guard) -> int:
    """libvirt-trace top: a look after the other, or one."""
    options = top_parser().parse_args(arguments)
    check_tracing()
    is_screen = not (options.once or options.json) and sys.stdout.isatty()
    if is_screen:
        need_rich()
    signals = Signals(reopens=False, patience=2)
    session = Session(Options(Filters(), Limits(256, True), 8 << 20, AUTO, (), VERSION), guard)
    session.start()
    try:
        notes = [note for note in (unseen(),) if note]
        if not is_screen:
            say(f"counting calls for {options.seconds:g} s{'' if options.once else ' each time'}")
        with contextlib.ExitStack() as stack:
            show: Show = (
                _on_screen(stack.enter_context(Redrawn(sys.stdout)), session, options.sort)
                if is_screen
                else _in_lines(session, options.sort, options.rows, as_lines=options.json)
            )
            _look_on(session, signals, options.seconds, options.once, notes, show)
    finally:
        session.stop()
    return 0


def _look_on(
    session: Session,
    signals: Signals,
    seconds: float,
    once: bool,
    notes: list[str],
    show: Show,
) -> None:
    """Until it is time to stop, which may be asked for within a look."""
    while True:
        busiest, took = _look(session, signals, seconds)
        is_last = once or signals.stop > 0
        if is_last:
            session.detach()
            busiest.add(session.stop())
        notes += [*session.take_warnings(), *busiest.left_out()]
        show(busiest, took, notes)
        notes.clear()
        if is_last:
            return


def _look(session: Session, signals: Signals, seconds: float) -> tuple[Busiest, float]:
    """What ended within that time, and how long that was."""
    busiest, begun = Busiest(), time.monotonic()
    pace = Looks(session, signals)
    try:
        while not signals.stop and (left := begun + seconds - time.monotonic()) > 0:
            events = session.poll()
            busiest.add(events)
            if session.waiting_bytes() < BEHIND:
                pace.rest(len(events), left)
        took = time.monotonic() - begun
        busiest.add(session.poll())
        return busiest, took
    finally:
        pace.close()


def _in_lines(session: Session, sort: str, rows: int, *, as_lines: bool) -> Show:
    def show(busiest: Busiest, seconds: float, notes: Sequence[str]) -> None:
        for note in notes:
            say(note)
        if as_lines:
            text = as_json(busiest, seconds, sort, session.open_calls())
        else:
            parts = [heading(busiest, seconds, session.open_calls())]
            parts += [table.plain() for table in tables(busiest, seconds, sort, rows) if table.rows]
            text = "\n".join([*parts, ""])
        print(text, end="", flush=True)

    return show


def _on_screen(screen: Redrawn, session: Session, sort: str) -> Show:
    last: list[str] = []

    def show(busiest: Busiest, seconds: float, notes: Sequence[str]) -> None:
        last[:] = [*last, *(note for note in notes if note not in last)][-MOST_NOTES:]
        lines = [heading(busiest, seconds, session.open_calls()), *last]
        room = screen.room(len(TITLES), len(lines))
        screen.show(lines, tables(busiest, seconds, sort, room))

    return show
