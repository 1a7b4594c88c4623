# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fails in about a hundred ways; prints each error as libvirt's error handler is told of it: a
JSON list of code and message a line.
"""

from __future__ import annotations

import contextlib
import json
import locale
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import libvirt

BROKEN = (
    "",
    "no XML",
    "<domain",
    "<domain type='test'><name>x</name></domain>",
    "<domain type='test'><name></name></domain>",
    "<domain type='nosuch'><name>x</name><memory>1</memory><os><type>hvm</type></os></domain>",
    "<domain type='test'><name>a/b</name><memory>1024</memory><os><type>hvm</type></os></domain>",
    "<domain type='test'><name>x</name><memory "
    "unit='%s'>1</memory><os><type>hvm</type></os></domain>",
    "<domain type='test'><name>x</name><memory>-1</memory><os><type>hvm</type></os></domain>",
    "<domain "
    "type='test'><name>x</name><memory>1</memory><vcpu>none</vcpu><os><type>hvm</type></os></domain>",
    "<domain "
    "type='test'><name>x</name><uuid>no-uuid</uuid><memory>1</memory><os><type>hvm</type></os></domain>",
    "<domain "
    "type='test'><name>100%</name><memory>1</memory><os><type>xen</type></os><devices><disk "
    "type='%1$s'/></devices></domain>",
    "<domain type='test'><name>x</name><memory>1</memory><os><type>hvm</type></os><devices><disk "
    "device='ufo'/></devices></domain>",
    "<domain "
    "type='test'><name>x</name><memory>1</memory><os><type>hvm</type></os><devices><interface "
    "type='ü'/></devices></domain>",
    "<network/>",
    "<network><name>n</name><forward mode='nosuch'/></network>",
    "<network><name>n</name><ip address='1.2.3'/></network>",
    "<pool type='dir'><name>p</name></pool>",
    "<pool type='nosuch'><name>p</name></pool>",
    "<interface type='ethernet'/>",
    "<secret/>",
)
URIS = (
    "nosuch:///",
    "test:///nosuch/file",
    "test://remotehost/default",
    "qemu:///system?socket=/nosuch/socket",
    "qemu+tcp://127.0.0.1:1/system",
    "qemu+nosuch://localhost/system",
    "qemu+unix://host/system?mode=nosuch",
    "qemu+ext:///system",
    "test:///default?%",
    "://",
    "esx://",
    "lxc:///nosuch%s",
    "vbox:///nosuch",
    "bhyve:///system",
)


def failures(connection: Any) -> Iterator[Callable[[], object]]:
    """Things that fail."""
    for uri in URIS:
        yield partial(libvirt.open, uri)
        yield partial(libvirt.openReadOnly, uri)
    domain = connection.lookupByName("test")
    looks = (
        "lookupByName networkLookupByName storagePoolLookupByName interfaceLookupByName "
        "nodeDeviceLookupByName nwfilterLookupByName"
    )
    for name in (
        *looks.split(),
        "storageVolLookupByKey",
        "storageVolLookupByPath",
        "interfaceLookupByMACString",
    ):
        yield partial(getattr(connection, name), f"nosuch {name} 100% %s %1$s ü")
    yield lambda: connection.lookupByID(4242)
    for name in (
        "lookupByUUIDString",
        "networkLookupByUUIDString",
        "storagePoolLookupByUUIDString",
        "secretLookupByUUIDString",
    ):
        yield partial(getattr(connection, name), "11111111-2222-3333-4444-555555555555")
    for xml in BROKEN:
        kind = (
            "network"
            if "<network" in xml
            else "storagePool"
            if "<pool" in xml
            else "interface"
            if "<interface t" in xml[:12]
            else ""
        )
        yield partial(
            getattr(connection, f"{kind}DefineXML" if kind else "defineXML"),
            *([xml, 0] if kind else [xml]),
        )
        if not kind:
            yield partial(connection.createXML, xml, 0)
            yield partial(domain.attachDeviceFlags, xml, 0)
    for flags in (1 << 20, 1 << 30):
        yield partial(domain.XMLDesc, flags)
        yield partial(domain.undefineFlags, flags)
        yield partial(domain.setVcpusFlags, 1, flags)
        yield partial(connection.listAllDomains, flags)
    yield lambda: domain.create()
    yield lambda: domain.resume()
    yield lambda: domain.setVcpus(4242)
    yield lambda: domain.setMemory(0)
    yield lambda: domain.setMemory(1 << 50)
    yield lambda: domain.migrateToURI("qemu+ssh://nosuch/system", 1 << 1, None, 0)
    yield lambda: domain.blockStats("nosuch")
    yield lambda: domain.interfaceStats("nosuch")
    yield lambda: domain.blockPeek("nosuch", 0, 4, 0)
    yield lambda: domain.snapshotLookupByName("nosuch", 0)
    yield lambda: domain.checkpointLookupByName("nosuch", 0)
    yield lambda: domain.snapshotCreateXML("<domainsnapshot><", 0)
    yield lambda: domain.metadata(0, None, 0)
    yield lambda: domain.metadata(2, "http://nosuch", 0)
    yield lambda: domain.setUserPassword("root", "x", 0)
    yield lambda: domain.save("/nosuch/folder/file")
    yield lambda: connection.restore("/nosuch/folder/file")
    yield lambda: domain.coreDump("/nosuch/folder/file", 0)
    yield lambda: domain.openConsole("nosuch", connection.newStream(), 0)
    yield lambda: domain.sendKey(0, 0, [], 0, 0)
    yield lambda: domain.rename("a/b", 0)
    yield lambda: domain.fsTrim("/nosuch", 0, 0)
    yield lambda: domain.guestInfo(0, 0)
    yield (
        lambda: (
            domain.qemuMonitorCommand("nosuch", 0)
            if hasattr(domain, "qemuMonitorCommand")
            else connection.restore("")
        )
    )
    yield lambda: connection.setKeepAlive(5, 3)
    yield lambda: connection.getCPUModelNames("nosuch", 0)
    yield lambda: connection.compareCPU("<nosuch/>", 0)
    yield lambda: connection.baselineCPU([], 0)
    yield lambda: connection.domainXMLFromNative("nosuch", "x", 0)
    yield lambda: connection.getDomainCapabilities("/nosuch", None, None, None, 0)
    yield lambda: connection.nodeDeviceCreateXML("<device/>", 0)
    yield lambda: connection.secretDefineXML("<secret/>", 0)
    yield lambda: connection.nwfilterDefineXML("<filter/>")
    yield lambda: connection.interfaceDefineXML("<interface/>", 0)
    yield lambda: connection.networkLookupByName("default").create()
    yield lambda: connection.networkLookupByName("default").update(0, 0, 0, "<x/>", 0)
    yield lambda: connection.storagePoolLookupByName("default-pool").create(0)
    yield lambda: connection.storagePoolLookupByName("default-pool").storageVolLookupByName(
        "nosuch"
    )
    yield lambda: connection.storagePoolLookupByName("default-pool").createXML("<volume/>", 0)
    yield lambda: connection.newStream().send(b"x")
    yield lambda: connection.newStream().recv(4)
    connection.close()
    yield lambda: domain.name() and domain.info()


def main() -> None:
    """Prints what the error handler is told."""
    locale.setlocale(locale.LC_ALL, "")
    libvirt.registerErrorHandler(
        lambda _, error: print(json.dumps([error[0], error[2]]), flush=True), None
    )
    uri = sys.argv[1] if len(sys.argv) > 1 else "test:///default"
    connection = libvirt.open(uri)
    for fail in failures(connection):
        with contextlib.suppress(libvirt.libvirtError, TypeError, AttributeError):
            fail()


if __name__ == "__main__":
    main()
