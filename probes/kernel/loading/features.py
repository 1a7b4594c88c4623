# SPDX-License-Identifier: LGPL-2.1-or-later
"""What this kernel can do: asked by trying it; and the ways in which results of calls are learnt,
of which some need that.
"""

from __future__ import annotations

import errno
import os
import struct

from probes.kernel import bpf
from probes.kernel.loading import offsets

# how it is learnt what calls returned: a program that decides whether there is a return probe,
# return probes everywhere, probes on the instructions that return; not at all
SESSION, PAIR, RETS, NONE = "session", "pair", "rets", "none"
# in the environment: as before Linux 6.13, and as where return probes kill tasks under seccomp
TWO_LINKS, CONFINED = "LIBVIRT_TRACE_TWO_LINKS", "LIBVIRT_TRACE_CONFINED"
MAY_GOTO = struct.pack(
    "<BBhiBBhiBBhiBBhi", 0xB7, 0, 0, 0, 0xE5, 0, 1, 0, 0x05, 0, -2, 0, 0x95, 0, 0, 0
)
TAI_NS = struct.pack("<BBhiBBhi", 0x85, 0, 0, 208, 0x95, 0, 0, 0)
RETURN_0 = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)


def has_uprobe_multi() -> bool:
    """Whether one link can attach a program to many functions (Linux 6.6)."""
    return _can_link("try_multi", session=False)


def has_session() -> bool:
    """Whether one program can be at entries and returns, and decide at an entry whether there
    is a return (Linux 6.13).
    """
    return (
        not os.environ.get(TWO_LINKS)
        and offsets.has(offsets.ARMED)
        and _can_link("try_session", session=True)
    )


def has_sleepable() -> bool:
    """Whether a uprobe program may fault pages in (Linux 6.0)."""
    return _can_load(RETURN_0, "try_sleep", sleepable=True)


def has_may_goto() -> bool:
    """Whether there is the instruction that bounds loops (Linux 6.9)."""
    return _can_load(MAY_GOTO, "try_loop", sleepable=False)


def has_tai() -> bool:
    """Whether programs are told the time of day, by CLOCK_TAI (Linux 6.1)."""
    return _can_load(TAI_NS, "try_tai", sleepable=False)


def _can_link(name: str, *, session: bool) -> bool:
    """Tried on a path that the kernel must refuse as no file."""
    program = -1
    try:
        program = bpf.load_program(RETURN_0, name, sleepable=False, multi=True, session=session)
        os.close(bpf.link_uprobes(program, "/", [0], [0], at_return=False, session=session))
    except OSError as error:
        return error.errno == errno.EBADF
    finally:
        if program >= 0:
            os.close(program)
    return True


def _can_load(code: bytes, name: str, *, sleepable: bool) -> bool:
    try:
        os.close(bpf.load_program(code, name, sleepable=sleepable, multi=False))
    except OSError:
        return False
    return True
