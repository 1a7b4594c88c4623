# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why a domain changed, and what somebody has begun and not ended: events come in, words come
out.
"""

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
    Owed,
)
from log.login import came
from log.quote import escape, name
from log.render.units import duration
from log.values import CutText, Value

Details = Mapping[str, Value]


def why(event: DomainEvent) -> str:
    """What did it, as the end of a sentence: "by SIGKILL from 4711 kill alice"."""
    if event.one_of:
        return f"by one of {len(event.one_of)} calls"
    say = _SAY.get(event.cause or "")
    return say(event.known) if say else "cause not known"


def owed(event: Owed) -> str:
    """What of the object, by whom, and for how long: "frozen by 4711 backup alice for 41s"."""
    what = _OWED.get(event.what, escape(event.what))
    if event.detail is not None:
        what += f" on {plain(event.detail)}"
    refers = f"; {', '.join(map(escape, event.refers))} refer to it yet" if event.refers else ""
    gone = ", its process has ended" if event.gone else ""
    doubt = "" if event.sure else ", unless that was ended unseen"
    who, since = person(event.by) or "somebody", duration(max(event.time - event.since, 0))
    return f"{what} by {who} for {since}{gone}{doubt}{refers}"


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


def plain(text: Value) -> str:
    """A text without quotes of our own."""
    if isinstance(text, CutText):
        return escape(text.text) + "..."
    return escape(text) if isinstance(text, str) else "?"


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
# what is owed, as a person says it
_OWED = {
    "block job": "block job neither pivoted nor aborted",
    "stream": "stream held",
    "interface change": "change of interfaces neither committed nor rolled back",
    "connection": "closed and yet open",
}
