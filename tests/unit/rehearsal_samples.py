# SPDX-License-Identifier: LGPL-2.1-or-later
"""Recorded calls of a daemon's clients, for the tests of rehearsals."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from enforcer.launch.library import table
from enforcer.policy.reading.reading import read_policy
from enforcer.policy.rules import Policy
from log.client import Client
from log.events import Call, Caller, Event
from log.render import jsonl
from log.values import NO_VALUES, Flags, Handle, Values
from tests.unit.log_samples import NS, START, UUID

TABLE = table()
LIBVIRTD = Caller(901, "/usr/sbin/libvirtd", ("libvirtd",), 0, "root", None, None, None)
VIRSH = "/usr/bin/virsh"
DAY = 86400 * NS


def client(user: str = "ci", uid: int = 1000, pid: int = 4711, **more: Any) -> Client:
    """Whom a daemon works for."""
    one = Client(pid, uid, user, uid, user, readonly=False, exe=VIRSH)
    one = one._replace(cmdline=("virsh", f"of {user}"))._replace(**more)
    return one._replace(peer=one)


def domain(name: str, uuid: str = UUID) -> Handle:
    """A handle in a daemon."""
    return Handle("domain", {"name": name, "uuid": uuid, "driver": "QEMU"})


def served(number: int = 0, function: str = "virDomainDestroy", **more: Any) -> Call:
    """A daemon's call on web1, `number` seconds after the first."""
    made = Call(
        time=START + number * NS,
        tid=902,
        comm="rpc-libvirtd",
        caller=LIBVIRTD,
        function=function,
        library="libvirt.so.0",
        depth=0,
        write=True,
        args=Values({"domain": domain("web1")}),
        out=NO_VALUES,
        ret=0,
        returns="integer",
        failed=False,
        error=None,
        duration_ns=1_000_000 + number,
        client=client(),
    )
    return made._replace(**more)


def on(name: str, flags: int | None = None) -> Values:
    """The arguments of a call on that domain."""
    more = {} if flags is None else {"flags": Flags(flags, ())}
    return Values({"domain": domain(name), **more})


def lines_file(path: Path, events: Iterable[Event]) -> Path:
    """A record as plain lines."""
    path.write_text("".join(map(jsonl.line, events)))
    return path


def policy(text: str) -> Policy:
    """What the text says."""
    return read_policy(text, "p.toml", TABLE)


def rule(name: str, **more: Any) -> str:
    """One that denies."""
    fields = {"name": name, "action": "deny", **more}

    def value(item: Any) -> str:
        if isinstance(item, dict):
            return "{ " + ", ".join(f"{key} = {value(part)}" for key, part in item.items()) + " }"
        return str(item).lower() if isinstance(item, bool) else repr(item)

    lines = [f"{key.rstrip('_')} = {value(item)}" for key, item in fields.items()]
    return "\n".join(["[[rule]]", *lines, ""])
