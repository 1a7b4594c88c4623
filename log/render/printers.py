# SPDX-License-Identifier: LGPL-2.1-or-later
"""A value comes in; it goes out as (role, text) pairs one behind the other, as text.py makes lines
of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from log.quote import escape, name, quote
from log.render.abstract import abstract
from log.render.difference import difference
from log.render.units import plural
from log.values import (
    Code,
    CutList,
    CutText,
    EnumValue,
    Flags,
    Handle,
    Pointer,
    Redacted,
    Unreadable,
    Value,
    Values,
    Xml,
)


def arguments(values: Values) -> list[str]:
    """`name=value, ...` as pieces, made once for all calls that share the values."""
    pieces: list[str] | None = values.rendered.get("text")
    if pieces is None:
        pieces = values.rendered["text"] = _fields(values.values)
    return pieces


def _fields(fields: Mapping[str, Value]) -> list[str]:
    pieces: list[str] = []
    for key, item in fields.items():
        pieces += ("", ", " if pieces else "", "name", name(key), "", "=", *value(item))
    return pieces


def value(item: Value) -> list[str]:
    """Any value."""
    return _PRINTERS[type(item)](item)


def _list(items: list[Value] | tuple[Value, ...]) -> list[str]:
    pieces = ["", "["]
    for index, item in enumerate(items):
        pieces += ("", ", " if index else "", *value(item))
    return [*pieces, "", "]"]


def _dict(fields: Mapping[str, Value]) -> list[str]:
    return ["", "{", *_fields(fields), "", "}"]


def _cut_list(cut: CutList) -> list[str]:
    pieces = value(cut.items)
    rest = "..." if cut.total is None else f"... {cut.total} in all"
    return [*pieces[:-2], "", ", " if cut.items else "", "notice", rest, *pieces[-2:]]


def handle(handle: Handle) -> list[str]:
    """An object of libvirt's, by its name."""
    label = handle.label
    if "claimed" in handle.fields:
        return [
            *value(Handle(handle.type, {"name": label})),
            "notice",
            f" /* not {''.join(value(handle.fields['claimed'])[1::2])} */",
        ]
    if label is None:
        return ["object", f"<{name(handle.type)}>"]
    if type(label) is str:
        return ["object", name(label)]
    return value(label)


def _flags(flags: Flags) -> list[str]:
    return (
        ["constant", escape("|".join(flags.names))] if flags.names else ["number", str(flags.value)]
    )


def _enum(item: EnumValue) -> list[str]:
    return (
        ["number", (f"{item.value} /* unknown */")]
        if item.name is None
        else ["constant", escape(item.name)]
    )


def _redacted(item: Redacted) -> list[str]:
    length = "" if item.length is None else f", {item.length} {plural(item.length, 'byte')}"
    return ["secret", f"<redacted{length}>"]


_PRINTERS: dict[type, Callable[[Any], list[str]]] = {
    type(None): lambda item: ["number", "NULL"],
    bool: lambda item: ["number", "true" if item else "false"],
    int: lambda item: ["number", str(item)],
    float: lambda item: ["number", repr(item)],
    str: lambda item: ["string", quote(item)],
    list: _list,
    tuple: _list,
    dict: _dict,
    CutList: _cut_list,
    Xml: lambda item: ["string", abstract(item) if item.before is None else difference(item)],
    CutText: lambda item: ["string", quote(item.text) + "..."],
    Unreadable: lambda item: ["notice", f"{item.address:#x} /* unreadable */"],
    Pointer: lambda item: ["number", f"{item.address:#x}"],
    Code: lambda item: ["number", name(item.name)],
    Handle: handle,
    EnumValue: _enum,
    Flags: _flags,
    Redacted: _redacted,
}
