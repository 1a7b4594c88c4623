# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a compiled policy says of itself: its bytes come in, from a file or from a process; origin,
mode, covered functions and rules go out. Whoever could write the bytes may have put anything there.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

from enforcer.compiled.layout import (
    ACTIONS,
    AUDIT_MODE,
    CHECK_AT,
    CHECKED_FROM,
    DENY_ON_ERROR,
    HEAD,
    MADE_AT,
    MAGIC,
    MEANS_UNKNOWN,
    NAME_BYTES,
    ORIGIN_MAX,
    ROW,
    ROWS_MAX,
    RULE,
    Head,
)
from probes.api.undescribed import NO_STUB


class PolicySummary(NamedTuple):
    """What a compiled policy says of itself."""

    origin: str  # the path of its source
    made: int  # s since the epoch
    mode: str  # "enforce" or "audit"
    table_hash: str
    # numbers of functions that have a rule; NO_STUB if others are meant, too
    covered: frozenset[int]
    on_error: str = "allow"  # or "deny"


def read_summary(data: bytes) -> PolicySummary | None:
    """What the compiled policy says of itself; None: it is none, or is damaged."""
    if len(data) < HEAD.size:
        return None
    if Head._make(HEAD.unpack_from(data)).check != zlib.crc32(data[CHECKED_FROM:]):
        return None
    return summary(lambda at, length: data[at : at + length], len(data))


def summary(read: Callable[[int, int], bytes], size: int) -> PolicySummary | None:
    """The same of `size` bytes of which `read` gives some: offset, how many. Asks for the head, the
    rows and the name of the source only.

    Nothing that it finds there is relied on: whoever can write it can write anything.
    """
    begin = read(0, HEAD.size)
    if len(begin) != HEAD.size:
        return None
    head = Head._make(HEAD.unpack(begin))
    length = head.rows * ROW.size
    if (
        head.magic != MAGIC
        or head.size != size
        or head.rows > ROWS_MAX
        or head.rows_at + length > size
        or head.origin >= size
    ):
        return None
    rows = read(head.rows_at, length)
    origin, end, _ = read(head.origin, ORIGIN_MAX).partition(b"\0")
    if len(rows) != length or not end:
        return None
    covered = frozenset(i for i, (program, *_) in enumerate(ROW.iter_unpack(rows)) if program)
    return PolicySummary(
        origin=origin.decode(errors="surrogateescape"),
        made=head.made,
        mode="audit" if head.flags & AUDIT_MODE else "enforce",
        table_hash=head.table_hash.hex(),
        covered=covered | ({NO_STUB} if head.flags & MEANS_UNKNOWN else set()),
        on_error="deny" if head.flags & DENY_ON_ERROR else "allow",
    )


def rules_in(data: bytes) -> list[tuple[str, str]]:
    """Names and actions of a compiled policy's rules, in the library's order. Anything may be
    there; what is no rule ends them.
    """
    head = Head._make(HEAD.unpack_from(data))
    end_of_rules = min(head.rules_at + head.rules * RULE.size, len(data) - RULE.size + 1)
    words = {number: word for word, number in ACTIONS.items()}
    found = []
    for at in range(head.rules_at, end_of_rules, RULE.size):
        name, _, _, _, action, _ = RULE.unpack_from(data, at)
        text, end, _ = data[name : name + NAME_BYTES].partition(b"\0")
        if action not in words or not end:
            break
        found.append((text.decode(errors="surrogateescape"), words[action]))
    return found


def without_time(data: bytes) -> bytes:
    """What two compilations of one policy have in common: all but when they were made, and the
    sum over that.
    """
    return data[:CHECK_AT] + data[CHECKED_FROM:MADE_AT] + data[MADE_AT + 8 :]
