# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks daemons who is connected to them, and how full they are: processes come in; clients, or
servers and their limits, come out.

The library that asks runs in a process of its own, because a daemon may not answer, and because it
is libvirt: nothing of it should be loaded into a tracer.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from log.quote import escape

TIMEOUT = 5  # s
ADMINISTERS = "admin"  # the server within each daemon that is asked
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


class Server(NamedTuple):
    """How full a server of a daemon is; its limits are named as in the daemon's configuration."""

    server: str  # within the daemon: "libvirtd"
    clients: int
    max_clients: int
    anonymous_clients: int  # that have not proved who they are yet
    max_anonymous_clients: int
    workers: int  # threads that there are for calls
    max_workers: int
    free_workers: int
    waiting_calls: int  # that no worker has taken yet


def clients(pid: int, proc: Path = Path("/proc")) -> list[Connected] | None:
    """The clients of the daemon `pid`; None: it is none, or does not say."""
    socket = _socket(pid, proc)
    if socket is None:
        return None
    found = _answers([_question(socket)], TIMEOUT)[0]
    try:
        return None if found is None else [Connected(**fields) for fields in found]
    except TypeError:
        return None


def servers(
    pids: Sequence[int], timeout: float = TIMEOUT, proc: Path = Path("/proc")
) -> dict[int, list[Server]]:
    """How full these daemons are, as far as they say so within that time (s): each server of each,
    but for those that administer.
    """
    asked = {pid: socket for pid in pids if (socket := _socket(pid, proc)) is not None}
    answers = _answers([_question(socket, "limits") for socket in asked.values()], timeout)
    told: dict[int, list[Server]] = {}
    for pid, answer in zip(asked, answers, strict=True):
        with contextlib.suppress(TypeError):
            found = [Server(**fields) for fields in answer or ()]
            if all(type(value) is int for one in found for value in one[1:]):
                told[pid] = [one for one in found if one.server != ADMINISTERS]
    return {pid: found for pid, found in told.items() if found}


def _question(socket: str, *what: str) -> list[str]:
    return [sys.executable, "-I", str(PROGRAM), _uri(socket), *what]


def _answers(questions: Sequence[list[str]], timeout: float) -> list[list[dict[str, Any]] | None]:
    """Asks all at once; None for who does not answer within that time (s)."""
    with contextlib.ExitStack() as stack:
        asking: list[subprocess.Popen[bytes] | None] = []
        for question in questions:
            asking.append(_begin(question))
            if process := asking[-1]:
                stack.enter_context(process)
                stack.callback(process.kill)
        deadline = time.monotonic() + timeout
        return [
            None if one is None else _answer(one, max(deadline - time.monotonic(), 0.01))
            for one in asking
        ]


def _begin(question: list[str]) -> subprocess.Popen[bytes] | None:
    try:
        return subprocess.Popen(
            question,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None


def _answer(process: subprocess.Popen[bytes], timeout: float) -> list[dict[str, Any]] | None:
    try:
        output, _ = process.communicate(timeout=timeout)
        found = json.loads(output) if process.returncode == 0 else None
    except (subprocess.SubprocessError, ValueError):
        return None
    return found if isinstance(found, list) else None


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
