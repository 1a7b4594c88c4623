# SPDX-License-Identifier: LGPL-2.1-or-later
"""The log: batches of events come in and go to every sink, whatever happens to the others."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from log.counted import Counted
from log.events import Event
from log.filters.tally import Tally
from log.quote import escape
from log.render.notices import end_summary
from log.render.text import View
from log.sinks.exporter import PATIENCE as EXPORTERS_PATIENCE
from log.sinks.exporter import Exporter, Gauge
from log.sinks.files.channel import Channel, NotRead
from log.sinks.files.output import FORMATS, Output, open_file
from log.sinks.files.sink import GivenUp, Sink
from log.sinks.quiet import Quiet
from log.sinks.screen.console import Screen, open_screen
from log.sinks.screen.summary import Summary
from log.sinks.screen.terminal import make_console

STDERR = 2
STDERR_PATIENCE = 0.1  # s that a line on standard error may take
READER_PATIENCE = 2  # s


class Asked(Protocol):
    """What the user has asked for meanwhile."""

    stop: int  # how often
    terminate: bool

    def is_impatient(self) -> bool:
        """Whether readers are not to be waited for."""


class Form(Protocol):
    """The options of what is shown, and where."""

    format: str | None
    tree: str | None
    both: bool
    summary: bool
    output: Path | None
    shared_output: bool


@runtime_checkable
class Knowing(Protocol):
    """A sink that shows numbers of other parts, too."""

    def know(self, gauges: Sequence[Gauge]) -> None:
        """Show these."""


class Log:
    """All sinks, and the numbers of what went through."""

    def __init__(
        self, options: Form, signals: Asked, *, quiet: bool = False, calls: bool = True
    ) -> None:
        """`quiet`: nothing is shown on standard output; `calls`: whether calls are."""
        self._signals, self.shows, self._shows_calls = signals, not quiet, calls
        self._screen: Output | None = None
        self._errors = Channel(STDERR)
        self.tally = Tally()
        self.summary = Summary(both=options.both) if options.summary else None
        self._view = (
            View(options.tree) if options.tree else View.BOTH if options.both else View.FOLD
        )
        self._sinks: list[Sink] = []  # what waits for nobody is first
        self._exporters: list[Exporter] = []
        self._form = options.format or "text"
        if options.output:
            self._sinks.append(
                open_file(
                    os.fspath(options.output),
                    FORMATS[options.format or "json"],
                    self.complain,
                    shared=options.shared_output,
                )
            )

    def add(self, *sinks: Sink) -> None:
        """More sinks, which get what comes from now on."""
        self._sinks[:0] = sinks
        self._exporters += [sink for sink in sinks if isinstance(sink, Exporter)]

    def know(self, *gauges: Gauge) -> None:
        """Tell sinks that show them of numbers of other parts."""
        for sink in self._sinks:
            if isinstance(sink, Knowing):
                sink.know(gauges)

    @contextlib.contextmanager
    def starting(self, status: bool) -> Iterator[None]:
        """While the tracer gets ready, which the status line says; then events are shown and
        the time counts.
        """
        if self.shows:
            status = status and self._shows_calls  # it has their numbers
            self._screen = open_screen(sys.stdout, self._form, self.complain, status, self._view)
            self._sinks.append(self._screen if self._shows_calls else Quiet(self._screen))
        if self.summary:
            self._sinks.append(self.summary)
        try:
            with (
                self._screen.note("starting ...")
                if isinstance(self._screen, Screen)
                else contextlib.nullcontext()
            ):
                yield
        except BaseException:
            if self._screen:
                self._screen.close(lambda idle: True)
            self._screen = None
            raise
        self.tally.started = time.monotonic()

    def complain(self, message: str) -> None:
        """A line for the user, without mixing it up with the status line."""
        line = f"libvirt-trace: {escape(message)}"
        if isinstance(self._screen, Screen) and os.isatty(STDERR):
            self._screen.message(line)
        else:
            self._errors.send(f"{line}\n".encode(), STDERR_PATIENCE)

    def write(self, events: Sequence[Event]) -> None:
        """Passes a batch on to every sink; the loss of one is no loss of the others."""
        self.tally.add(events)
        self._each(lambda sink: sink.write(events))

    def count(self, counted: Sequence[Counted]) -> None:
        """Adds calls that were only counted, all that there were."""
        self.tally.count(counted)
        if self.summary:
            self.summary.count(counted)

    def tick(self, open_calls: int, behind: int = 0) -> None:
        """Keeps the status line up to date, and says what has gone wrong. `behind`: bytes of
        records that wait.
        """
        if isinstance(self._screen, Screen):
            self._screen.behind = behind
        self._each(lambda sink: sink.tick(open_calls))

    def reopen(self) -> None:
        """Lets go of files that were moved away."""
        for sink in self._sinks:
            sink.reopen()

    def close(self) -> None:
        """The last event, the summary, and a line about it all on standard error."""
        deadline = time.monotonic() + EXPORTERS_PATIENCE
        end = self.tally.end(sum(exporter.finish(deadline) for exporter in self._exporters))
        with contextlib.suppress(BrokenPipeError):
            self.write([end])
        if self.summary:
            on = sys.stdout if self._form == "text" else sys.stderr
            table = self.summary.shown_on(make_console(on)).removesuffix("\n")
            if self._form == "text" and self._screen:
                self._screen.message(table)
        given_up = self._given_up()
        for sink in self._sinks:
            sink.close(given_up)
        self._screen = None
        if self.summary and (self._form != "text" or not self.shows):
            self._last_words(f"{table}\n", given_up)
        self._last_words(f"libvirt-trace: {escape(end_summary(end))}\n", given_up)

    def _each(self, do: Callable[[Sink], None]) -> None:
        gone: BrokenPipeError | None = None
        for sink in self._sinks:
            try:
                do(sink)
            except BrokenPipeError as error:
                gone = error
        if gone:
            raise gone

    def _given_up(self) -> GivenUp:
        """A reader is waited for until somebody asks once more, or, where it was no person who
        asked, for a while.
        """
        signals, asked, said = self._signals, self._signals.stop, False

        def given_up(idle: float) -> bool:
            nonlocal said
            if (
                signals.is_impatient()
                or signals.stop > asked
                or (signals.terminate and idle > READER_PATIENCE)
            ):
                return True
            if idle > READER_PATIENCE and not said:
                said = True
                self.complain("waiting until what was logged is read: Ctrl-C ends that")
            return False

        return given_up

    def _last_words(self, text: str, given_up: GivenUp) -> None:
        data, begun = text.encode(), time.monotonic()
        while data:
            sent, error = self._errors.send(data, STDERR_PATIENCE)
            data = data[sent:]
            if not isinstance(error, NotRead) or given_up(time.monotonic() - begun):
                return
