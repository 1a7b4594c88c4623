# SPDX-License-Identifier: LGPL-2.1-or-later
"""For whom a daemon makes its calls: records of its inner functions come in, clients go out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

from log.client import Client
from log.recent import Recent
from log.values import CutText, Value
from probes.calls.parts.open import Message
from probes.host.looking.proc import TICKS
from probes.host.processes.callers import Processes
from probes.host.processes.lives import NO_ID
from probes.host.processes.namespaces import InNamespaces
from probes.host.processes.numbers import host_pid, searches
from probes.internals.private import MOST_ATTRIBUTES

MOST_CLIENTS = 4096
_STRINGS = {  # names of an identity's attributes (src/util/viridentity.c) -> of the client's fields
    "user-name": "user",
    "group-name": "group",
    "sasl-user-name": "sasl",
    "x509-distingui": "x509",
    "selinux-contex": "selinux",
}
# when the process began, in ticks: with the number, what tells it from others
_START = "process-time"
_NUMBERS = {"unix-user-id": "uid", "unix-group-id": "gid", "process-id": "pid", _START: _START}
_SHORT = 14  # characters by which attributes are told apart


class Connection(NamedTuple):
    """What a daemon's end of it tells."""

    readonly: bool | None
    address: str | None  # of the peer: "127.0.0.1:40312"


class Served(NamedTuple):
    """What a worker thread of a daemon is doing."""

    message: Message
    connection: Connection
    client: Client | None  # None: its record was lost
    end: int = 0  # address of the daemon's end of the connection
    client_start: int | None = None  # when its process began (ns, CLOCK_BOOTTIME)
    client_uid: int | None = None  # whose that process really is; None: not known
    shown: Client | None = None  # the client as it is told, marked where only a program says so


class Identity(NamedTuple):
    """A client as a daemon tells of it, when its process began, and whose that really is."""

    client: Client
    start: int | None
    uid: int | None


class Claim(NamedTuple):
    """What a client has said of itself (virConnectSetIdentity)."""

    says: Client
    shown: Identity  # with who it is


def dispatched(fields: Mapping[str, Value]) -> Served:
    """What a DISPATCH record says."""
    readonly, address = fields.get("readonly"), fields.get("address")
    connection = Connection(
        None if readonly is None else bool(readonly), address if isinstance(address, str) else None
    )
    header = fields["block"]
    assert isinstance(header, int)
    program, procedure, serial = (header >> shift & 0xFFFFFFFF for shift in (0, 64, 128))
    end = fields.get("arg2")
    return Served(
        Message(program, procedure, serial), connection, None, end if isinstance(end, int) else 0
    )


class Identified(NamedTuple):
    """An identity that a daemon's thread has taken: what tells it from others, and its fields."""

    key: Hashable
    fields: Callable[[], Mapping[str, Value]]


class Clients:
    """Clients by what their identity says, and by what their process was at that time."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._searches = searches()
        self.numbers = InNamespaces()  # of processes that made calls
        self._known: Recent[tuple[Client, int | None, int], Identity] = Recent(MOST_CLIENTS)
        self._copied: Recent[Hashable, tuple[Client, int | None]] = Recent(MOST_CLIENTS)
        # as read, and marked: by the former's id
        self._unproved: Recent[int, tuple[Client, Client]] = Recent(MOST_CLIENTS)
        # by daemon and its end of the connection
        self._claims: Recent[tuple[int, int], Claim] = Recent(MOST_CLIENTS)

    def claimed(self, said: Identified, served: Served, daemon: int, at: int) -> None:
        """A CLAIM record: the client served there says that it is somebody else.

        Who it is stays who it was before, what it says comes beside. One of libvirt's own daemons,
        run by root, speaks for its client.
        """
        if served.client is None:
            return
        before = self._claims.get((daemon, served.end))
        peer = served.client.alone()
        if before is not None and before.shown.client == served.client:
            peer = served.client.peer or peer
        says = self._identity(said, served.connection, daemon, at)
        if peer.uid == 0 and _is_libvirts(peer):
            shown = says._replace(client=says.client._replace(peer=peer))
        else:
            client = peer._replace(peer=peer, claims=says.client.alone())
            shown = Identity(client, served.client_start, served.client_uid)
        self._claims.put((daemon, served.end), Claim(says.client, shown))

    def of(self, said: Identified, served: Served, daemon: int, at: int) -> Identity:
        """The client of an IDENTITY record of the process `daemon`, at the time `at` (ns,
        CLOCK_MONOTONIC).
        """
        identity = self._identity(said, served.connection, daemon, at)
        claim = self._claims.get((daemon, served.end)) if self._claims else None
        if claim is None:
            return identity
        if claim.says == identity.client:
            return claim.shown
        self._claims.pop((daemon, served.end))  # another connection is there by now
        return identity

    def read(self, fields: Mapping[str, Value], daemon: int) -> Identity:
        """The client that an identity in the daemon's memory says, now."""
        read = _read(fields, Connection(None, None))
        return self._describe(*self._numbered(read, daemon), None)

    def unproved(self, client: Client) -> Client:
        """The same, marked as what nothing but a program's word says."""
        known = self._unproved.get(id(client))
        if known is None or known[0] is not client:
            known = client, client._replace(unproved=True)
            self._unproved.put(id(client), known)
        return known[1]

    def _identity(self, said: Identified, connection: Connection, daemon: int, at: int) -> Identity:
        # a connection has the same bytes each time, until it claims others
        found, start = self._copied.learn(
            (said.key, connection, daemon),
            lambda _: self._numbered(_read(said.fields(), connection), daemon),
        )
        since = 0 if found.pid is None else self._processes.since(found.pid, at)
        return self._known.learn((found, start, since), lambda _: self._describe(found, start, at))

    def _numbered(self, read: tuple[Client, int | None], daemon: int) -> tuple[Client, int | None]:
        """The same with the number that the process has here."""
        client, start = read
        if client.pid is None:
            return read
        pid = self.numbers.find(client.pid, daemon, start)
        if pid is None:
            pid = host_pid(client.pid, daemon, limit=self._searches)
        return client._replace(pid=pid), start

    def _describe(self, found: Client, start: int | None, at: int | None) -> Identity:
        if found.pid is None:
            return Identity(found._replace(peer=found), start, None)
        process = self._processes.lookup(found.pid, start, at=at)
        found = found._replace(
            exe=process.exe,
            cmdline=process.cmdline,
            loginuid=process.loginuid,
            session=process.session,
        )
        uid = None if process.uid == NO_ID else process.uid
        return Identity(found._replace(peer=found), start, uid)


def _read(fields: Mapping[str, Value], connection: Connection) -> tuple[Client, int | None]:
    """The client, with the number that the daemon has for it, and when its process began (ns,
    CLOCK_BOOTTIME); None for what the identity does not tell.
    """
    block = fields["block"]
    assert isinstance(block, int)
    numbers: dict[str, int] = {}
    texts: dict[str, str] = {}
    for i in range(min(block & 0xFFFFFFFF, MOST_ATTRIBUTES)):
        name, value, text = fields[f"name{i}"], fields[f"value{i}"], fields[f"text{i}"]
        assert isinstance(name, int) and isinstance(value, int)
        short = name.to_bytes(16, "little").split(b"\0")[0][:_SHORT].decode("ascii", "replace")
        if short in _NUMBERS:
            numbers[_NUMBERS[short]] = value >> 64
        elif short in _STRINGS and isinstance(text, str | CutText):
            texts[_STRINGS[short]] = text.text + "..." if isinstance(text, CutText) else text
    ticks, pid = numbers.get(_START), numbers.get("pid")
    client = Client(
        pid,
        numbers.get("uid"),
        texts.get("user"),
        numbers.get("gid"),
        texts.get("group"),
        texts.get("sasl"),
        texts.get("x509"),
        texts.get("selinux"),
        connection.readonly,
        connection.address if pid is None else None,  # a socket of this host has none worth telling
    )
    return client, None if ticks is None else ticks * 1_000_000_000 // TICKS


def _is_libvirts(peer: Client) -> bool:
    """Whether a program of root's is one of libvirt's daemons: root can give files any name,
    and needs no name to deceive.
    """
    name = peer.program
    return name == "libvirtd" or (name.startswith("virt") and name.endswith("d"))
