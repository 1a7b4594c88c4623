# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an event is about: its names, its process, its fate. For every filter that looks at
finished events, live and recorded.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from log.client import Client
from log.documents import names_in
from log.events import Call, Caller, DomainEvent, Event, Owed, Reads
from log.values import CutText, Handle, Value, Xml

NAME_FIELDS = ("name", "usage", "portdev", "domain")
DEFINES = re.compile(r"vir\w+(?:Define|Create)XML\w*").fullmatch
NAME_ARGS = ("name", "new_name", "usageID", "portdev")


def names_of_call(call: Call) -> Iterable[str]:
    """What the objects are called that the call is on, is to find or to make; its begin was not
    lost.
    """
    assert call.args is not None
    for key, value in (*call.args.values.items(), ("", call.ret)):
        if isinstance(value, Handle):
            yield from texts(value.fields.get(field) for field in NAME_FIELDS)
        elif key in NAME_ARGS:
            yield from texts((value,))
        elif isinstance(value, Xml):
            yield from _names_in(call, value)


def uuids_of_call(call: Call) -> Iterable[str]:
    """The UUIDs of the objects that the call is on, is to find or to make."""
    assert call.args is not None
    for key, value in (*call.args.values.items(), ("", call.ret)):
        if isinstance(value, Handle):
            yield from texts((value.fields.get("uuid"),))
        elif key in ("uuid", "uuidstr"):
            yield from texts((value,))
        elif isinstance(value, Xml):
            yield from _names_in(call, value)


def _names_in(call: Call, document: Xml) -> Iterable[str]:
    """Name and UUID that a definition asked for that has made no object."""
    if isinstance(call.ret, Handle) or not DEFINES(call.function):
        return ()
    return names_in(document.captured)


def names_of(event: Event) -> Iterable[str] | None:
    """The names of the objects that an event is about; None: it can't be told."""
    if type(event) is Call:
        return None if event.args is None else names_of_call(event)
    if type(event) is DomainEvent:
        return texts(event.domain.fields.values())
    if type(event) is Reads or type(event) is Owed:
        return (
            texts(event.object.fields.get(field) for field in NAME_FIELDS) if event.object else ()
        )
    return ()


def uuids_of(event: Event) -> Iterable[str] | None:
    """The UUIDs of the objects that an event is about; None: it can't be told."""
    if type(event) is Call:
        return None if event.args is None else uuids_of_call(event)
    if type(event) is DomainEvent:
        return texts((event.domain.fields.get("uuid"),))
    if type(event) is Reads or type(event) is Owed:
        return texts((event.object.fields.get("uuid"),)) if event.object else ()
    return ()


def matches(name: str, globs: Iterable[str]) -> bool:
    """Whether one of the globs fits."""
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs)


@lru_cache(maxsize=1024)
def is_one_of(name: str, globs: tuple[str, ...]) -> bool:
    """Whether a thread's name, of which the kernel keeps 15 characters, is meant by one of the
    names or globs.
    """
    return any(fnmatch.fnmatchcase(name, glob) or glob[:15] == name for glob in globs)


def texts(found: Iterable[Value] | Sequence[Value]) -> Iterable[str]:
    """The strings among values, cut ones with as much as was captured."""
    for value in found:
        if isinstance(value, str):
            yield value
        elif isinstance(value, CutText):
            yield value.whole or value.text


def wants_function(name: str, globs: Sequence[str]) -> bool:
    """Whether the globs of -f let a function in: one of them fits, or all only leave out, and
    none of those does.
    """
    wanted = [glob for glob in globs if not glob.startswith("!")]
    if matches(name, (glob[1:] for glob in globs if glob.startswith("!"))):
        return False
    return not wanted or matches(name, wanted)


def is_about(found: Iterable[str] | None, wanted: Sequence[str]) -> bool:
    """Whether one of the globs fits one of the names that were found; None: where that can't be
    told, too.
    """
    return not wanted or found is None or any(matches(name, wanted) for name in found)


def ended_so(call: Call, *, failed: bool, slower_ns: int | None) -> bool:
    """Whether the call failed or was denied, and took as long, if that is asked for."""
    if failed and not (call.failed or is_denied(call)):
        return False
    return slower_ns is None or call.duration_ns is None or call.duration_ns >= slower_ns


def is_denied(call: Call) -> bool:
    """Whether an enforcer sent it back."""
    return call.verdict is not None and call.verdict.action == "deny"


def object_of(call: Call) -> Handle | None:
    """The object that a call is on, or that it has made; a connection is none."""
    if call.args is None:
        return None
    ret = (call.ret,) if call.write else ()  # of reads, those that were only counted do not have it
    return next(
        (
            item
            for item in (*call.args.values.values(), *ret)
            if isinstance(item, Handle) and item.type != "connect"
        ),
        None,
    )


def client_of(comm: str, caller: Caller, client: Client | None) -> tuple[str, str]:
    """Program and user that a call is made for."""
    program = os.path.basename(caller.exe or "") or comm
    if client is None or client.unproved:
        return program, caller.user or str(caller.uid)
    if client.is_daemon:
        return program, "itself"
    return client.program or client.address or "?", client.name or "?"
