# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd is told that the service is ready, alive and at its end; nobody else is waited for."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from log.sinks import service


@pytest.fixture(params=["file", "abstract"])
def systemd(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        if request.param == "file":
            address = str(tmp_path / "notify")
            heard.bind(address)
        else:
            address = "@" + str(tmp_path / "notify")
            heard.bind("\0" + address[1:])
        heard.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield heard


def told(heard: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(heard.recv(1000).decode())
        except BlockingIOError:
            return found


def test_a_service_lives(systemd: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    now, well = [100.0], [True]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    sink = service.Service(lambda: well[0], lambda: "23 calls")
    sink.tick(0)
    sink.write([])
    sink.write([])
    sink.tick(0)  # too early for another sign of life
    now[0] += 60
    well[0] = False
    sink.tick(0)  # a thread is gone: systemd is to find out
    sink.close()
    alive = "WATCHDOG=1\nSTATUS=23 calls"
    assert told(systemd) == [alive, "READY=1", "STOPPING=1"]


def test_without_systemd_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    service.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    service.notify("READY=1")
