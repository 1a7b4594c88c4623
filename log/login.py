# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the person behind a process came in: what is known of that, in short and as fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from log.quote import name
from log.values import Value

SHORT = 12  # characters of a container's id that are told in short
SYSTEMD, CONTAINER, DBUS = "systemd", "container", "libvirt-dbus"


class LoginStep(NamedTuple):
    """A program on the way from the login to the process, or the place that it was started in."""

    by: str  # "sshd", "sudo", "su", "cron", ...; "?": there are more parents than are looked at
    pid: int | None = None
    uid: int | None = None  # who had it run; None: not known, or nobody had to
    user: str | None = None
    peer: str | None = None  # of sshd, its address; who asks libvirt-dbus; None: not known
    unit: str | None = None  # of systemd
    invocation: str | None = None  # of the unit: by it the journal tells the job that started it
    container: str | None = None

    def fields(self) -> dict[str, Value]:
        """As events show it."""
        fields: dict[str, Value] = {"by": self.by}
        if self.pid is not None:
            fields["pid"] = self.pid
        if self.uid is not None or self.user is not None:
            fields |= {"uid": self.uid, "user": self.user}
        if self.by in ("sshd", DBUS) or self.peer is not None:
            fields["peer"] = self.peer
        for key in ("unit", "invocation", "container"):
            if (known := getattr(self, key)) is not None:
                fields[key] = known
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


def came(fields: Mapping[str, Value] | None, uid: Value, *, unit_is_told: bool = False) -> str:
    """How a user came in, behind its name: " (alice via sudo)"; "" where the name says it all."""
    if fields is None:
        return ""
    ways, loginuid = _ways(fields), fields.get("loginuid")
    ways = [way for way in ways if way.get("by") != SYSTEMD or not unit_is_told]
    return f" ({short(fields)})" if ways or loginuid not in (None, uid) else ""


def short(fields: Mapping[str, Value]) -> str:
    """What the fields of a session say: "alice via sudo, ssh 192.0.2.7"."""
    loginuid, login = fields.get("loginuid"), fields.get("login")
    who = "unset" if loginuid is None else str(loginuid) if login is None else name(str(login))
    told = _ways(fields)
    # how somebody came in says more than the unit of what has let him in
    people = [way for way in told if way.get("by") != SYSTEMD]
    parts = [_way(way, loginuid) for way in people or told]
    return f"{who} via {', '.join(parts)}" if parts else who


def _ways(fields: Mapping[str, Value]) -> list[Mapping[str, Value]]:
    ways = fields.get("ways")
    return [way for way in (ways if isinstance(ways, list) else []) if isinstance(way, Mapping)]


def _way(way: Mapping[str, Value], loginuid: Value) -> str:
    by, uid, user = (way.get(key) for key in ("by", "uid", "user"))
    if by in ("sshd", DBUS):
        peer = way.get("peer")
        return f"{'ssh' if by == 'sshd' else 'D-Bus'} {'?' if peer is None else name(str(peer))}"
    if by == SYSTEMD:
        return name(str(way.get("unit")))
    if by == CONTAINER:
        return f"container {name(str(way.get('container'))[:SHORT])}"
    # who had it run is told where that is another than who logged in
    whose = "" if uid is None or uid == loginuid else str(uid) if user is None else name(str(user))
    return name(str(by)) + (f" by {whose}" if whose else "")
