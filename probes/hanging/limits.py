# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which limits of daemons are reached, and which calls wait for that: daemons and calls under way
come in.

A daemon says itself how full it is; of which client it works on calls, and how many it takes at a
time of one, its memory tells. Who waits for which daemon the kernel knows. Where one of these is
not known no limit is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from log.events import UnderWay
from log.values import Value
from probes.calls.serving.waits import CLIENT, FOR_DAEMON
from probes.hanging.hanging import Busy, Hanging
from probes.host.daemons import admin
from probes.host.daemons.admin import Server
from probes.host.daemons.sockets import Sockets, held, sockets

# as daemons' configuration names them
CLIENTS, ANONYMOUS = "max_clients", "max_anonymous_clients"
WORKERS, REQUESTS = "max_workers", "max_client_requests"
MOST_ASKED = 16  # daemons
OPENS = "virConnectOpen"  # and what begins so


class Reached(NamedTuple):
    """A limit."""

    limit: str
    most: int
    client: int | None = None  # the process whose calls are as many as that


class Full(NamedTuple):
    """How full a daemon is."""

    pid: int
    program: str
    server: Server | None  # None: it does not say
    busy: tuple[Busy, ...] = ()  # connections whose calls it works on

    def reached(self) -> list[Reached]:
        """Of its limits those that are."""
        one, found = self.server, list[Reached]()
        if one and one.clients >= one.max_clients:
            found.append(Reached(CLIENTS, one.max_clients))
        if one and 0 < one.max_anonymous_clients <= one.anonymous_clients:
            found.append(Reached(ANONYMOUS, one.max_anonymous_clients))
        if one and one.workers >= one.max_workers and not one.free_workers:
            found.append(Reached(WORKERS, one.max_workers))
        found += [Reached(REQUESTS, it.most, it.client) for it in self.busy if it.is_full()]
        return found


class DaemonLimits:
    """Asks daemons. `hanging`: makes what looks into their memory, when it is needed."""

    def __init__(self, hanging: Callable[[], Hanging], proc: Path = Path("/proc")) -> None:
        self._make, self._proc = hanging, proc
        self._hanging: Hanging | None = None

    def look(self, pids: Sequence[int]) -> list[Full]:
        """How full these daemons are, the first of them."""
        told = admin.servers(pids[:MOST_ASKED], proc=self._proc)
        return [self._look(pid, told.get(pid, [])) for pid in pids[:MOST_ASKED]]

    def _look(self, pid: int, servers: Sequence[Server]) -> Full:
        # which of several it is that a call waits for is not known
        server = servers[0] if len(servers) == 1 else None
        busy: tuple[Busy, ...] = ()
        if server is None or server.workers > server.free_workers:
            self._hanging = self._hanging or self._make()
            busy = tuple(self._hanging.busy(pid))
        return Full(pid, _program(pid, self._proc), server, busy)


def explain(
    found: Sequence[UnderWay], daemons: Sequence[Full], proc: Path = Path("/proc")
) -> list[UnderWay]:
    """The same calls, with the limits that they wait for."""
    if not any(one.where == FOR_DAEMON for one in found):
        return list(found)
    owners = {inode: one for one in daemons if one.reached() for inode in held(one.pid, proc)}
    links = sockets() if owners else Sockets({}, {})
    return [
        one._replace(limit=_limit(one, found, owners, links, proc))
        if one.where == FOR_DAEMON
        else one
        for one in found
    ]


def _limit(
    one: UnderWay,
    found: Sequence[UnderWay],
    owners: Mapping[int, Full],
    links: Sockets,
    proc: Path,
) -> Mapping[str, Value] | None:
    mine = held(one.caller.pid, proc)
    waits_at = [owners[links.waiting[it]] for it in mine if links.waiting.get(it) in owners]
    connected = [owners[links.peers[it]] for it in mine if links.peers.get(it) in owners]
    if waits_at and one.function.startswith(OPENS):
        return _named(waits_at, [CLIENTS, ANONYMOUS])
    pid = one.caller.pid
    if not connected or _is_worked_on(pid, found, connected[0]):
        return None
    full = [it for it in connected[0].busy if it.client == pid and it.is_full()]
    if full:
        # on which of its connections the call waits is not known
        return _named(connected, [REQUESTS]) if len(full) == len(connected) else None
    return _named(connected, [WORKERS])


def _is_worked_on(pid: int, found: Sequence[UnderWay], daemon: Full) -> bool:
    """Whether the daemon may work on calls of the process that are not known to be what it works
    on.
    """
    if any(not it.is_known for it in daemon.busy):
        return True
    works_on = sum(it.calls for it in daemon.busy if it.client == pid)
    elsewhere = [it for it in found if it.where not in (FOR_DAEMON, CLIENT)]
    return works_on > sum(it.caller.pid == pid for it in elsewhere)


def _named(daemons: Sequence[Full], limits: Sequence[str]) -> Mapping[str, Value] | None:
    """The first of these that is reached, if it is one daemon's."""
    daemon = daemons[0]
    if any(it.pid != daemon.pid for it in daemons):
        return None
    for it in daemon.reached():
        if it.limit in limits:
            return {"limit": it.limit, "most": it.most, "pid": daemon.pid}
    return None


def unknown(daemons: Sequence[Full]) -> list[str]:
    """Says of which daemons it is not known how full they are."""
    return [
        f"how full {one.program}, process {one.pid}, is, is not known: it does not answer on a "
        "socket for administration"
        for one in daemons
        if one.server is None
    ]


def in_words(daemon: Full) -> list[str]:
    """A line for each of its limits that is reached."""
    return [
        f"{daemon.program}, process {daemon.pid}: {it.limit} reached, {_how(it, daemon.server)}"
        for it in daemon.reached()
    ]


def _how(reached: Reached, server: Server | None) -> str:
    if reached.limit == CLIENTS:
        return f"{reached.most} clients"
    if reached.limit == ANONYMOUS:
        return f"{reached.most} clients that have not proved who they are"
    if reached.limit == WORKERS:
        waiting = server.waiting_calls if server else 0
        return f"all {reached.most} workers busy, {waiting} calls wait"
    who = "a client" if reached.client is None else f"process {reached.client}"
    return f"{who} has {reached.most} calls under way on a connection"


def fields(daemon: Full) -> dict[str, object]:
    """For programs."""
    nothing = dict.fromkeys(Server._fields)
    return {
        "daemon": daemon.pid,
        "program": daemon.program,
        **(daemon.server._asdict() if daemon.server else nothing),
        "reached": None if daemon.server is None else [one._asdict() for one in daemon.reached()],
    }


def _program(pid: int, proc: Path) -> str:
    try:
        return (proc / str(pid) / "comm").read_text(errors="backslashreplace").rstrip("\n")
    except OSError:
        return "?"
