# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events come in; the screen's lines go out: in colour on a terminal, with a status line below
them, plain elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

from log.events import Call, End, Event, Lost
from log.filters.about import is_denied
from log.render import text
from log.sinks.files.channel import NotRead, Weight
from log.sinks.files.output import FORMATS, NOTHING, Output, weight_of
from log.sinks.files.sink import Complain, GivenUp
from log.sinks.screen.terminal import ERASE, is_dumb, make_console, paints

_REDRAW = 0.2  # s between two status lines when nothing is logged


def open_screen(
    file: TextIO,
    form: str,
    complain: Complain,
    status: bool = True,
    view: text.View = text.View.FOLD,
) -> Screen | Output:
    """The sink for standard output: a Screen for text on a terminal that can move its cursor, else
    plain lines.

    The text form leaves `end` out: it is said on standard error. `status` False: no status line,
    for when the traced command writes to the same terminal.
    """
    if form != "text":
        return Output(file.fileno(), "standard output", FORMATS[form], complain)
    if not file.isatty() or is_dumb():
        return Output(
            file.fileno(),
            "standard output",
            lambda event: "" if type(event) is End else text.line(event, view),
            complain,
        )
    return Screen(file, complain, status, view)


class Screen(Output):
    """The sink for a terminal."""

    def __init__(
        self,
        file: TextIO,
        complain: Complain,
        status: bool = True,
        view: text.View = text.View.FOLD,
    ) -> None:
        super().__init__(os.dup(file.fileno()), "standard output", FORMATS["text"], complain)
        self._view = view
        self._paint = paints(make_console(file))
        self._has_status = status
        self._status = ""  # as it stands on the screen
        self._note = ""  # what it says instead of numbers
        self._open = 0
        self.behind = 0  # bytes that were not looked at yet
        self._calls = self._denied = self._lost = 0
        self._drawn = self._rated = time.monotonic()
        self._rate = 0.0
        self._calls_rated = 0

    def write(self, events: Sequence[Event]) -> None:
        """Show the events, all but `end`, and below them the new status. BrokenPipeError: the
        terminal is gone.
        """
        paint = self._paint
        lines: list[str] = []
        weights: list[Weight] = []
        before = self._calls, self._denied, self._lost
        for event in self._with_missing(events):
            if type(event) is End:
                continue
            if type(event) is Call:
                self._calls += 1
                self._denied += is_denied(event)
            elif type(event) is Lost:
                self._lost += event.count
            lines.append(
                "".join([paint[role] % piece for role, piece in text.segments(event, self._view)])
            )
            weights.append(weight_of(event) if lines[-1] else NOTHING)
        left_out = self._draw(lines, weights) if any(lines) else []
        if len(left_out) > len(lines):
            self._calls, self._denied, self._lost = before
        elif left_out:
            self._calls -= sum(calls for _, _, calls in left_out)
            self._lost -= sum(count - calls for _, count, calls in left_out)
        self._say()

    def message(self, lines: str) -> None:
        """Show lines that are no event, a warning for instance, without mixing them up with the
        status line.
        """
        self._draw([f"{lines}\n"], [NOTHING])

    @contextlib.contextmanager
    def note(self, text: str) -> Iterator[None]:
        """Meanwhile the status line says this."""
        self._note = text
        self._draw([], [])
        yield
        self._note = ""

    def tick(self, open_calls: int) -> None:
        """Redraw the status line now and then; `open_calls` have begun and not returned."""
        self._open = open_calls
        if time.monotonic() - self._drawn >= _REDRAW:
            self._draw([], [])
        self._say()

    def close(self, given_up: GivenUp = lambda idle: False) -> None:
        """Take the status line away."""
        if self._status:
            self._put([ERASE], lambda: [NOTHING])
            self._status = ""
        super().close(given_up)

    def _is_gone(self, error: OSError) -> bool:
        return not isinstance(error, NotRead)  # EIO: the terminal was closed

    def _draw(self, lines: list[str], weights: list[Weight]) -> list[Weight]:
        """Show lines and the new status; what there is no room for, with the status where that
        is all of it.
        """
        before, status = self._status, self._status_line()
        if not lines and before == status:
            return []
        left_out = self._put(
            [ERASE if before else "", *lines, status], lambda: [NOTHING, *weights, NOTHING]
        )
        if NOTHING not in left_out:
            self._status = status
        return left_out

    def _status_line(self) -> str:
        self._drawn = now = time.monotonic()
        if not self._has_status:
            return ""
        if now - self._rated >= 1:
            self._rate = (self._calls - self._calls_rated) / (now - self._rated)
            self._rated, self._calls_rated = now, self._calls
        try:
            # 0: a terminal that was never told its size
            columns = os.get_terminal_size(self._fd).columns or 80
        except OSError:
            columns = 80
        if self._note:
            return self._paint["status"] % self._note[: columns - 1]
        left = columns - 1  # some terminals go to the next line when one is full
        parts = []
        for role, piece in (
            ("status", f"{self._rate:,.0f} calls/s, {self._open:,} open, "),
            ("notice", f"{self.behind >> 20:,} MiB wait, " if self.behind >> 20 else ""),
            ("denied" if self._denied else "status", f"{self._denied:,} denied"),
            ("status", ", "),
            ("notice" if self._lost else "status", f"{self._lost:,} lost"),
        ):
            parts.append(self._paint[role] % piece[:left])
            left = max(left - len(piece), 0)
        return "".join(parts)
