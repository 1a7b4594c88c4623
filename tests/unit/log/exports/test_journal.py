# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is told to the journal, read by a receiver that knows its protocol and nothing else of
ours.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.client import Client
from log.errors import TraceError
from log.events import CallError, DomainEvent, Event, Gap, VerdictInfo
from log.exports.journal import Journal, encoded
from log.exports.told import MESSAGE_IDS, is_told, told_of
from log.sinks.exporter import Unsent
from log.values import Handle, Values
from tests.needs import PATIENCE, ROOT
from tests.unit.log_samples import (
    ATTACHED,
    CALLER,
    CONNECT,
    DESTROY,
    END,
    HOSTILE,
    LOST,
    NS,
    START,
    UNATTACHED,
    UUID,
    WEB1,
    any_text,
    call_on,
)

ENDED = DomainEvent(START, 7, "libvirtd", CALLER, WEB1, "stopped", "destroyed", "41207-1")
DENIED = DESTROY._replace(
    ret=-1, failed=True, duration_ns=None, verdict=VerdictInfo("deny", "keep-web", "no")
)


def fields_of(entry: bytes) -> dict[str, str]:
    """An entry as the protocol has it."""
    found = {}
    while entry:
        line, _, rest = entry.partition(b"\n")
        key, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, end, rest = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            assert end == b"\n"
        assert key.decode().replace("_", "").isalnum() and key.isupper() and key[:1] != b"_"
        assert key.decode() not in found
        found[key.decode()] = value.decode()
        entry = rest
    return found


class Receiver:
    """The journal's end."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(20 * PATIENCE)

    def entry(self) -> dict[str, str]:
        """The next one, as a datagram or a sealed file."""
        data, more, _, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        if not data:
            ((_, _, packed),) = more
            (fd,) = array.array("i", packed)
            with open(fd, "rb") as file:
                with pytest.raises(PermissionError):
                    os.pwrite(fd, b"x", 0)
                file.seek(0)
                data = file.read()
        return fields_of(data)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def receiver(place: Path) -> Iterator[Receiver]:
    made = Receiver(place)
    yield made
    made.socket.close()


def test_entry_of_a_call_says_who_what_and_how(receiver: Receiver, place: Path):
    journal = Journal(str(place), live=True)
    error = CallError(55, "VIR_ERR_OPERATION_INVALID", "VIR_FROM_QEMU", "domain is not running")
    client = Client(pid=77, uid=1000, user="alice")
    journal.send(
        "here", [DESTROY._replace(error=error, failed=True, ret=-1, client=client), DENIED]
    )
    failed, denied = receiver.entry(), receiver.entry()
    assert failed == {
        "MESSAGE": failed["MESSAGE"],
        "MESSAGE_ID": MESSAGE_IDS["write"],
        "PRIORITY": "5",
        "SYSLOG_FACILITY": "10",
        "SYSLOG_IDENTIFIER": "libvirt-trace",
        "OBJECT_PID": "41207",
        "LIBVIRT_EVENT": "write",
        "LIBVIRT_TIME": "2023-11-15T09:24:11.403660789Z",
        "LIBVIRT_ID": f"41207-{START}",
        "LIBVIRT_PID": "41207",
        "LIBVIRT_COMM": "virsh",
        "LIBVIRT_EXE": "/usr/bin/virsh",
        "LIBVIRT_UID": "0",
        "LIBVIRT_USER": "root",
        "LIBVIRT_LOGINUID": "1000",
        "LIBVIRT_FUNCTION": "virDomainDestroyFlags",
        "LIBVIRT_OUTCOME": "failed",
        "LIBVIRT_DURATION_NS": "4100000",
        "LIBVIRT_OBJECT": "web1",
        "LIBVIRT_OBJECT_TYPE": "domain",
        "LIBVIRT_DOMAIN_NAME": "web1",
        "LIBVIRT_DOMAIN_UUID": UUID,
        "LIBVIRT_ERROR": "VIR_ERR_OPERATION_INVALID",
        "LIBVIRT_ERROR_MESSAGE": "domain is not running",
        "LIBVIRT_CLIENT_PID": "77",
        "LIBVIRT_CLIENT_UID": "1000",
        "LIBVIRT_CLIENT_USER": "alice",
    }
    assert "virDomainDestroyFlags(domain=web1" in failed["MESSAGE"]
    assert denied["LIBVIRT_RULE"] == "keep-web" and denied["LIBVIRT_OUTCOME"] == "denied"
    assert denied["PRIORITY"] == "4" and denied["MESSAGE_ID"] == MESSAGE_IDS["denied"]
    journal.close()


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (DESTROY, "write"),
        (DESTROY._replace(write=False), None),
        (DESTROY._replace(parent="1-2"), None),
        (DENIED._replace(parent="1-2"), "denied"),
        (DENIED._replace(write=False), "denied"),
        (ENDED, "ended"),
        (ENDED._replace(event="started"), None),
        (LOST, "lost"),
        (Gap(START, START + NS, "killed"), "gap"),
        (UNATTACHED, "unattached"),
        (END, "end"),
        (ATTACHED, None),
    ],
)
def test_changes_denials_losses_and_ends_are_told(event: Event, kind: str | None):
    assert is_told(event) == (kind is not None)
    if kind:
        told = told_of(event)
        assert told.kind == kind and told.message and "\n" not in told.message
        assert all(told.fields.values())


def test_long_entry_is_handed_over_in_memory(receiver: Receiver, place: Path):
    journal = Journal(str(place), live=False)
    journal.send("there", [call_on("x" * 400_000)])
    entry = receiver.entry()
    assert entry["LIBVIRT_OBJECT"] == "x" * 400_000
    assert entry["LIBVIRT_HOST"] == "there" and "OBJECT_PID" not in entry
    journal.close()


@given(name=any_text | st.just(HOSTILE), user=any_text)
def test_hostile_text_stays_in_its_field_and_on_its_line(name: str, user: str):
    caller = CALLER._replace(user=user, exe=name)
    about = Handle("domain", {"name": name, "uuid": UUID})
    event = DESTROY._replace(caller=caller, args=Values({"domain": about}), comm=name)
    told = told_of(event)
    entry = {"MESSAGE": told.message, **{key.upper(): text for key, text in told.fields.items()}}
    assert fields_of(encoded(entry)) == entry
    assert not any("\n" in text or "\x1b" in text for text in entry.values())


def test_several_lines_are_told_with_their_length():
    assert encoded({"A": "1\n2", "B": "3"}) == b"A\n\3\0\0\0\0\0\0\0001\n2\nB=3\n"


def test_journal_that_does_not_read_or_is_gone_is_waited_for_elsewhere(
    receiver: Receiver, place: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("log.exports.journal._PATIENCE", 0.05)
    journal = Journal(str(place), live=True)
    with pytest.raises(Unsent, match="it does not read") as caught:
        journal.send("here", [CONNECT_CALL] * 10_000)
    taken = caught.value.taken
    assert 0 < taken < 10_000
    journal.anchor("nobody waits for this")
    for _ in range(taken):
        receiver.entry()
    receiver.socket.close()
    with pytest.raises(Unsent, match="connection refused"):
        journal.send("here", [DESTROY])
    place.unlink()
    with pytest.raises(Unsent, match="no such file"):
        journal.send("here", [DESTROY])
    with pytest.raises(TraceError, match="there is no journal here"):
        Journal(str(place), live=True)


CONNECT_CALL = DESTROY._replace(args=Values({"conn": CONNECT}))


def test_catalog_explains_each_kind():
    catalog = (ROOT / "libvirt-trace.catalog").read_text()
    ids = [line[3:] for line in catalog.splitlines() if line.startswith("-- ")]
    assert sorted(ids) == sorted(MESSAGE_IDS.values())
