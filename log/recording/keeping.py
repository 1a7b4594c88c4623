# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much of a record is kept: its segments are looked at, the oldest are removed, and an event
for each goes out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from log.events import Removed
from log.recording.ends import last_end
from log.recording.folder import Folder

DAY_NS = 24 * 3600 * 1_000_000_000
LARGEST_SEGMENT = 64 << 20  # bytes


@dataclass(frozen=True)
class Keeping:
    """How much of the record is kept."""

    keep_ns: int = 30 * DAY_NS
    max_bytes: int = 2 << 30
    spare: float = 0.1  # of the file system, which is left to others

    @property
    def segment_bytes(self) -> int:
        """How long a segment becomes."""
        return max(min(LARGEST_SEGMENT, self.max_bytes // 8), 1)


def retain(folder: Folder, keeping: Keeping, current: str) -> Iterator[Removed]:
    """Take away whole segments, the oldest first, until the record is as young, as short
    and as sparing as it is to be; never the current one.
    """
    segments, _ = folder.segments()
    old = [segment for segment in segments if segment.name != current]
    total = sum(segment.size for segment in segments)
    for segment in old:
        reason = _surplus(folder, keeping, segment.changed, total)
        if reason is None:
            return
        end = last_end(folder, segment.name)
        folder.remove(segment.name)
        total -= segment.size
        chain, frame = (end.chain, end.frame) if end else ("", 0)
        yield Removed(time.time_ns(), segment.name, reason, chain, frame)


def _surplus(folder: Folder, keeping: Keeping, changed: int, total: int) -> str | None:
    if time.time_ns() - changed > keeping.keep_ns:
        return "old"
    if total > keeping.max_bytes:
        return "the record is long"
    return "the disk is full" if folder.spare() < keeping.spare else None
