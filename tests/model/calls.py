# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random calls: what a client is told to do, and the facts that rules ask for.

Handles are made without a call, so a client can also have one of an object that is gone, or one
that says another name.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple
from xml.sax.saxutils import escape

from tests.model.rules import Answer, Document, Thing

NAMES = ("web1", "web2", "db", "Büro-東京")
UUIDS = tuple(f"6695eb01-f6a4-8304-79aa-97f2502e193{i}" for i in range(len(NAMES)))
NETWORKS, POOLS, VOLUMES, SNAPSHOTS, USAGES = (
    ("web1", "lan"),
    ("images", "web1"),
    ("a.img", "web1"),
    ("before", "web1"),
    ("disk", "web1"),
)
KINDS = {"domain": NAMES, "network": NETWORKS, "pool": POOLS, "secret": USAGES}

HOSTDEV = "mode='subsystem' type='usb'><source><address bus='1' device='2'/></source>"
INTERFACE = (
    "<mac address='52:54:00:00:00:01'/><source><address type='pci' domain='0' bus='0' "
    "slot='16' function='0'/></source>"
)
# devices, and the elements that rules ask for in them; None: another spelling that is not looked
# into
DEVICES: Mapping[str, Mapping[str, Answer]] = {
    "<controller type='scsi'/>": {},
    f"<hostdev {HOSTDEV}</hostdev>": {"hostdev": True},
    f"<x:hostdev xmlns:x='u' {HOSTDEV}</x:hostdev>": {"hostdev": True},
    (f"<interface type='hostdev'>{INTERFACE}</interface>"): {
        "interface": True,
        "interface[@type='hostdev']": True,
    },
    (f"<interface type='&#104;ostdev'>{INTERFACE}</interface>"): {
        "interface": True,
        "interface[@type='hostdev']": None,
    },
    (f"<interface x:type='hostdev' xmlns:x='u'>{INTERFACE}</interface>"): {
        "interface": True,
        "interface[@type='hostdev']": None,
    },
    "<interface type='user'><mac address='52:54:00:00:00:02'/></interface>": {"interface": True},
    "<!-- no <hostdev/> --><controller type='scsi'/>": {},
    "<watchdog model='i6300esb'/><!-- <![CDATA[ -->": {},
}
TITLES: Mapping[str, Mapping[str, Answer]] = {
    "": {},
    "<title>first</title>": {"title": True},
    "<title>a&amp;b</title>": {"title": True},
}
DOMAIN = """<domain type='qemu'>{title}{name}<uuid>{uuid}</uuid><memory unit='KiB'>{memory}</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='none'/>{device}
</devices></domain>"""
NETWORK = (
    "<network>{name}<uuid>{uuid}</uuid><bridge name='vt-{number}'/><mac "
    "address='52:54:00:00:01:0{number}'/></network>"
)
POOL = (
    "<pool "
    "type='dir'>{name}<uuid>{uuid}</uuid><target><path>/var/lib/libvirt/images/{plain}</path></target></pool>"
)
VOLUME = "<volume>{name}<capacity>{memory}</capacity></volume>"
SECRET = (
    "<secret ephemeral='no' private='no'><uuid>{uuid}</uuid><usage "
    "type='volume'><volume>{plain}</volume></usage></secret>"
)
SNAPSHOT = (
    "<domainsnapshot><name>{plain}</name><state>shutoff</state><creationTime>1</creationTime>"
    "{domain}</domainsnapshot>"
)

# the flags that rules ask for
FLAGS: Mapping[str, Mapping[str, int]] = {
    "virDomainDefineXMLFlags": {"VIR_DOMAIN_DEFINE_VALIDATE": 1},
    "virDomainUndefineFlags": {
        "VIR_DOMAIN_UNDEFINE_MANAGED_SAVE": 1,
        "VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA": 2,
    },
    "virDomainSetMemoryFlags": {
        "VIR_DOMAIN_MEM_LIVE": 1,
        "VIR_DOMAIN_MEM_CONFIG": 2,
        "VIR_DOMAIN_MEM_MAXIMUM": 4,
    },
    "virDomainSetMetadata": {"VIR_DOMAIN_AFFECT_LIVE": 1, "VIR_DOMAIN_AFFECT_CONFIG": 2},
    "virDomainAttachDeviceFlags": {
        "VIR_DOMAIN_DEVICE_MODIFY_LIVE": 1,
        "VIR_DOMAIN_DEVICE_MODIFY_CONFIG": 2,
    },
    "virDomainGetXMLDesc": {
        "VIR_DOMAIN_XML_SECURE": 1,
        "VIR_DOMAIN_XML_INACTIVE": 2,
        "VIR_DOMAIN_XML_MIGRATABLE": 8,
    },
    "virDomainListGetStats": {
        "VIR_DOMAIN_STATS_STATE": 1,
        "VIR_DOMAIN_STATS_BALLOON": 4,
        "VIR_DOMAIN_STATS_VCPU": 8,
    },
    "virDomainSnapshotCreateXML": {"VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE": 1},
    "virDomainSnapshotGetXMLDesc": {"VIR_DOMAIN_SNAPSHOT_XML_SECURE": 1},
    "virDomainSnapshotDelete": {
        "VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN": 1,
        "VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY": 2,
    },
    "virStoragePoolDefineXML": {"VIR_STORAGE_POOL_DEFINE_VALIDATE": 1},
    "virStoragePoolCreate": {"VIR_STORAGE_POOL_CREATE_WITH_BUILD": 1},
    "virStorageVolCreateXML": {"VIR_STORAGE_VOL_CREATE_VALIDATE": 4},
    "virStorageVolDelete": {"VIR_STORAGE_VOL_DELETE_ZEROED": 1},
    "virSecretDefineXML": {"VIR_SECRET_DEFINE_VALIDATE": 1},
}
READS = (
    "virConnectListAllDomains",
    "virDomainListGetStats",
    "virDomainGetInfo",
    "virStorageVolGetInfo",
    "virSecretGetXMLDesc",
)


class Handle(NamedTuple):
    """What a client has of an object, or looks for: then by name or by UUID, the other is ""."""

    kind: str
    name: str  # as it says
    uuid: str


class Call(NamedTuple):
    """A call, and what of it doesn't depend on who makes it and on what there is."""

    function: str
    arguments: tuple[object, ...]
    about: tuple[Handle | Thing, ...] | None = None  # None: it is about no object
    flags: int | None = None
    texts: Mapping[str, str | None] = {}
    document: Document | None = None
    finds: bool = False  # it looks up what it is about
    pool: Handle | None = None  # of the volume that it is about
    snapshot: str = ""  # of the domain that it is about

    @property
    def writes(self) -> bool:
        """Whether it changes something, which for some depends on their flags."""
        if self.function == "virDomainGetXMLDesc":
            return bool((self.flags or 0) & 9)
        if self.function == "virDomainSnapshotGetXMLDesc":
            return bool((self.flags or 0) & 1)
        return "Lookup" not in self.function and self.function not in READS


World = Mapping[str, Mapping[str, str]]  # what there is: kind -> UUID -> name


def things_of(call: Call, world: World, *, by_driver: bool) -> tuple[Thing, ...] | None:
    """The objects that the call is about. `by_driver`: a handle's name proves nothing."""
    if call.about is None:
        return None
    things = [thing for one in call.about for thing in _things(one, call.finds, world, by_driver)]
    if call.pool:
        pool = world["pool"].get(call.pool.uuid) if by_driver else call.pool.name
        return tuple(thing._replace(whole=pool and f"{pool}/{thing.name}") for thing in things)
    if call.snapshot:
        return tuple(thing._replace(whole=f"{thing.name}/{call.snapshot}") for thing in things)
    return tuple(things)


def _things(one: Handle | Thing, finds: bool, world: World, by_driver: bool) -> list[Thing]:
    if isinstance(one, Thing):
        return [one]
    there = world[one.kind]
    if not finds:
        return [Thing(there.get(one.uuid) if by_driver else one.name, one.uuid)]
    if one.uuid:  # of nothing, there is nothing to be judged
        return [Thing(there[one.uuid], one.uuid)] if one.uuid in there else []
    return [Thing(one.name, next((text for text, name in there.items() if name == one.name), ""))]


def random_call(rand: random.Random) -> Call:
    """Any call."""
    return rand.choice(MAKERS)(rand)


def _handle(rand: random.Random, kind: str) -> Handle:
    """Mostly one that tells the truth."""
    names = KINDS[kind]
    number = rand.randrange(len(names))
    name = rand.choice(names) if rand.random() < 0.15 else names[number]
    return Handle(kind, name, UUIDS[number])


def _bits(rand: random.Random, function: str) -> int:
    """Some of its flags, mostly one."""
    return sum(bit for bit in FLAGS[function].values() if rand.random() < 0.4)


def _rename(rand: random.Random) -> Call:
    handle, new = _handle(rand, "domain"), rand.choice((*NAMES, "other", "web1x"))
    return Call(
        "virDomainRename",
        (handle.name, handle.uuid, new),
        (handle, Thing(new, "")),
        0,
        {"new_name": new},
    )


def _metadata(rand: random.Random) -> Call:
    handle, text, flags = (
        _handle(rand, "domain"),
        rand.choice(("plain", "secret words", None)),
        _bits(rand, "virDomainSetMetadata"),
    )
    texts = {"metadata": text, "key": None, "uri": None}
    return Call(
        "virDomainSetMetadata",
        (handle.name, handle.uuid, 0, text, None, None, flags),
        (handle,),
        flags,
        texts,
    )


def _attach(rand: random.Random) -> Call:
    handle, device, flags = (
        _handle(rand, "domain"),
        rand.choice(list(DEVICES)),
        _bits(rand, "virDomainAttachDeviceFlags"),
    )
    document = Document(device, DEVICES[device])
    return Call(
        "virDomainAttachDeviceFlags",
        (handle.name, handle.uuid, device, flags),
        (handle,),
        flags,
        document=document,
    )


def _named(rand: random.Random, name: str) -> tuple[str, bool]:
    """<name>, and whether it is spelled so that it can be told."""
    plain = f"<name>{escape(name)}</name>"
    if rand.random() < 0.75:
        return plain, True
    first, rest = name[0], name[1:]
    return rand.choice(
        [
            (f"<name>&#{ord(first)};{rest}</name>", False),
            (f"<name>{first}<!-- -->{rest}</name>", False),
            (f"<name><![CDATA[{name}]]></name>", False),
            (f"<!-- <name>nobody</name> -->{plain}", True),
            (f"<name >{name}</name >", True),
        ]
    )


def _domain_defined(name: str, text: str, rand: random.Random) -> Call:
    spelled, told = _named(rand, name)
    title, device = rand.choice(list(TITLES)), rand.choice(list(DEVICES))
    xml = DOMAIN.format(
        title=title, name=spelled, uuid=text, memory=rand.choice((1024, 2048)), device=device
    )
    about = (Thing(name, text) if told else Thing(None, None),)
    document = Document(xml, {**TITLES[title], **DEVICES[device]})
    if rand.random() < 0.3:
        return Call("virDomainDefineXML", (xml,), about, document=document)
    flags = _bits(rand, "virDomainDefineXMLFlags") if rand.random() < 0.2 else 0
    return Call("virDomainDefineXMLFlags", (xml, flags), about, flags, document=document)


def _define_domain(rand: random.Random) -> Call:
    number = rand.randrange(len(NAMES))
    name = rand.choice((*NAMES, "other")) if rand.random() < 0.2 else NAMES[number]
    return _domain_defined(name, UUIDS[number], rand)


def _define_network(rand: random.Random) -> Call:
    number = rand.randrange(len(NETWORKS))
    spelled, told = _named(rand, NETWORKS[number])
    xml = NETWORK.format(name=spelled, uuid=UUIDS[number], number=number)
    about = (Thing(NETWORKS[number], UUIDS[number]) if told else Thing(None, None),)
    return Call("virNetworkDefineXML", (xml,), about, document=Document(xml))


def _define_pool(rand: random.Random) -> Call:
    number = rand.randrange(len(POOLS))
    spelled, told = _named(rand, POOLS[number])
    xml = POOL.format(name=spelled, plain=POOLS[number], uuid=UUIDS[number])
    about = (Thing(POOLS[number], UUIDS[number]) if told else Thing(None, None),)
    return Call("virStoragePoolDefineXML", (xml, 0), about, 0, document=Document(xml))


def _define_secret(rand: random.Random) -> Call:
    number = rand.randrange(len(USAGES))
    xml = SECRET.format(plain=USAGES[number], uuid=UUIDS[number])
    # what a secret is for has a spelling for each type
    return Call(
        "virSecretDefineXML", (xml, 0), (Thing(None, UUIDS[number]),), 0, document=Document(xml)
    )


def _create_volume(rand: random.Random) -> Call:
    handle, name = _handle(rand, "pool"), rand.choice(VOLUMES)
    spelled, told = _named(rand, name)
    xml = VOLUME.format(name=spelled, memory=rand.choice((0, 4096)))
    about = (Thing(name, "") if told else Thing(None, None),)
    return Call(
        "virStorageVolCreateXML",
        (handle.name, handle.uuid, xml, 0),
        about,
        0,
        document=Document(xml),
        pool=handle,
    )


def _on_volume(function: str) -> Callable[[random.Random], Call]:
    def make(rand: random.Random) -> Call:
        pool, name = rand.choice(POOLS), rand.choice(VOLUMES)
        flags = _bits(rand, function) if function in FLAGS else None
        about = (Thing(name, "", f"{pool}/{name}"),)
        return Call(function, (pool, name) if flags is None else (pool, name, flags), about, flags)

    return make


def _look_up_volume(rand: random.Random) -> Call:
    handle, name = _handle(rand, "pool"), rand.choice(VOLUMES)
    texts = {"name": name}
    return Call(
        "virStorageVolLookupByName",
        (*handle[1:], name),
        (Thing(name, ""),),
        texts=texts,
        finds=True,
        pool=handle,
    )


def _on(
    kind: str, function: str, *more: Callable[[random.Random], object]
) -> Callable[[random.Random], Call]:
    def make(rand: random.Random) -> Call:
        handle = _handle(rand, kind)
        flags = _bits(rand, function) if function in FLAGS else None
        last = () if flags is None else (flags,)
        return Call(
            function,
            (handle.name, handle.uuid, *(one(rand) for one in more), *last),
            (handle,),
            flags,
        )

    return make


def _by_name(kind: str, function: str) -> Callable[[random.Random], Call]:
    def make(rand: random.Random) -> Call:
        name = rand.choice((*KINDS[kind], "nosuch"))
        return Call(function, (name,), (Handle(kind, name, ""),), texts={"name": name}, finds=True)

    return make


def _by_uuid(kind: str, function: str) -> Callable[[random.Random], Call]:
    def make(rand: random.Random) -> Call:
        text = rand.choice(UUIDS)
        return Call(function, (text,), (Handle(kind, "", text),), finds=True)

    return make


def _snapshot(function: str) -> Callable[[random.Random], Call]:
    def make(rand: random.Random) -> Call:
        handle, name, flags = _handle(rand, "domain"), rand.choice(SNAPSHOTS), _bits(rand, function)
        return Call(
            function, (handle.name, handle.uuid, name, flags), (handle,), flags, snapshot=name
        )

    return make


def _create_snapshot(rand: random.Random) -> Call:
    handle, name = _handle(rand, "domain"), rand.choice(SNAPSHOTS)
    domain = DOMAIN.format(
        title="", name=f"<name>{handle.name}</name>", uuid=handle.uuid, memory=1024, device=""
    )
    xml = SNAPSHOT.format(plain=name, domain=domain)
    return Call(
        "virDomainSnapshotCreateXML",
        (handle.name, handle.uuid, xml, 1),
        (handle,),
        1,
        document=Document(xml),
    )


def _statistics(rand: random.Random) -> Call:
    handles = tuple(_handle(rand, "domain") for _ in range(rand.randint(1, 3)))
    stats = _bits(rand, "virDomainListGetStats")
    arguments = stats, *(handle[1:] for handle in handles)
    # who asks for none is given all
    return Call("virDomainListGetStats", arguments, handles, stats or (1 << 32) - 1)


# whom a client may say that it acts for
CLAIMS = (
    {"unix-user-id": 0, "unix-group-id": 0},
    {"unix-user-id": 65534},
    {"unix-user-id": 6, "sasl-user-name": "alice"},
)


def _claim(rand: random.Random) -> Call:
    return Call("virConnectSetIdentity", (rand.choice(CLAIMS),))


def _any(*values: object) -> Callable[[random.Random], object]:
    return lambda rand: rand.choice(values)


MAKERS: tuple[Callable[[random.Random], Call], ...] = (
    lambda rand: Call("virConnectListAllDomains", ()),
    _claim,
    _by_name("domain", "virDomainLookupByName"),
    _by_uuid("domain", "virDomainLookupByUUID"),
    *(_define_domain,) * 4,
    _on("domain", "virDomainUndefine"),
    _on("domain", "virDomainUndefineFlags"),
    _rename,
    _on("domain", "virDomainSetMemoryFlags", _any(1024, 1536)),
    _on("domain", "virDomainSetAutostart", _any(0, 1)),
    *(_metadata,) * 2,
    *(_attach,) * 3,
    *(_on("domain", "virDomainGetXMLDesc"),) * 2,
    _on("domain", "virDomainGetInfo"),
    _statistics,
    *(_create_snapshot,) * 2,
    _snapshot("virDomainSnapshotGetXMLDesc"),
    _snapshot("virDomainSnapshotDelete"),
    *(_define_network,) * 2,
    _by_name("network", "virNetworkLookupByName"),
    _on("network", "virNetworkSetAutostart", _any(0, 1)),
    _on("network", "virNetworkUndefine"),
    *(_define_pool,) * 2,
    *(_on("pool", "virStoragePoolCreate"),) * 2,
    _on("pool", "virStoragePoolDestroy"),
    _on("pool", "virStoragePoolUndefine"),
    *(_create_volume,) * 2,
    _look_up_volume,
    _on_volume("virStorageVolGetInfo"),
    _on_volume("virStorageVolDelete"),
    *(_define_secret,) * 2,
    _by_uuid("secret", "virSecretLookupByUUID"),
    _on("secret", "virSecretGetXMLDesc"),
    _on("secret", "virSecretSetValue", _any("one", "two")),
    _on("secret", "virSecretUndefine"),
)
FUNCTIONS = tuple(dict.fromkeys(make(random.Random(0)).function for make in MAKERS))
