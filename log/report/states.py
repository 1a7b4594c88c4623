# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happened to a domain comes in; in which state it is from then on goes out."""

from __future__ import annotations

import bisect
from typing import NamedTuple

_AFTER = {
    "started": "running",
    "resumed": "running",
    "suspended": "paused",
    "pmsuspended": "asleep",
    "shutdown": "shutting down",
    "stopped": "off",
    "crashed": "crashed",
}
STATES = tuple(dict.fromkeys(_AFTER.values()))


class StateSpan(NamedTuple):
    """A time that a domain was in a state."""

    begin: int  # ns
    end: int | None  # ns; None: nothing tells of an end
    state: str


def state_after(event: str, detail: str) -> str | None:
    """The state by libvirt's event; None: it does not change it (a definition, say)."""
    if event == "stopped" and detail == "crashed":
        return "crashed"
    return _AFTER.get(event)


def spans(changes: list[tuple[int, str]], gaps: list[int]) -> list[StateSpan]:
    """The states between their changes (time and state, in order). What a domain is while
    nothing is recorded (`gaps`: when that begins, in order) can't be told, nor behind that until
    something happens to it.
    """
    made: list[StateSpan] = []
    for index, (begin, state) in enumerate(changes):
        ends = [changes[index + 1][0]] if index + 1 < len(changes) else []
        at = bisect.bisect_right(gaps, begin)
        made.append(StateSpan(begin, min([*ends, *gaps[at : at + 1]], default=None), state))
    return made
