# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fields with dots in their names come in, a line of JSON goes out, without what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from log.render.jsonl import value
from log.values import Value


def line(fields: Mapping[str, Value]) -> str:
    """One object a line, `a.b` as `b` inside of `a`; pure UTF-8, safe to show on a terminal."""
    return value(nested(fields)) + "\n"


def nested(fields: Mapping[str, Value]) -> dict[str, Value]:
    """The same fields as objects inside each other."""
    top: dict[str, Value] = {}
    for path, item in fields.items():
        if item is None or item == [] or item == {}:
            continue
        places, key = _parted(path)
        inside = top
        for place in places:
            inside = inside.setdefault(place, {})  # type: ignore[assignment]
        inside[key] = list(item) if isinstance(item, tuple) else item
    return top


@lru_cache(maxsize=256)
def _parted(path: str) -> tuple[list[str], str]:
    *places, key = path.split(".")
    return places, key
