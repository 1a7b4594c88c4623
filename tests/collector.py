# SPDX-License-Identifier: LGPL-2.1-or-later
"""A collector of OpenTelemetry as tests want it: it answers what it is told to, and keeps what it
took. What it took is judged by OpenTelemetry's own definitions, in .venv.
"""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Sequence
from typing import Any

from tests.needs import PATIENCE, ROOT, lack

JUDGE = """
import base64, json, sys
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
KINDS = {"/v1/traces": ExportTraceServiceRequest, "/v1/logs": ExportLogsServiceRequest}
def hexed(data):
    return base64.b64encode(data).decode()
for line in sys.stdin:
    path, body = json.loads(line)
    message = json_format.Parse(body, KINDS[path]())
    assert message.ByteSize()
    for group in getattr(message, "resource_spans", []):
        for scope in group.scope_spans:
            for span in scope.spans:
                # in JSON they are hexadecimal, which the library takes for base64
                assert len(hexed(span.trace_id)) == 32 and len(hexed(span.span_id)) == 16
                assert len(hexed(span.parent_span_id)) in (0, 16)
                assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
                assert span.name and 1 <= span.kind <= 3
                for link in span.links:
                    assert len(hexed(link.trace_id)) == 32 and len(hexed(link.span_id)) == 16
    for group in getattr(message, "resource_logs", []):
        for scope in group.scope_logs:
            for record in scope.log_records:
                assert record.time_unix_nano and record.body.string_value and record.event_name
                assert len(hexed(record.trace_id)) in (0, 32)
"""
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    """An answer of HTTP."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class Collector:
    """It listens; `answers` are for the requests that come, then each gets OK. None: silence; an
    answer that ends with b"..." is cut off there.
    """

    def __init__(
        self, answers: Sequence[bytes | None] = (), context: ssl.SSLContext | None = None
    ) -> None:
        self._answers = list(answers)
        self._context = context
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answered: list[bool] = []  # whether each was told that it was taken
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.port}"
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._listener.shutdown(socket.SHUT_RDWR)  # else it would accept once more
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as file:
                while self._answer(connection, file):
                    pass
        except OSError:
            pass

    def _answer(self, connection: socket.socket, file: Any) -> bool:
        first = file.readline().decode()
        if not first:
            return False
        headers = {}
        while line := file.readline().decode().strip():
            key, _, value = line.partition(":")
            headers[key.lower()] = value.strip()
        body = file.read(int(headers.get("content-length", "0")))
        said = self._answers.pop(0) if self._answers else OK
        self.answered.append(said is not None and said.startswith(b"HTTP/1.1 200"))
        self.requests.append((first.split()[1], headers, gzip.decompress(body)))
        if said is None:
            connection.recv(1)  # until the other end gives up
            return False
        connection.sendall(said.removesuffix(b"..."))
        return not said.endswith(b"...")

    @property
    def taken(self) -> list[tuple[str, Any]]:
        """Paths and bodies of what it said it took."""
        return [
            (path.partition("?")[0], json.loads(body))
            for (path, _, body), ok in zip(self.requests, self.answered, strict=True)
            if ok
        ]

    def spans(self) -> list[dict[str, Any]]:
        """Those that it took, each with its service and its attributes as a dict."""
        return _leaves(self.taken, "resourceSpans", "scopeSpans", "spans")

    def logs(self) -> list[dict[str, Any]]:
        """Likewise."""
        return _leaves(self.taken, "resourceLogs", "scopeLogs", "logRecords")

    def judge(self) -> None:
        """All that was sent is what OpenTelemetry defines."""
        python = ROOT / ".venv" / "bin" / "python"
        if not (ROOT / ".venv" / "otlp").exists():
            lack("unit", "opentelemetry-proto is not installed")
        lines = "".join(
            json.dumps([path.partition("?")[0], body.decode()]) + "\n"
            for path, _, body in self.requests
        )
        done = subprocess.run(
            [python, "-c", JUDGE], input=lines, capture_output=True, text=True,
            timeout=60 * PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def _leaves(
    taken: list[tuple[str, Any]], outer: str, inner: str, leaf: str
) -> list[dict[str, Any]]:
    found = []
    for _, body in taken:
        for group in body.get(outer, ()):
            resource = plain(group["resource"]["attributes"])
            for scope in group[inner]:
                found += [
                    {**item, "attributes": plain(item["attributes"]), "resource": resource}
                    for item in scope[leaf]
                ]
    return found


def plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    """Attributes as a dict."""
    found = {each["key"]: _value(each["value"]) for each in attributes}
    assert len(found) == len(attributes)
    return found


def _value(value: dict[str, Any]) -> Any:
    ((kind, item),) = value.items()
    if kind == "arrayValue":
        return [_value(each) for each in item["values"]]
    return int(item) if kind == "intValue" else item
