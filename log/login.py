# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the person behind a process came in: what is known of that, in short and as fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from log.quote import name
from log.values import Value


class LoginStep(NamedTuple):
    """A program of root's on the way from the login to the process."""

    by: str  # "sshd", "sudo", "su", "cron", ...; "?": there are more parents than are looked at
    pid: int
    uid: int | None = None  # who had it run; None: not known, or nobody had to
    user: str | None = None
    peer: str | None = None  # of sshd, its address; None: not known

    def fields(self) -> dict[str, Value]:
        """As events show it."""
        fields: dict[str, Value] = {"by": self.by, "pid": self.pid}
        if self.uid is not None or self.user is not None:
            fields |= {"uid": self.uid, "user": self.user}
        if self.by == "sshd" or self.peer is not None:
            fields["peer"] = self.peer
        return fields


class Login(NamedTuple):
    """Who logged in, and the ways from the process back to there, the nearest first."""

    loginuid: int | None  # None: unset
    login: str | None  # its name
    ways: tuple[LoginStep, ...]

    def fields(self) -> dict[str, Value]:
        """As events show it."""
        ways: list[Value] = [way.fields() for way in self.ways]
        return {"loginuid": self.loginuid, "login": self.login, "ways": ways}

    def named(self, names: Mapping[int, str]) -> Login:
        """With the names of users that had none; itself, where that changes nothing."""
        login = self.login
        if login is None and self.loginuid is not None:
            login = names.get(self.loginuid)
        ways = tuple(
            way._replace(user=names[way.uid])
            if way.user is None and way.uid is not None and way.uid in names
            else way
            for way in self.ways
        )
        found = Login(self.loginuid, login, ways)
        return self if found == self else found


def short(fields: Mapping[str, Value]) -> str:
    """What the fields of a session say: "alice via sudo, ssh 192.0.2.7"."""
    ways = fields.get("ways")
    loginuid, login = fields.get("loginuid"), fields.get("login")
    who = "unset" if loginuid is None else str(loginuid) if login is None else name(str(login))
    parts = [
        _way(way, loginuid)
        for way in (ways if isinstance(ways, list) else [])
        if isinstance(way, Mapping)
    ]
    return f"{who} via {', '.join(parts)}" if parts else who


def _way(way: Mapping[str, Value], loginuid: Value) -> str:
    by, uid, user = (way.get(key) for key in ("by", "uid", "user"))
    if by == "sshd":
        peer = way.get("peer")
        return "ssh ?" if peer is None else f"ssh {name(str(peer))}"
    # who had it run is told where that is another than who logged in
    whose = "" if uid is None or uid == loginuid else str(uid) if user is None else name(str(user))
    return name(str(by)) + (f" by {whose}" if whose else "")
