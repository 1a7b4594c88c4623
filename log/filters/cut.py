# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event of a record comes in, with long strings; it goes out with as much of them as the
live view would keep (`-s`).
"""

from __future__ import annotations

from typing import Any

from log.events import Call, Command, Event
from log.quote import whole_characters
from log.values import NO_VALUES, CutList, CutText, Handle, Value, Values, Xml

ESCAPE, PASS = "surrogateescape", "surrogatepass"


def cut_event(event: Event, size: int) -> Event:
    """The event with at most `size` bytes of each string of its values."""
    if type(event) is Command:
        return event._replace(text=_cut(event.text, size))
    if type(event) is not Call:
        return event
    alike = event.alike
    if alike is not None and alike.get("short") == size:
        return event
    args = None if event.args is None else _cut_values(event.args, size)
    out, ret = _cut_values(event.out, size), _cut(event.ret, size)
    if alike is not None and args is event.args and out is event.out and ret is event.ret:
        alike["short"] = size
    children = tuple(cut_event(child, size) for child in event.children)
    return event._replace(args=args, out=out, ret=ret, children=children)


def _cut_values(values: Values, size: int) -> Values:
    if values is NO_VALUES:
        return values
    known: tuple[int, Values | None] | None = values.rendered.get("cut")
    if known is None or known[0] != size:
        fields = {key: _cut(item, size) for key, item in values.values.items()}
        known = values.rendered["cut"] = size, None if fields == values.values else Values(fields)
    return known[1] or values


def _cut(item: Any, size: int) -> Value:
    if isinstance(item, str):
        data, errors = _encoded(item)
        return item if len(data) <= size else CutText(_begin(data, size, errors), len(data), item)
    if isinstance(item, CutText):
        data, errors = _encoded(item.text)
        return (
            item
            if len(data) <= size
            else CutText(_begin(data, size, errors), item.length, item.whole or item.text)
        )
    if isinstance(item, Xml):
        shown = _cut(item.shown, size)
        return (
            item._replace(shown=shown._replace(whole=None)) if isinstance(shown, CutText) else item
        )
    if isinstance(item, Handle):
        fields = {key: _cut(inner, size) for key, inner in item.fields.items()}
        return item._replace(fields=fields)
    if isinstance(item, CutList):
        return CutList(_cut(item.items, size), item.total)  # type: ignore[arg-type]
    if type(item) is dict:
        return {key: _cut(inner, size) for key, inner in item.items()}
    if type(item) is list:
        return [_cut(inner, size) for inner in item]
    return item  # type: ignore[no-any-return]


def _begin(data: bytes, size: int, errors: str) -> str:
    return whole_characters(data[:size]).decode(errors=errors)


def _encoded(text: str) -> tuple[bytes, str]:
    """Its bytes, and how they become text again."""
    try:
        return text.encode(errors=ESCAPE), ESCAPE
    except UnicodeEncodeError:  # a line of JSON may hold half a character
        return text.encode(errors=PASS), PASS
