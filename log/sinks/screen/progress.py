# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bytes that were read come in; a bar on the terminal of standard error goes out, if it takes
long.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from typing import TextIO

from log.sinks.screen.terminal import ERASE, make_console

_PATIENCE, _REDRAW = 1.0, 0.1  # s: until there is a bar, and between two of it
_WIDTH = 40  # columns


def open_bar() -> Bar:
    """The bar of a command; none where it would be in the way: of a pager, say, to which
    standard output goes.
    """
    try:
        piped = stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode)
    except (OSError, ValueError):
        piped = False
    return Bar(
        None
        if piped
        or not sys.stderr.isatty()
        or os.environ.get("TERM", "dumb") in ("dumb", "unknown", "")
        else sys.stderr
    )


class Bar:
    """How much of all there is to be read has been."""

    def __init__(self, file: TextIO | None, patience: float = _PATIENCE) -> None:
        """`file`: the terminal; None: nothing is shown. `patience`: seconds until there is a
        bar.
        """
        self._file = file
        self.total = self.at = 0  # bytes
        self._due = time.monotonic() + patience
        self._shown = False

    def will(self, count: int) -> None:
        """There are so many bytes more."""
        self.total += count

    def seen(self, count: int) -> None:
        """So many bytes more have been read."""
        self.at += count
        if self._file and self.total and time.monotonic() >= self._due:
            self._draw(self._file)
            self._due = time.monotonic() + _REDRAW

    def hide(self) -> None:
        """Take it away, as lines follow."""
        if self._file and self._shown:
            self._shown = False
            self._file.write(ERASE)
            self._file.flush()

    def _draw(self, file: TextIO) -> None:
        from rich.progress_bar import ProgressBar

        console = make_console(file)
        at = min(self.at, self.total)
        with console.capture() as capture:
            console.print(
                ProgressBar(self.total, at, width=min(_WIDTH, max(console.width - 8, 1))), end=""
            )
        file.write(f"{ERASE}{capture.get()} {100 * at // self.total:3} %")
        file.flush()
        self._shown = True
