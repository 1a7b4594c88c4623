# SPDX-License-Identifier: LGPL-2.1-or-later
"""Colours of a terminal: roles of text come in, a terminal's own colours go out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from log.errors import TraceError

# else imported where it is used: a start without colours is the shorter by a tenth of a second
if TYPE_CHECKING:
    import rich.console

# the sixteen colours that every terminal has set to suit its background
THEME = {
    "time": "dim",
    "process": "none",
    "function": "bold",
    "name": "dim",
    "object": "cyan",
    "string": "green",
    "number": "none",
    "constant": "blue",
    "secret": "dim italic",
    "duration": "dim",
    "failed": "red",
    "denied": "bold red",
    "notice": "yellow",
    "status": "dim",
}
ERASE = "\r\x1b[2K"


def need_rich() -> None:
    """TraceError where the package is missing."""
    try:
        import rich  # noqa: F401 - whether it is there
    except ModuleNotFoundError as error:
        raise TraceError(
            "Python's module rich is missing: install the package python3-rich"
        ) from error


def is_dumb() -> bool:
    """Whether the terminal can't move its cursor."""
    return os.environ.get("TERM", "dumb") in ("dumb", "unknown", "")


def make_console(file: TextIO) -> rich.console.Console:
    """A rich console for `file` that adds styles to text and changes nothing else; no styles
    with NO_COLOR set.
    """
    need_rich()
    import rich.console
    from rich.theme import Theme

    return rich.console.Console(
        file=file,
        theme=Theme(THEME),
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


def paints(console: rich.console.Console) -> dict[str, str]:
    """For each role what rich puts around a text of it, as a `%` format.

    Asked once a role, because rich takes 130 us to render a line, and joining these 10.
    """
    from rich.text import Text

    formats = {"": "%s"}
    for role in THEME:
        with console.capture() as capture:
            console.print(Text().append("%s", role), end="")
        formats[role] = capture.get()
    return formats
