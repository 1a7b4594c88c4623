# SPDX-License-Identifier: LGPL-2.1-or-later
"""A URL comes in; bodies are posted there over HTTP or TLS, and what became of each is told.

Nothing is followed elsewhere, what is read has a limit, and a request has an end. Secrets of a URL
are never shown.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import gzip
import http.client
import json
import os
import socket
import ssl
import threading
import time
from urllib.parse import SplitResult, unquote, urlsplit

from log import VERSION
from log.errors import TraceError, UsageError
from log.quote import name as shown
from log.sinks.exporter import Refused, Unsent

_PATIENCE = 10.0  # s that an answer may be silent
_WHOLE = 30.0  # s that a request may take
_ANSWER_MAX = 1 << 16  # bytes that are read of an answer
_LATER = (408, 429, 502, 503, 504)
_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
_CERTIFICATE = "OTEL_EXPORTER_OTLP_CERTIFICATE"
_CLIENT = ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_KEY")


class Endpoint:
    """Where bodies are posted to. Its settings beside the URL are those environment variables that
    OpenTelemetry has for them.
    """

    def __init__(self, url: str) -> None:
        """TraceError for what is no URL, or a certificate that can't be read."""
        parts = _split(url)
        self.label = _label(parts)
        self._parts = parts
        files = map(os.environ.get, (_CERTIFICATE, *_CLIENT))
        self._tls = tls_context(*files) if parts.scheme == "https" else None
        self._headers = {
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "User-Agent": f"libvirt-trace/{VERSION}",
            **_given_headers(),
        }
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: bytes) -> bytes:
        """Have it taken; what was answered. Unsent or Refused."""
        parts = self._parts
        target = parts.path.rstrip("/") + path + (f"?{parts.query}" if parts.query else "")
        connection = self._connection or self._connect()
        late = threading.Event()
        end = threading.Timer(_WHOLE, _cut, (connection, late))
        end.daemon = True
        end.start()
        try:
            connection.request("POST", target, gzip.compress(body, 3), self._headers)
            answer = connection.getresponse()
            content = answer.read(_ANSWER_MAX + 1)
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise Unsent(f"its certificate does not fit: {error.verify_message}") from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unsent(reason(error)) from None
        finally:
            end.cancel()
        if late.is_set() or (answer.length and len(content) <= _ANSWER_MAX):
            self.close()
            raise Unsent("its answer is cut off")
        if answer.will_close or len(content) > _ANSWER_MAX or not answer.isclosed():
            self.close()
        if 200 <= answer.status < 300:
            return content
        if answer.status in _LATER:
            raise Unsent(f"HTTP {answer.status}", _after(answer.getheader("Retry-After")))
        if 300 <= answer.status < 400:
            raise Refused(f"HTTP {answer.status}: it names another place, which is not followed")
        raise Refused(f"HTTP {answer.status}")

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        parts = self._parts
        assert parts.hostname
        if self._tls is not None:
            self._connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=_PATIENCE, context=self._tls
            )
        else:
            self._connection = http.client.HTTPConnection(
                parts.hostname, parts.port, timeout=_PATIENCE
            )
        return self._connection


def refused_in(answer: bytes) -> tuple[int, str]:
    """How many items an answer says were not taken, and why."""
    try:
        partial = json.loads(answer or b"{}").get("partialSuccess") or {}
        count = max(int(partial.get("rejectedSpans") or partial.get("rejectedLogRecords") or 0), 0)
        return count, str(partial.get("errorMessage") or "not told why")[:200]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return 0, ""


def tls_context(file: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """How the other end is checked (None: by what this host trusts), and what is shown to it.
    TraceError.
    """
    try:
        context = ssl.create_default_context(cafile=file or None)
        if certificate:
            context.load_cert_chain(certificate, key or None)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror or str(error)
        named = file if not certificate else f"{file or ''} {certificate}".strip()
        raise TraceError(f"{shown(named or '')}: can't be read: {why.lower()}") from None
    return context


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        whole = bool(parts.scheme in ("http", "https") and parts.hostname)
        _ = parts.port  # ValueError for what is none
    except ValueError:
        whole = False
    if not whole or not url.isprintable() or " " in url:
        raise UsageError("that is no URL of a collector: say https://HOST:4318")
    return parts


def _label(parts: SplitResult) -> str:
    """What may be shown: not who asks, no path and no query."""
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return shown(f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}")


def _given_headers() -> dict[str, str]:
    found = {}
    for pair in os.environ.get(_HEADERS, "").split(","):
        key, equals, value = pair.strip().partition("=")
        if equals:
            found[key.strip()] = unquote(value.strip())
    for key, value in found.items():
        if not (key.isascii() and key.replace("-", "").replace("_", "").isalnum()) or not (
            value.isprintable() and value.isascii()
        ):
            raise TraceError(f"{_HEADERS}: holds what is no header")
    return found


def _after(text: str | None) -> float | None:
    """Seconds that Retry-After asks for, or until the time that it says."""
    if not text:
        return None
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def reason(error: OSError | http.client.HTTPException) -> str:
    """Without what the other end has said: it may be anything."""
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, http.client.HTTPException):
        return "its answer is no answer of HTTP, or is cut off"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}"
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    return (error.strerror or type(error).__name__).lower()


def _cut(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    """End a request that takes too long."""
    late.set()
    with contextlib.suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)
