# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads who made a call, for whom, and how they came in."""

from __future__ import annotations

from typing import Any

from log.client import OWN, Client
from log.events import Caller
from log.login import Login, LoginStep
from log.parsing.fields import (
    Fields,
    boolean,
    listing,
    mapping,
    maybe_text,
    maybe_whole,
    plain,
    texts,
    whole,
)
from log.shapes import Types


def caller(f: Fields, path: str, types: Types) -> Caller:
    """A process, whose fields are among those of what it made."""
    return Caller(
        whole(f["pid"]),
        maybe_text(f["exe"], f"{path}/exe", types),
        texts(f["cmdline"], f"{path}/cmdline", types),
        whole(f["uid"]),
        maybe_text(f["user"], f"{path}/user", types),
        maybe_whole(f["loginuid"]),
        maybe_text(f["unit"], f"{path}/unit", types),
        maybe_text(f["container"], f"{path}/container", types),
        maybe_whole(f.get("real_uid")),
        maybe_whole(f.get("ppid")),
        session(f.get("session"), f"{path}/session", types),
    )


def session(item: Any, path: str, types: Types) -> Login | None:
    """How its user came in, or null."""
    if item is None:
        return None
    f = mapping(item)
    ways = [
        LoginStep(
            plain(way["by"]),
            maybe_whole(way.get("pid")),
            maybe_whole(way.get("uid")),
            *(
                maybe_text(way.get(key), f"{path}/ways/{i}/{key}", types)
                for key in ("user", "peer", "unit", "invocation", "container")
            ),
        )
        for i, way in enumerate(map(mapping, listing(f["ways"])))
    ]
    login = maybe_text(f["login"], f"{path}/login", types)
    return Login(maybe_whole(f["loginuid"]), login, tuple(ways))


def client(item: Any, path: str, types: Types) -> Client | None:
    """Whom a daemon served, or null."""
    if item is None:
        return None
    f = mapping(item)
    if f.get("daemon"):
        return OWN
    user, group, sasl, x509, selinux, address, exe = (
        maybe_text(f.get(key), f"{path}/{key}", types)
        for key in ("user", "group", "sasl", "x509", "selinux", "address", "exe")
    )
    pid, uid, gid, loginuid = (maybe_whole(f.get(key)) for key in ("pid", "uid", "gid", "loginuid"))
    readonly = None if f.get("readonly") is None else boolean(f["readonly"])
    return Client(
        pid,
        uid,
        user,
        gid,
        group,
        sasl,
        x509,
        selinux,
        readonly,
        address,
        exe,
        texts(f.get("cmdline"), f"{path}/cmdline", types),
        loginuid,
        client(f.get("peer"), f"{path}/peer", types),
        client(f.get("claims"), f"{path}/claims", types),
        f.get("unproved") is True,
        session=session(f.get("session"), f"{path}/session", types),
    )
