# SPDX-License-Identifier: LGPL-2.1-or-later
"""How libvirt lays its objects out since they became GObjects (about 6.4; the same up to 12.8): the
tables that Python's plans and the enforcer's library are made from.

Offsets are bytes from the start of the object, of a 64-bit libvirt (src/datatypes.h, src/util).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from probes.kernel import abi

BASE = 24  # bytes of what every object begins with
# what has a lock, a mutex of POSIX threads, has it next
LOCKED = BASE + abi.HERE.mutex
CONNECT = {"flags": 0, "uri": 8, "driver": 16, "err": 80}  # behind its lock


class Object(NamedTuple):
    """A kind of object."""

    fields: Mapping[str, int]
    gtype: str  # the name of its class
    accessor: str | None = None  # of its name, else of its UUID: in a process it tells the layout
    name: str | None = None  # the field that people know it by
    parent: tuple[str, str] | None = None  # the field of what it is named by, and that one's kind


OBJECTS = {
    "connect": Object({field: LOCKED + at for field, at in CONNECT.items()}, "virConnect"),
    "domain": Object(
        {"conn": 24, "name": 32, "id": 40, "uuid": 44}, "virDomain", "virDomainGetName", "name"
    ),
    "network": Object(
        {"conn": 24, "name": 32, "uuid": 40}, "virNetwork", "virNetworkGetName", "name"
    ),
    "pool": Object(
        {"conn": 24, "name": 32, "uuid": 40}, "virStoragePool", "virStoragePoolGetName", "name"
    ),
    "nwfilter": Object(
        {"conn": 24, "name": 32, "uuid": 40}, "virNWFilter", "virNWFilterGetName", "name"
    ),
    # of the pool it has the name, a string
    "volume": Object(
        {"conn": 24, "pool": 32, "name": 40, "key": 48},
        "virStorageVol",
        "virStorageVolGetName",
        "name",
        ("pool", "pool"),
    ),
    "interface": Object(
        {"conn": 24, "name": 32, "mac": 40}, "virInterface", "virInterfaceGetName", "name"
    ),
    "nodedevice": Object(
        {"conn": 24, "name": 32, "parentName": 40}, "virNodeDevice", "virNodeDeviceGetName", "name"
    ),
    "secret": Object(
        {"conn": 24, "uuid": 32, "usageType": 48, "usageID": 56},
        "virSecret",
        "virSecretGetUUID",
        "usageID",
    ),
    "snapshot": Object(
        {"name": 24, "domain": 32},
        "virDomainSnapshot",
        "virDomainSnapshotGetName",
        "name",
        ("domain", "domain"),
    ),
    "checkpoint": Object(
        {"name": 24, "domain": 32},
        "virDomainCheckpoint",
        "virDomainCheckpointGetName",
        "name",
        ("domain", "domain"),
    ),
    "nwfilterbinding": Object(
        {"conn": 24, "portdev": 32, "filtername": 40},
        "virNWFilterBinding",
        "virNWFilterBindingGetPortDev",
        "portdev",
    ),
    "networkport": Object(
        {"net": 24, "uuid": 32},
        "virNetworkPort",
        "virNetworkPortGetUUID",
        parent=("net", "network"),
    ),
    "stream": Object({"conn": 24, "flags": 32, "driver": 40}, "virStream"),
}

# struct _virURI: pointers to its strings; the port is an int
URI = {"scheme": 0, "server": 8, "user": 16, "port": 24, "path": 32, "query": 40}
# struct _virTypedParameter: char field[80]; int type; union value. It is public.
PARAMETER, PARAMETER_TYPE, PARAMETER_VALUE = 96, 80, 88
STRING_TYPE, BOOLEAN_TYPE = 7, 6

# What a function reads: it checks its object's connection, then returns the field. Together they
# differ between the layouts, where one alone may not: "conn" of the one is where "name" of the
# other is. Functions that a library lacks are passed over.
EVIDENCE: dict[str, tuple[str, ...]] = {
    "virDomainGetName": ("domain.conn", "domain.name"),
    "virDomainGetUUID": ("domain.conn", "domain.uuid"),
    "virDomainGetID": ("domain.conn", "domain.id"),
    "virConnectGetURI": ("connect.uri",),
    "virConnectGetType": ("connect.driver",),
    "virConnGetLastError": ("connect.err",),
    "virNetworkGetName": ("network.conn", "network.name"),
    "virNetworkGetUUID": ("network.conn", "network.uuid"),
    "virStoragePoolGetName": ("pool.conn", "pool.name"),
    "virStoragePoolGetUUID": ("pool.conn", "pool.uuid"),
    "virStorageVolGetName": ("volume.conn", "volume.name"),
    "virStorageVolGetKey": ("volume.conn", "volume.key"),
    "virNWFilterGetName": ("nwfilter.conn", "nwfilter.name"),
    "virNWFilterGetUUID": ("nwfilter.conn", "nwfilter.uuid"),
    "virInterfaceGetName": ("interface.conn", "interface.name"),
    "virInterfaceGetMACString": ("interface.conn", "interface.mac"),
    "virNodeDeviceGetName": ("nodedevice.conn", "nodedevice.name"),
    "virNodeDeviceGetParent": ("nodedevice.conn", "nodedevice.parentName"),
    "virSecretGetUUID": ("secret.conn", "secret.uuid"),
    "virSecretGetUsageType": ("secret.conn", "secret.usageType"),
    "virSecretGetUsageID": ("secret.conn", "secret.usageID"),
    "virNWFilterBindingGetPortDev": ("nwfilterbinding.conn", "nwfilterbinding.portdev"),
    "virNWFilterBindingGetFilterName": ("nwfilterbinding.conn", "nwfilterbinding.filtername"),
    "virNetworkPortGetUUID": ("networkport.net", "networkport.uuid"),
    "virDomainSnapshotGetName": ("snapshot.name", "snapshot.domain"),
    "virDomainCheckpointGetName": ("checkpoint.name", "checkpoint.domain"),
    "virDomainSuspend": ("domain.conn", "connect.flags", "connect.driver"),
    # libvirt-qemu.so.0
    "virDomainQemuMonitorCommand": ("domain.conn", "connect.flags", "connect.driver"),
    # libvirt-lxc.so.0
    "virDomainLxcOpenNamespace": ("domain.conn", "connect.flags", "connect.driver"),
}
