# SPDX-License-Identifier: LGPL-2.1-or-later
"""A day of a fleet: how much comes in, files of ECS lines go out, and what is found in them,
counted while they are made.

Each line is one that the renderer has made of an event; host, time, id, domain and duration are
put in.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from log.client import Client
from log.events import Call, Caller, CallError, DomainEvent, Event, Lost, VerdictInfo
from log.moments import rfc3339
from log.render.siem import ecs
from log.values import NO_VALUES, Handle, Values

BEGIN = 1_795_600_800 * 10**9  # 2026-11-25 10:00 UTC
DAY = 86400 * 10**9
SILENT = 3  # hosts that fall silent before noon
USERS = ("root", "alice", "bob", "nova", "deploy")
# marks that are put in place of, with as many digits
_HOST, _DOMAIN, _UUID = "hhhh", "dddd", "6695eb01-f6a4-8304-79aa-97f2502e193f"
_TIME, _TOOK, _TID = 1_111_111_111 * 10**9, 7_777_777, 3_333_333
_VIRSH = Caller(4711, "/usr/bin/virsh", ("virsh",), 0, "root", None, None, None)
_LIBVIRTD = Caller(
    812, "/usr/sbin/libvirtd", ("libvirtd",), 0, "root", None, "libvirtd.service", None
)


class Kind(NamedTuple):
    """Lines that differ in nothing but what is put in."""

    weight: int
    before: str  # what is known of them, to count
    event: Event


def kinds() -> list[Kind]:
    """What happens in a fleet, and how often."""
    found = []
    for uid, user in enumerate(USERS):
        who = _VIRSH._replace(uid=uid, user=user)
        peer = Client(pid=4711, uid=uid, user=user, exe="/usr/bin/virsh")
        peer = peer._replace(peer=peer)
        found += [
            Kind(100, "read", _call(who, "virDomainGetInfo", False)),
            Kind(60, "read", _call(who, "virDomainGetXMLDesc", False)),
            Kind(20, "change", _call(who, "virDomainSuspend", True)),
            Kind(20, "change", _call(who, "virDomainCreate", True)),
            Kind(8, "failed change", _failed(_call(who, "virDomainDestroy", True))),
            Kind(5, "failed read", _failed(_call(who, "virDomainGetInfo", False))),
            Kind(3, "denied", _for(peer, _judged("virDomainUndefine", "deny", "keep-web"))),
            Kind(9, "judged", _for(peer, _judged("virDomainReboot", "allow", ""))),
            Kind(2, "not enforced", _judged("virDomainDestroy", "not enforced", "keep-web")),
        ]
    afar = Client(address="192.0.2.7:40312", sasl="ops@EXAMPLE.ORG")
    return [
        *found,
        Kind(4, "afar", _for(afar, _call(_LIBVIRTD, "virDomainShutdown", True))),
        Kind(4, "crash", _ended("crashed")),
        Kind(12, "end", _ended("shutdown")),
        Kind(1, "lost", Lost(_TIME, 17, "read", "buffer full")),
    ]


def _call(caller: Caller, function: str, write: bool) -> Call:
    domain = Handle("domain", {"name": _DOMAIN, "uuid": _UUID})
    return Call(
        _TIME, _TOOK, _TID, "virsh", caller, function, "libvirt.so.0", 0, write,
        Values({"domain": domain}), NO_VALUES, 0, "integer", False, None,
    )  # fmt: skip


def _failed(call: Call) -> Call:
    error = CallError(55, "VIR_ERR_OPERATION_INVALID", "VIR_FROM_QEMU", "domain is not running")
    return call._replace(ret=-1, failed=True, error=error)


def _judged(function: str, action: str, rule: str) -> Call:
    return _call(_VIRSH, function, True)._replace(
        verdict=VerdictInfo(action, rule), failed=action == "deny", ret=-(action == "deny")
    )


def _for(client: Client, call: Call) -> Call:
    """Done by a daemon; of one on this host the call itself is seen, too."""
    parent = "5-5" if client.pid is not None else None
    return call._replace(caller=_LIBVIRTD, comm="rpc-libvirtd", client=client, parent=parent)


def _ended(detail: str) -> DomainEvent:
    domain = Handle("domain", {"name": _DOMAIN, "uuid": _UUID})
    return DomainEvent(_TIME, _TID, "qemu-event", _LIBVIRTD, domain, "stopped", detail, None)


class Expected(NamedTuple):
    """What is in the files."""

    lines: int
    size: int
    kinds: Counter[str]
    failed: Counter[tuple[str, str]]  # by host and hour
    touched: Counter[str]  # by domain: changes, without what daemons did for calls that are seen
    silent: list[str]


def write(folder: Path, lines: int, hosts: int, domains: int = 100) -> Expected:
    """A file a host."""
    rand = random.Random(16)
    every = kinds()
    marks = rfc3339(_TIME), rfc3339(_TIME + _TOOK), f"{_TID}-{_TIME}"
    made = [(kind.before, _with_marks(ecs.line(kind.event, _HOST), marks)) for kind in every]
    drawn = rand.choices(made, [kind.weight for kind in every], k=lines)
    counts: Counter[str] = Counter()
    failed: Counter[tuple[str, str]] = Counter()
    touched: Counter[str] = Counter()
    size, last = 0, {}
    per_host = -(-lines // hosts)
    for number in range(hosts):
        host = f"kvm{number:02}"
        length = DAY // 3 if number < SILENT else DAY
        parts = []
        for index, (what, parted) in enumerate(drawn[number * per_host : (number + 1) * per_host]):
            at = BEGIN + index * length // per_host
            took = 1000 + (at // 7) % 10**8
            domain = f"web{rand.randrange(domains):04}"
            text = _filled(parted, host, domain, at, took, number * per_host + index)
            parts.append(text)
            counts[what] += 1
            if what.startswith("failed"):
                failed[host, rfc3339(at)[:13]] += 1
            if what in ("change", "failed change", "denied", "not enforced", "afar"):
                touched[domain] += 1
            last[host] = at
        text = "".join(parts)
        size += len(text)
        (folder / f"{host}.ecs").write_text(text)
    newest = max(last.values())
    silent = sorted(host for host, at in last.items() if at < newest - 3600 * 10**9)
    return Expected(sum(counts.values()), size, counts, failed, touched, silent)


def _with_marks(line: str, marks: tuple[str, str, str]) -> list[str]:
    """Pieces, each second one the name of what is put there."""
    names = {marks[0]: "time", marks[1]: "end", marks[2]: "id", _HOST: "host", _DOMAIN: "domain",
             str(_TOOK): "took"}  # fmt: skip
    pieces = [line]
    for mark, name in names.items():
        parted: list[str] = []
        for number, piece in enumerate(pieces):
            if number % 2:
                parted.append(piece)
                continue
            for part in piece.split(mark):
                parted += (part, name)
            parted.pop()
        pieces = parted
    return pieces


def _filled(pieces: list[str], host: str, domain: str, at: int, took: int, tid: int) -> str:
    fields: dict[str, Any] = {
        "time": rfc3339(at),
        "end": rfc3339(at + took),
        "id": f"{tid}-{at}",
        "host": host,
        "domain": domain,
        "took": str(took),
    }
    return "".join([fields[piece] if number % 2 else piece for number, piece in enumerate(pieces)])
