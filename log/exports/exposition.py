# SPDX-License-Identifier: LGPL-2.1-or-later
"""A page that changes is shown: over HTTP to who asks, or in a file that is replaced now and then.

The standard library's server, with limits: prometheus_client's own has none for slow clients.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import Any, Protocol

from log.errors import TraceError, UsageError
from log.quote import name as shown
from log.sinks.files.whole import write_whole

FILE_SECONDS = 15.0  # between two files
_MOST_CONNECTIONS = 16
_REQUEST_SECONDS = 10.0  # that one may take
_LOOK_AGAIN = 1.0  # s


class Exposition(Protocol):
    """Where the numbers are shown."""

    label: str

    def start(self) -> None:
        """Begin, in a thread."""

    def close(self) -> None:
        """End."""


def is_file(where: str) -> bool:
    """Whether it is no address."""
    return "/" in where or where.endswith(".prom")


def place_of(where: str, text: Callable[[], bytes]) -> Exposition:
    """What shows the numbers there. TraceError."""
    return TextFile(where, text) if is_file(where) else PageServer(where, text)


class TextFile:
    """A file for node_exporter, replaced as a whole."""

    def __init__(self, path: str, text: Callable[[], bytes]) -> None:
        self.label = shown(path)
        self._path, self._text = path, text
        self._ends = threading.Event()
        self._write()  # what is not possible is said at the start

    def start(self) -> None:
        """Write it now and then."""
        threading.Thread(target=self._run, name="libvirt-trace", daemon=True).start()

    def close(self) -> None:
        """The last numbers."""
        self._ends.set()
        self._write_if_possible()

    def _run(self) -> None:
        while not self._ends.wait(FILE_SECONDS):
            self._write_if_possible()

    def _write_if_possible(self) -> None:
        with contextlib.suppress(TraceError):  # an old file tells its age
            self._write()

    def _write(self) -> None:
        write_whole(self._path, [self._text().decode()], mode=0o644)


class PageServer:
    """A server of one page. Whoever is slow or comes in masses is left standing."""

    def __init__(self, where: str, text: Callable[[], bytes]) -> None:
        """TraceError where it can't listen there."""
        host, port = _address(where)
        self.label = shown(where)
        try:
            self._server = _Listening(host, port, text)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise TraceError(f"{shown(where)}: can't listen there: {why}") from None
        self.port = self._server.server_address[1]
        self._started = False

    def start(self) -> None:
        """Answer."""
        self._started = True
        threading.Thread(
            target=lambda: self._server.serve_forever(_LOOK_AGAIN),
            name="libvirt-trace",
            daemon=True,
        ).start()

    def close(self) -> None:
        """Answer no more."""
        if self._started:
            self._server.shutdown()
        self._server.server_close()


def _address(where: str) -> tuple[str, int]:
    host, _, port = where.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
        if not (port.isascii() and port.isdecimal() and int(port) < 1 << 16):
            raise ValueError
    except ValueError:
        raise UsageError(
            f"{where!r} is no address and port: say 127.0.0.1:9179, [::1]:9179, or a file's path"
        ) from None
    return host, int(port)


class _Listening(TCPServer):
    allow_reuse_address = True
    request_queue_size = _MOST_CONNECTIONS

    def __init__(self, host: str, port: int, text: Callable[[], bytes]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.text = text
        self._open: dict[socket.socket, float] = {}  # when to end it (s, monotonic)
        self._lock = threading.Lock()
        super().__init__((host, port), _Page)

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread, if there are not too many."""
        with self._lock:
            if len(self._open) >= _MOST_CONNECTIONS:
                self.shutdown_request(request)
                return
            self._open[request] = time.monotonic() + _REQUEST_SECONDS
        threading.Thread(target=self._answer, args=(request, client_address), daemon=True).start()

    def service_actions(self) -> None:
        """End what takes too long."""
        now = time.monotonic()
        with self._lock:
            late = [request for request, end in self._open.items() if end < now]
        for request in late:
            with contextlib.suppress(OSError):  # it has ended by itself
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever goes away is no mistake."""

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:  # of the client's making: it gets nothing
            pass
        finally:
            with self._lock:
                self._open.pop(request, None)
            self.shutdown_request(request)


class _Page(BaseHTTPRequestHandler):
    server_version = "libvirt-trace"
    sys_version = ""
    timeout = _REQUEST_SECONDS
    server: _Listening

    def do_GET(self) -> None:
        """/metrics, and nothing else."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        from prometheus_client import CONTENT_TYPE_LATEST

        data = self.server.text()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE_LATEST)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is said of requests."""
