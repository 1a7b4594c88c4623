# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a service says of itself: its state to systemd, where that has started it, and lines to
the system's log.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence

from log.events import Event

SYSLOG = "/dev/log"
_AUTHPRIV_INFO = 10 << 3 | 6
_EVERY = 5.0  # s between two signs of life


def notify(state: str) -> None:
    """Tell systemd, if it wants to know."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        _send("\0" + address[1:] if address.startswith("@") else address, state.encode())


def log_line(line: str) -> None:
    """A line for the system's log; where there is none, nobody is waited for."""
    _send(SYSLOG, f"<{_AUTHPRIV_INFO}>libvirt-trace[{os.getpid()}]: {line}".encode())


def _send(address: str, data: bytes) -> None:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            connection.setblocking(False)
            connection.connect(address)
            connection.send(data)
    except OSError:
        pass


class Service:
    """The sink that tells systemd how it goes. `is_well`: whether all threads are there;
    `status`: a line about it.
    """

    def __init__(self, is_well: Callable[[], bool], status: Callable[[], str]) -> None:
        self._is_well, self._status = is_well, status
        self._told = 0.0
        self._is_ready = False

    def write(self, events: Sequence[Event]) -> None:
        """The first events are there when probes are attached."""
        if not self._is_ready:
            self._is_ready = True
            notify("READY=1")

    def tick(self, open_calls: int) -> None:
        """A sign of life now and then."""
        now = time.monotonic()
        if now >= self._told + _EVERY and self._is_well():
            self._told = now
            notify(f"WATCHDOG=1\nSTATUS={self._status()}")

    def reopen(self) -> None:
        """Nothing is open."""

    def close(self, given_up: object = None) -> None:
        """It ends as it should."""
        notify("STOPPING=1")
