# SPDX-License-Identifier: LGPL-2.1-or-later
"""For whom a daemon makes a call: who is at the other end of its connection."""

from __future__ import annotations

import os
from typing import NamedTuple

from log.login import Login
from log.values import Value


class Client(NamedTuple):
    """What a daemon knows of its client; all None where the record that names it was lost. One
    object for all calls that are made for it.
    """

    pid: int | None = None  # of a process of this host
    uid: int | None = None
    user: str | None = None
    gid: int | None = None
    group: str | None = None
    sasl: str | None = None  # names that it has proved
    x509: str | None = None
    selinux: str | None = None
    readonly: bool | None = None  # the connection
    address: str | None = None  # of the peer: "127.0.0.1:40312"; None for a process of this host
    # of its process, when it made the connection
    exe: str | None = None
    cmdline: tuple[str, ...] | None = None  # redacted
    loginuid: int | None = None
    # who is known to be at the other end; it is another one where a daemon speaks for its client
    peer: Client | None = None
    claims: Client | None = None  # who it says that it is, without a proof
    unproved: bool = False  # nothing but the word of anybody's program says so
    is_daemon: bool = False  # nobody: the daemon does it by itself
    session: Login | None = None  # how the user of its process came in, where that is known

    @property
    def name(self) -> str | None:
        """The user, by the best that is known."""
        uid = None if self.uid is None else str(self.uid)
        return next((it for it in (self.sasl, self.x509, self.user, uid) if it is not None), None)

    @property
    def program(self) -> str:
        """The name of its program; "" where it is not known."""
        return os.path.basename(self.exe or "")

    def alone(self) -> Client:
        """Who it is, without what was found out about that."""
        return self._replace(peer=None, claims=None)

    def in_common(self) -> Client:
        """Of processes that follow one another: all but what tells them apart."""
        return self._replace(
            pid=None,
            cmdline=None,
            session=None,
            peer=self.peer and self.peer.in_common(),
            claims=self.claims and self.claims.in_common(),
        )

    def fields(self) -> dict[str, Value]:
        """As events show it, by name."""
        if self.is_daemon:
            return {"daemon": True}
        shown = self._own_fields()
        shown["peer"] = self.peer and self.peer._own_fields()
        if self.claims is not None:
            shown["claims"] = self.claims._own_fields()
        return {**shown, "unproved": True} if self.unproved else shown

    def _own_fields(self) -> dict[str, Value]:
        shown: dict[str, Value] = {name: getattr(self, name) for name in WHO}
        process: dict[str, Value] = {name: getattr(self, name) for name in PROCESS}
        if self.pid is not None or any(it is not None for it in process.values()):
            shown |= process
        return shown if self.session is None else {**shown, "session": self.session.fields()}


WHO = Client._fields[: Client._fields.index("exe")]
PROCESS = ("exe", "cmdline", "loginuid")  # shown where there is one
UNKNOWN = Client()  # the record that names it was lost
OWN = Client(is_daemon=True)
