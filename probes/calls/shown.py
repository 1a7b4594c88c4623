# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of the user's choice the calls under way must know; which events are shown in the end is for
log/shown.py.

Which processes are wanted is decided when a call begins, since what it causes is as wanted as it
is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from probes.calls.tasks import Task


class Choice(NamedTuple):
    """What of the user's choice matters while calls are under way: of processes all of it."""

    # of what a thread does: whether it is wanted, by whether the kernel says so of the thread, and
    # the thread
    passes: Callable[[bool, Task], bool] | None = None  # None: all is
    asks: bool = False  # the kernel can't say so of any thread
    hides_changes: bool = False  # calls that may change a domain are left out
    only_writes: bool = False
