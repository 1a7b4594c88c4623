# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event comes in; the line that the log shows of it goes out, without its time, in pieces with
their roles, and no longer than a page can bear.
"""

from __future__ import annotations

from log.events import Event
from log.filters.cut import cut_event
from log.quote import escape
from log.render import text

STRING = 256  # bytes of a string
LONGEST_PIECE = 300  # characters
LONGEST = 1500

Line = tuple[tuple[str, str], ...]  # role and text


def line_of(event: Event) -> Line:
    """Of a call that others were made for, as it is where these are folded away."""
    shown = cut_event(event, STRING)
    pieces = list(text.segments(shown, text.View.FOLD) or ())
    if not pieces:
        pieces = list(text.segments(shown, text.View.BOTH))
    made, length = [], 0
    for role, piece in pieces[1:]:
        piece = short(piece.rstrip("\n"), LONGEST_PIECE)
        if not piece:
            continue
        if length > LONGEST:
            made.append(("notice", "..."))
            break
        length += len(piece)
        made.append((role, piece))
    return tuple(made)


def short(words: str, most: int = STRING) -> str:
    """The beginning, marked where that is not all."""
    return words if len(words) <= most else f"{words[:most]}..."


def safe(words: str) -> str:
    """A name or a sentence that somebody else has chosen, to be shown."""
    return escape(short(words))
