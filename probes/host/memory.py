# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory that is free in this process goes back to the system: what a burst needed is not held
for days.
"""

from __future__ import annotations

from probes.kernel.libc import libc

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt
_HELD = 1 << 20  # bytes


def hold_little() -> None:
    """The C library would hold twice as much as the largest piece that was ever freed; where it
    has no such options, nothing.
    """
    if set_option := getattr(libc, "mallopt", None):
        set_option(_TRIM_THRESHOLD, _HELD)
        set_option(_MMAP_THRESHOLD, _HELD)


def give_back() -> None:
    """Of its free memory what lies between used pieces, too, which it keeps by itself."""
    if trim := getattr(libc, "malloc_trim", None):
        trim(0)
