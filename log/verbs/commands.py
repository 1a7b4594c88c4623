# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace log, report and verify: words come in; what a record says is printed, and the
exit status goes out.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from log.errors import TraceError, UsageError, say
from log.events import End
from log.exports.exporters import open_target
from log.filters.cut import cut_event
from log.query.exporting import Exporting
from log.query.history import Documents, with_renames
from log.query.lines import Look
from log.query.linking import Found, events_of
from log.query.query import Query
from log.query.reader import read
from log.quote import name
from log.recording.checking.anchors import anchors_of
from log.recording.checking.verify import verify
from log.recording.index import Indexes
from log.render import text, units, xml
from log.render.forms import ON_A_HOST, render_on_host
from log.render.jsonl import line as json_line
from log.render.jsonl import string
from log.report.differences import differences, differences_as_json
from log.report.in_json import as_json
from log.report.page import PageHead, page
from log.report.perfetto import Trace
from log.report.report import Report
from log.report.story import Story
from log.report.tables import heading, tables
from log.sinks.files.whole import write_whole
from log.sinks.screen.progress import Bar, open_bar
from log.sinks.screen.summary import Summary
from log.sinks.screen.terminal import make_console, paints
from log.verbs.options import export_parser, log_parser, query_of, report_parser, verify_parser

_AT_ONCE = 1 << 16  # characters that are printed together
_QUARTER_HOUR = 900 * 10**9  # ns: no zone's days begin within one
_LOOK_AGAIN = 0.2  # s, for what is being recorded
_RARELY = 100_000  # new objects between two looks for rings of them, as events are none


class Printer:
    """Standard output, in one form."""

    def __init__(self, form: str, view: text.View, hosts: bool, bar: Bar) -> None:
        """`hosts`: each line names its host. `bar`: what is hidden meanwhile."""
        self._view, self._hosts, self._bar = view, hosts, bar
        is_plain = not sys.stdout.isatty() or os.environ.get("TERM", "dumb") in (
            "dumb",
            "unknown",
            "",
        )
        self._paint = None if is_plain or form != "text" else paints(make_console(sys.stdout))
        self._line: Callable[[Found], str] = {
            "json": self._json,
            "xml": self._xml,
            "text": self._text,
        }.get(form, self._siem)
        self._parts: list[str] = []
        self._size = 0
        self._form = form
        self._told = render_on_host(form) if form in ON_A_HOST else None
        self._quarter, self._day = 0, units.day_line(time.time_ns())

    def show(self, found: Found) -> None:
        """Print an event, soon."""
        line = self._line(found)
        if line:
            if self._form == "text":
                self._show_day(found.event.time)
            self._parts.append(line)
            self._size += len(line)
            if self._size > _AT_ONCE:
                self.flush()

    def _show_day(self, ns: int) -> None:
        """A line of its own, unless it is that of the line before; the first is known if it is
        today.
        """
        quarter = ns // _QUARTER_HOUR
        if quarter == self._quarter:
            return
        self._quarter, day = quarter, units.day_line(ns)
        if day != self._day:
            self._day = day
            self._parts.append(day if self._paint is None else self._paint["notice"] % day)

    def flush(self) -> None:
        """Print what waits. BrokenPipeError: nobody reads it."""
        self._bar.hide()
        data = "".join(self._parts).encode()
        self._parts, self._size = [], 0
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def _text(self, found: Found) -> str:
        if type(found.event) is End:
            return ""
        host = f"{name(found.host or '?')} " if self._hosts else ""
        if self._paint is None:
            line = text.line(found.event, self._view)
        else:
            paint = self._paint
            line = "".join(
                [paint[role] % piece for role, piece in text.segments(found.event, self._view)]
            )
        return (
            host + line.replace("\n", f"\n{host}", line.count("\n") - 1) if host and line else line
        )

    def _json(self, found: Found) -> str:
        line = json_line(found.event)
        return (
            line.replace(',"time":', f',"host":{string(found.host or "?")},"time":', 1)
            if self._hosts
            else line
        )

    def _xml(self, found: Found) -> str:
        line = xml.line(found.event)
        if not self._hosts or not line:
            return line
        return line.replace(">", f"><host>{xml.content(found.host or '?')}</host>", 1)

    def _siem(self, found: Found) -> str:
        assert self._told
        return self._told(found.event, found.on)


def show_log(arguments: Sequence[str]) -> int:
    """libvirt-trace log"""
    options = log_parser().parse_args(arguments)
    query = query_of(options)
    view = (
        text.View(options.tree)
        if options.tree
        else text.View.BOTH
        if options.both
        else text.View.FOLD
    )
    summary = Summary(both=options.both) if options.summary else None
    printer: Printer | None = None

    def wait() -> None:
        if printer:
            printer.flush()
        time.sleep(_LOOK_AGAIN)

    bar = Bar(None) if options.follow else open_bar()
    look = _look(query, options.paths, bar, wait if options.follow else None)
    lines, several = read(options.paths, look)
    printer = Printer(options.format, view, several, bar)
    # a history of objects tells what has changed, in words; JSON has the documents
    documents = Documents() if options.format == "text" and (query.objects or query.uuids) else None
    shown = False
    try:
        for found in events_of(lines, look.query, lambda count: look.say(_foreign(count))):
            event = cut_event(found.event, options.string)
            if documents:
                event = documents.told(found.host, event)
            printer.show(found._replace(event=event))
            shown = True
            if summary:
                summary.write([event])
    finally:
        printer.flush()
    if summary:
        on = sys.stdout if options.format == "text" else sys.stderr
        print(summary.shown_on(make_console(on)), end="", file=on, flush=True)
    if not shown:
        say("nothing that was asked for is recorded")
    return 0


def export_record(arguments: Sequence[str]) -> int:
    """libvirt-trace export"""
    options = export_parser().parse_args(arguments)
    target = open_target(options.to, live=False)
    wait = (lambda: time.sleep(_LOOK_AGAIN)) if options.follow else None
    query = with_renames(query_of(options), options.paths, Indexes(), say)
    run = Exporting(options.to, target, query, say, state=options.state, wait=wait)
    try:
        run.run(options.paths)
    finally:
        target.close()
        say(f"{run.sent} {units.plural(run.sent, 'event')} sent to {target.label}")
    return 1 if run.refused else 0


def _look(query: Query, paths: list[str], bar: Bar, wait: Callable[[], None] | None = None) -> Look:
    """How a record is read while a bar shows it; the question is also about what its objects were
    called before and after.
    """
    gc.set_threshold(_RARELY)
    indexes = Indexes()
    query = with_renames(query, paths, indexes, say)

    def tell(line: str) -> None:
        bar.hide()
        say(line)

    return Look(query, indexes, tell, wait, bar.will, bar.seen)


def _foreign(count: int) -> str:
    return f"{count} {'line is' if count == 1 else 'lines are'} no event; left out"


def show_report(arguments: Sequence[str]) -> int:
    """libvirt-trace report"""
    options = report_parser().parse_args(arguments)
    query = query_of(options)
    if options.html is not None or options.perfetto is not None:
        return _draw(options, query, arguments)
    report = _reported(options.paths, query, options.both)
    before = None if options.diff is None else _reported([options.diff], query, options.both)
    if options.json:
        print(
            as_json(report) if before is None else differences_as_json(before, report),
            end="",
            flush=True,
        )
        return 0
    console = make_console(sys.stdout)
    heads = (
        [heading(report)]
        if before is None
        else [(f"before: {heading(before)}"), (f"after: {heading(report)}")]
    )
    made = tables(report, options.top) if before is None else differences(before, report)
    parts = [table.shown_on(console) for table in made if table.rows]
    if before is not None and not parts:
        heads.append("nothing differs")
    print(
        "".join([*(f"{head}\n" for head in heads), *(f"\n{part}" for part in parts)]),
        end="",
        flush=True,
    )
    return 0


def _draw(options: argparse.Namespace, query: Query, arguments: Sequence[str]) -> int:
    """What was recorded as files to look at."""
    if options.diff is not None or options.json:
        raise UsageError("--html and --perfetto go with neither --json nor --diff")
    report, story, bar = Report(both=options.both), Story(both=options.both), open_bar()
    look = _look(query, options.paths, bar)
    lines, several = read(options.paths, look)

    def every() -> Iterator[Found]:
        for host, event, _ in events_of(lines, look.query, lambda count: look.say(_foreign(count))):
            report.add(event)
            story.add(host if several else None, event)
            yield Found(host if several else None, event)

    try:
        if options.perfetto is not None:
            write_whole(options.perfetto, Trace(look.say).parts(every()))
        else:
            for _ in every():
                pass
        if options.html is not None:
            asked = PageHead(options.paths, list(arguments), options.objects)
            write_whole(options.html, page(story, report, asked))
    finally:
        bar.hide()
    print(heading(report), flush=True)
    return 0


def _reported(paths: list[str], query: Query, both: bool) -> Report:
    report, bar = Report(both=both), open_bar()
    look = _look(query, paths, bar)
    lines, _ = read(paths, look)
    try:
        for found in events_of(lines, look.query, lambda count: look.say(_foreign(count))):
            report.add(found.event)
    finally:
        bar.hide()
    return report


def verify_record(arguments: Sequence[str]) -> int:
    """libvirt-trace verify"""
    options = verify_parser().parse_args(arguments)
    anchors = None if options.anchor is None else anchors_of(options.anchor)
    bar = open_bar()
    try:
        report = verify(options.folder, anchors, bar.will, bar.seen)
    finally:
        bar.hide()
    for line in report.lines():
        print(line)
    sys.stdout.flush()
    if report.segments == 0:
        raise TraceError(f"{name(options.folder)}: there is no record in it")
    return 0 if report.is_intact else 1
