# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a call names the objects that it is about: a function of the API table comes in, the
places in its arguments come out.
"""

from __future__ import annotations

from typing import NamedTuple

from log.recent import by_identity
from probes.api.table import Function, Param

# as enum object_type in enforcer.h
TYPES = (
    "connect", "domain", "network", "pool", "volume", "interface", "nodedevice", "secret",
    "nwfilter", "nwfilterbinding", "networkport", "snapshot", "checkpoint", "stream",
)  # fmt: skip
KINDS = (
    "", "handle", "name", "xml", "params", "unknown", "connection", "pool", "found", "handles",
    "handle or all",
)  # fmt: skip  # as enum source_kind
PARTS = ("snapshot", "checkpoint", "networkport")  # are named by what they belong to
_WITHOUT_UUID = frozenset({"volume", "interface", "nodedevice", "nwfilterbinding"})
NAMING = frozenset(KINDS) - {"connection", "pool"}
_HANDLES = frozenset({"handle", "handles", "handle or all"})

# the object is in a file or in another process, which is not looked into
_UNKNOWN = frozenset(
    {
        "virDomainRestore",
        "virDomainRestoreFlags",
        "virDomainRestoreParams",
        "virDomainSaveImageDefineXML",
        "virDomainSaveImageGetXMLDesc",
        "virDomainQemuAttach",
        "virDomainMigratePrepare",  # it may come without a name, and brings no document
        "virConnectDomainEventRegister",  # events of all domains
    }
)
# names that an object is to have from then on
_NEW_NAMES = frozenset({"dname", "new_name"})
# the document of a guest that moves
_MIGRATED = frozenset({"dxml", "xmlin", "dom_xml"})


MOST_FUNCTIONS = 4096  # of which the places are kept


class Source(NamedTuple):
    """A place in the arguments that names an object."""

    kind: str  # one of KINDS
    argument: int
    type: str  # one of TYPES
    # params: the argument with their number; found: with the name that is looked for, 0: there is
    # none
    second: int = 0


def sources_of(function: Function, *, by_uuid: bool = False) -> tuple[Source, ...]:
    """The places, in the order of the arguments. `by_uuid`: a name is not enough to know which
    object it is.
    """
    return _find(function, by_uuid)


@by_identity(2 * MOST_FUNCTIONS)
def _find(function: Function, by_uuid: bool) -> tuple[Source, ...]:
    found: list[Source] = []
    made = function.result.object if function.result.kind == "handle" else None
    in_pool = made == "volume" and any(param.kind in ("xml", "string") for param in function.params)
    has_object = any(
        param.kind == "handle" and param.object not in ("connect", "stream")
        for param in function.params
    )
    for i, param in enumerate(function.params):
        if param.kind == "handle" and param.object in TYPES:
            how = "connection" if param.object in ("connect", "stream") else "handle"
            how = "pool" if in_pool and param.object == "pool" else how
            if how == "handle" and i and "EventRegister" in function.name:
                how = "handle or all"  # NULL asks for events of all that there are
            found.append(Source(how, i, param.object or ""))
        elif function.name == "virDomainListGetStats" and param.name == "doms":
            found.append(Source("handles", i, "domain"))
        elif made and made != "connect" and (not has_object or in_pool) and (kind := _names(param)):
            found.append(Source(kind, i, made))
        elif "Migrate" in function.name and param.name in _MIGRATED:
            found.append(Source("xml", i, "domain"))
        elif param.kind == "string" and param.name in _NEW_NAMES:
            found.append(Source("name", i, "domain"))
        elif param.name == "params" and "Migrate" in function.name:
            found.append(Source("params", i, "domain", i + 1))
    names = [source.argument for source in found if source.kind == "name"]
    if is_lookup(function) and (by_uuid or not names):
        found = [source for source in found if source.kind != "name"] + [
            Source("found", 0, made or "", *names)
        ]
    if function.name in _UNKNOWN:
        found.append(Source("unknown", 0, "domain"))
    return tuple(found)


def is_lookup(function: Function) -> bool:
    """Whether its calls find an object for what the arguments say; what belongs to another
    object is named by that.
    """
    return (
        function.result.object in TYPES
        and "Lookup" in function.name
        and function.result.object not in PARTS
    )


def names_objects(function: Function) -> bool:
    """Whether its calls are about objects, so that a rule on names can match them."""
    return any(source.kind in NAMING for source in sources_of(function))


def is_part(function: Function) -> bool:
    """Whether its calls are about what belongs to another object, and is named by that: a
    snapshot.
    """
    return any(source.kind == "handle" and source.type in PARTS for source in sources_of(function))


def role_of(function: Function, source: Source) -> str:
    """What the place says of the call: the "object" that it is about, the "new name" that this
    gets, the "document" that changes it; "found", "cookie", "unknown": none of these.

    A migration's parameters say the new name and one of the others.
    """
    has_handle = any(each.kind in _HANDLES for each in sources_of(function, by_uuid=True))
    if source.kind in _HANDLES:
        return "object"
    if source.kind == "name":
        return "new name"
    if source.kind == "xml" and "cookie" in function.params[source.argument].name:
        return "cookie"
    if source.kind in ("xml", "params"):
        return "document" if has_handle else "object"
    if source.kind == "found":
        return "found" if has_handle else "object"
    return source.kind


def may_have_uuid(source: Source) -> bool:
    """Whether what is named there can have a UUID."""
    return source.kind == "xml" or (source.kind != "name" and source.type not in _WITHOUT_UUID)


def takes_document(function: Function) -> bool:
    """Whether an XML document is among its arguments, or in its typed parameters."""
    return any(param.kind == "xml" for param in function.params) or any(
        source.kind == "params" for source in sources_of(function)
    )


def _names(param: Param) -> str | None:
    if param.kind == "xml":
        return "xml"
    return (
        "name" if param.kind == "string" and param.name in ("name", "usageID", "portdev") else None
    )
