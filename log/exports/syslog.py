# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events come in; messages of syslog (RFC 5424) with structured data go out, each with its length
before it (RFC 5425, 6587), over TCP or TLS.

Own code: the standard library's handler knows neither of these, and no other is packaged.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from urllib.parse import SplitResult, parse_qs, urlsplit

from log.errors import UsageError
from log.events import Event
from log.exports.endpoint import reason, tls_context
from log.exports.told import AUTHPRIV, Told, is_told, told_of
from log.moments import rfc3339
from log.quote import name as shown
from log.quote import well_formed
from log.sinks.exporter import Unsent

PORTS = {"tcp": 601, "tls": 6514}
# a number for examples (RFC 5612), as there is none for this program
ELEMENT = "libvirt-trace@32473"
_PATIENCE = 10.0  # s
_VALUE_MAX, _MESSAGE_MAX = 512, 2048  # characters: servers take 8 KiB in all, as they come
_NOTHING = "-"


class Syslog:
    """The target."""

    resumes = True
    wants = staticmethod(is_told)

    def __init__(self, url: str) -> None:
        """`url`: tcp://HOST:PORT or tls://HOST:PORT?ca=FILE&cert=FILE&key=FILE. TraceError."""
        parts = _split(url)
        assert parts.hostname
        self._host, self._port = parts.hostname, parts.port or PORTS[parts.scheme]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.label = shown(f"{parts.scheme}://{host}:{self._port}")
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "tls":
            files = {key: values[-1] for key, values in parse_qs(parts.query).items()}
            self._tls = tls_context(files.get("ca"), files.get("cert"), files.get("key"))
        self._connection: socket.socket | None = None

    def send(self, host: str | None, events: Sequence[Event]) -> None:
        """Have them taken, as far as TCP tells. Unsent."""
        taken = 0
        try:
            connection = self._connected()
            for event in events:
                connection.sendall(framed(message(host, told_of(event))))
                taken += 1
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise Unsent(
                f"its certificate does not fit: {error.verify_message}", taken=taken
            ) from None
        except OSError as error:
            self.close()
            raise Unsent(reason(error), taken=taken) from None

    def flush(self) -> None:
        """Nothing is held back."""

    def holds(self) -> int:
        """None."""
        return 0

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> socket.socket:
        connection = self._connection
        if connection is not None and _is_over(connection):
            self.close()
            connection = None
        if connection is None:
            connection = socket.create_connection((self._host, self._port), _PATIENCE)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_hostname=self._host)
            self._connection = connection
        return connection


def message(host: str | None, told: Told) -> bytes:
    """A message, without its length."""
    priority = AUTHPRIV << 3 | told.priority
    time = f"{rfc3339(told.time)[:-4]}Z"  # microseconds are the most there may be
    head = (
        f"<{priority}>1 {time} {_word(host, 255)} libvirt-trace {os.getpid()} {told.kind} "
        f"[{ELEMENT}{_params(told.fields)}]"
    )
    return head.encode() + b" \xef\xbb\xbf" + _cut(told.message, _MESSAGE_MAX).encode()


def framed(data: bytes) -> bytes:
    """With its length before it."""
    return b"%d %s" % (len(data), data)


def _params(fields: Mapping[str, str]) -> str:
    parts = []
    for key, value in fields.items():
        value = _cut(value, _VALUE_MAX)
        for special in '\\"]':
            value = value.replace(special, f"\\{special}")
        parts.append(f' {key}="{value}"')
    return "".join(parts)


def _cut(text: str, most: int) -> str:
    return well_formed(text if len(text) <= most else f"{text[:most]}...")


def _word(text: str | None, most: int) -> str:
    """Printable ASCII without spaces."""
    found = "".join(each for each in text or "" if "!" <= each <= "~")[:most]
    return found or _NOTHING


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # ValueError for what is none
        whole = parts.scheme in PORTS and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        whole = False
    if not whole:
        raise UsageError("that is no syslog server: say tcp://HOST:601 or tls://HOST:6514")
    return parts


def _is_over(connection: socket.socket) -> bool:
    """Whether the other end has closed it: what is sent then would be gone."""
    connection.setblocking(False)
    try:
        return not connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(_PATIENCE)
