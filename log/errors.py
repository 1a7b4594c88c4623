# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one exception that carries a message for the user, which only tracer.py catches, the
system's own errors, and how they are said.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from types import TracebackType

from log.quote import escape


class TraceError(Exception):
    """What happened, then what to do: one line each, lower case, without the program's name."""


class UsageError(TraceError):
    """What was asked for makes no sense here: exit status 2."""


_REMEDIES = {
    errno.EMFILE: "; raise the limit (ulimit -n)",
    errno.EFBIG: "; raise the limit (ulimit -f)",
    errno.ENOSPC: "; make room there",
    errno.EPERM: "; is a capability missing? --debug shows where",
    errno.EACCES: "; is a capability missing? --debug shows where",
}


def explain(error: OSError) -> str:
    """A line about what the system refused."""
    subject = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    reason = (error.strerror or str(error) or type(error).__name__).strip().splitlines()[-1].lower()
    return f"{subject}{reason}{_REMEDIES.get(error.errno or 0, '; --debug shows where')}"


def short_of(error: BaseException) -> str | None:
    """A line about what there was not enough of, if that is what it says."""
    if isinstance(error, MemoryError):
        return "there is not enough memory; raise the limit (ulimit -v)"
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        return "can't start a thread; raise the limits (ulimit -u, -v)"
    return None


def in_words(error: BaseException) -> str:
    """Why something could not be done."""
    if isinstance(error, TraceError):
        return "; ".join(map(str, error.args))
    if isinstance(error, OSError):
        return explain(error)
    if short := short_of(error):
        return short
    if isinstance(error, Exception):
        return internal_error(type(error), error.__traceback__).partition(";")[0]
    return "interrupted"


def internal_error(kind: type[BaseException], trace: TracebackType | None) -> str:
    """A line about it: where it was raised, and not what it says, as there may be a secret in
    it.
    """
    import traceback  # only here: hardly anybody ever needs it

    frame = traceback.extract_tb(trace)[-1:]
    where = f" in {os.path.basename(frame[0].filename)}:{frame[0].lineno}" if frame else ""
    return (
        f"internal error: {kind.__name__}{where}; please report it (--debug shows how it came "
        "about)"
    )


def say(line: str) -> None:
    """A line for the user, who may have closed standard error."""
    with contextlib.suppress(OSError):
        print(f"libvirt-trace: {escape(line)}", file=sys.stderr, flush=True)
