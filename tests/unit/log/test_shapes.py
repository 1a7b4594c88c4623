# SPDX-License-Identifier: LGPL-2.1-or-later
"""What JSON alone would be misread as has a note: where there is none, the shape tells."""

import json
from typing import Any

import pytest

from log.render import jsonl
from log.shapes import BYTES, DOUBLE, FIELDS, XML, inside, note_types, shape_of
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
    Xml,
)


def notes(value: Any) -> dict[str, object]:
    found: dict[str, object] = {}
    note_types(value, "/x", found)
    return found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (CutText("a", 5), "cut"),
        (CutList([1], 9), "cut list"),
        (Unreadable(1), "unreadable"),
        (Pointer(1), "pointer"),
        (Code(1, "f"), "code"),
        (EnumValue(1, "A"), "enum"),
        (Flags(1, ("A",)), "flags"),
        (Redacted(3), "redacted"),
        (Handle("domain", {"name": "a"}), "handle"),
        ({"a": 1, "b": 2}, "fields"),
    ],
)
def test_a_shape_is_told_by_its_keys(value: Any, expected: str) -> None:
    assert shape_of(json.loads(jsonl.value(value))) == expected
    assert notes(value) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"value": 1, "name": "A"}, {"/x": FIELDS}),  # looks like an enum
        ({"type": "domain", "name": "a"}, {"/x": FIELDS}),  # like a handle
        ({"type": 1, "name": "a"}, {}),
        ({"name": "a", "type": "domain"}, {}),
        (Xml("<a/>", "<a/>"), {"/x": XML}),
        (float("nan"), {"/x": DOUBLE}),
        (1.5, {}),
        ("a\udcff", {"/x": BYTES}),
        ("\u00e9", {}),
        ([1, "a\udcff"], {"/x/1": BYTES}),
        ({"a/b": {"c~": "\udcff"}}, {"/x/a~1b/c~0": BYTES}),
        (CutText("\udcff", 5), {"/x/text": BYTES}),
        (CutList(["\udcff"], 5), {"/x/items/0": BYTES}),
        (Handle("domain", {"name": "\udcff"}), {"/x/name": BYTES}),
    ],
)
def test_what_would_be_misread_is_noted(value: object, expected: dict[str, object]) -> None:
    assert notes(value) == expected


def test_pointers_into_json_escape_their_own_marks() -> None:
    assert inside(inside("", "a/~b"), 3) == "/a~1~0b/3"
