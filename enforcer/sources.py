# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a call names the objects that it is about: a function of the API table comes in, the places in its arguments come out."""

from __future__ import annotations

from typing import NamedTuple

from probes.api import Function, Param

# as enum object_type in enforcer.h
TYPES = (
    "connect", "domain", "network", "pool", "volume", "interface", "nodedevice", "secret", "nwfilter", "nwfilterbinding",
    "networkport", "snapshot", "checkpoint", "stream",
)  # fmt: skip
KINDS = ("", "handle", "name", "uuid", "uuid text", "xml", "params", "unknown", "connection", "pool")  # as enum source_kind
NAMING = frozenset(KINDS) - {"connection", "pool"}

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
        "virDomainListGetStats",  # an array of handles
    }
)
# names that an object is to have from then on
_NEW_NAMES = frozenset({"dname", "new_name"})
# the document of a guest that moves
_MIGRATED = frozenset({"dxml", "xmlin", "dom_xml"})


class Source(NamedTuple):
    """A place in the arguments that names an object."""

    kind: str  # one of KINDS
    argument: int
    type: str  # one of TYPES
    second: int = 0  # params: the argument with their number


def sources_of(function: Function) -> tuple[Source, ...]:
    """The places, in the order of the arguments."""
    found: list[Source] = []
    made = function.result.object if function.result.kind == "handle" else None
    in_pool = made == "volume" and any(param.kind in ("xml", "string") for param in function.params)
    has_object = any(param.kind == "handle" and param.object not in ("connect", "stream") for param in function.params)
    for i, param in enumerate(function.params):
        if param.kind == "handle" and param.object in TYPES:
            how = "connection" if param.object in ("connect", "stream") else "handle"
            found.append(Source("pool" if in_pool and param.object == "pool" else how, i, param.object or ""))
        elif made and made != "connect" and (not has_object or in_pool) and (kind := _names(param)):
            found.append(Source(kind, i, made))
        elif "Migrate" in function.name and param.name in _MIGRATED:
            found.append(Source("xml", i, "domain"))
        elif param.kind == "string" and param.name in _NEW_NAMES:
            found.append(Source("name", i, "domain"))
        elif param.name == "params" and "Migrate" in function.name:
            found.append(Source("params", i, "domain", i + 1))
    if function.name in _UNKNOWN:
        found.append(Source("unknown", 0, "domain"))
    return tuple(found)


def names_objects(function: Function) -> bool:
    """Whether its calls are about objects, so that a rule on names can match them."""
    return any(source.kind in NAMING for source in sources_of(function))


def _names(param: Param) -> str | None:
    if param.kind == "xml":
        return "xml"
    if param.kind == "string" and param.name in ("name", "usageID", "portdev"):
        return "name"
    if param.name == "uuidstr":
        return "uuid text"
    return "uuid" if param.name == "uuid" and param.ctype == "const unsigned char *" else None
