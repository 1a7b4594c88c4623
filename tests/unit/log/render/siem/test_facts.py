# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an audit asks of an event: objects, actions, whose it was, and how it ended."""

import pytest

from log.client import OWN
from log.events import CallError
from log.render.siem.facts import CREATE, DELETE, READ, UPDATE, Affected, facts
from log.values import Handle, Values, Xml
from tests.unit.log.render.siem.samples import (
    CLAIMED,
    CRASHED,
    DENIED,
    FAILED,
    FROZEN,
    HELD_OPEN,
    IN_DAEMON,
    LIBVIRTD,
    NOT_ENFORCED,
    NOT_KNOWN,
    READS,
    STARTED,
    UNFINISHED,
)
from tests.unit.log_samples import CONNECT, DESTROY, UUID, WEB1

DEFINED = f"<domain><name>n</name><uuid>{UUID}</uuid></domain>"
VOLUME = Handle("volume", {"name": "a.img", "pool": "default", "key": "/p/a.img"})


def told_of(event):
    found = facts(event)
    assert found
    return found


@pytest.mark.parametrize(
    "function, write, action",
    [
        ("virDomainDefineXMLFlags", True, CREATE),
        ("virStorageVolCreateXML", True, CREATE),
        ("virDomainCreate", True, UPDATE),
        ("virDomainDestroy", True, UPDATE),
        ("virDomainUndefineFlags", True, DELETE),
        ("virStorageVolDelete", True, DELETE),
        ("virDomainGetInfo", False, READ),
        ("virDomainGetXMLDesc", False, READ),
    ],
)
def test_action_is_told_by_the_function(function, write, action):
    told = told_of(DESTROY._replace(function=function, write=write))
    assert (told.what, told.action) == (function, action)


@pytest.mark.parametrize(
    "function, args, ret, things",
    [
        ("virDomainDestroy", {"domain": WEB1}, 0, [Affected("domain", "web1", UUID)]),
        ("virDomainLookupByName", {"conn": CONNECT, "name": "web1"}, WEB1,
         [Affected("domain", "web1", UUID)]),
        ("virNetworkLookupByName", {"conn": CONNECT, "name": "no"}, None,
         [Affected("network", "no", None)]),
        ("virDomainLookupByUUIDString", {"conn": CONNECT, "uuidstr": UUID}, None,
         [Affected("domain", None, UUID)]),
        ("virStorageVolDelete", {"vol": VOLUME}, 0, [Affected("volume", "default/a.img", None)]),
        ("virDomainMigrate", {"domain": WEB1, "dconn": CONNECT}, WEB1,
         [Affected("domain", "web1", UUID)]),
        ("virDomainDefineXML", {"conn": CONNECT, "xml": Xml("", DEFINED)}, None,
         [Affected("domain", "n", UUID)]),
        ("virConnectGetCapabilities", {"conn": CONNECT}, None, []),
    ],
)  # fmt: skip
def test_object_is_what_the_call_is_on_finds_or_names(function, args, ret, things):
    call = DESTROY._replace(function=function, args=Values(args), ret=ret, returns="pointer")
    assert list(told_of(call).things) == things
    assert told_of(call).uri == ("qemu:///system" if CONNECT in args.values() else None)


def test_daemon_does_it_for_its_client():
    told = told_of(IN_DAEMON)
    assert (told.who.user, told.who.pid, told.who.program) == ("alice", 41300, "virsh")
    assert (told.daemon.pid, told.daemon.program) == (LIBVIRTD.pid, "libvirtd")
    assert told_of(CLAIMED).who == told.who and told_of(CLAIMED).claims["user"] == "root"
    assert told_of(NOT_KNOWN).who is None and told_of(NOT_KNOWN).daemon == told.daemon
    own = told_of(IN_DAEMON._replace(client=OWN))
    assert own.who == told.daemon and own.daemon is None


def test_outcome_is_what_the_caller_got():
    assert [told_of(call).success for call in (DESTROY, FAILED, DENIED, UNFINISHED)] == [
        True,
        False,
        False,
        None,
    ]
    assert told_of(FAILED).reason == "VIR_ERR_NO_DOMAIN"
    assert (told_of(DENIED).reason, told_of(DENIED).rule) == ("denied", "keep-web")
    assert told_of(UNFINISHED).reason == "process exited"
    assert told_of(NOT_ENFORCED).verdict == "not enforced"
    # an error that libvirt got over
    benign = DESTROY._replace(error=CallError(1, "VIR_ERR_INTERNAL_ERROR", None, "x"))
    assert (told_of(benign).success, told_of(benign).reason) == (True, None)
    assert told_of(READS).success is None  # some failed
    assert told_of(READS._replace(failed=0)).success is True


def test_domain_ends_by_whom_it_is_known():
    told = told_of(CRASHED)
    assert (told.what, told.who.pid, told.who.user, told.success) == (
        "domain stopped",
        4711,
        "alice",
        False,
    )
    assert told.message == "domain stopped: crashed, by SIGKILL from 4711 kill alice"
    assert told_of(STARTED).who is None


def test_what_is_owed_by_whom():
    told = told_of(FROZEN)
    assert (told.what, told.reason, told.success) == ("owed", "frozen", False)
    assert (told.who.pid, told.who.user, told.thing.name) == (4711, "alice", "web1")
    assert told.message == "web1: frozen by 4711 backup alice for 41s, its process has ended"
    held = told_of(HELD_OPEN)
    assert (held.who, held.thing.name, held.uri) == (None, "qemu:///system", "qemu:///system")
    assert held.success is None and held.reason == "connection"
