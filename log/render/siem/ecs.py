# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event comes in; one line in the fields of the Elastic Common Schema goes out, with what that
has no name for below `libvirt`.
"""

from __future__ import annotations

import shlex

from log import VERSION
from log.events import Event
from log.moments import rfc3339
from log.render.siem.facts import (
    CREATE,
    DELETE,
    DENIED,
    DOMAIN,
    LOSS,
    NOT_ENFORCED,
    READ,
    UPDATE,
    Audited,
    Who,
    facts,
)
from log.render.siem.tree import line as json_line
from log.render.siem.tree import nested
from log.values import Value

SCHEMA = "9.4.0"
_TYPES = {CREATE: "creation", READ: "access", UPDATE: "change", DELETE: "deletion"}
_LIFE = {"domain started": "start", "domain stopped": "end"}
_OUTCOME = {True: "success", False: "failure", None: "unknown"}


def line(event: Event, host: str | None = None) -> str:
    """The event with its newline, "" if it has no facts; `host`: where it happened."""
    told = facts(event)
    return json_line(_fields(told, host)) if told else ""


def _fields(told: Audited, host: str | None) -> dict[str, Value]:
    thing = told.thing
    return {
        "@timestamp": rfc3339(told.time),
        "ecs.version": SCHEMA,
        "message": told.message,
        **_event(told),
        "error.code": told.reason if told.success is False and told.verdict != DENIED else None,
        "error.message": told.detail if told.success is False else None,
        "rule.name": told.rule,
        "host.name": host,
        "host.hostname": host,
        **(_who(told.who) if told.who else {}),
        "related.user": _related(told),
        "related.hosts": [host] if host else [],
        "service.type": "libvirt",
        "service.name": told.daemon.program if told.daemon else None,
        "libvirt.object.type": thing.type,
        "libvirt.object.name": thing.name,
        "libvirt.object.uuid": thing.uuid,
        "libvirt.objects": [nested(item._asdict()) for item in told.things[1:]],
        "libvirt.connection.uri": told.uri,
        "libvirt.parent": told.parent,
        "libvirt.calls": told.how_many,
        "libvirt.verdict": told.verdict,
        "libvirt.daemon": _daemon(told.daemon) if told.daemon else None,
        "libvirt.claims": dict(told.claims) if told.claims else None,
    }


def _event(told: Audited) -> dict[str, Value]:
    if told.kind == LOSS:
        kind, category, types = "pipeline_error", None, ["error"]
    elif told.kind == DOMAIN:
        kind, category, types = "event", ["host"], [_LIFE.get(told.what, "change")]
    else:
        kind, category, types = "event", ["api"], [_TYPES[told.action or UPDATE]]
        if told.verdict is not None and told.verdict != NOT_ENFORCED:
            types.append("denied" if told.verdict == DENIED else "allowed")
    end = told.until
    if end is None and told.duration_ns is not None:
        end = told.time + told.duration_ns
    return {
        "event.kind": kind,
        "event.category": category,
        "event.type": types,
        "event.action": told.what,
        "event.outcome": _OUTCOME[told.success],
        "event.reason": told.reason,
        "event.id": told.id,
        "event.module": "libvirt",
        "event.dataset": "libvirt.trace",
        "event.provider": f"libvirt-trace {VERSION}",
        "event.start": rfc3339(told.time),
        "event.end": None if end is None else rfc3339(end),
        "event.duration": told.duration_ns,
    }


def _who(who: Who) -> dict[str, Value]:
    return {
        "user.id": _id(who.uid),
        "user.name": who.account,
        "process.pid": who.pid,
        "process.name": who.program,
        "process.executable": who.exe,
        "process.args": None if who.cmdline is None else list(who.cmdline),
        "process.command_line": None if who.cmdline is None else shlex.join(who.cmdline),
        "process.real_user.id": _id(who.real_uid),
        "container.id": who.container,
        "source.address": who.address,
        "source.ip": who.ip,
        "source.port": who.port,
        "libvirt.login.id": _id(who.loginuid),
        "libvirt.login.session": who.session,
        "libvirt.unit": who.unit,
        "libvirt.sasl": who.sasl,
        "libvirt.x509": who.x509,
    }


def _daemon(daemon: Who) -> Value:
    return nested(
        {"pid": daemon.pid, "executable": daemon.exe, "user.id": _id(daemon.uid),
         "unit": daemon.unit, "container": daemon.container}
    )  # fmt: skip


def _related(told: Audited) -> list[Value]:
    """Every user that the event names."""
    names = [who.account for who in (told.who, told.daemon) if who is not None]
    return list(dict.fromkeys(name for name in names if name))


def _id(number: int | None) -> str | None:
    return None if number is None else str(number)
