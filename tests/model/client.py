# SPDX-License-Identifier: LGPL-2.1-or-later
"""A client of libvirtd: lines of JSON come in on standard input, how each call ended goes out; a
program of its own.

["open", WAY, URI, READONLY, USER] opens a connection, ["close"] closes all, [CALL, WAY,
ARGUMENT...] makes a call.
"""

import ctypes
import json
import sys
import uuid
from typing import Any

import libvirt

library = ctypes.CDLL("libvirt.so.0")
capsule = ctypes.pythonapi.PyCapsule_New
capsule.restype, capsule.argtypes = (
    ctypes.py_object,
    [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
)
kept: list[bytes] = []  # texts that capsules point to


def made(kind, *arguments):
    """A handle as libvirt makes it, without a call that a policy could deny: virGetDomain() and
    its like.
    """
    make = getattr(library, f"virGet{kind}")
    make.restype = ctypes.c_void_p
    name = f"vir{kind}Ptr".encode()
    kept.append(name)
    return capsule(make(*arguments), name, None)


def pointer(handle):
    return ctypes.c_void_p(handle.c_pointer())


def domain(conn, name, text):
    return libvirt.virDomain(
        conn, _obj=made("Domain", pointer(conn), name.encode(), uuid.UUID(text).bytes, -1)
    )


def network(conn, name, text):
    return libvirt.virNetwork(
        conn, _obj=made("Network", pointer(conn), name.encode(), uuid.UUID(text).bytes)
    )


def pool(conn, name, text):
    return libvirt.virStoragePool(
        conn,
        _obj=made("StoragePool", pointer(conn), name.encode(), uuid.UUID(text).bytes, None, None),
    )


def volume(conn, in_pool, name):
    path = f"/var/lib/libvirt/images/{in_pool}/{name}".encode()
    return libvirt.virStorageVol(
        conn,
        _obj=made("StorageVol", pointer(conn), in_pool.encode(), name.encode(), path, None, None),
    )


def secret(conn, usage, text):
    kind = libvirt.VIR_SECRET_USAGE_TYPE_VOLUME
    return libvirt.virSecret(
        conn, _obj=made("Secret", pointer(conn), uuid.UUID(text).bytes, kind, usage.encode())
    )


def snapshot(conn, of, text, name):
    owner = domain(conn, of, text)
    return libvirt.virDomainSnapshot(
        owner, _obj=made("DomainSnapshot", pointer(owner), name.encode())
    )


def statistics(conn, stats, *domains):
    found = conn.domainListGetStats([domain(conn, *one) for one in domains], stats)
    # times are the daemon's own for guests that don't run
    return [
        sorted(item for item in fields.items() if "time" not in item[0] and item[0][:4] != "cpu.")
        for _, fields in found
    ]


def world(conn):
    """What there is: kind -> UUID -> name; a secret has the name of what it is for."""
    return {
        "domain": {one.UUIDString(): one.name() for one in conn.listAllDomains()},
        "network": {one.UUIDString(): one.name() for one in conn.listAllNetworks()},
        "pool": {one.UUIDString(): one.name() for one in conn.listAllStoragePools()},
        "secret": {one.UUIDString(): one.usageID() for one in conn.listAllSecrets()},
    }


CALLS: dict[str, Any] = {
    "world": world,
    "virConnectGetHostname": lambda c: c.getHostname() and 0,
    "virConnectListAllDomains": lambda c: len(c.listAllDomains()),
    "virConnectSetIdentity": lambda c, claim: c.setIdentity(claim),
    "virDomainLookupByName": lambda c, name: c.lookupByName(name),
    "virDomainLookupByUUID": lambda c, text: c.lookupByUUID(uuid.UUID(text).bytes),
    "virDomainLookupByID": lambda c, number: c.lookupByID(number),
    "virDomainDefineXML": lambda c, xml: c.defineXML(xml),
    "virDomainDefineXMLFlags": lambda c, xml, flags: c.defineXMLFlags(xml, flags),
    "virDomainUndefine": lambda c, *d: domain(c, *d).undefine(),
    "virDomainUndefineFlags": lambda c, *d: domain(c, *d[:2]).undefineFlags(*d[2:]),
    "virDomainRename": lambda c, *d: domain(c, *d[:2]).rename(*d[2:]),
    "virDomainSetMemoryFlags": lambda c, *d: domain(c, *d[:2]).setMemoryFlags(*d[2:]),
    "virDomainSetAutostart": lambda c, *d: domain(c, *d[:2]).setAutostart(*d[2:]),
    "virDomainSetMetadata": lambda c, *d: domain(c, *d[:2]).setMetadata(*d[2:]),
    "virDomainAttachDeviceFlags": lambda c, *d: domain(c, *d[:2]).attachDeviceFlags(*d[2:]),
    "virDomainGetXMLDesc": lambda c, *d: domain(c, *d[:2]).XMLDesc(*d[2:]),
    "virDomainGetInfo": lambda c, *d: domain(c, *d).info(),
    "virDomainListGetStats": statistics,
    "virDomainSnapshotCreateXML": lambda c, *d: domain(c, *d[:2]).snapshotCreateXML(*d[2:]),
    "virDomainSnapshotLookupByName": lambda c, *d: domain(c, *d[:2]).snapshotLookupByName(*d[2:]),
    "virDomainSnapshotGetXMLDesc": lambda c, *s: snapshot(c, *s[:3]).getXMLDesc(*s[3:]),
    "virDomainSnapshotDelete": lambda c, *s: snapshot(c, *s[:3]).delete(*s[3:]),
    "virNetworkDefineXML": lambda c, xml: c.networkDefineXML(xml),
    "virNetworkLookupByName": lambda c, name: c.networkLookupByName(name),
    "virNetworkSetAutostart": lambda c, *n: network(c, *n[:2]).setAutostart(*n[2:]),
    "virNetworkUndefine": lambda c, *n: network(c, *n).undefine(),
    "virStoragePoolDefineXML": lambda c, xml, flags: c.storagePoolDefineXML(xml, flags),
    "virStoragePoolCreate": lambda c, *p: pool(c, *p[:2]).create(*p[2:]),
    "virStoragePoolDestroy": lambda c, *p: pool(c, *p).destroy(),
    "virStoragePoolUndefine": lambda c, *p: pool(c, *p).undefine(),
    "virStorageVolCreateXML": lambda c, *p: pool(c, *p[:2]).createXML(*p[2:]),
    "virStorageVolLookupByName": lambda c, *p: pool(c, *p[:2]).storageVolLookupByName(*p[2:]),
    "virStorageVolGetInfo": lambda c, *v: volume(c, *v).info(),
    "virStorageVolDelete": lambda c, *v: volume(c, *v[:2]).delete(*v[2:]),
    "virSecretDefineXML": lambda c, xml, flags: c.secretDefineXML(xml, flags),
    "virSecretLookupByUUID": lambda c, text: c.secretLookupByUUID(uuid.UUID(text).bytes),
    "virSecretGetXMLDesc": lambda c, *s: secret(c, *s).XMLDesc(),
    "virSecretSetValue": lambda c, *s: secret(c, *s[:2]).setValue(s[2].encode()),
    "virSecretUndefine": lambda c, *s: secret(c, *s).undefine(),
}
connections: dict[str, Any] = {}


def answer(credentials, user):
    for credential in credentials:
        credential[4] = user if credential[0] == libvirt.VIR_CRED_AUTHNAME else f"secret of {user}"
    return 0


def connect(way, uri, readonly, user):
    ask = [[libvirt.VIR_CRED_AUTHNAME, libvirt.VIR_CRED_PASSPHRASE], answer, user]
    connections[way] = libvirt.openAuth(uri, ask, libvirt.VIR_CONNECT_RO if readonly else 0)


def done(word, *arguments):
    """What the call gave, as JSON can have it."""
    if word == "open":
        return connect(*arguments)
    if word == "close":
        return connections.clear()
    way, *rest = arguments
    found = CALLS[word](connections[way], *rest)
    # to ask a handle for its name would be another call
    return type(found).__name__ if hasattr(found, "c_pointer") else found


def main():
    libvirt.registerErrorHandler(lambda *_: None, None)
    print("[]", flush=True)
    for line in sys.stdin:
        try:
            result = ["done", done(*json.loads(line))]
        except libvirt.libvirtError as error:
            result = [
                "failed",
                error.get_error_code(),
                error.get_error_domain(),
                error.get_error_message(),
            ]
        print(json.dumps(result), flush=True)


main()
