# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event comes in; one line in strace's grammar goes out, as plain text and as the (role, text)
pairs that colour is made of.

Both are the same list of pieces, `role, text, role, text, ...`, so a colour can't change a
character. Here it is decided which events have a line, and on the line of which others are told;
what each is made of is in pieces/.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any

from log.events import Call, Command, DomainEvent, Event, Owed, Reads, Recording, UnderWay
from log.filters.asking import command_name, only_asks
from log.render.pieces.calls import counted, one_call, parts_of, under_way
from log.render.pieces.changes import LINES, one_command, questions
from log.render.pieces.own import reminder, said
from log.render.pieces.who import INDENT
from log.render.units import clock, duration


class View(Enum):
    """How a call is shown that others were made for, in a daemon."""

    FOLD = "fold"  # once, where it began, with the time it took in the daemon
    TREE = "short"  # with what it caused on the lines below it
    FULL = "full"  # the same, each question to a monitor or agent on a line of its own
    BOTH = "both"  # each call by itself, also in the daemon


def line(event: Event, view: View = View.FOLD) -> str:
    """The event as a line of plain text with its newline; several of a tree, "" for what is
    folded away.
    """
    if type(event) is Call and event.alike is not None and event.duration_ns is not None:
        return _again(event, event.alike)
    return "".join(_pieces(event, view)[1::2])


def _again(call: Call, alike: dict[str, Any]) -> str:
    """The same of a call that has company only in calls that are alike: nothing caused it, and it
    caused nothing.
    """
    texts: tuple[str, str] | None = alike.get("text line")
    if texts is None:
        head, end = parts_of(call)
        texts = alike["text line"] = "".join(head[1::2]), "".join(end[1::2])
    before, after = texts
    return f"{clock(call.time)}{before} <{duration(call.duration_ns or 0)}>{after}"


def segments(event: Event, view: View = View.FOLD) -> Iterator[tuple[str, str]]:
    """The same text as (role, text) pairs; the roles are the keys of `console.THEME`, "" is for
    punctuation.
    """
    pieces = _pieces(event, view)
    return zip(pieces[::2], pieces[1::2], strict=True)


def _pieces(event: Event, view: View) -> list[str]:
    if type(event) is Call:
        if view is View.BOTH:
            line = one_call(event, folded=False)
            return [*_asked(event), *line] if event.children else line
        if event.parent is not None:
            return []
        return (
            _tree(event, 0, view)
            if view is not View.FOLD and event.children
            else one_call(event, folded=view is View.FOLD)
        )
    if type(event) is Command and event.parent is not None and only_asks(event.text):
        return []  # with its call
    if type(event) is Command or type(event) is DomainEvent:
        return (
            []
            if view is not View.BOTH and event.parent is not None
            else LINES[type(event)](event, 0)
        )
    if type(event) is UnderWay:
        return under_way(event)
    if type(event) is Owed:
        return reminder(event)
    if type(event) is Reads:
        return [] if event.caused and view is not View.BOTH else counted(event)
    if type(event) is Recording:
        return []
    return said(event)


def _tree(event: Call, level: int, view: View) -> list[str]:
    pieces = one_call(event._replace(depth=event.depth + level, alike=None), folded=False)
    level += event.depth + 1
    children = sorted(event.children, key=lambda child: int(child.time))
    for run in [[child] for child in children] if view is View.FULL else _runs(children):
        if len(run) > 1:
            pieces += questions(run, level)
        elif type(run[0]) is Call:
            pieces += _tree(run[0], level, view)
        else:
            pieces += LINES[type(run[0])](run[0], level)
    if event.more_children:
        pieces += ("", INDENT * level, "notice", f"and {event.more_children} more", "", "\n")
    return pieces


def _runs(children: Sequence[Any]) -> list[list[Any]]:
    """What a call caused, where the same question was asked again and again (a start asks some
    400 times) together.
    """
    return [list(run) for _, run in itertools.groupby(children, _sameness())]


def _sameness() -> Callable[[Any], object]:
    """Tells what may be shown together: what changes something has a line of its own."""
    numbers = itertools.count()
    return lambda child: (
        (child.to_agent, command_name(child.text))
        if type(child) is Command and only_asks(child.text)
        else next(numbers)
    )


def _asked(call: Call) -> list[str]:
    """Lines for the questions that were asked in a call: they are told with it."""
    children = [child for child in call.children if type(child) is not Call]
    pieces: list[str] = []
    for run in _runs(sorted(children, key=lambda child: int(child.time))):
        if len(run) > 1:
            pieces += questions(run, 0)
        elif type(run[0]) is Command and only_asks(run[0].text):
            pieces += one_command(run[0], 0)
    return pieces
