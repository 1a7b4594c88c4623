# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keeps what was used last: a limit comes in, a mapping that does not outgrow it comes out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(OrderedDict[K, V], Generic[K, V]):
    """A mapping that keeps the `most` last used entries."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def put(self, key: K, value: V) -> V:
        """Keeps it, in place of the one that was not used for longest."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)
        return value

    def learn(self, key: K, find: Callable[[K], V]) -> V:
        """What is kept, else what `find` says."""
        return self.put(key, self[key] if key in self else find(key))
