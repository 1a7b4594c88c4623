# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lines of a record come in and are passed on, while a bar shows how much is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from enforcer.rehearsal.span import Span
from log.errors import say
from log.query.lines import Look
from log.query.query import Query
from log.query.reader import read
from log.recording.format import Line
from log.recording.index import Indexes
from log.sinks.screen.progress import open_bar


def pass_lines(
    paths: list[str], span: Span, add: Callable[[Iterator[Line]], None], *, writes: bool = False
) -> None:
    """Have the lines that are recorded there added; `writes`: those of calls that only read need
    not be.
    """
    bar = open_bar()

    def tell(line: str) -> None:
        bar.hide()
        say(line)

    query = Query(since=span.since, until=span.until, writes=writes, alone=True)
    try:
        add(read(paths, Look(query, Indexes(), tell, None, bar.will, bar.seen))[0])
    finally:
        bar.hide()
