# SPDX-License-Identifier: LGPL-2.1-or-later
"""The URI of a daemon's administration comes in as the program's argument; its clients go out as
JSON.

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


def _ask(uri: str) -> list[dict[str, Any]]:
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


def _describe(library: ctypes.CDLL, client: ctypes.c_void_p) -> dict[str, Any]:
    parameters, count = ctypes.POINTER(_TypedParameter)(), ctypes.c_int()
    library.virAdmClientGetInfo(client, ctypes.byref(parameters), ctypes.byref(count), 0)
    transport = library.virAdmClientGetTransport(client)
    fields: dict[str, Any] = {
        "id": library.virAdmClientGetID(client),
        "since": library.virAdmClientGetTimestamp(client),
        "transport": _TRANSPORTS[transport]
        if 0 <= transport < len(_TRANSPORTS)
        else str(transport),
        **dict.fromkeys(_FIELDS.values()),
    }
    for i in range(count.value):
        parameter = parameters[i]
        name = _FIELDS.get(parameter.field.decode(errors="replace"))
        kind = _VALUES[parameter.type] if 0 < parameter.type < len(_VALUES) else None
        if name and kind:
            raw = kind.from_buffer_copy(parameter, _TypedParameter.value.offset).value
            fields[name] = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
    fields["readonly"] = bool(fields["readonly"])
    if fields["pid"] is not None:
        fields["address"] = None  # made up by libvirt for a socket that has none
    return fields


if __name__ == "__main__":
    print(json.dumps(_ask(sys.argv[1])))
