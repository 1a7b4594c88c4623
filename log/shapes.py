# SPDX-License-Identifier: LGPL-2.1-or-later
"""How values of events differ in JSON: which of its objects is what, and notes where JSON alone
would be misread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from log.values import Code, CutList, CutText, EnumValue, Flags, Handle, Value, Xml

XML = "xml"  # a document, not just a string
DOUBLE = "double"  # not a string but a number that is not finite
# text in which `\\xNN` is a byte that was not UTF-8, and a double backslash a single one
BYTES = "bytes"
FIELDS = "fields"  # named values, though they look like something else

_INTEGERS = (int, bool, float, EnumValue, Flags)

Types = dict[str, Any]  # JSON pointer -> one of these
_surrogate = re.compile(r"[\ud800-\udfff]").search
# the keys of what is neither a handle nor named values
_SHAPES: dict[frozenset[str], str] = {
    frozenset({"text", "length", "cut"}): "cut",
    frozenset({"items", "count", "cut"}): "cut list",
    frozenset({"unreadable"}): "unreadable",
    frozenset({"pointer"}): "pointer",
    frozenset({"pointer", "name"}): "code",
    frozenset({"value", "name"}): "enum",
    frozenset({"value", "names"}): "flags",
    frozenset({"redacted", "length"}): "redacted",
}


def shape_of(fields: Mapping[str, Any]) -> str:
    """What an object of JSON is, by its keys; "fields": named values."""
    if len(fields) <= 3 and (shape := _SHAPES.get(frozenset(fields))):
        return shape
    return (
        "handle" if isinstance(fields.get("type"), str) and next(iter(fields)) == "type" else FIELDS
    )


def _is_misread(fields: Mapping[str, Any]) -> bool:
    if len(fields) <= 3 and frozenset(fields) in _SHAPES:
        return True
    return (
        "type" in fields
        and next(iter(fields)) == "type"
        and isinstance(fields["type"], (str, float, Xml))
    )


def inside(path: str, key: str | int) -> str:
    """The JSON pointer (RFC 6901) to a part of what `path` points to."""
    return (
        f"{path}/{key}"
        if isinstance(key, int)
        else f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
    )


def note_fields(fields: Mapping[str, Value], path: str, found: Types) -> None:
    """Note what is in named values."""
    for key, item in fields.items():
        if type(item) is not int and item is not None:
            note_types(item, inside(path, key), found)


def note_types(item: Value | tuple[Any, ...], path: str, found: Types) -> None:
    """Note, by where it is, what the value's JSON would not be read as."""
    if note := _NOTED.get(type(item)):
        note(item, path, found)


def _note_text(text: str, path: str, found: Types) -> None:
    if not text.isascii() and _surrogate(text):
        found[path] = BYTES


def _note_xml(document: Xml, path: str, found: Types) -> None:
    found[path] = XML


def _note_double(number: float, path: str, found: Types) -> None:
    if not isfinite(number):
        found[path] = DOUBLE


def _note_handle(handle: Handle, path: str, found: Types) -> None:
    note_types(handle.type, inside(path, "type"), found)
    note_fields(handle.fields, path, found)


def _note_dict(fields: dict[str, Value], path: str, found: Types) -> None:
    if _is_misread(fields):
        found[path] = FIELDS
    note_fields(fields, path, found)


def _note_list(items: list[Value] | tuple[Value, ...], path: str, found: Types) -> None:
    for index, part in enumerate(items):
        if type(part) is not int:
            note_types(part, inside(path, index), found)


_NOTED: dict[type, Callable[[Any, str, Types], None]] = {
    str: _note_text,
    Xml: _note_xml,
    float: _note_double,
    Handle: _note_handle,
    dict: _note_dict,
    list: _note_list,
    tuple: _note_list,
    CutText: lambda item, path, found: note_types(item.text, inside(path, "text"), found),
    CutList: lambda item, path, found: note_types(item.items, inside(path, "items"), found),
    EnumValue: lambda item, path, found: note_types(item.name, inside(path, "name"), found),
    Code: lambda item, path, found: note_types(item.name, inside(path, "name"), found),
    Flags: lambda item, path, found: note_types(item.names, inside(path, "names"), found),
}


def implied_returns(ret: Value) -> str:
    """What kind of result a function has, as far as its result tells; a line says it where that
    is wrong.
    """
    return "integer" if isinstance(ret, _INTEGERS) else "pointer"
