# SPDX-License-Identifier: LGPL-2.1-or-later
"""Object layouts: what is chosen for real and made-up libraries, and whether live objects keep
their fields there.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import libvirt
import pytest

from probes.internals.elf import read_elf
from probes.internals.gobject import EVIDENCE
from probes.internals.layouts import LAYOUTS, choose_layout
from probes.kernel.machines.x86_64 import displacements

HOST = "/usr/lib/x86_64-linux-gnu"
GOBJECT = LAYOUTS["gobject"]

# libvirt's checks and accessors in small; BASE stands for what every object begins with
SOURCE = """
#define NULL ((void *)0)
extern int virObjectIsClass(void *object, void *klass);
extern int g_object_ref(void *object);
struct connect { char base[BASE]; char lock[40]; unsigned int flags; void *uri;
	struct driver *driver; };
struct driver { const char *name; int (*suspend)(void *domain); };
struct domain { char base[BASE]; struct connect *conn; BEFORE char *name; int id;
	unsigned char uuid[16]; };
#define CHECK(d, r) if (!virObjectIsClass(d, 0) || !virObjectIsClass((d)->conn, 0)) return r
const char *virDomainGetName(struct domain *d) { CHECK(d, NULL); return d->name; }
unsigned int virDomainGetID(struct domain *d) { CHECK(d, -1); return d->id; }
int virDomainGetUUID(struct domain *d, unsigned char *uuid) { CHECK(d, -1);
	__builtin_memcpy(uuid, d->uuid, 16); return 0; }
int virDomainSuspend(struct domain *d) {
    CHECK(d, -1);
    g_object_ref(d);
    if (d->conn->flags & 1) return -1;
    return d->conn->driver->suspend(d);
}
"""


def layout_of(path: Path | str):
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return choose_layout(read_elf(fd, str(path)), fd)
    finally:
        os.close(fd)


def build(folder: Path, base: int, *flags: str, before: str = "") -> Path:
    (folder / "lib.c").write_text(SOURCE.replace("BEFORE", before))
    output = folder / "lib.so"
    subprocess.run(
        [
            "gcc",
            "-O2",
            "-shared",
            "-fPIC",
            f"-DBASE={base}",
            *flags,
            "-o",
            output,
            folder / "lib.c",
        ],
        check=True,
    )
    return output


@pytest.mark.parametrize("library", ["libvirt.so.0", "libvirt-qemu.so.0", "libvirt-lxc.so.0"])
def test_installed_libraries_have_gobject(library):
    layout = layout_of(f"{HOST}/{library}")
    assert (layout.name, layout.reason, layout.offsets) == ("gobject", None, GOBJECT)


def test_installed_library_agrees_in_every_function():
    fd = os.open(f"{HOST}/libvirt.so.0", os.O_RDONLY | os.O_CLOEXEC)
    elf = read_elf(fd, "libvirt.so.0")
    known = {function.name: function for function in elf.functions if function.name in EVIDENCE}
    assert set(EVIDENCE) - set(known) == {
        "virDomainQemuMonitorCommand",
        "virDomainLxcOpenNamespace",
    }
    for name, function in known.items():
        found = displacements(os.pread(fd, function.size, function.offset))
        for place in EVIDENCE[name]:
            kind, field = place.split(".")
            assert GOBJECT[kind][field] in found, (name, place)
    os.close(fd)


@pytest.mark.parametrize(
    "flags",
    [("-O2",), ("-O0",), ("-Os",), ("-O3", "-mavx2"), ("-O2", "-fno-omit-frame-pointer")],
    ids=" ".join,
)
@pytest.mark.parametrize(("base", "name"), [(24, "gobject"), (16, "base16")])
def test_size_of_the_base_is_seen_in_the_code(tmp_path, base, name, flags):
    layout = layout_of(build(tmp_path, base, *flags))
    assert (layout.name, layout.reason) == (name, None)
    assert layout.offsets["domain"]["name"] == base + 8
    assert layout.offsets["connect"]["driver"] == base + 56


@pytest.mark.parametrize(("base", "before"), [(32, ""), (24, "long more;"), (8, "")])
def test_unknown_layout_is_said(tmp_path, base, before):
    layout = layout_of(build(tmp_path, base, before=before))
    assert layout.name is None
    assert "unknown layout (going by virDomain" in layout.reason
    assert layout.offsets == {}


def test_other_processors_are_said(tmp_path):
    layout = layout_of(build(tmp_path, 16, "-m32", "-nostdlib"))
    assert layout.name is None
    assert "32-bit" in layout.reason
    fd = os.open(f"{HOST}/libvirt.so.0", os.O_RDONLY | os.O_CLOEXEC)
    layout = choose_layout(read_elf(fd, "x")._replace(machine="aarch64"), fd)
    os.close(fd)
    assert layout.name is None
    assert layout.reason and "aarch64" in layout.reason


def test_library_without_accessors_is_said():
    layout = layout_of(f"{HOST}/libvirt-admin.so.0")
    assert layout.name is None
    assert "none of the functions" in layout.reason


# Live objects: what the public accessors say must be where the layout says.

api = ctypes.CDLL("libvirt.so.0")
POINTER, TEXT = ctypes.c_void_p, ctypes.c_char_p


def ask(function: str, result: type | None, *arguments):
    call = getattr(api, function)
    call.restype, call.argtypes = (
        result,
        [POINTER if isinstance(a, int) else TEXT for a in arguments],
    )
    return call(*arguments)


def ask_uuid(function: str, pointer: int) -> bytes:
    buffer = ctypes.create_string_buffer(16)
    assert ask(function, ctypes.c_int, pointer, ctypes.addressof(buffer)) == 0
    return buffer.raw


def pointer_at(pointer: int, kind: str, field: str) -> int:
    return POINTER.from_address(pointer + GOBJECT[kind][field]).value or 0


def number_at(pointer: int, kind: str, field: str) -> int:
    return ctypes.c_int.from_address(pointer + GOBJECT[kind][field]).value


def text_at(pointer: int, kind: str, field: str) -> bytes:
    return ctypes.string_at(pointer_at(pointer, kind, field))


def uuid_at(pointer: int, kind: str) -> bytes:
    return ctypes.string_at(pointer + GOBJECT[kind]["uuid"], 16)


def first_text(pointer: int) -> bytes:
    return ctypes.string_at(POINTER.from_address(pointer).value or 0)


@pytest.fixture
def conn():
    connection = libvirt.open("test:///default")
    yield connection
    connection.close()


@pytest.fixture
def domain(conn):
    return conn.lookupByName("test")


@pytest.fixture
def network(conn):
    return conn.networkLookupByName("default")


@pytest.fixture
def pool(conn):
    return conn.storagePoolLookupByName("default-pool")


def test_live_connect(conn):
    at = conn.c_pointer()
    assert first_text(pointer_at(at, "connect", "driver")) == b"Test"
    assert first_text(pointer_at(at, "connect", "uri")) == b"test"  # its scheme
    assert number_at(at, "connect", "flags") == 0
    with pytest.raises(libvirt.libvirtError):
        conn.lookupByName("nosuch")
    error = ask("virConnGetLastError", POINTER, at)
    assert error == at + GOBJECT["connect"]["err"]
    assert ctypes.c_int.from_address(error).value == libvirt.VIR_ERR_NO_DOMAIN
    readonly = libvirt.openReadOnly("test:///default")
    assert number_at(readonly.c_pointer(), "connect", "flags") == libvirt.VIR_CONNECT_RO
    readonly.close()


def test_live_domain(conn, domain):
    at = domain.c_pointer()
    assert (
        pointer_at(at, "domain", "conn")
        == ask("virDomainGetConnect", POINTER, at)
        == conn.c_pointer()
    )
    assert text_at(at, "domain", "name") == ask("virDomainGetName", TEXT, at) == b"test"
    assert number_at(at, "domain", "id") == ask("virDomainGetID", ctypes.c_int, at) == 1
    assert uuid_at(at, "domain") == ask_uuid("virDomainGetUUID", at) == domain.UUID()


def test_live_network_and_pool(conn, network, pool):
    for kind, prefix, at in (
        ("network", "virNetwork", network.c_pointer()),
        ("pool", "virStoragePool", pool.c_pointer()),
    ):
        assert pointer_at(at, kind, "conn") == conn.c_pointer()
        assert text_at(at, kind, "name") == ask(f"{prefix}GetName", TEXT, at)
        assert uuid_at(at, kind) == ask_uuid(f"{prefix}GetUUID", at)


def test_live_volume(conn, pool):
    volume = pool.createXML("<volume><name>v</name><capacity>1024</capacity></volume>")
    at = volume.c_pointer()
    assert pointer_at(at, "volume", "conn") == conn.c_pointer()
    assert text_at(at, "volume", "pool") == b"default-pool"
    assert text_at(at, "volume", "name") == ask("virStorageVolGetName", TEXT, at) == b"v"
    assert (
        text_at(at, "volume", "key")
        == ask("virStorageVolGetKey", TEXT, at)
        == volume.key().encode()
    )


def test_live_interface(conn):
    at = (interface := conn.interfaceLookupByName("eth1")).c_pointer()
    assert pointer_at(at, "interface", "conn") == conn.c_pointer()
    assert (
        text_at(at, "interface", "name")
        == ask("virInterfaceGetName", TEXT, at)
        == interface.name().encode()
    )
    assert (
        text_at(at, "interface", "mac")
        == ask("virInterfaceGetMACString", TEXT, at)
        == interface.MACString().encode()
    )


def test_live_node_device(conn):
    device = conn.nodeDeviceLookupByName("computer")
    at = device.c_pointer()
    assert pointer_at(at, "nodedevice", "conn") == conn.c_pointer()
    assert text_at(at, "nodedevice", "name") == ask("virNodeDeviceGetName", TEXT, at) == b"computer"
    assert ask("virNodeDeviceGetParent", TEXT, at) is None  # it is learnt when it is asked for
    assert pointer_at(at, "nodedevice", "parentName") == 0


@pytest.mark.parametrize("kind", ["snapshot", "checkpoint"])
def test_live_snapshot_and_checkpoint(domain, kind):
    create = domain.snapshotCreateXML if kind == "snapshot" else domain.checkpointCreateXML
    made = create(f"<domain{kind}><name>made</name></domain{kind}>")
    at, name = made.c_pointer(), kind.capitalize()
    assert text_at(at, kind, "name") == ask(f"virDomain{name}GetName", TEXT, at) == b"made"
    assert pointer_at(at, kind, "domain") == ask(f"virDomain{name}GetDomain", POINTER, at)
    made.delete()


def test_live_stream(conn):
    at = (stream := conn.newStream()).c_pointer()
    assert pointer_at(at, "stream", "conn") == conn.c_pointer()
    assert number_at(at, "stream", "flags") == 0
    nonblocking = conn.newStream(libvirt.VIR_STREAM_NONBLOCK)
    assert number_at(nonblocking.c_pointer(), "stream", "flags") == libvirt.VIR_STREAM_NONBLOCK
    assert pointer_at(at, "stream", "driver") == 0
    del stream


# The test driver has none of these; libvirt makes them with functions that it exports to its
# drivers.
UUID = bytes(range(16))


def test_live_secret(conn):
    make = api.virGetSecret
    make.restype, make.argtypes = POINTER, [POINTER, TEXT, ctypes.c_int, TEXT]
    at = make(conn.c_pointer(), UUID, libvirt.VIR_SECRET_USAGE_TYPE_CEPH, b"client.admin")
    assert pointer_at(at, "secret", "conn") == conn.c_pointer()
    assert uuid_at(at, "secret") == ask_uuid("virSecretGetUUID", at) == UUID
    assert (
        number_at(at, "secret", "usageType") == ask("virSecretGetUsageType", ctypes.c_int, at) == 2
    )
    assert (
        text_at(at, "secret", "usageID") == ask("virSecretGetUsageID", TEXT, at) == b"client.admin"
    )


def test_live_nwfilter(conn):
    at = ask("virGetNWFilter", POINTER, conn.c_pointer(), b"no-spoof", UUID)
    assert pointer_at(at, "nwfilter", "conn") == conn.c_pointer()
    assert text_at(at, "nwfilter", "name") == ask("virNWFilterGetName", TEXT, at) == b"no-spoof"
    assert uuid_at(at, "nwfilter") == ask_uuid("virNWFilterGetUUID", at) == UUID


def test_live_nwfilter_binding(conn):
    at = ask("virGetNWFilterBinding", POINTER, conn.c_pointer(), b"vnet0", b"no-spoof")
    assert pointer_at(at, "nwfilterbinding", "conn") == conn.c_pointer()
    assert (
        text_at(at, "nwfilterbinding", "portdev")
        == ask("virNWFilterBindingGetPortDev", TEXT, at)
        == b"vnet0"
    )
    assert (
        text_at(at, "nwfilterbinding", "filtername")
        == ask("virNWFilterBindingGetFilterName", TEXT, at)
        == b"no-spoof"
    )


def test_live_network_port(network):
    at = ask("virGetNetworkPort", POINTER, network.c_pointer(), UUID)
    assert (
        pointer_at(at, "networkport", "net")
        == ask("virNetworkPortGetNetwork", POINTER, at)
        == network.c_pointer()
    )
    assert uuid_at(at, "networkport") == ask_uuid("virNetworkPortGetUUID", at) == UUID
