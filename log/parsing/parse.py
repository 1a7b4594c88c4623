# SPDX-License-Identifier: LGPL-2.1-or-later
"""A line of JSON comes in; the event it was made of goes out: what `jsonl.line` does, backwards.

The line may be anything. What is no event of ours is ForeignLine; types and fields of a newer
version are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from log.events import Event
from log.parsing.calls import call
from log.parsing.fields import NO_TYPES, Fields, ForeignLine, mapping
from log.parsing.kinds import KINDS
from log.parsing.values import fields
from log.shapes import Types
from log.values import Values

# what comes of lines that are no events
_DAMAGE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    AssertionError,
    RecursionError,
    OverflowError,
)
_KINDS: dict[str, Callable[[Fields, Types], Event]] = {
    "call": call,
    "verdict": call,
    "unfinished": call,
    **{name: kind.read for name, kind in KINDS.items()},
}


def parse(line: str | bytes) -> Event | None:
    """The event; None for a type that is not known here. ForeignLine for anything else."""
    try:
        found = json.loads(line)
        kind = found["type"]
        read = _KINDS.get(kind)
        if read is None and isinstance(kind, str):
            return None
        assert read
        types = found.get("types", NO_TYPES)
        return read(found, types if type(types) is dict else NO_TYPES)
    except _DAMAGE as error:
        raise ForeignLine(str(error)) from None


def arguments(text: bytes) -> Values | None:
    """What stands behind "args" in a call's line that has no "types"."""
    try:
        found = json.loads(text)
        return None if found is None else Values(fields(mapping(found), "/args", NO_TYPES))
    except _DAMAGE as error:
        raise ForeignLine(str(error)) from None
