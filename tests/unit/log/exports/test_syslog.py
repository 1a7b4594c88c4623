# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages of syslog: Debian's rsyslog understands each field of them, over TCP and TLS, whatever
names there are; servers that go away or stall lose nothing that was not on its way.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given

from log.errors import TraceError
from log.events import Event, VerdictInfo
from log.exports.syslog import ELEMENT, Syslog, framed, message
from log.exports.told import told_of
from log.sinks.exporter import Unsent
from log.values import Handle, Values
from tests.needs import PATIENCE
from tests.rsyslog import Rsyslog, rsyslog
from tests.unit.log_samples import CALLER, DESTROY, HOSTILE, LOST, START, UUID, any_text, call_on

SOON = 20 * PATIENCE  # s
EVENTS: list[Event] = [
    DESTROY,
    DESTROY._replace(verdict=VerdictInfo("deny", 'say "no" ] \\ '), failed=True, duration_ns=None),
    LOST,
    call_on(HOSTILE),
    call_on('x" ] [evil@1 a="b"'),
    call_on("\u00fcber \u65e5\u672c"),
    call_on("x" * 100_000),
]


def check(server: Rsyslog, url: str) -> None:
    target = Syslog(url)
    target.send("here", EVENTS[:3])
    target.send("here", EVENTS[3:])
    found = server.wait_for(len(EVENTS))
    target.close()
    for one, event in zip(found, EVENTS, strict=True):
        told = told_of(event)
        assert (one["host"], one["app"], one["msgid"]) == ("here", "libvirt-trace", told.kind)
        assert (one["severity"], one["facility"]) == (str(told.priority), "authpriv")
        assert one["time"] == "2023-11-15T09:24:11.403660Z"
        data = json.loads(one["data"]) if isinstance(one["data"], str) else one["data"]
        (params,) = data.values()
        assert set(data) == {ELEMENT}
        for key, value in told.fields.items():
            assert params[key] == (value if len(value) <= 512 else f"{value[:512]}..."), key
        assert one["message"].lstrip(" \ufeff") == (
            told.message if len(told.message) <= 2048 else f"{told.message[:2048]}..."
        )


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_rsyslog_understands_each_field(kind: str, tmp_path: Path, certificate):
    with rsyslog(tmp_path, *certificate) as server:
        if kind == "tcp":
            check(server, f"tcp://127.0.0.1:{server.port}")
            return
        check(server, f"tls://127.0.0.1:{server.tls}?ca={certificate[0]}")
        with pytest.raises(Unsent, match="its certificate does not fit: self-signed"):
            Syslog(f"tls://127.0.0.1:{server.tls}").send("here", [DESTROY])
        with pytest.raises(Unsent, match=r"its certificate does not fit: .*mismatch"):
            Syslog(f"tls://localhost:{server.tls}?ca={certificate[0]}").send("here", [DESTROY])


def test_server_that_comes_back_gets_what_it_did_not_take():
    first = socket.create_server(("127.0.0.1", 0))
    port = first.getsockname()[1]
    target = Syslog(f"tcp://127.0.0.1:{port}")
    events = [DESTROY._replace(time=START + at) for at in range(3)]
    target.send(None, events[:1])
    connection, _ = first.accept()
    whole = framed(message(None, told_of(events[0])))
    assert connection.recv(1 << 16) == whole and b" - libvirt-trace " in whole
    connection.close()
    first.close()
    with pytest.raises(Unsent, match="connection refused") as caught:
        target.send(None, events[1:])
    assert caught.value.taken == 0
    with socket.create_server(("127.0.0.1", port)) as second:
        target.send(None, events[1:])
        connection, _ = second.accept()
        assert connection.recv(1 << 16).startswith(framed(message(None, told_of(events[1]))))
        connection.close()
    target.close()


def test_server_that_stalls_is_left_with_what_it_took(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("log.exports.syslog._PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = Syslog(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(Unsent, match="it does not answer") as caught:
            target.send("here", [call_on("x" * 4000)] * 20_000)
        taken = caught.value.taken
        assert 0 < taken < 20_000
        connection, _ = server.accept()
        data = bytearray()
        reader = threading.Thread(target=lambda: data.extend(connection.makefile("rb").read()))
        reader.start()
        reader.join(SOON)
        one = framed(message("here", told_of(call_on("x" * 4000))))
        assert data.startswith(one * taken)
        connection.close()


@given(any_text, any_text, any_text)
def test_hostile_names_stay_in_their_parameter(name: str, host: str, kind: str):
    about = Handle(kind, {"name": name, "uuid": UUID})
    event = DESTROY._replace(args=Values({"domain": about}), caller=CALLER._replace(user=name))
    data = message(host, told_of(event))
    assert b"\n" not in data and b"\0" not in data
    head, _, rest = data.partition(f" [{ELEMENT}".encode())
    assert len(head.split(b" ")) == 6 and head.isascii()
    inside = rest.decode()
    found = re.match(r'(?: [a-z_]+="(?:[^"\\\]]|\\["\\\]])*")*\] \ufeff', inside)
    assert found and (inside[found.end() :] == told_of(event).message)


@pytest.mark.parametrize("url", ["", "h:601", "udp://h", "tcp://", "tcp://me:pw@h", "tls://h:x"])
def test_what_is_no_server_is_said(url: str):
    with pytest.raises(TraceError, match="that is no syslog server"):
        Syslog(url)


def test_certificate_that_cant_be_read_is_said():
    with pytest.raises(TraceError, match="/nonexistent: can't be read: no such file"):
        Syslog("tls://h?ca=/nonexistent")
