# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a recorded call is about: the call comes in; objects with their names and UUIDs, as the
library would have found them, go out.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from enforcer.judging.documents import identity
from enforcer.judging.judge import NONE, UNRECORDED, NotKnown, Thing, Unrecorded
from enforcer.policy.sources import Source, sources_of
from enforcer.rehearsal.made import Made
from log.redact.marker import REDACTED
from log.values import CutList, CutText, Handle, Unreadable, Value, Xml

_hidden_root = re.compile(r"(?:<\?.*?\?>)?\s*<redacted/>", re.S)
HIDES = REDACTED[:-1]  # how "<redacted>" and "<redacted/>" begin
# libvirt's errors that say that the driver has no object of the handle's UUID (virterror.h)
_NO_OBJECT = frozenset({42, 43, 49, 66, 62})  # domain, network, pool, secret, filter
_NO_SUCH = "the driver knows no such object"  # as objects.c notes it
_NAMES = {  # what a handle's name is called in the log
    "secret": "usage",
    "nwfilterbinding": "portdev",
    "networkport": "network",
    "snapshot": "domain",
    "checkpoint": "domain",
}
_WITH_UUID = frozenset({"domain", "network", "pool", "nwfilter", "secret"})
_PARTS = frozenset({"snapshot", "checkpoint", "networkport"})


def things_of(made: Made) -> Iterator[tuple[Thing, ...] | Unrecorded]:
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
    name = text_of(value.fields.get(_NAMES.get(value.type, "name")))
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
        parts = [text_of(value.fields.get("pool")), name]
    elif value.type in ("snapshot", "checkpoint"):
        parts = [name, text_of(value.fields.get("name"))]
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


def text_of(value: Any) -> Any:
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
    return [] if value is None else [Thing(text_of(value), NONE)]


def _by_xml(made: Made, source: Source) -> list[Thing] | Unrecorded:
    return _of_document(made.value(source.argument), source.type)


def _of_document(value: Any, type: str) -> list[Thing] | Unrecorded:
    if value is None:
        return []
    text, is_hiding = document_of(value)
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
        things.append(Thing(text_of(params["destination_name"]), None))
    document = _of_document(params.get("destination_xml"), source.type)
    assert document is not UNRECORDED
    return things + document


def _by_finding(made: Made, source: Source) -> list[Thing] | Unrecorded:
    """What a lookup finds; of what is not there, the name is judged."""
    thing = (
        UNRECORDED if made.result is UNRECORDED else _of_handle(made.result, made, is_found=True)
    )
    name = text_of(made.value(source.second)) if source.second else UNRECORDED
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


def document_of(value: Any) -> tuple[str | Unrecorded, bool]:
    """The text that is recorded of a string or document, and whether there is more of it."""
    if isinstance(value, Xml):
        value = value.shown
    if isinstance(value, CutText):
        return value.text, True
    if isinstance(value, str):
        return value, HIDES in value
    return UNRECORDED, True
