# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keeps what was used last: a limit comes in, a mapping that does not outgrow it comes out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar, overload

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")


class Recent(Generic[K, V]):
    """A mapping that keeps the `most` last used entries; to ask for one is to use it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[K, V] = OrderedDict()

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: D | None = None) -> V | D | None:
        """What is kept, else `default`."""
        try:
            self._kept.move_to_end(key)
        except KeyError:
            return default
        return self._kept[key]

    def put(self, key: K, value: V) -> V:
        """Keeps it, in place of the one that was not used for longest."""
        self._kept[key] = value
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return value

    def learn(self, key: K, find: Callable[[K], V]) -> V:
        """What is kept, else what `find` says."""
        try:
            self._kept.move_to_end(key)
        except KeyError:
            return self.put(key, find(key))
        return self._kept[key]

    def pop(self, key: K, default: V | None = None) -> V | None:
        """Forgets it; what was kept."""
        return self._kept.pop(key, default)

    def clear(self) -> None:
        """Forgets all."""
        self._kept.clear()

    def __getitem__(self, key: K) -> V:
        self._kept.move_to_end(key)
        return self._kept[key]

    def __setitem__(self, key: K, value: V) -> None:
        self._kept[key] = value

    def items(self) -> list[tuple[K, V]]:
        """All of them now; none is used by that."""
        return list(self._kept.items())

    def __contains__(self, key: K) -> bool:
        return key in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[K]:
        """The keys, the one that was not used for longest first."""
        return iter(self._kept)
