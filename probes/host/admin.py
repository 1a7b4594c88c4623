# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks a daemon who is connected to it: the path of its administration socket comes in, its clients
come out.

libvirt-python has no binding of libvirt-admin. The library runs in a process of its own, because a
daemon may not answer, and because
it is libvirt: nothing of it should be loaded into a tracer.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any, NamedTuple

# where it is the program
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from log.quote import escape

TIMEOUT = 5  # s
_LISTENING = "00010000"  # flags in /proc/net/unix
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


class Connected(NamedTuple):
    """A client of a daemon; None: the connection does not tell."""

    server: str  # within the daemon: "libvirtd", "admin"
    id: int
    since: int  # s since the epoch
    transport: str  # "unix", "tcp" or "tls"
    pid: int | None
    uid: int | None
    user: str | None
    sasl: str | None
    x509: str | None
    address: str | None
    readonly: bool
    # that the daemon made for the client's process, or address, while they were counted
    calls: int | None = None

    def line(self) -> str:
        """It in a line below its daemon's."""
        who = (
            self.sasl
            or self.x509
            or self.user
            or (str(self.uid) if self.uid is not None else "unknown user")
        )
        where = f"process {self.pid}" if self.pid is not None else self.address or "unknown address"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        calls = "" if self.calls is None else f", {self.calls} calls"
        return escape(
            f"{self.server}: {where}, {who}, "
            f"{self.transport}{', read-only' if self.readonly else ''}, since "
            f"{since}{calls}"
        )


def clients(pid: int, proc: Path = Path("/proc")) -> list[Connected] | None:
    """The clients of the daemon `pid`; None: it is none, or does not say."""
    socket = _socket(pid, proc)
    if socket is None:
        return None
    try:
        done = subprocess.run(
            [sys.executable, "-E", "-s", __file__, socket],
            capture_output=True,
            timeout=TIMEOUT,
            check=True,
        )
        return [Connected(**fields) for fields in json.loads(done.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None


def _socket(pid: int, proc: Path) -> str | None:
    """The socket for administration that the process listens on, as seen from here."""
    try:
        held = {os.readlink(entry) for entry in (proc / str(pid) / "fd").iterdir()}
        lines = (proc / str(pid) / "net" / "unix").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines[1:]:
        # address, references, protocol, flags, type, state, inode, path
        fields = line.split(maxsplit=7)
        if (
            len(fields) == 8
            and fields[3] == _LISTENING
            and fields[7].endswith("-admin-sock")
            and f"socket:[{fields[6]}]" in held
        ):
            return f"{proc}/{pid}/root{fields[7]}"
    return None


class _TypedParameter(ctypes.Structure):
    _fields_ = (
        ("field", ctypes.c_char * 80),
        ("type", ctypes.c_int),
        ("value", ctypes.c_ulonglong),
    )


def _ask(socket: str) -> list[dict[str, Any]]:
    library = ctypes.CDLL("libvirt-admin.so.0")
    for name in ("virAdmConnectOpen", "virAdmServerGetName"):
        getattr(library, name).restype = ctypes.c_void_p
    library.virAdmClientGetID.restype = ctypes.c_ulonglong
    library.virAdmClientGetTimestamp.restype = ctypes.c_longlong
    connection = library.virAdmConnectOpen(_uri(socket).encode(), 0)
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


def _uri(socket: str) -> str:
    """For a path that somebody else may have chosen."""
    return f"libvirtd:///system?socket={urllib.parse.quote(os.fsencode(socket))}"


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
