# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who does something, and what it is called, as words of a line."""

from __future__ import annotations

from functools import lru_cache

from log.client import Client
from log.events import Caller
from log.login import came
from log.quote import name
from log.recent import by_identity

INDENT = "  "  # a level of nesting
_MOST_SHARED = 1024  # callers and clients whose words are kept: for all sinks, as in jsonl.py


@by_identity(_MOST_SHARED)
def process(caller: Caller, comm: str) -> str:
    """The process and its user."""
    user = caller.uid if caller.user is None else name(caller.user)
    return f" {caller.pid} {name(comm)} {user} "


@by_identity(_MOST_SHARED)
def _person(caller: Caller, comm: str) -> str:
    """With how its user came in."""
    fields = None if caller.session is None else caller.session.fields()
    return f"{process(caller, comm)[:-1]}{came(fields, caller.uid)} "


def who_of(caller: Caller, comm: str, client: Client | None) -> str:
    """Who makes a call. What a daemon does it does for somebody: how that one came in is what
    matters.
    """
    if client is None:
        return _person(caller, comm)
    return process(caller, comm) + _for(client)


@lru_cache(maxsize=_MOST_SHARED)
def _for(client: Client) -> str:
    """Whom a daemon makes a call for."""
    return f"for {_whom(client)} "


def _whom(client: Client) -> str:
    if client.is_daemon:
        return "itself"
    words = [] if client.pid is None else [str(client.pid)]
    words += [name(client.address)] if client.pid is None and client.address is not None else []
    words += [name(client.program)] if client.exe is not None else []
    user = "?" if client.name is None else name(client.name)
    says = f" who says {_whom(client.claims)}" if client.claims else ""
    alone = " (unproved)" if client.unproved else ""
    how = came(client.session.fields() if client.session else None, client.uid)
    return " ".join([*words, user]) + how + says + alone


# an unknown function's name is what a file in some container says
function = lru_cache(maxsize=2048)(name)
