# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls that were only counted, not seen one by one: what is known of a function's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Counted(NamedTuple):
    """Calls of a function, all since tracing began."""

    function: str
    calls: int
    failed: int
    total_ns: int
    max_ns: int
    # how many took so long (a bucket of log/sinks/screen/summary.py); those without end have none
    durations: Mapping[int, int]
