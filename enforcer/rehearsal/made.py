# SPDX-License-Identifier: LGPL-2.1-or-later
"""A recorded call comes in; what is known of it, and where it would have been judged, goes out.

A call is judged in the program that makes it, a client's in the daemon that serves it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from enforcer.judging.judge import UNRECORDED
from log.client import Client
from log.events import Call, Caller, Reads
from log.values import Handle
from probes.api.table import Function

DAEMON, CLIENT, CLIENT_OF_DAEMON, ITSELF = "daemon", "client", "client of a daemon", "itself"
_REMOTE = "remote"  # the driver of who asks a daemon


class Made(NamedTuple):
    """A call as it is recorded, alone or counted with others."""

    function: Function
    value: Callable[[int], Any]  # of an argument by its place; UNRECORDED
    result: Any  # UNRECORDED: it is lost, or no call was made
    caller: Caller
    client: Client | None
    failed: bool | None
    error: int | None
    note: str | None = None  # of a verdict
    was_denied: bool = False


def made_alone(call: Call, function: Function) -> Made:
    """A call that is written out."""
    args = None if call.args is None else call.args.values
    names = [param.name for param in function.params]

    def value(place: int) -> Any:
        known = args is not None and place < len(names) and names[place] in args
        return args[names[place]] if args is not None and known else UNRECORDED

    verdict = call.verdict
    was_denied = verdict is not None and verdict.action == "deny"
    return Made(
        function,
        value,
        UNRECORDED if was_denied or call.unfinished is not None else call.ret,
        call.caller,
        call.client,
        call.failed,
        None if call.error is None or was_denied else call.error.code,
        None if verdict is None else verdict.note,
        was_denied,
    )


def made_counted(reads: Reads, function: Function) -> Made:
    """Calls of which only the object was written."""

    def value(place: int) -> Any:
        at = next(
            (
                i
                for i, param in enumerate(function.params)
                if param.kind == "handle" and param.object != "connect"
            ),
            None,
        )
        return reads.object if place == at and reads.object is not None else UNRECORDED

    failed = None if 0 < reads.failed < reads.calls else bool(reads.failed)
    return Made(function, value, UNRECORDED, reads.caller, reads.client, failed, None)


def place_of(made: Made) -> str:
    """Where the library would have judged it."""
    if made.client is not None:
        return ITSELF if made.client.is_daemon else DAEMON
    drivers = {
        value.fields.get("driver")
        for value in (*map(made.value, range(len(made.function.params))), made.result)
        if isinstance(value, Handle)
    }
    if not drivers - {None}:  # it opens a connection, or what it was made on is not known
        is_about_none = not any(param.kind == "handle" for param in made.function.params)
        return CLIENT if is_about_none and made.result is not None else CLIENT_OF_DAEMON
    return CLIENT_OF_DAEMON if _REMOTE in drivers else CLIENT
