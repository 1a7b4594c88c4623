# SPDX-License-Identifier: LGPL-2.1-or-later
"""A recorded call comes in; where the library would have judged it, and the facts that it would
have judged there, go out.

A call is judged in the program that makes it, a client's in the daemon that serves it. What the
library would have known and the record doesn't tell is UNRECORDED.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from enforcer.compiled.layout import IN_PARAMS
from enforcer.judging.documents import identity
from enforcer.judging.judge import NONE, UNRECORDED, Facts, NotKnown, Thing, Unrecorded
from enforcer.policy.sources import Source, sources_of
from log.client import Client
from log.events import Call, Caller, Reads
from log.redact.marker import REDACTED
from log.values import (
    CutList,
    CutText,
    EnumValue,
    Flags,
    Handle,
    Unreadable,
    Value,
    Xml,
)
from probes.api.table import Function

DAEMON, CLIENT, CLIENT_OF_DAEMON, ITSELF = "daemon", "client", "client of a daemon", "itself"
_hidden_root = re.compile(r"(?:<\?.*?\?>)?\s*<redacted/>", re.S)
_HIDES = REDACTED[:-1]  # how "<redacted>" and "<redacted/>" begin
_REMOTE = "remote"  # the driver of who asks a daemon
# libvirt's errors that say that the driver has no object of the handle's UUID (virterror.h)
_NO_OBJECT = frozenset({42, 43, 49, 66, 62})  # domain, network, pool, secret, filter
_NO_SUCH = "the driver knows no such object"  # as objects.c notes it
_OWN_DRIVER = re.compile(r"[^/]*?://(?:[/?#]|$)")  # a URI without a server
# drivers that a daemon has one of each, and whose names are their schemes, but for case
_DRIVERS = frozenset(
    ["qemu", "lxc", "xen", "ch", "network", "storage", "nodedev", "secret", "nwfilter", "interface"]
)
_NAMES = {  # what a handle's name is called in the log
    "secret": "usage",
    "nwfilterbinding": "portdev",
    "networkport": "network",
    "snapshot": "domain",
    "checkpoint": "domain",
}
_WITH_UUID = frozenset({"domain", "network", "pool", "nwfilter", "secret"})
_PARTS = frozenset({"snapshot", "checkpoint", "networkport"})


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


def facts_of(made: Made) -> Iterator[Facts]:
    """What is judged, the strictest answer counting: for each of those that it is made for, for
    each object where they are judged one by one. Nothing, where libvirt refuses the call first.
    """
    if _is_refused(made):
        return
    numbers, texts, hidden = _arguments(made)
    for people, has_group, exe in _people(made):
        for things in _things(made):
            yield Facts(
                made.function,
                things,
                people,
                has_group,
                _uri(made),
                _readonly(made),
                exe,
                numbers,
                texts,
                hidden,
                made.client is not None and made.caller.uid == 0,
            )


def _is_refused(made: Made) -> bool:
    """Whether it is not made on what it has to be made on."""
    sources = sources_of(made.function)
    if (
        not sources
        or sources[0].argument
        or sources[0].kind not in ("handle", "connection", "pool")
    ):
        return False
    value = made.value(0)
    return value is None or isinstance(value, Unreadable)


def _people(
    made: Made,
) -> Iterator[tuple[frozenset[tuple[str, int | str]] | Unrecorded, bool, str | Unrecorded | None]]:
    """For whom it is made, as rules name them; whether their group is known; their program."""
    client = made.client
    if client is None:
        exe = made.caller.exe
        yield frozenset({("uid", made.caller.uid)}), False, UNRECORDED if exe is None else exe
        return
    both = [client.peer, client.claims] if client.peer and client.claims else [client]
    for who in both:
        told = (("uid", who.uid), ("gid", who.gid), ("sasl", who.sasl), ("x509", who.x509))
        known = frozenset((kind, value) for kind, value in told if value is not None)
        if not known and who.address is None and client.claims is None:
            yield UNRECORDED, True, UNRECORDED  # its record was lost
        elif who.exe is not None:
            yield known, True, who.exe
        else:
            yield known, True, None if who.pid is None else UNRECORDED


def _things(made: Made) -> Iterator[tuple[Thing, ...] | Unrecorded]:
    """The objects, those together that are judged together."""
    sources = sources_of(made.function, by_uuid=True)
    if sources and sources[0].kind == "handles":
        yield from _each(made, sources[0])
        return
    things: list[Thing] = []
    pool: str | NotKnown | None = NONE
    for source in sources:
        if source.kind == "pool":
            thing = _of_handle(made.value(source.argument), made)
            pool = UNRECORDED if thing is UNRECORDED else None if thing is None else thing.name
            continue
        found = _THINGS[source.kind](made, source) if source.kind in _THINGS else []
        if found is UNRECORDED:
            yield UNRECORDED
            return
        things += [_in_pool(thing, pool) for thing in found]
    yield tuple(things)


def _each(made: Made, source: Source) -> Iterator[tuple[Thing, ...] | Unrecorded]:
    """Handles of a list are judged one by one."""
    value = made.value(source.argument)
    items = value.items if isinstance(value, CutList) else value
    if not isinstance(items, list):
        yield UNRECORDED
        return
    for item in items:
        thing = _of_handle(item, made)
        yield thing if thing is UNRECORDED else () if thing is None else (thing,)
    if isinstance(value, CutList) and value.total != len(items):
        yield UNRECORDED
    if not items:
        yield ()


def _in_pool(thing: Thing, pool: str | NotKnown | None) -> Thing:
    """A volume that is named by its pool, too."""
    if pool is NONE or thing.name is NONE:
        return thing
    if isinstance(pool, str) and isinstance(thing.name, str):
        return thing._replace(whole=f"{pool}/{thing.name}")
    return thing._replace(whole=None if pool is None else UNRECORDED)


def _of_handle(value: Any, made: Made, *, is_found: bool = False) -> Thing | Unrecorded | None:
    """None: there is no object. `is_found`: libvirt has just made it."""
    if value is UNRECORDED or isinstance(value, Unreadable):
        return UNRECORDED if value is UNRECORDED else Thing()
    if not isinstance(value, Handle):
        return None
    name = _text(value.fields.get(_NAMES.get(value.type, "name")))
    known: Any = NONE
    if value.type in _WITH_UUID:
        known = _as_uuid(value.fields.get("uuid"))
    elif value.type in _PARTS:
        known = UNRECORDED  # its domain's or network's
    if made.client is not None and not is_found and value.type in (_WITH_UUID | _PARTS):
        name = _true_name(name, made)
    return Thing(name, known, _whole(value, name))


def _true_name(name: Any, made: Made) -> Any:
    """What the driver calls it, which it is judged by."""
    note = made.note
    if made.error in _NO_OBJECT or note == _NO_SUCH:
        return None
    if note is None:
        return name
    if (true := _driver_says(note)) is not None:
        return true[1] if name == true[0] else name
    return UNRECORDED if made.was_denied else name  # there is one note only, and it is of a claim


def _whole(value: Handle, name: Any) -> str | NotKnown | None:
    """POOL/VOLUME or DOMAIN/SNAPSHOT. `name`: what it goes by."""
    if value.type == "volume":
        parts = [_text(value.fields.get("pool")), name]
    elif value.type in ("snapshot", "checkpoint"):
        parts = [name, _text(value.fields.get("name"))]
    else:
        return NONE
    if None in parts:
        return None
    return "/".join(map(str, parts)) if all(isinstance(p, str) for p in parts) else UNRECORDED


def _driver_says(note: str | None) -> tuple[str, str] | None:
    """The handle's name and the driver's, where the library has noted that they differ."""
    begin, middle = 'the handle says "', '", the driver "'
    if note is None or not note.startswith(begin) or not note.endswith('"'):
        return None
    says, found, true = note[len(begin) : -1].partition(middle)
    return (says, true) if found else None


def _as_uuid(value: Value) -> uuid.UUID | Unrecorded:
    try:
        return uuid.UUID(value) if isinstance(value, str) else UNRECORDED
    except ValueError:
        return UNRECORDED


def _text(value: Any) -> Any:
    """A name; NONE: it has none."""
    if isinstance(value, str):
        return value
    if isinstance(value, CutText):
        is_whole = value.whole is not None and value.length == len(value.whole.encode())
        return value.whole if is_whole else UNRECORDED
    return NONE if value is None else UNRECORDED


def _by_handle(made: Made, source: Source) -> list[Thing] | Unrecorded:
    thing = _of_handle(made.value(source.argument), made)
    return thing if thing is UNRECORDED else [] if thing is None else [thing]


def _by_handle_or_all(made: Made, source: Source) -> list[Thing] | Unrecorded:
    return [Thing()] if made.value(source.argument) is None else _by_handle(made, source)


def _by_name(made: Made, source: Source) -> list[Thing] | Unrecorded:
    value = made.value(source.argument)
    return [] if value is None else [Thing(_text(value), NONE)]


def _by_xml(made: Made, source: Source) -> list[Thing] | Unrecorded:
    return _of_document(made.value(source.argument), source.type)


def _of_document(value: Any, type: str) -> list[Thing] | Unrecorded:
    if value is None:
        return []
    text, is_hiding = _document(value)
    if text is UNRECORDED or _hidden_root.match(text):
        return [Thing(UNRECORDED, UNRECORDED)]
    found = identity(text, type)

    def told(value: Any) -> Any:
        """What can't be told for what is hidden is not recorded."""
        if value is None:
            return UNRECORDED if is_hiding else None
        return NONE if value is False else value

    return [Thing(told(found.name), told(found.uuid))]


def _by_params(made: Made, source: Source) -> list[Thing] | Unrecorded:
    params = made.value(source.argument)
    if params is UNRECORDED or isinstance(params, CutList):
        return UNRECORDED
    if not isinstance(params, dict):
        return []
    things: list[Thing] = []
    if "destination_name" in params:
        things.append(Thing(_text(params["destination_name"]), None))
    document = _of_document(params.get("destination_xml"), source.type)
    assert document is not UNRECORDED
    return things + document


def _by_finding(made: Made, source: Source) -> list[Thing] | Unrecorded:
    """What a lookup finds; of what is not there, the name is judged."""
    thing = (
        UNRECORDED if made.result is UNRECORDED else _of_handle(made.result, made, is_found=True)
    )
    name = _text(made.value(source.second)) if source.second else UNRECORDED
    if thing is UNRECORDED:
        return [Thing(name, UNRECORDED)] if isinstance(name, str) else UNRECORDED
    if thing is not None:
        return [thing]
    return [Thing(name, NONE)] if source.second and name is not NONE else []


_THINGS: dict[str, Callable[[Made, Source], list[Thing] | Unrecorded]] = {
    "handle": _by_handle,
    "handle or all": _by_handle_or_all,
    "name": _by_name,
    "xml": _by_xml,
    "params": _by_params,
    "found": _by_finding,
    "unknown": lambda made, source: [Thing()],
}


def _document(value: Any) -> tuple[str | Unrecorded, bool]:
    """The text that is recorded of a string or document, and whether there is more of it."""
    if isinstance(value, Xml):
        value = value.shown
    if isinstance(value, CutText):
        return value.text, True
    if isinstance(value, str):
        return value, _HIDES in value
    return UNRECORDED, True


def _arguments(
    made: Made,
) -> tuple[dict[int, int | Unrecorded], dict[int, str | Unrecorded | None], frozenset[int]]:
    """Numbers, texts, and which texts have hidden parts, by place."""
    numbers: dict[int, int | Unrecorded] = {}
    texts: dict[int, str | Unrecorded | None] = {}
    hidden = set()
    for place, param in enumerate(made.function.params):
        value = made.value(place)
        if param.kind in ("string", "xml"):
            texts[place], is_hiding = (None, False) if value is None else _document(value)
            hidden |= {place} if is_hiding else set()
        elif isinstance(value, EnumValue | Flags):
            numbers[place] = value.value
        else:
            numbers[place] = value if isinstance(value, int) else UNRECORDED
    for source in sources_of(made.function):
        if source.kind == "params":
            params = made.value(source.argument)
            value = params.get("destination_xml") if isinstance(params, dict) else params
            place = IN_PARAMS | source.argument
            texts[place], is_hiding = (None, False) if value is None else _document(value)
            hidden |= {place} if is_hiding else set()
    return numbers, texts, frozenset(hidden)


def _uri(made: Made) -> str | Unrecorded | None:
    """Of the connection, as the library sees it."""
    name = made.function.name
    if name.startswith("virConnectOpen"):
        value = made.value(0)
        if value is None:
            return None  # the client's configuration has it
        uri: Any = _text(value)
    else:
        handles = [
            value
            for value in (*map(made.value, range(len(made.function.params))), made.result)
            if isinstance(value, Handle)
        ]
        uri = next((h.fields["uri"] for h in handles if h.fields.get("uri") is not None), None)
        if uri is None and made.client is not None:
            driver = next((h.fields.get("driver") for h in handles), None)
            if isinstance(driver, str) and driver.lower() in _DRIVERS:
                path = "system" if made.caller.uid == 0 else "session"
                uri = f"{driver.lower()}:///{path}"
    if not isinstance(uri, str) or _HIDES in uri:
        return UNRECORDED
    if made.client is not None and not _OWN_DRIVER.match(uri):
        return None  # as is_own_driver() in connection.c
    return uri


def _readonly(made: Made) -> bool | Unrecorded:
    name = made.function.name
    if name.startswith("virConnectOpen"):
        if name == "virConnectOpenAuth":
            flags = made.value(2)
            return bool(flags.value & 1) if isinstance(flags, Flags) else UNRECORDED
        return name == "virConnectOpenReadOnly"
    connection = made.value(0) if made.function.params else UNRECORDED
    if isinstance(connection, Handle) and connection.type == "connect":
        return bool(connection.fields.get("readonly"))
    if made.client is not None and made.client.readonly:
        return True
    # libvirt refuses to change something over a read-only connection
    return False if made.function.access == "write" and made.failed is False else UNRECORDED
