# SPDX-License-Identifier: LGPL-2.1-or-later
"""Any number of things comes in; what goes out has a limit that nobody can use up for others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
MOST_OWNERS = 1024
OTHERS = ("", "")  # all that came when there were so many


class Fair(Generic[T]):
    """Keeps the newest things of everybody: who has brought most loses most.

    An owner is a user and one of his programs: users share the room evenly, and each one's
    programs what is his.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[tuple[str, str], deque[T]] = {}
        self._count = 0
        self.left_out = 0

    def add(self, user: str, program: str, item: T) -> None:
        """Keep it, for now."""
        owner = (user, program)
        if owner not in self._kept and len(self._kept) >= MOST_OWNERS:
            owner = OTHERS
        self._kept.setdefault(owner, deque()).append(item)
        self._count += 1
        if self._count > self._most * 5 // 4:  # seldom, as it looks at all owners
            self._trim()

    def __iter__(self) -> Iterator[T]:
        """What is left."""
        self._trim()
        for items in self._kept.values():
            yield from items

    def _trim(self) -> None:
        if self._count <= self._most:
            return
        users: dict[str, list[deque[T]]] = {}
        for (user, _), items in self._kept.items():
            users.setdefault(user, []).append(items)
        sizes = [sum(map(len, queues)) for queues in users.values()]
        share = fair_share(sizes, self._most)
        for size, queues in zip(sizes, users.values(), strict=True):
            if size > share:
                each = fair_share([len(items) for items in queues], share)
                for items in queues:
                    while len(items) > each:
                        items.popleft()
                        self._count -= 1
                        self.left_out += 1


def fair_share(sizes: list[int], room: int) -> int:
    """The most that each may have, if all are to have room and who needs less leaves it to the
    others.
    """
    for index, size in enumerate(sorted(sizes)):
        share = room // (len(sizes) - index)
        if size > share:
            return share
        room -= size
    return max(sizes, default=0)


class Scale:
    """Time in slots of the same width, which is doubled when there would be more than `most`."""

    def __init__(self, most: int) -> None:
        self.width = 1_000_000  # ns
        self._most = most
        self._first: int | None = None
        self._last = 0

    def slot(self, ns: int) -> int:
        """The number of the slot: how many of this width there are before it, since the epoch."""
        slot = ns // self.width
        self._first = slot if self._first is None else min(self._first, slot)
        self._last = max(self._last, slot)
        while self._last - self._first >= self._most:
            self.width *= 2
            self._first //= 2
            self._last //= 2
            slot //= 2
        return slot


class Grid:
    """Counts by slot of time and by a number."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._width = scale.width
        self._cells: dict[tuple[int, int], int] = {}

    def add(self, ns: int, number: int, count: int = 1) -> None:
        """Count at this time."""
        slot = self._scale.slot(ns)
        if self._width != self._scale.width:
            self._widen()
        key = (slot, number)
        self._cells[key] = self._cells.get(key, 0) + count

    def cells(self) -> list[tuple[int, int, int]]:
        """Slot, number and count, in order; slots are as wide as the scale's."""
        self._widen()
        return [(*key, count) for key, count in sorted(self._cells.items())]

    def _widen(self) -> None:
        times, self._width = self._scale.width // self._width, self._scale.width
        cells, self._cells = self._cells, {}
        for (slot, number), count in cells.items():
            key = (slot // times, number)
            self._cells[key] = self._cells.get(key, 0) + count
