# SPDX-License-Identifier: LGPL-2.1-or-later
"""What handles are: live objects of libvirt's are read as the kernel reads them, and libvirt
itself says what they are.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.values import CutText, Handle, Unreadable, Value
from probes.internals.layouts import LAYOUTS
from probes.kernel import records
from probes.plans import handles
from probes.plans.builder import Builder
from probes.plans.meaning.captured import Limits
from probes.plans.meaning.objects import FIELDS
from probes.plans.plan import Constants, Plan

OFFSETS = LAYOUTS["gobject"]
SOURCE = records.ENTRY_ARGS
NOWHERE = 0x4141414141414000
api = ctypes.CDLL("libvirt.so.0")


def own(address: int, size: int) -> bytes | None:
    """Our own memory, as far as there is any."""
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        return os.pread(memory, size, address) if address < 1 << 47 else None
    except OSError:
        return None
    finally:
        os.close(memory)


def record(plan: Plan, address: int, sent: set[int]) -> bytes:
    """What the kernel makes of the plan; `sent`: addresses that the thread has told before."""
    fixed, texts, bad, at = bytearray(plan.fixed), b"", 0, 0
    fixed[SOURCE : SOURCE + 8] = address.to_bytes(8, "little")
    while at < len(plan.ops):
        kind, source, target, length, offset, keep, _ = plan.ops[at]
        base = int.from_bytes(fixed[source : source + 8], "little")
        if kind == records.OP_BLOCK:
            found = own(base + offset, length) if base else None
            bad |= (found is None) << at
            fixed[target : target + length] = found or bytes(length)
        elif kind == records.OP_ONCE:
            if base in sent:
                fixed[target : target + 4] = records.STR_SAME.to_bytes(4, "little", signed=True)
                at += length
            sent.add(base)
        else:
            assert kind == records.OP_STRING
            text = own(base, 1) and ctypes.string_at(base)[:keep]
            got = records.STR_UNREADABLE if text is None else len(text)
            fixed[target : target + 4] = got.to_bytes(4, "little", signed=True)
            texts += (text or b"").ljust((got + 8) & ~7, b"\0") if got >= 0 else b""
        at += 1
    fixed[32:36] = bad.to_bytes(4, "little")
    return bytes(fixed) + texts


class Reader:
    """Reads handles of one kind, one after the other in the same thread."""

    def __init__(self, kind: str, *, redact: bool = True) -> None:
        build = Builder(records.ENTRY_FIXED, Limits(256, redact))
        self._plan = build.plan(0, [("it", handles.read_handle(build, SOURCE, kind, OFFSETS))])
        self._sent, self._constants = set[int](), Constants()

    def __call__(self, address: int) -> Value:
        return self._plan.decode(record(self._plan, address, self._sent), {}, self._constants)["it"]


@pytest.fixture(scope="module")
def conn() -> Iterator[libvirt.virConnect]:
    connection = libvirt.open("test:///default")
    yield connection
    connection.close()


def fields(**more: Value) -> dict[str, Value]:
    return {**more, "driver": "Test"}


@pytest.mark.parametrize(
    ("kind", "find"),
    [
        ("domain", lambda conn: conn.lookupByName("test")),
        ("network", lambda conn: conn.networkLookupByName("default")),
        ("pool", lambda conn: conn.storagePoolLookupByName("default-pool")),
    ],
)
def test_what_has_a_name_and_a_uuid(
    conn: libvirt.virConnect, kind: str, find: Callable[[libvirt.virConnect], libvirt.virDomain]
) -> None:
    found, read = find(conn), Reader(kind)
    expected = Handle(kind, fields(name=found.name(), uuid=found.UUIDString()))
    assert read(found.c_pointer()) == expected
    assert read(found.c_pointer()) == expected  # its driver is not sent again


def test_interfaces_and_devices(conn: libvirt.virConnect) -> None:
    interface = conn.interfaceLookupByName("eth1")
    assert Reader("interface")(interface.c_pointer()) == Handle(
        "interface", fields(name="eth1", mac=interface.MACString())
    )
    device = conn.nodeDeviceLookupByName("computer")
    assert Reader("nodedevice")(device.c_pointer()) == Handle(
        "nodedevice", fields(name="computer", parent=device.parent())
    )


def test_what_belongs_to_a_domain(conn: libvirt.virConnect) -> None:
    domain = conn.lookupByName("test")
    snapshot = domain.snapshotCreateXML("<domainsnapshot><name>before</name></domainsnapshot>")
    try:
        assert Reader("snapshot")(snapshot.c_pointer()) == Handle(
            "snapshot", fields(name="before", domain="test")
        )
    finally:
        snapshot.delete()


@pytest.mark.parametrize("is_readonly", [False, True])
def test_connections(is_readonly: bool) -> None:
    connection = (libvirt.openReadOnly if is_readonly else libvirt.open)("test:///default")
    more = {"readonly": True} if is_readonly else {}
    # the driver's name is not its type
    assert (connection.getURI(), connection.getType()) == ("test:///default", "TEST")
    try:
        assert Reader("connect")(connection.c_pointer()) == Handle(
            "connect", {"uri": "test:///default", "driver": "Test", **more}
        )
    finally:
        connection.close()


def test_a_uri_with_a_long_part_is_cut_and_says_so(tmp_path) -> None:
    path = tmp_path.joinpath(*["x" * 200] * 2)
    path.mkdir(parents=True)
    (path / "node.xml").write_text("<node/>")
    uri = f"test://{path}/node.xml"
    connection = libvirt.open(uri)
    try:
        found = Reader("connect")(connection.c_pointer())
        assert isinstance(found, Handle)
        cut = found.fields["uri"]
        assert isinstance(cut, CutText) and cut.text == uri[: len("test://") + 256]
    finally:
        connection.close()


@pytest.mark.parametrize("kind", sorted({*FIELDS, "connect"}))
def test_null_and_what_is_no_memory(kind: str) -> None:
    read = Reader(kind)
    assert (read(0), read(NOWHERE)) == (None, Unreadable(NOWHERE))


# URIs are put together

words = st.text("abcxyz0189-", min_size=1, max_size=8)


@given(
    words,
    st.none() | words,
    st.sampled_from(["", "host", "10.0.0.1", "::1", "fe80::2"]),
    st.integers(0, 65535),
    st.none() | words,
)
def test_the_parts_of_a_uri_are_found_in_it_again(
    scheme: str, user: str | None, server: str, port: int, query: str | None
) -> None:
    scheme = f"s{scheme}"
    parts: dict[str, Value] = {
        "scheme": scheme,
        "user": user,
        "server": server,
        "path": "/system",
        "query": query,
    }
    found = urlsplit(handles.join_uri(parts, port))
    assert (found.scheme, found.path, found.query) == (scheme, "/system", query or "")
    assert (found.username, found.hostname or "") == (user, server)
    assert found.port == (port if server and port else None)


def test_unreadable_parts_are_empty() -> None:
    parts: dict[str, Value] = {
        "scheme": "qemu",
        "user": Unreadable(16),
        "server": None,
        "path": "/system",
        "query": Unreadable(16),
    }
    assert handles.join_uri(parts, -1) == "qemu:///system"
