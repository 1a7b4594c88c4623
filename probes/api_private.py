# SPDX-License-Identifier: LGPL-2.1-or-later
"""Functions that libvirt's daemons call in each other's name during a migration: exported, but in no header and no API description.

Signatures as in src/libvirt_internal.h, the same in 9.0.0 and 11.3.0; a client calls them too, inside virDomainMigrate*.
"""

from __future__ import annotations

import dataclasses

from probes.api import OBJECTS, ApiTable, Function, Param, Result
from probes.api_passing import IN, OUT

_START = ("virTypedParameterPtr params", "int nparams")
_COOKIE_IN = ("const char * cookiein", "int cookieinlen")
_COOKIE_OUT = ("char ** cookieout", "int * cookieoutlen")
_FLAGS = ("unsigned int flags",)
_SIGNATURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "virDomainMigrateBegin3Params": ("char *", ("virDomainPtr domain", *_START, *_COOKIE_OUT, *_FLAGS)),
    "virDomainMigratePrepare3Params": (
        "int",
        ("virConnectPtr dconn", *_START, *_COOKIE_IN, *_COOKIE_OUT, "char ** uri_out", *_FLAGS),
    ),
    "virDomainMigratePrepareTunnel3Params": (
        "int",
        ("virConnectPtr conn", "virStreamPtr st", *_START, *_COOKIE_IN, *_COOKIE_OUT, *_FLAGS),
    ),
    "virDomainMigratePerform3Params": (
        "int",
        ("virDomainPtr domain", "const char * dconnuri", *_START, *_COOKIE_IN, *_COOKIE_OUT, *_FLAGS),
    ),
    "virDomainMigrateFinish3Params": (
        "virDomainPtr",
        ("virConnectPtr dconn", *_START, *_COOKIE_IN, *_COOKIE_OUT, *_FLAGS, "int cancelled"),
    ),
    "virDomainMigrateConfirm3Params": ("int", ("virDomainPtr domain", *_START, *_COOKIE_IN, *_FLAGS, "int cancelled")),
}
NAMES = frozenset(_SIGNATURES)
_LIBRARY = "libvirt.so.0"


def with_private(table: ApiTable) -> ApiTable:
    """The table with these functions behind all others; a table that has them already stays as it is."""
    start = len(table.functions)
    missing = [name for name in sorted(_SIGNATURES) if name not in table.by_name]
    added = tuple(_function(start + index, name) for index, name in enumerate(missing))
    return dataclasses.replace(table, functions=table.functions + added)


def _function(number: int, name: str) -> Function:
    ctype, params = _SIGNATURES[name]
    kind, failure = {"int": ("i32", "negative"), "char *": ("string", "null")}.get(ctype, ("handle", "null"))
    result = Result(ctype, kind, OBJECTS.get(ctype))
    return Function(number, name, _LIBRARY, "1.1.0", result, tuple(map(_param, params)), "write", failure, False)


def _param(text: str) -> Param:
    ctype, _, name = text.rpartition(" ")
    if ctype in OBJECTS:
        return Param(name, ctype, "handle", OBJECTS[ctype])
    if ctype == "const char *":
        return Param(name, ctype, "xml" if name == "cookiein" else "string")
    if ctype == "virTypedParameterPtr":
        return Param(name, ctype, "pointer", direction=IN, length="nparams")
    if ctype.endswith("*"):
        return Param(name, ctype, "pointer", direction=OUT)
    if name == "flags":
        return Param(name, ctype, "u32", enum="virDomainMigrateFlags", flags=True)
    return Param(name, ctype, "i32")
