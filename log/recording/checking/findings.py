# SPDX-License-Identifier: LGPL-2.1-or-later
"""The verdicts on a record: faults and times that are missing come in, lines of words go out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from log.render.units import counted, day_and_time, duration

_MOST_LISTED = 1000


class Missing(NamedTuple):
    """A time of which not everything is recorded."""

    begin: int  # ns
    end: int  # ns; 0: it goes on
    cause: str


@dataclass
class Findings:
    """The verdicts, and what they rest on."""

    faults: list[str] = field(default_factory=list)  # the first is the first that was found
    missing: list[Missing] = field(default_factory=list)
    segments: int = 0
    frames: int = 0
    events: int = 0
    first: int = 0  # ns
    last: int = 0  # ns
    anchors: int | None = None  # that were compared
    unchecked: int = 0  # of segments that retention has removed

    @property
    def is_intact(self) -> bool:
        """Whether nothing was changed, cut, swapped or removed."""
        return not self.faults

    def fault(self, line: str) -> None:
        """Note a fault."""
        if len(self.faults) < _MOST_LISTED:
            self.faults.append(line)

    def lines(self) -> Iterator[str]:
        """The verdicts in words."""
        parts = (self.segments, "segment"), (self.frames, "frame"), (self.events, "line")
        size = ", ".join(counted(*part) for part in parts)
        span = f", {day_and_time(self.first)} to {day_and_time(self.last)}" if self.frames else ""
        if self.faults:
            yield f"not intact: {self.faults[0]}"
            yield from (f"  and {fault}" for fault in self.faults[1:])
        else:
            yield f"intact: {size}{span}"
        if self.anchors is not None:
            gone = (
                f", {self.unchecked} of frames that were removed on purpose"
                if self.unchecked
                else ""
            )
            yield (
                f"anchors: {self.anchors} in the system's log agree{gone}"
                if not self.faults
                else f"anchors: {self.anchors} compared"
            )
        yield "complete" if not self.missing else "not complete:"
        for gap in self.missing:
            end = (
                f"to {day_and_time(gap.end)} ({duration(max(gap.end - gap.begin, 0))})"
                if gap.end
                else "on"
            )
            yield f"  from {day_and_time(gap.begin)} {end}: {gap.cause}"
