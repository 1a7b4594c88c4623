# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a program calls a library's function: its file comes in, the offsets behind these calls go
out. A frame whose return address a tracer has replaced is found again by them.
"""

from __future__ import annotations

import struct
from contextlib import suppress

from log.errors import TraceError
from probes.internals.elf import bytes_at, read_elf, slots
from probes.kernel.abi import HERE
from probes.kernel.machines.steps import NEAR_CALL, POINTER_CALL

MOST_CODE, MOST_SITES = 8 << 20, 64
_STUB = 16  # bytes that an entry of the linkage table is aligned to


def sites(fd: int, path: str, function: str) -> tuple[int, ...]:
    """Offsets behind the calls of that function of another file; none where they are too many."""
    with suppress(TraceError, OSError, struct.error):
        start, length = read_elf(fd, path).text
        code = bytes_at(fd, start, min(length, MOST_CODE))
        pointers = slots(fd, path, function)
        stubs = {
            start + at
            for at in range(0, len(code), _STUB)
            if (distance := HERE.linkage_distance(code[at : at + _STUB], start + at)) is not None
            and start + at + distance in pointers
        }
        found = [end for end, to in _calls(code, start, NEAR_CALL) if to in stubs]
        found += [end for end, to in _calls(code, start, POINTER_CALL) if to in pointers]
        return tuple(sorted(found)) if len(found) <= MOST_SITES else ()
    return ()


def _calls(code: bytes, start: int, begin: bytes) -> list[tuple[int, int]]:
    """Whatever begins as a call does: where it ends, and where it leads or where its pointer is."""
    found, at = [], code.find(begin)
    while at >= 0:
        end = at + len(begin) + 4
        if end <= len(code):
            (distance,) = struct.unpack_from("<i", code, end - 4)
            found.append((start + end, start + end + distance))
        at = code.find(begin, at + 1)
    return found
