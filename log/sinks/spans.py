# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events come in; spans and logs of OpenTelemetry go out, as OTLP in JSON over HTTP.

A call is a span below the call that caused it, in the daemon or the program; its ids are made from
the event's, so what is sent twice is the same. An event waits for the call that caused it, since
only the outermost one tells which trace it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from log import VERSION
from log.asking import command_name
from log.events import (
    Call,
    Caller,
    Command,
    DomainEvent,
    Event,
    Gap,
    Lost,
    Unattached,
    call_id,
)
from log.filter import is_denied, object_of
from log.quote import well_formed
from log.render import jsonl
from log.render.notices import notice
from log.sinks.endpoint import Endpoint, refused_in
from log.sinks.exporter import Refused
from log.values import Handle, Value
from log.why import why

SCHEMA = "https://opentelemetry.io/schemas/1.45.0"
CALLS_WAIT = 10_000_000_000  # ns, for the call that caused them, by the time of events
OTHERS_WAIT = 600_000_000_000
MOST_HELD, ROOM = 20_000, 32 << 20  # events that wait, characters of their attributes
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


class Otlp:
    """The target."""

    resumes = True

    def __init__(self, url: str, *, live: bool) -> None:
        """TraceError for what is no URL."""
        self._endpoint = Endpoint(url)
        self.label = self._endpoint.label
        self._live = live
        self._host: str | None = None
        self._waiting: dict[str, list[Node]] = {}  # by the id of the call that caused them
        self._inner: dict[int, list[Node]] = {}  # calls inside another one, by thread
        self._held = self._size = 0  # events that wait, and characters of theirs
        self._now = 0  # ns: the latest end of an event
        self._ready: list[Node] = []
        self._requests: list[tuple[str, bytes]] = []
        self._taken: Sequence[Event] | None = None  # these are in the requests

    def wants(self, event: Event) -> bool:
        """Calls and questions to monitors, changes of domains, losses."""
        return isinstance(event, Call | Command | DomainEvent | Lost | Gap | Unattached)

    def send(self, host: str | None, events: Sequence[Event]) -> None:
        """Have them at the collector. Unsent or Refused."""
        if events is not self._taken:
            self._post()  # what is left of an earlier batch
            if host != self._host:
                self._release(None)
                self._host = host
            for event in events:
                self._add(event)
            self._release(self._now if events or not self._live else time.time_ns())
            self._make_requests()
            self._taken = events
        self._post()
        self._taken = None

    def flush(self) -> None:
        """Send what waits for calls that were not seen."""
        self._release(None)
        self._make_requests()
        self._post()

    def holds(self) -> int:
        """Events that wait."""
        return self._held

    def close(self) -> None:
        """Let go of the connection."""
        self._endpoint.close()

    def _post(self) -> None:
        refused, whys = 0, ""
        while self._requests:
            path, body = self._requests[0]
            try:
                answer = self._endpoint.post(path, body)
            except Refused:
                self._requests, self._taken = [], None
                raise
            del self._requests[0]
            count, why_not = refused_in(answer)
            refused, whys = refused + count, whys or (why_not if count else "")
        if refused:
            self._taken = None
            raise Refused(f"it has taken not all: {whys}", refused)

    def _add(self, event: Event) -> None:
        host = self._host
        if type(event) is Call:
            self._add_call(event)
        elif type(event) is Command:
            node = _node_of_command(host, event)
            self._now = max(self._now, node.ended)
            self._put(event.parent, node)
        elif type(event) is DomainEvent:
            self._put(event.parent, _node_of_change(host, event))
        else:
            self._ready.append(_node_of_notice(host, event))

    def _add_call(self, call: Call) -> None:
        id = call_id(call.tid, call.time)
        node = _node_of_call(self._host, call, id)
        self._now = max(self._now, node.ended)
        node.below += self._waiting.pop(id, [])
        inner = self._inner.get(call.tid)
        if inner:
            for one in [one for one in inner if one.begun >= call.time]:
                inner.remove(one)
                one.body["parentSpanId"] = span_id(self._host, id)
                node.below.append(one)
        for one in node.below:
            self._count(one, -1)
        if is_denied(call):
            node.below.append(_node_of_denial(self._host, call, id))
        if call.depth:
            self._inner.setdefault(call.tid, []).append(node)
            self._count(node, 1)
        else:
            self._put(call.parent, node, id)

    def _put(self, parent: str | None, node: Node, id: str | None = None) -> None:
        if parent is not None:
            self._waiting.setdefault(parent, []).append(node)
            self._count(node, 1)
        else:
            self._finish(node, id or str(node.body.get("spanId", "")))

    def _finish(self, node: Node, root: str) -> None:
        """It belongs to the trace of that call."""
        trace = trace_id(self._host, root)
        for one in node.all():
            if one.is_span or "spanId" in one.body:
                one.body["traceId"] = trace
            self._ready.append(one)

    def _count(self, node: Node, sign: int) -> None:
        for one in node.all():
            self._held += sign
            self._size += sign * one.size

    def _is_full(self) -> bool:
        return self._held > MOST_HELD or self._size > ROOM

    def _release(self, now: int | None) -> None:
        """What has waited too long, or is too much; None: all."""
        for parent, nodes in list(self._waiting.items()):
            if (
                now is not None
                and not self._is_full()
                and not any(node.ended + node.waits < now for node in nodes)
            ):
                continue
            for node in self._waiting.pop(parent):
                self._count(node, -1)
                self._finish(node, parent)
        for tid, inner in list(self._inner.items()):
            if now is None or self._is_full() or not inner:
                for node in self._inner.pop(tid):
                    self._count(node, -1)
                    self._finish(node, str(node.body["spanId"]))

    def _make_requests(self) -> None:
        nodes, self._ready = self._ready, []
        for is_span, path, key, inner in (
            (True, _TRACES, "resourceSpans", "scopeSpans"),
            (False, _LOGS, "resourceLogs", "scopeLogs"),
        ):
            by_source: dict[Source, list[dict[str, Any]]] = {}
            for node in nodes:
                if node.is_span is is_span:
                    by_source.setdefault(node.source, []).append(node.body)
            if not by_source:
                continue
            leaf = "spans" if is_span else "logRecords"
            groups = [
                {
                    "resource": {"attributes": _attributes(_resource(self._host, source))},
                    inner: [
                        {
                            "scope": {"name": "libvirt-trace", "version": VERSION},
                            leaf: bodies,
                            "schemaUrl": SCHEMA,
                        }
                    ],
                    "schemaUrl": SCHEMA,
                }
                for source, bodies in by_source.items()
            ]
            self._requests.append((path, json.dumps({key: groups}).encode()))


def trace_id(host: str | None, id: str) -> str:
    """Of the trace that a call is the root of."""
    return _digest("trace", host, id)[:32]


def span_id(host: str | None, id: str) -> str:
    """Of an event's span."""
    return _digest("span", host, id)[:16]


def _digest(kind: str, host: str | None, id: str) -> str:
    return hashlib.sha256(f"{kind} {host} {id}".encode(errors="surrogateescape")).hexdigest()


def _node_of_call(host: str | None, call: Call, id: str) -> Node:
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


def _node_of_command(host: str | None, command: Command) -> Node:
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


def _node_of_denial(host: str | None, call: Call, id: str) -> Node:
    assert call.verdict
    found = {**_of_call(call, id), "log.record.uid": id}
    text = f"{call.function} was denied by rule {call.verdict.rule}"
    body = _log(call.time, WARN, "libvirt.denied", text, found)
    body["spanId"] = span_id(host, id)
    return Node(_source(call), False, body, call.time, CALLS_WAIT)


def _node_of_change(host: str | None, event: DomainEvent) -> Node:
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


def _node_of_notice(host: str | None, event: Event) -> Node:
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
