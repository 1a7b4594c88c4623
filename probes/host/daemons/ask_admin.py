# SPDX-License-Identifier: LGPL-2.1-or-later
"""The URI of a daemon's administration comes in as the program's argument; its clients, or with a
second argument, "limits", how full its servers are, go out as JSON.

This is a program of its own, which nothing imports: see admin.py. libvirt-python has no binding of
libvirt-admin.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

_TRANSPORTS = ("unix", "tcp", "tls")
_VALUES = (
    None,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_longlong,
    ctypes.c_ulonglong,
    ctypes.c_double,
    ctypes.c_bool,
    ctypes.c_char_p,
)
_LIMITS = {
    "nclients": "clients",
    "nclients_max": "max_clients",
    "nclients_unauth": "anonymous_clients",
    "nclients_unauth_max": "max_anonymous_clients",
    "nWorkers": "workers",
    "maxWorkers": "max_workers",
    "freeWorkers": "free_workers",
    "jobQueueDepth": "waiting_calls",
}
_FIELDS = {
    "unix_process_id": "pid",
    "unix_user_id": "uid",
    "unix_user_name": "user",
    "sasl_user_name": "sasl",
    "tls_x509_dname": "x509",
    "sock_addr": "address",
    "readonly": "readonly",
}


class _TypedParameter(ctypes.Structure):
    _fields_ = (
        ("field", ctypes.c_char * 80),
        ("type", ctypes.c_int),
        ("value", ctypes.c_ulonglong),
    )


def _ask(uri: str, *, limits: bool) -> list[dict[str, Any]]:
    library = ctypes.CDLL("libvirt-admin.so.0")
    for name in ("virAdmConnectOpen", "virAdmServerGetName"):
        getattr(library, name).restype = ctypes.c_void_p
    library.virAdmClientGetID.restype = ctypes.c_ulonglong
    library.virAdmClientGetTimestamp.restype = ctypes.c_longlong
    connection = library.virAdmConnectOpen(uri.encode(), 0)
    if not connection:
        raise SystemExit(1)
    found: list[dict[str, Any]] = []
    mine = os.getpid()
    for server in _list(library.virAdmConnectListServers, connection):
        name = ctypes.string_at(library.virAdmServerGetName(server)).decode(errors="replace")
        if limits:
            found.append({"server": name, **_how_full(library, server)})
            continue
        for client in _list(library.virAdmServerListClients, server):
            fields = _describe(library, client)
            if fields["pid"] != mine:
                found.append({"server": name, **fields})
    return found


def _list(function: Any, owner: ctypes.c_void_p) -> list[ctypes.c_void_p]:
    items = ctypes.POINTER(ctypes.c_void_p)()
    count = function(
        ctypes.c_void_p(owner) if isinstance(owner, int) else owner, ctypes.byref(items), 0
    )
    return [ctypes.c_void_p(items[i]) for i in range(max(count, 0))]


def _how_full(library: ctypes.CDLL, server: ctypes.c_void_p) -> dict[str, Any]:
    fields = {
        **_parameters(library.virAdmServerGetClientLimits, server),
        **_parameters(library.virAdmServerGetThreadPoolParameters, server),
    }
    return {name: fields.get(theirs) for theirs, name in _LIMITS.items()}


def _describe(library: ctypes.CDLL, client: ctypes.c_void_p) -> dict[str, Any]:
    transport = library.virAdmClientGetTransport(client)
    told = _parameters(library.virAdmClientGetInfo, client)
    fields: dict[str, Any] = {
        "id": library.virAdmClientGetID(client),
        "since": library.virAdmClientGetTimestamp(client),
        "transport": _TRANSPORTS[transport]
        if 0 <= transport < len(_TRANSPORTS)
        else str(transport),
        **{name: told.get(theirs) for theirs, name in _FIELDS.items()},
    }
    fields["readonly"] = bool(fields["readonly"])
    if fields["pid"] is not None:
        fields["address"] = None  # made up by libvirt for a socket that has none
    return fields


def _parameters(function: Any, owner: ctypes.c_void_p) -> dict[str, Any]:
    """What the function tells, by libvirt's names."""
    parameters, count = ctypes.POINTER(_TypedParameter)(), ctypes.c_int()
    function(owner, ctypes.byref(parameters), ctypes.byref(count), 0)
    told: dict[str, Any] = {}
    for i in range(count.value):
        parameter = parameters[i]
        kind = _VALUES[parameter.type] if 0 < parameter.type < len(_VALUES) else None
        if kind:
            raw = kind.from_buffer_copy(parameter, _TypedParameter.value.offset).value
            name = parameter.field.decode(errors="replace")
            told[name] = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
    return told


if __name__ == "__main__":
    print(json.dumps(_ask(sys.argv[1], limits=sys.argv[2:] == ["limits"])))
