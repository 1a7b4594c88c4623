# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory that is free in this process goes back to the system: what a burst needed is not held
for days.
"""

from __future__ import annotations

from probes.kernel.libc import libc


def give_back() -> None:
    """Of the C library's free memory what lies between used pieces, too, which it keeps by itself;
    where it has no such function, nothing.
    """
    if trim := getattr(libc, "malloc_trim", None):
        trim(0)
