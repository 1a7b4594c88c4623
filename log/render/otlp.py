# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event comes in; what OpenTelemetry is told of it goes out: a span of a call or of a question
to a monitor, a log record of anything else, and these as requests of OTLP in JSON.

A call's span is below that of the call that caused it, in the daemon or the program. Ids are made
from the event's and its host's, so what is sent twice is the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from log import VERSION
from log.events import Call, Caller, Command, DomainEvent, Event, Lost, call_id
from log.filters.about import is_denied, object_of
from log.filters.asking import command_name
from log.login import short
from log.quote import well_formed
from log.render import jsonl
from log.render.notices import notice
from log.render.why import why
from log.values import Handle, Value

SCHEMA = "https://opentelemetry.io/schemas/1.45.0"
CALLS_WAIT = 10_000_000_000  # ns, for the call that caused them, by the time of events
OTHERS_WAIT = 600_000_000_000
ARGS_MAX = 16_384  # characters
INTERNAL, SERVER, CLIENT = 1, 2, 3
WARN, INFO = (13, "WARN"), (9, "INFO")
_OK = "VIR_ERR_OK"
_TRACES, _LOGS = "/v1/traces", "/v1/logs"
Attributes = dict[str, Any]
Source = tuple[str, Caller | None]  # what a resource stands for: a service, and its process


@dataclass
class Node:
    """What is sent of an event, and of what it has caused."""

    source: Source
    is_span: bool
    body: dict[str, Any]
    ended: int  # ns since the epoch
    waits: int  # ns
    begun: int = 0  # ns since the epoch
    size: int = 0  # characters of its attributes
    below: list[Node] = field(default_factory=list)

    def all(self) -> Iterator[Node]:
        """It, and all below it."""
        nodes = [self]
        while nodes:
            node = nodes.pop()
            yield node
            nodes += node.below


def requests(host: str | None, nodes: Sequence[Node]) -> Iterator[tuple[str, bytes]]:
    """The path below the collector's, and the body, for spans and for log records; what there is
    none of is not asked for.
    """
    for is_span, path, key, inner, leaf in (
        (True, _TRACES, "resourceSpans", "scopeSpans", "spans"),
        (False, _LOGS, "resourceLogs", "scopeLogs", "logRecords"),
    ):
        by_source: dict[Source, list[dict[str, Any]]] = {}
        for node in nodes:
            if node.is_span is is_span:
                by_source.setdefault(node.source, []).append(node.body)
        scope = {"name": "libvirt-trace", "version": VERSION}
        groups = [
            {
                "resource": {"attributes": _attributes(_resource(host, source))},
                inner: [{"scope": scope, leaf: bodies, "schemaUrl": SCHEMA}],
                "schemaUrl": SCHEMA,
            }
            for source, bodies in by_source.items()
        ]
        if groups:
            yield path, json.dumps({key: groups}).encode()


def trace_id(host: str | None, id: str) -> str:
    """Of the trace that a call is the root of."""
    return _digest("trace", host, id)[:32]


def span_id(host: str | None, id: str) -> str:
    """Of an event's span."""
    return _digest("span", host, id)[:16]


def _digest(kind: str, host: str | None, id: str) -> str:
    return hashlib.sha256(f"{kind} {host} {id}".encode(errors="surrogateescape")).hexdigest()


def node_of_call(host: str | None, call: Call, id: str) -> Node:
    """A call's span; `id`: the call's."""
    ended = call.time + (call.duration_ns or 0)
    kind = INTERNAL
    if not call.depth:
        is_own = call.client is not None and call.client.is_daemon
        kind = CLIENT if call.client is None else INTERNAL if is_own else SERVER
    body: dict[str, Any] = {
        "spanId": span_id(host, id),
        "name": well_formed(call.function),
        "kind": kind,
        "startTimeUnixNano": str(call.time),
        "endTimeUnixNano": str(ended),
        "attributes": _attributes(_of_call(call, id)),
        **_parent(host, call.parent),
    }
    if call.one_of:
        body["links"] = [
            {"traceId": trace_id(host, other), "spanId": span_id(host, other)}
            for other in call.one_of
        ]
    failure = _failure_of(call)
    if failure is not None:
        body["status"] = {"code": 2, "message": well_formed(failure[1])}
    size = sum(len(one["value"].get("stringValue", "")) for one in body["attributes"])
    return Node(_source(call), True, body, ended, CALLS_WAIT, call.time, size)


def _failure_of(call: Call) -> tuple[str, str] | None:
    """What kind of error it is, and what is said of it."""
    if is_denied(call):
        assert call.verdict
        return "denied", call.verdict.message or f"denied by rule {call.verdict.rule}"
    if call.unfinished is not None:
        return "unfinished", call.unfinished
    if not call.failed:
        return None
    if call.error is None:
        return "_OTHER", ""
    return call.error.name or str(call.error.code), call.error.message or ""


def _of_call(call: Call, id: str) -> Attributes:
    failure = _failure_of(call)
    about = object_of(call)
    found: Attributes = {
        "rpc.system.name": "libvirt",
        "rpc.method": call.function,
        "rpc.response.status_code": failure[0] if failure else _OK,
        "error.type": failure[0] if failure else None,
        "thread.id": call.tid,
        "thread.name": call.comm,
        "libvirt.id": id,
        "libvirt.write": call.write,
        "libvirt.depth": call.depth or None,
        "libvirt.unfinished": call.unfinished,
        "libvirt.args": _json_of(None if call.args is None else call.args.values),
    }
    if call.failed is None and failure is None:
        found["rpc.response.status_code"] = None  # what would tell was lost
    if about is not None:
        found |= _of_object(about)
    if call.verdict is not None:
        found |= {
            "libvirt.verdict": call.verdict.action,
            "libvirt.rule": call.verdict.rule or None,
        }
    if call.client is not None:
        client = call.client
        found |= {
            "libvirt.client.user": client.name,
            "libvirt.client.pid": client.pid,
            "libvirt.client.exe": client.exe,
            "libvirt.client.session": client.session and short(client.session.fields()),
            "client.address": client.address,
        }
    return found


def _of_object(about: Handle) -> Attributes:
    return {
        "libvirt.object.type": about.type,
        "libvirt.object.name": _plain(about.label),
        "libvirt.object.uuid": _plain(about.fields.get("uuid")),
        "libvirt.driver": _plain(about.fields.get("driver")),
    }


def node_of_command(host: str | None, command: Command) -> Node:
    """The span of a question to a monitor or an agent."""
    id = call_id(command.tid, command.time)
    ended = command.time + (command.duration_ns or 0)
    what = command_name(command.text) or "command"
    found: Attributes = {
        "rpc.system.name": "qmp" if not command.to_agent else "qemu-ga",
        "rpc.method": what,
        "error.type": "unanswered" if command.duration_ns is None else None,
        "libvirt.id": id,
        "libvirt.command": _json_of(command.text),
    }
    body = {
        "spanId": span_id(host, id),
        "name": well_formed(what),
        "kind": SERVER,
        "startTimeUnixNano": str(command.time),
        "endTimeUnixNano": str(ended),
        "attributes": _attributes(found),
        **_parent(host, command.parent),
    }
    source = ("qemu-guest-agent" if command.to_agent else "qemu", None)
    size = len(str(found["libvirt.command"]))
    return Node(source, True, body, ended, OTHERS_WAIT, command.time, size)


def node_of_denial(host: str | None, call: Call, id: str) -> Node:
    """The log record of a call that was denied, beside its span."""
    assert call.verdict
    found = {**_of_call(call, id), "log.record.uid": id}
    text = f"{call.function} was denied by rule {call.verdict.rule}"
    body = _log(call.time, WARN, "libvirt.denied", text, found)
    body["spanId"] = span_id(host, id)
    return Node(_source(call), False, body, call.time, CALLS_WAIT)


def node_of_change(host: str | None, event: DomainEvent) -> Node:
    """The log record of what has become of a domain."""
    id = call_id(event.tid, event.time)
    found: Attributes = {
        "log.record.uid": id,
        "libvirt.id": id,
        "libvirt.domain.event": event.event,
        "libvirt.domain.detail": event.detail,
        "libvirt.cause": event.cause,
        **_of_object(event.domain),
    }
    text = f"{_plain(event.domain.label)} {event.event}: {event.detail}, {why(event)}"
    severity = WARN if event.event == "crashed" else INFO
    body = _log(event.time, severity, "libvirt.domain", text, found)
    if event.parent is not None:
        body["spanId"] = span_id(host, event.parent)
    return Node(_source(event), False, body, event.time, OTHERS_WAIT)


def node_of_notice(host: str | None, event: Event) -> Node:
    """The log record of what is missing."""
    line = jsonl.line(event)
    found: Attributes = {"log.record.uid": _digest("notice", host, line)[:32]}
    if type(event) is Lost:
        found |= {"libvirt.lost.count": event.count, "libvirt.lost.ring": event.ring}
    kind = f"libvirt.{type(event).__name__.lower()}"
    body = _log(event.time, WARN, kind, notice(event), found)
    return Node(("libvirt-trace", None), False, body, event.time, 0)


def _log(ns: int, severity: tuple[int, str], kind: str, text: str, found: Attributes) -> Attributes:
    return {
        "timeUnixNano": str(ns),
        "observedTimeUnixNano": str(ns),
        "severityNumber": severity[0],
        "severityText": severity[1],
        "eventName": kind,
        "body": {"stringValue": well_formed(text)},
        "attributes": _attributes(found),
    }


def _parent(host: str | None, parent: str | None) -> dict[str, str]:
    return {} if parent is None else {"parentSpanId": span_id(host, parent)}


def _source(event: Call | DomainEvent) -> Source:
    return os.path.basename(event.caller.exe or "") or event.comm, event.caller


def _resource(host: str | None, source: Source) -> Attributes:
    service, caller = source
    found: Attributes = {"service.name": service or "unknown", "host.name": host}
    if caller is not None:
        found |= {
            "process.pid": caller.pid,
            "process.parent_pid": caller.ppid,
            "process.executable.path": caller.exe,
            "process.executable.name": os.path.basename(caller.exe) if caller.exe else None,
            "process.command_args": caller.cmdline,
            "process.owner": caller.user,
            "process.user.id": caller.uid,
            "process.real_user.id": caller.real_uid,
            "container.id": caller.container,
            "libvirt.loginuid": caller.loginuid,
            "libvirt.unit": caller.unit,
            "libvirt.session": caller.session and short(caller.session.fields()),
        }
    return found


def _json_of(value: Value | Mapping[str, Value]) -> str | None:
    if value is None:
        return None
    text = jsonl.value(dict(value) if isinstance(value, Mapping) else value)
    return text if len(text) <= ARGS_MAX else f"{text[:ARGS_MAX]}..."


def _plain(value: Value) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def _attributes(found: Attributes) -> list[dict[str, Any]]:
    return [{"key": key, "value": _any(value)} for key, value in found.items() if value is not None]


def _any(value: Any) -> dict[str, Any]:
    return _ANY[type(value)](value)


_ANY: dict[type, Callable[[Any], dict[str, Any]]] = {
    bool: lambda value: {"boolValue": value},
    int: lambda value: {"intValue": str(value)},
    str: lambda value: {"stringValue": well_formed(value)},
    tuple: lambda value: {"arrayValue": {"values": [_any(item) for item in value]}},
}
