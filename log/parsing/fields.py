# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads what JSON has in a field: anything comes in; what is of the type that is wanted goes out,
else ForeignLine.
"""

from __future__ import annotations

import datetime
import re
from functools import lru_cache
from typing import Any

from log.shapes import BYTES, Types

_ESCAPED = re.compile(r"\\\\|((?:\\x[0-9a-f]{2})+)")
_is_second = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}").fullmatch
NO_TYPES: Types = {}

Fields = dict[str, Any]


class ForeignLine(ValueError):
    """The line is no event: of another program, or damaged."""


def moment(text: str) -> int:
    """ns since the epoch of a time as lines have it."""
    if len(text) != 30 or text[19] != "." or text[29] != "Z":
        raise ForeignLine("not a time")
    return _second(text[:19]) * 1_000_000_000 + int(text[20:29])


@lru_cache(maxsize=256)
def _second(text: str) -> int:
    if not _is_second(text):
        raise ForeignLine("not a time")
    return int(datetime.datetime.fromisoformat(f"{text}+00:00").timestamp())


def whole(item: Any) -> int:
    """A whole number."""
    if type(item) is not int:
        raise ForeignLine("not a number")
    return item


def maybe_whole(item: Any) -> int | None:
    """A whole number, or null."""
    return None if item is None else whole(item)


def boolean(item: Any) -> bool:
    """True or false."""
    if type(item) is not bool:
        raise ForeignLine("neither true nor false")
    return item


def real(item: Any) -> float:
    """A number."""
    return item if type(item) is float else float(whole(item))


def plain(item: Any) -> str:
    """A string in which no byte was replaced."""
    if type(item) is not str:
        raise ForeignLine("not a string")
    return item


def maybe_plain(item: Any) -> str | None:
    """The same, or null."""
    return None if item is None else plain(item)


def plains(items: Any) -> tuple[str, ...]:
    """A list of such strings."""
    return tuple(map(plain, listing(items)))


def text(item: Any, path: str, types: Types) -> str:
    """A string; `types` says where bytes were replaced in it."""
    if type(item) is not str:
        raise ForeignLine("not a string")
    return with_bytes(item) if types and types.get(path) == BYTES else item


def maybe_text(item: Any, path: str, types: Types) -> str | None:
    """The same, or null."""
    return None if item is None else text(item, path, types)


def texts(items: Any, path: str, types: Types) -> tuple[str, ...] | None:
    """A list of such strings, or null."""
    if items is None:
        return None
    return tuple([text(word, f"{path}/{i}", types) for i, word in enumerate(listing(items))])


def mapping(item: Any) -> Fields:
    """An object of JSON."""
    if type(item) is not dict:
        raise ForeignLine("not an object")
    return item


def listing(item: Any) -> list[Any]:
    """A list."""
    if type(item) is not list:
        raise ForeignLine("not a list")
    return item


def with_bytes(text: str) -> str:
    """The text of which `well_formed` has made this one."""
    return _ESCAPED.sub(
        lambda match: (
            "\\"
            if match[1] is None
            else bytes.fromhex(match[1].replace("\\x", "")).decode("utf-8", "surrogateescape")
        ),
        text,
    )
