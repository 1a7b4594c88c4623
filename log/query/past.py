# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was read of a record before, or passed over by its index: to be looked at again for what was
done for a call, which is told before the call itself, and for a call that did something later.
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import accumulate

from log.recording.format import decompress
from log.recording.index import CAUSED, Index, Indexes

MOST_KEPT = 16 << 20  # bytes of what has no index
Open = Callable[[], AbstractContextManager[int]]  # the segment's descriptor


class Window:
    """The last pieces of what was read from begin to end."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def add(self, content: bytes) -> None:
        """The next piece."""
        self._pieces.append(content)
        self._size += len(content)
        while self._size > MOST_KEPT and len(self._pieces) > 1:
            self._size -= len(self._pieces.popleft())

    def pieces(self) -> Iterator[bytes]:
        """The last one first."""
        return reversed(self._pieces)


class Closed:
    """A segment that has an index."""

    def __init__(self, open_it: Open, index: Index, indexes: Indexes) -> None:
        self._open, self._indexes = open_it, indexes
        self._latest = list(accumulate((row.last for row in index.rows), max))
        self.latest = self._latest[-1] if self._latest else 0
        self._offsets = index.offsets()
        self._caused = bytearray(bool(row.holds & CAUSED) for row in index.rows)
        self._sizes = [row.size for row in index.rows]
        self._whole = bytearray(len(index.rows))  # all lines of these were given
        self.at = 0  # frames before this one are past

    def read_whole(self) -> None:
        """There is nothing else to see in the frame that is read."""
        self._whole[self.at] = 1

    def leave(self) -> None:
        """Another segment comes: what is needed of this one is read again."""
        self.at = len(self._sizes)
        self._latest, self._offsets, self._sizes = [], [], []

    def has(self, since: int, *, caused: bool) -> bool:
        """Whether there is something that ended since then."""
        return since <= self.latest and (not self._latest or bool(self._frames(since, caused)))

    def contents(self, since: int, *, caused: bool) -> Iterator[bytes]:
        """What may hold what ended since then, the last frame first; `caused`: only what was done
        for calls.
        """
        if since > self.latest:
            return
        with self._open() as fd:
            closed = self
            if not self._latest:
                index = self._indexes.of(fd)
                if index is None or len(index.rows) != len(self._whole):
                    return  # it is another file now
                closed = Closed(self._open, index, self._indexes)
                closed.at, closed._whole = self.at, self._whole
            for frame in closed._frames(since, caused):
                with contextlib.suppress(ValueError):  # of a damaged one it was said
                    yield decompress(os.pread(fd, closed._sizes[frame], closed._offsets[frame]))

    def _frames(self, since: int, caused: bool) -> list[int]:
        return [
            frame
            for frame in range(self.at - 1, bisect_left(self._latest, since) - 1, -1)
            if not self._whole[frame] and (self._caused[frame] or not caused)
        ]


class Past:
    """Of one host."""

    def __init__(self) -> None:
        self._sources: list[Window | Closed] = []

    def begin(self, source: Window | Closed) -> None:
        """The next segment."""
        for known in self._sources[-1:]:
            if isinstance(known, Closed):
                known.leave()
        # of two segments ago only what has an index is known
        self._sources[:-1] = [one for one in self._sources[:-1] if isinstance(one, Closed)]
        self._sources.append(source)

    def has_caused(self, since: int) -> bool:
        """Whether it may hold what was done for calls since then, and passed over."""
        return any(isinstance(one, Closed) and one.has(since, caused=True) for one in self._sources)

    def caused(self, since: int) -> Iterator[bytes]:
        """What may hold that, the last first."""
        for one in reversed(self._sources):
            if isinstance(one, Closed):
                yield from one.contents(since, caused=True)

    def all(self, since: int) -> Iterator[bytes]:
        """What may hold anything that ended since then, the last first."""
        for one in reversed(self._sources):
            if isinstance(one, Closed):
                yield from one.contents(since, caused=False)
            else:
                yield from one.pieces()
