# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events come in; spans and log records go to a collector of OpenTelemetry, over HTTP.

An event waits for the call that caused it, since only the outermost one tells which trace it is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from log.events import Call, Command, DomainEvent, Event, Gap, Lost, Unattached, call_id
from log.exports.endpoint import Endpoint, refused_in
from log.filters.about import is_denied
from log.render.otlp import (
    Node,
    node_of_call,
    node_of_change,
    node_of_command,
    node_of_denial,
    node_of_notice,
    requests,
    span_id,
    trace_id,
)
from log.sinks.exporter import Refused

MOST_HELD, ROOM = 20_000, 32 << 20  # events that wait, characters of their attributes


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
            node = node_of_command(host, event)
            self._now = max(self._now, node.ended)
            self._put(event.parent, node)
        elif type(event) is DomainEvent:
            self._put(event.parent, node_of_change(host, event))
        else:
            self._ready.append(node_of_notice(host, event))

    def _add_call(self, call: Call) -> None:
        id = call_id(call.tid, call.time)
        node = node_of_call(self._host, call, id)
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
            node.below.append(node_of_denial(self._host, call, id))
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
        self._requests += requests(self._host, nodes)
