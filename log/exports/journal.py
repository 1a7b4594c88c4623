# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events come in; entries of systemd's journal go out, by its native protocol.

Own code: python3-systemd would wait for a journal that does not read, and knows one socket only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Mapping, Sequence

from log.errors import TraceError
from log.events import Event
from log.exports.told import AUTHPRIV, INFO, MESSAGE_IDS, Told, is_told, told_of
from log.quote import name
from log.sinks.exporter import Unsent

SOCKET = "/run/systemd/journal/socket"
_PATIENCE = 2.0  # s
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class Journal:
    """The target. `live`: processes are those of now, so the journal may look at them itself."""

    def __init__(self, where: str, *, live: bool) -> None:
        """`where`: the socket; "": systemd's. TraceError where there is none."""
        self._path = where or SOCKET
        self.label = "the journal" if self._path == SOCKET else name(self._path)
        self._live = live
        if not os.path.exists(self._path):
            raise TraceError(f"{name(self._path)}: there is no journal here; leave the export out")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_PATIENCE)

    resumes = True
    wants = staticmethod(is_told)

    def send(self, host: str | None, events: Sequence[Event]) -> None:
        """Have them in the journal."""
        for taken, event in enumerate(events):
            told = told_of(event)
            fields = _fields_of(told)
            if host is not None and not self._live:
                fields["LIBVIRT_HOST"] = host
            if self._live and told.pid is not None:
                # the journal adds what that process is: its unit, program, login, audit session
                fields["OBJECT_PID"] = str(told.pid)
            self._send(fields, taken)

    def anchor(self, line: str) -> None:
        """A line that a record's end is compared with; where the journal does not read, nobody is
        waited for.
        """
        fields = {
            "MESSAGE": line,
            "MESSAGE_ID": MESSAGE_IDS["anchor"],
            "PRIORITY": str(INFO),
            "SYSLOG_FACILITY": str(AUTHPRIV),
            "SYSLOG_IDENTIFIER": "libvirt-trace",
            "LIBVIRT_EVENT": "anchor",
        }
        with contextlib.suppress(Unsent):
            self._send(fields, 0)

    def flush(self) -> None:
        """Nothing is held back."""

    def holds(self) -> int:
        """None."""
        return 0

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def _send(self, fields: Mapping[str, str], taken: int) -> None:
        data = encoded(fields)
        try:
            try:
                self._socket.sendto(data, self._path)
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                    raise
                self._send_in_memory(data)
        except TimeoutError:
            raise Unsent("it does not read", taken=taken) from None
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise Unsent(why, taken=taken) from None

    def _send_in_memory(self, data: bytes) -> None:
        """An entry that is too long for a datagram: a sealed file in memory is handed over."""
        fd = os.memfd_create("libvirt-trace", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            self._socket.sendmsg(
                [],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd.to_bytes(4, "little"))],
                0,
                self._path,
            )
        finally:
            os.close(fd)


def encoded(fields: Mapping[str, str]) -> bytes:
    """An entry as the journal reads it: what has more than one line is told with its length."""
    parts = []
    for key, text in fields.items():
        data = text.encode(errors="backslashreplace")
        if b"\n" in data:
            parts.append(b"%s\n%s%s\n" % (key.encode(), len(data).to_bytes(8, "little"), data))
        else:
            parts.append(b"%s=%s\n" % (key.encode(), data))
    return b"".join(parts)


def _fields_of(told: Told) -> dict[str, str]:
    return {
        "MESSAGE": told.message,
        "MESSAGE_ID": MESSAGE_IDS[told.kind],
        "PRIORITY": str(told.priority),
        "SYSLOG_FACILITY": str(AUTHPRIV),
        "SYSLOG_IDENTIFIER": "libvirt-trace",
        **{f"LIBVIRT_{key.upper()}": text for key, text in told.fields.items()},
    }
