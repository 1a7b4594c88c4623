# SPDX-License-Identifier: LGPL-2.1-or-later
"""How it is learnt what calls returned: what the user asks for and what the kernel can do come in,
one of four ways comes out.

A return probe can kill: the kernel throws away those of a thread that it takes for dead, as when
the program switches stacks, and on some kernels seccomp refuses the system call that it is. Where
one program can decide about each call (session) none is set that could. Everywhere else it is a
probe on each instruction that returns: slower, but it leaves the stack alone.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from log.errors import TraceError
from probes.internals import returns
from probes.kernel.loading.confined import returns_kill_confined
from probes.kernel.loading.features import CONFINED, NONE, PAIR, RETS, SESSION, has_session
from probes.tracing import PROBE, RET


class Way(NamedTuple):
    """How results are learnt."""

    name: str  # of features.py's
    spares_confined: bool = False  # no return probes in tasks under seccomp
    # whether a call that was left (longjmp) is taken to be left for good where nothing is mapped
    # that is known to copy stacks: if that is wrong, a return probe kills
    believes: bool = False
    warning: str | None = None


def choose(asked: str) -> Way:
    """The safest that the kernel has, or what the user insists on; TraceError where that is
    not possible.
    """
    if asked == PROBE:
        return Way(SESSION if has_session() else PAIR, believes=True)
    if asked == RET:
        if returns.can_be_found():
            return Way(RETS, believes=True)
        raise TraceError(f"--returns=ret needs a disassembler: install {returns.PACKAGE}")
    if has_session():
        return _session()
    if returns.can_be_found():
        return Way(RETS, believes=True)
    return Way(
        NONE,
        warning=(
            "before Linux 6.13 return probes kill programs that switch stacks: no results and "
            f"durations; with {returns.PACKAGE} installed there are, --returns uses the probes all "
            "the same"
        ),
    )


def _session() -> Way:
    # where it can't be found out, nobody is put at risk
    kills = True if os.environ.get(CONFINED) else returns_kill_confined()
    if kills is False:
        return Way(SESSION)
    what = (
        "on this kernel return probes kill confined processes"
        if kills
        else "whether return probes kill confined processes can't be found out"
    )
    others = (
        "--returns=ret has them, slower"
        if returns.can_be_found()
        else (f"--returns=ret has them where {returns.PACKAGE} is installed")
    )
    return Way(
        SESSION,
        True,
        warning=f"{what}: no results and durations of those under seccomp; {others}",
    )
