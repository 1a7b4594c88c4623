# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tables come in; they stand on a terminal's screen until the next ones take their place."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from log.quote import escape
from log.sinks.screen.summary import Table
from log.sinks.screen.terminal import make_console

if TYPE_CHECKING:
    import rich.table

# to a screen of its own without a cursor, and back
BEGIN, END = b"\x1b[?1049h\x1b[H\x1b[?25l", b"\x1b[?1049l\x1b[?25h"
_AROUND = 3  # lines of a table that are no rows: headings, a rule, a blank
_LEAST = 3  # rows that are shown where there is no room: the last table is cut then


class Redrawn:
    """A screen of its own; the one before is there again when it is left, whatever happens."""

    def __init__(self, file: TextIO) -> None:
        self._console = make_console(file)
        from rich.live import Live

        # no thread that draws, and nobody else's output taken in
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def room(self, tables: int, lines: int) -> int:
        """Rows that each of so many tables may have, below so many lines."""
        return max((self._console.height - lines) // tables - _AROUND, _LEAST)

    def show(self, lines: Sequence[str], tables: Sequence[Table]) -> None:
        """Draw it; what the screen has no room for is cut, but no number of a row that is there."""
        from rich.console import Group
        from rich.text import Text

        heads = [Text(escape(line), "status", no_wrap=True, overflow="ellipsis") for line in lines]
        self._live.update(Group(*heads, *map(_drawn, tables)), refresh=True)


def _drawn(table: Table) -> rich.table.Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Drawn
    from rich.text import Text

    drawn = Drawn(box=SIMPLE_HEAD, pad_edge=False, expand=True)
    widths = [max(map(len, column)) for column in zip(table.headings, *table.rows, strict=True)]
    for column, heading in enumerate(table.headings):
        if table.is_number(column):
            drawn.add_column(
                heading, no_wrap=True, justify="right", style="number", min_width=widths[column]
            )
        else:
            drawn.add_column(heading, no_wrap=True, overflow="ellipsis", style="function", ratio=1)
    for cells in table.rows:
        drawn.add_row(*map(Text, cells))
    return drawn
