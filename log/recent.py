# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bounded caches: a mapping that keeps what was used last, and one of what was made of objects."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from functools import wraps
from typing import Generic, TypeVar, TypeVarTuple, overload

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")
Rest = TypeVarTuple("Rest")


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


def by_identity(
    most: int,
) -> Callable[[Callable[[K, *Rest], V]], Callable[[K, *Rest], V]]:
    """As lru_cache, for a pure function of an object that never changes: that is known by where it
    is, since hashing what it holds takes longer than the rest. All are forgotten at `most`.

    Such functions, and those with lru_cache, are shared by all who render or read: what they know
    is true for everybody, and to make it again for each sink, or to ask an object for it, takes
    longer. What is a session's own is in the session's objects.
    """

    def decorate(make: Callable[[K, *Rest], V]) -> Callable[[K, *Rest], V]:
        # the object is held, so that its id can't become another's
        known: dict[tuple[object, ...], tuple[K, V]] = {}

        @wraps(make)
        def made(of: K, *rest: *Rest) -> V:
            key = (id(of), *rest)
            found = known.get(key)
            if found is None:
                if len(known) >= most:
                    known.clear()
                found = known[key] = (of, make(of, *rest))
            return found[1]

        return made

    return decorate
