# SPDX-License-Identifier: LGPL-2.1-or-later
"""Copy plans as the kernel has them are kept from one start to the next: to make them takes a
quarter of it. What decodes a function's calls is made when the first one comes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import cast

from probes.api.table import ApiTable, Function
from probes.internals.layouts import Layout
from probes.kernel import records
from probes.kernel.loading import kept
from probes.plans import functions as plans
from probes.plans.meaning.captured import Limits
from probes.plans.plan import Plan

_HERE = Path(__file__).parent
# what plans are made by
_SOURCES = tuple(
    sorted(
        [
            *_HERE.rglob("*.py"),
            *(_HERE.parent / "api").glob("*.py"),
            *(_HERE.parent / "internals").glob("*.py"),
            _HERE.parent / "kernel" / "records.py",
            _HERE.parent / "kernel" / "abi.py",
            *(_HERE.parent / "kernel" / "machines").glob("*.py"),
        ]
    )
)
_FLAGS = struct.Struct("<I")  # comes first in a packed plan
_SIZE = struct.Struct("<H")


class Later:
    """A plan whose packed form is known; the rest of it is made when it is asked for."""

    def __init__(self, packed: bytes, make: Callable[[], Plan]) -> None:
        self._packed, self._make = packed, make

    def pack(self) -> bytes:
        """As Plan."""
        return self._packed

    def __getattr__(self, name: str) -> object:
        plan = self._make()
        for known in (*plan._fields, "decode", "is_told_by_key", "_replace"):
            self.__dict__[known] = getattr(plan, known)
        return self.__dict__[name] if name in self.__dict__ else getattr(plan, name)


class Prepared:
    """Entry and return plans of the table's functions."""

    def __init__(self, table: ApiTable, limits: Limits) -> None:
        self._table, self._limits = table, limits
        self._key = kept.key_of(_SOURCES, ("plans", table.hash, limits))
        self._known = dict(kept.read(self._key) or {})
        self._is_new = False

    def of(self, function: Function, layout: Layout, flags: int) -> tuple[Plan, Plan]:
        """The two plans. ValueError and others where the function's description can't be made
        plans of.
        """
        make = function, self._table, layout.offsets, self._limits, flags
        name = f"{function.name} {layout.name}"
        known = self._known.get(name)
        if known is None:
            entry, ret = plans.entry_plan(*make), plans.return_plan(*make)
            self._known[name] = _both(entry, ret)
            self._is_new = True
            return entry, ret
        size = _SIZE.unpack_from(known)[0]
        first, second = known[_SIZE.size : _SIZE.size + size], known[_SIZE.size + size :]
        return (
            cast(Plan, Later(_whole(first, flags), lambda: plans.entry_plan(*make))),
            cast(Plan, Later(_whole(second, flags), lambda: plans.return_plan(*make))),
        )

    def keep(self) -> None:
        """For the next start."""
        if self._is_new:
            self._is_new = False
            kept.write(self._key, self._known)


def _both(entry: Plan, ret: Plan) -> bytes:
    """Without the flags that are not the function's own, and the zeros at the end."""
    packed = [
        plan._replace(flags=plan.flags & records.PLAN_KEEP_ARGS).pack().rstrip(b"\0")
        for plan in (entry, ret)
    ]
    return _SIZE.pack(len(packed[0])) + packed[0] + packed[1]


def _whole(packed: bytes, flags: int) -> bytes:
    row = bytearray(packed.ljust(records.PLAN_SIZE, b"\0"))
    _FLAGS.pack_into(row, 0, _FLAGS.unpack_from(row)[0] | flags)
    return bytes(row)
