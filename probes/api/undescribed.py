# SPDX-License-Identifier: LGPL-2.1-or-later
"""Functions that libvirt's daemons call for their clients though they are not public: exported, but
in no header and no API description.

Those of migrations are called in each other's name; a client calls them too, inside
virDomainMigrate*. Signatures as in src/libvirt_internal.h, the same in 9.0.0 and 11.3.0. With
virConnectSetIdentityEnsureACL a daemon asks whether its client may say that it is somebody else.
Of public ones that a newer libvirt brings, the name has to do.
"""

from __future__ import annotations

from probes.api.amendments import is_plumbing
from probes.api.passing import IN, OUT
from probes.api.table import OBJECTS, ApiTable, Function, Param, Result

_START = ("virTypedParameterPtr params", "int nparams")
_COOKIE = ("const char * cookie", "int cookielen")
_COOKIE_IN = ("const char * cookiein", "int cookieinlen")
_COOKIE_OUT = ("char ** cookieout", "int * cookieoutlen")
_FLAGS = ("unsigned int flags",)
_LONG_FLAGS = ("unsigned long flags",)
_NAME = ("const char * dname", "unsigned long resource")
_URIS = ("const char * uri_in", "char ** uri_out")
_SIGNATURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "virConnectSetIdentityEnsureACL": ("int", ("virConnectPtr conn",)),
    "virDomainMigrateBegin3": (
        "char *",
        ("virDomainPtr domain", "const char * xmlin", *_COOKIE_OUT, *_LONG_FLAGS, *_NAME),
    ),
    "virDomainMigrateBegin3Params": (
        "char *",
        ("virDomainPtr domain", *_START, *_COOKIE_OUT, *_FLAGS),
    ),
    "virDomainMigrateConfirm3": (
        "int",
        ("virDomainPtr domain", *_COOKIE_IN, *_LONG_FLAGS, "int cancelled"),
    ),
    "virDomainMigrateConfirm3Params": (
        "int",
        ("virDomainPtr domain", *_START, *_COOKIE_IN, *_FLAGS, "int cancelled"),
    ),
    "virDomainMigrateFinish": (
        "virDomainPtr",
        ("virConnectPtr dconn", "const char * dname", *_COOKIE, "const char * uri", *_LONG_FLAGS),
    ),
    "virDomainMigrateFinish2": (
        "virDomainPtr",
        (
            "virConnectPtr dconn",
            "const char * dname",
            *_COOKIE,
            "const char * uri",
            *_LONG_FLAGS,
            "int retcode",
        ),
    ),
    "virDomainMigrateFinish3": (
        "virDomainPtr",
        (
            "virConnectPtr dconn",
            "const char * dname",
            *_COOKIE_IN,
            *_COOKIE_OUT,
            "const char * dconnuri",
            "const char * uri",
            *_LONG_FLAGS,
            "int cancelled",
        ),
    ),
    "virDomainMigrateFinish3Params": (
        "virDomainPtr",
        ("virConnectPtr dconn", *_START, *_COOKIE_IN, *_COOKIE_OUT, *_FLAGS, "int cancelled"),
    ),
    "virDomainMigratePerform": (
        "int",
        ("virDomainPtr domain", *_COOKIE, "const char * uri", *_LONG_FLAGS, *_NAME),
    ),
    "virDomainMigratePerform3": (
        "int",
        (
            "virDomainPtr domain",
            "const char * xmlin",
            *_COOKIE_IN,
            *_COOKIE_OUT,
            "const char * dconnuri",
            "const char * uri",
            *_LONG_FLAGS,
            *_NAME,
        ),
    ),
    "virDomainMigratePerform3Params": (
        "int",
        (
            "virDomainPtr domain",
            "const char * dconnuri",
            *_START,
            *_COOKIE_IN,
            *_COOKIE_OUT,
            *_FLAGS,
        ),
    ),
    "virDomainMigratePrepare": (
        "int",
        ("virConnectPtr dconn", *_COOKIE_OUT, *_URIS, *_LONG_FLAGS, *_NAME),
    ),
    "virDomainMigratePrepare2": (
        "int",
        ("virConnectPtr dconn", *_COOKIE_OUT, *_URIS, *_LONG_FLAGS, *_NAME, "const char * dom_xml"),
    ),
    "virDomainMigratePrepare3": (
        "int",
        (
            "virConnectPtr dconn",
            *_COOKIE_IN,
            *_COOKIE_OUT,
            *_URIS,
            *_LONG_FLAGS,
            *_NAME,
            "const char * dom_xml",
        ),
    ),
    "virDomainMigratePrepare3Params": (
        "int",
        ("virConnectPtr dconn", *_START, *_COOKIE_IN, *_COOKIE_OUT, "char ** uri_out", *_FLAGS),
    ),
    "virDomainMigratePrepareTunnel": (
        "int",
        ("virConnectPtr conn", "virStreamPtr st", *_LONG_FLAGS, *_NAME, "const char * dom_xml"),
    ),
    "virDomainMigratePrepareTunnel3": (
        "int",
        (
            "virConnectPtr conn",
            "virStreamPtr st",
            *_COOKIE_IN,
            *_COOKIE_OUT,
            *_LONG_FLAGS,
            *_NAME,
            "const char * dom_xml",
        ),
    ),
    "virDomainMigratePrepareTunnel3Params": (
        "int",
        ("virConnectPtr conn", "virStreamPtr st", *_START, *_COOKIE_IN, *_COOKIE_OUT, *_FLAGS),
    ),
}
_NUMBERS = {"int": "i32", "unsigned int": "u32", "unsigned long": "u64"}
NAMES = frozenset(_SIGNATURES)
_LIBRARY = "libvirt.so.0"
NO_STUB = -1  # the number of what the enforcer's library can't judge


def unknown_function(number: int, name: str, library: str) -> Function:
    """What is to be thought of a function that nobody describes."""
    return Function(
        number,
        name,
        library,
        "",
        Result("", "raw"),
        (),
        "plumbing" if is_plumbing(name) else "write",
        "none",
    )


def with_private(table: ApiTable) -> ApiTable:
    """The table with these functions behind all others; a table that has them already stays as
    it is.
    """
    start = len(table.functions)
    missing = [name for name in sorted(_SIGNATURES) if name not in table.by_name]
    if not missing:
        return table
    added = tuple(_function(start + index, name) for index, name in enumerate(missing))
    lines = [f"{f.name} {f.result.ctype} {[(p.ctype, p.name) for p in f.params]}" for f in added]
    return table._replace(functions=table.functions + added, added=(*table.added, lines))


def stub_number(table: ApiTable, function: Function) -> int:
    """The function's number in stub_table(), whatever a host's XML has added to `table`, or
    NO_STUB.
    """
    if function.name in _SIGNATURES:
        return table.bundled + sorted(_SIGNATURES).index(function.name)
    return function.number if function.number < table.bundled else NO_STUB


def _function(number: int, name: str) -> Function:
    ctype, params = _SIGNATURES[name]
    kind, failure = {"int": ("i32", "negative"), ("char *"): ("string", "null")}.get(
        ctype, ("handle", "null")
    )
    result = Result(ctype, kind, OBJECTS.get(ctype))
    return Function(
        number, name, _LIBRARY, "1.1.0", result, tuple(map(_param, params)), "write", failure
    )


def _param(text: str) -> Param:
    ctype, _, name = text.rpartition(" ")
    if ctype in OBJECTS:
        return Param(name, ctype, "handle", OBJECTS[ctype])
    if ctype == "const char *":
        return Param(
            name, ctype, "xml" if name in ("cookie", "cookiein", "xmlin", "dom_xml") else "string"
        )
    if ctype == "virTypedParameterPtr":
        return Param(name, ctype, "pointer", direction=IN, length="nparams")
    if ctype.endswith("*"):
        return Param(name, ctype, "pointer", direction=OUT)
    if name == "flags":
        return Param(name, ctype, _NUMBERS[ctype], enum="virDomainMigrateFlags", flags=True)
    return Param(name, ctype, _NUMBERS[ctype])
