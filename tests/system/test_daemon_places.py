# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a client's call on a real daemon is about, by whichever way the client names it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.daemon import Daemon
from tests.enforced import in_daemon, put
from tests.needs import PATIENCE, PYTHON, lack

# what Debian 13's libvirtd says where a driver's own package is missing
NO_SUPPORT, NO_BACKEND = 3, 1
RULE = '[[rule]]\nname = "{}"\naction = "deny"\nfunction = {}\n{}\n'
POLICY = "".join(
    RULE.format(name, json.dumps(functions), more)
    for name, functions, more in (
        ("managed", ["virDomainManagedSaveRemove"], 'uri = "qemu:///system"'),
        ("networks", ["virNetworkGetBridgeName", "virNetworkSetAutostart"], 'uri = "qemu:///*"'),
        ("pools", ["virStoragePoolSetAutostart"], 'uri = "qemu:///system"'),
        ("secrets", ["virSecretSetValue"], 'uri = "qemu:///system"'),
        ("filters", ["virNWFilterUndefine"], 'uri = "qemu:///system"'),
        ("names", ["virDomainRename", "virDomainUndefine*"], 'object = "keep*"'),
        ("lookups", ["virDomainLookup*", "virDomainGetXMLDesc"], 'object = "hidden*"'),
        ("by-uuid", ["virDomainLookup*"], 'uuid = "11111111-2222-3333-4444-555555555555"'),
        ("made", ["virDomainCreateXML", "virDomainDefineXML*"], 'object = "evil*"'),
        ("sources", ["virStoragePoolDefineXML", "virStoragePoolCreateXML"], 'object = "evil*"'),
        ("events", ["virConnectDomainEventRegisterAny"], 'object = "hidden*"'),
    )
)
# runs Python with `c` connected to URI, and prints what each expression gives: its value, or the
# code of libvirt's error
CLIENT = """
import ctypes, json, libvirt, sys
libvirt.virEventRegisterDefaultImpl()
libvirt.registerErrorHandler(lambda *_: None, None)
c = libvirt.open(sys.argv[1])
library, g = ctypes.CDLL("libvirt.so.0"), []
def create_linux(xml):  # its old name, which no binding has
    kind = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint)
    made = kind(("virDomainCreateLinux", library))
    return bool(made(c.c_pointer(), xml.encode(), 0)) or libvirt.virGetLastError()[0]
for expression in json.loads(sys.argv[2]):
    try:
        print(json.dumps(eval(expression)), flush=True)
    except libvirt.libvirtError as error:
        print(error.get_error_code(), flush=True)
"""
DOMAIN = (
    "<domain type='qemu'><name>{}</name><memory unit='MiB'>64</memory><os><type "
    "arch='x86_64'>hvm</type></os></domain>"
)
# guests of one connection, which end with it
MAKE = "[g.append(c.createXML(i, libvirt.VIR_DOMAIN_START_AUTODESTROY)) for i in {}] and 0"
NETWORK = "<network><name>n1</name><bridge name='lvtrace-none'/></network>"
POOL = "<pool type='{}'>{}<source>{}</source><target><path>/var/tmp</path></target></pool>"
SECRET = "<secret ephemeral='yes'><uuid>66666666-2222-3333-4444-555555555555</uuid></secret>"
FILTER = "<filter name='f1' chain='root'/>"


@pytest.fixture(scope="module")
def enforced(tmp_path_factory) -> Iterator[Daemon]:
    policy = put(tmp_path_factory.mktemp("policy") / "policy.bin", POLICY)
    with Daemon(in_daemon(policy)) as daemon:
        yield daemon


@pytest.fixture
def answers(enforced):
    """answers(EXPRESSION...; driver, name): what a client prints for each, in one connection.

    `name`: the URI by which the daemon is to connect, in place of its own.
    """

    def ask(*expressions: str, driver: str = "qemu", name: str = "") -> list[object]:
        uri = enforced.uri.replace("qemu:", f"{driver}:") + (
            f"&name={quote(name, safe='')}" if name else ""
        )
        words = [PYTHON, "-c", CLIENT, uri, json.dumps(expressions)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60 * PATIENCE)
        assert done.returncode == 0, done
        return [json.loads(line) for line in done.stdout.splitlines()]

    return ask


# what the rules on qemu:///system are about is reached by other drivers, too, on the same daemon
SHARED = {
    "network": (
        f'c.networkDefineXML("{NETWORK}").name()',
        "c.networkLookupByName('n1').setAutostart(0)",
    ),
    "storage": (
        f'c.storagePoolDefineXML("{POOL.format("dir", "<name>p1</name>", "")}").name()',
        "c.storagePoolLookupByName('p1').setAutostart(0)",
    ),
    "secret": (
        f'c.secretDefineXML("{SECRET}").UUIDString()[0]',
        "c.secretLookupByUUIDString('66666666-2222-3333-4444-555555555555').setValue(b'x')",
    ),
    "nwfilter": (
        f'c.nwfilterDefineXML("{FILTER}").name()',
        "c.nwfilterLookupByName('f1').undefine()",
    ),
}


@pytest.mark.parametrize("driver", SHARED)
def test_the_same_object_by_another_drivers_uri(answers, driver):
    made, forbidden = SHARED[driver]
    found = answers(made, forbidden)
    if found[0] == NO_SUPPORT:
        lack("system", f"this libvirtd has no driver {driver}")
    assert found[1] == 88
    assert answers(forbidden, "c.getURI().split('?')[0]", driver=driver) == [
        88,
        f"{driver}:///system",
    ]


@pytest.mark.parametrize(
    "path", ["qemu:///system", "qemu:///session", "qemu:///session?x=1", "qemu:/system", ""]
)
def test_the_same_driver_by_another_path(answers, path):
    """A daemon of root's takes both, and has the same guests there."""
    made = MAKE.format([DOMAIN.format("shown3")])
    calls = ("c.lookupByName('shown3').managedSaveRemove()", "c.lookupByName('shown3').state()[0]")
    assert answers(made, *calls, name=path) == [0, 88, 1]


def test_a_daemon_that_is_its_own_client(tmp_path):
    """Whose driver is at the other end can't be told, where nobody is known any more."""
    rule = 'user = "root"\nuri = "qemu:///system"'
    policy = put(tmp_path / "policy.bin", RULE.format("nmi", '["virDomainInjectNMI"]', rule))
    made = MAKE.format([DOMAIN.format("own")])
    with Daemon(in_daemon(policy)) as daemon:
        for uri in (daemon.uri, f"{daemon.uri}&name={quote(daemon.tcp_uri, safe='')}"):
            words = [
                PYTHON,
                "-c",
                CLIENT,
                uri,
                json.dumps([made, "g[0].injectNMI()", "g[0].state()[0]"]),
            ]
            done = subprocess.run(words, capture_output=True, text=True, timeout=60 * PATIENCE)
            assert done.stdout == "0\n88\n1\n", (uri, done)
        os.kill(daemon.pid, signal.SIGKILL)  # libvirtd may wait for itself for ever


def test_renaming_is_about_both_names(answers):
    rename = "c.lookupByName('{}').rename('{}', 0) and 0"
    made = [f'c.defineXML("{DOMAIN.format(name)}").name()' for name in ("keep1", "other1")]
    calls = [
        rename.format("keep1", "free1"),
        rename.format("other1", "keep2"),
        rename.format("other1", "free1"),
    ]
    assert answers(*made, *calls) == ["keep1", "other1", 88, 88, 0]
    assert answers("c.lookupByName('keep1').undefine()", "c.lookupByName('free1').undefine()") == [
        88,
        0,
    ]


def test_lookups_by_uuid_and_id(answers):
    made = MAKE.format([DOMAIN.format(name) for name in ("hidden1", "shown1")])
    calls = (
        "lookupByID(g[{0}].ID())",
        "lookupByUUID(g[{0}].UUID())",
        "lookupByUUIDString(g[{0}].UUIDString())",
    )
    for number, name in enumerate(("hidden1", "shown1")):
        looked_up = [
            f"c.{call.format(number)}.name()"
            for call in (*calls, f"lookupByName(g[{number}].name())")
        ]
        expected = [88] * 4 if name == "hidden1" else [name] * 4
        assert answers(made, *looked_up, f"type(g[{number}].XMLDesc()).__name__")[1:] == [
            *expected,
            88 if name == "hidden1" else "str",
        ]


def test_an_old_name_of_a_function(answers):
    assert answers(f'create_linux("{DOMAIN.format("evil1")}")', "len(c.listAllDomains(1))") == [
        88,
        0,
    ]
    assert answers(
        f'create_linux("{DOMAIN.format("good1")}")', "c.lookupByName('good1').destroy()"
    ) == [True, 0]


def test_pools_named_by_their_source(answers):
    source = "<device path='/dev/none'/><name>{}</name>"
    for name, expected in (("evil1", [88]), ("good1", ["good1", NO_BACKEND])):
        xml = POOL.format("logical", "", source.format(name))
        assert answers(f'c.storagePoolDefineXML("{xml}").name()')[0] in expected


def test_events_of_all_domains(answers):
    made = MAKE.format([DOMAIN.format(name) for name in ("hidden2", "shown2")])
    listen = "c.domainEventRegisterAny({}, 0, lambda *_: 0, None) >= 0"
    assert answers(made, *(listen.format(one) for one in ("None", "g[0]", "g[1]"))) == [
        0,
        88,
        88,
        True,
    ]
