# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whom a rule is about: names of users and groups of this host come in, their numbers go out."""

from __future__ import annotations

import grp
import pwd

from enforcer.policy.reading.entries import Entries, Entry
from enforcer.policy.rules import People, Principal, nearest
from log.quote import quote

DIGITS_MAX = 20  # of a user's or group's number


def people_of(entries: Entries, entry: Entry) -> tuple[People, ...]:
    """What user and group say."""
    found = []
    for key in ("user", "group"):
        values = entries.strings(entry, key)
        if values is None:
            continue
        read = _user if key == "user" else _group
        yes = tuple(p for value in values if value[0] != "!" for p in read(entries, value))
        no = tuple(
            p for value in values if value[0] == "!" for p in read(entries, value[1:], value)
        )
        found.append(People(yes, no))
    return tuple(found)


def _user(entries: Entries, name: str, shown: str | None = None) -> tuple[Principal, ...]:
    """A user's name or number, sasl:GLOB or x509:GLOB."""
    kind, colon, glob = name.partition(":")
    if colon and kind in ("sasl", "x509"):
        entries.check_sets(glob, "user", shown or name)
        return (Principal(kind, glob),)
    if name.isdecimal() and len(name) <= DIGITS_MAX and int(name) < 1 << 32:
        return (Principal("uid", int(name)),)
    try:
        return (Principal("uid", pwd.getpwnam(name).pw_uid),)
    except (KeyError, ValueError):
        hint = nearest(name, (entry.pw_name for entry in pwd.getpwall()))
        entries.wrong(f"no user {quote(name)} on this host{hint}", "user", shown or name)
        return ()


def _group(entries: Entries, name: str, shown: str | None = None) -> tuple[Principal, ...]:
    """A group's name or number: the group itself, and who is in it now."""
    try:
        group = grp.getgrgid(int(name)) if name.isdecimal() else grp.getgrnam(name)
    except (KeyError, ValueError, OverflowError):
        hint = nearest(name, (entry.gr_name for entry in grp.getgrall()))
        entries.wrong(f"no group {quote(name)} on this host{hint}", "group", shown or name)
        return ()
    members = {
        user.pw_uid
        for user in pwd.getpwall()
        if user.pw_name in group.gr_mem or user.pw_gid == group.gr_gid
    }
    return (Principal("gid", group.gr_gid), *(Principal("uid", uid) for uid in sorted(members)))
