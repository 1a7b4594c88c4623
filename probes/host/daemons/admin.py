# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks a daemon who is connected to it: the path of its administration socket comes in, its clients
come out.

The library that asks runs in a process of its own, because a daemon may not answer, and because it
is libvirt: nothing of it should be loaded into a tracer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path
from typing import NamedTuple

from log.quote import escape

TIMEOUT = 5  # s
PROGRAM = Path(__file__).with_name("ask_admin.py")
_LISTENING = "00010000"  # flags in /proc/net/unix


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
            [sys.executable, "-I", str(PROGRAM), _uri(socket)],
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


def _uri(socket: str) -> str:
    """For a path that somebody else may have chosen."""
    return f"libvirtd:///system?socket={urllib.parse.quote(os.fsencode(socket))}"
