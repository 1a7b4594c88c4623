# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why a domain changed: its event comes in, words go out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from log.events import (
    BY_CALL,
    BY_CONNECTION_END,
    BY_DAEMON,
    BY_GUEST,
    BY_HOST,
    BY_IO_ERROR,
    BY_OOM,
    BY_SIGNAL,
    NO_CALL,
    DomainEvent,
)
from log.login import came
from log.quote import escape, name
from log.values import Value

Details = Mapping[str, Value]


def why(event: DomainEvent) -> str:
    """What did it, as the end of a sentence: "by SIGKILL from 4711 kill alice"."""
    if event.one_of:
        return f"by one of {len(event.one_of)} calls"
    say = _SAY.get(event.cause or "")
    return say(event.known) if say else "cause not known"


def person(details: Details) -> str:
    """A process in short: its number, program, user, and unit where it has one."""
    pid, exe, comm = details.get("pid"), details.get("exe"), details.get("comm")
    program = os.path.basename(exe) if isinstance(exe, str) else comm
    user = details.get("user") if details.get("user") is not None else details.get("uid")
    words = [
        str(word) if isinstance(word, int) else name(str(word))
        for word in (pid, program, user)
        if word is not None
    ]
    unit, session = details.get("unit"), details.get("session")
    fields = session if isinstance(session, Mapping) else None
    how = came(fields, details.get("uid"), unit_is_told=isinstance(unit, str))
    return " ".join(words) + how + (f" in {name(unit)}" if isinstance(unit, str) else "")


def _call(details: Details) -> str:
    function = details.get("function")
    if not isinstance(function, str):
        return "by a call that is not shown"
    return f"by {name(function)} of {person(details) or 'somebody'}"


def _signal(details: Details) -> str:
    sender = person(details)
    return f"by {escape(str(details.get('signal')))}{f' from {sender}' if sender else ''}"


def _guest(details: Details) -> str:
    asked = details.get("asked")
    after = f", after {_call(asked)[3:]}" if isinstance(asked, Mapping) else ""
    return f"by the guest ({escape(str(details.get('reason')))}){after}"


def _connection_end(details: Details) -> str:
    who = person(details)
    if not who:
        return "because the connection that it was bound to ended"
    return f"because the connection of {who} ended, which had started it so"


_SAY: dict[str, Callable[[Details], str]] = {
    BY_CALL: _call,
    NO_CALL: lambda details: "by no call",
    BY_SIGNAL: _signal,
    BY_OOM: lambda details: "by the kernel, for want of memory",
    BY_GUEST: _guest,
    BY_IO_ERROR: lambda details: "by an I/O error",
    BY_CONNECTION_END: _connection_end,
    BY_DAEMON: lambda details: "by the daemon's start",
    BY_HOST: lambda details: f"by QEMU ({escape(str(details.get('reason')))})",
}
