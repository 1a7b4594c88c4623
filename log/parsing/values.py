# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a value as JSON has it: what `jsonl.value` does, backwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from log.parsing.fields import (
    Fields,
    ForeignLine,
    listing,
    mapping,
    maybe_text,
    maybe_whole,
    text,
    whole,
    with_bytes,
)
from log.shapes import BYTES, DOUBLE, FIELDS, XML, Types, inside, shape_of
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
    Xml,
)


def value(item: Any, path: str, types: Types) -> Value:
    """Of whatever kind."""
    kind = type(item)
    if kind is str:
        noted = types.get(path) if types else None
        if noted is None:
            return item  # type: ignore[no-any-return]
        if noted == DOUBLE:
            return math.nan if item == "NaN" else math.inf if item == "Infinity" else -math.inf
        read = with_bytes(item) if noted == BYTES else item
        return Xml(read, read) if noted == XML else read
    if kind is dict:
        return _object(item, path, types)
    if kind is list:
        return [value(part, inside(path, index), types) for index, part in enumerate(item)]
    return item  # type: ignore[no-any-return]


def _object(found: Fields, path: str, types: Types) -> Value:
    noted = types.get(path) if types else None
    shape = FIELDS if noted == FIELDS else shape_of(found)
    if shape == FIELDS:
        return fields(found, path, types)
    made = _SHAPES[shape](found, path, types)
    return Xml(made, made.text) if noted == XML and isinstance(made, CutText) else made


def fields(found: Fields, path: str, types: Types) -> dict[str, Value]:
    """Named values."""
    # most have nothing inside
    return {
        key: item
        if type(item) is int or item is None
        else value(item, inside(path, key) if types else "", types)
        for key, item in found.items()
    }


def maybe_fields(item: Any, path: str, types: Types) -> Mapping[str, Value] | None:
    """Named values, or null."""
    return None if item is None else fields(mapping(item), path, types)


def maybe_handle(item: Any, path: str, types: Types) -> Handle | None:
    """An object of libvirt, or null."""
    found = value(item, path, types)
    if not (found is None or isinstance(found, Handle)):
        raise ForeignLine("not an object of libvirt")
    return found


def _handle(found: Fields, path: str, types: Types) -> Handle:
    rest = {key: item for key, item in found.items() if key != "type"}
    return Handle(text(found["type"], f"{path}/type", types), fields(rest, path, types))


def _cut_list(found: Fields, path: str, types: Types) -> CutList:
    items = value(found["items"], f"{path}/items", types)
    if type(items) is not list and type(items) is not dict:
        raise ForeignLine("neither a list nor fields")
    return CutList(items, maybe_whole(found["count"]))


_SHAPES: dict[str, Callable[[Fields, str, Types], Value]] = {
    "cut": lambda f, path, types: CutText(
        text(f["text"], f"{path}/text", types), maybe_whole(f["length"])
    ),
    "cut list": _cut_list,
    "unreadable": lambda f, path, types: Unreadable(int(f["unreadable"], 16)),
    "pointer": lambda f, path, types: Pointer(int(f["pointer"], 16)),
    "code": lambda f, path, types: Code(
        int(f["pointer"], 16), text(f["name"], f"{path}/name", types)
    ),
    "enum": lambda f, path, types: EnumValue(
        whole(f["value"]), maybe_text(f["name"], f"{path}/name", types)
    ),
    "flags": lambda f, path, types: Flags(
        whole(f["value"]),
        tuple(
            [text(name, f"{path}/names/{i}", types) for i, name in enumerate(listing(f["names"]))]
        ),
    ),
    "redacted": lambda f, path, types: Redacted(maybe_whole(f["length"])),
    "handle": _handle,
}
