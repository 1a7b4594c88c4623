# SPDX-License-Identifier: LGPL-2.1-or-later
"""Of which time a record is read, and its lines, while a bar shows how much is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from log.errors import say
from log.recording.index import Indexes
from log.recording.lines import Look
from log.recording.query import Query
from log.recording.reader import Line, read
from log.sinks.progress import open_bar


class Span(NamedTuple):
    """A time, in ns; None: there is no end of it."""

    since: int | None = None
    until: int | None = None

    def holds(self, first: int, last: int) -> bool:
        """Whether some of what happened from then to then is in it."""
        return (self.since is None or last >= self.since) and (
            self.until is None or first <= self.until
        )


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
