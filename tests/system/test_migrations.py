# SPDX-License-Identifier: LGPL-2.1-or-later
"""Migrations out of and into an enforced daemon: their steps are judged, and what arrives by
its name and document.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.daemon import Daemon, free_ports
from tests.enforced import in_daemon, put
from tests.needs import PYTHON

POLICY = """
[[rule]]
name = "stay"
action = "deny"
function = "virDomainMigrateToURI3"
object = "stays*"

[[rule]]
name = "no-such-guests"
action = "deny"
function = ["virDomainCreateXML*"]
object = ["evil*"]

[[rule]]
name = "no-such-definitions"
action = "deny"
function = ["virDomainDefineXML*"]
object = ["passing*"]

[[rule]]
name = "no-hot-devices"
action = "deny"
function = ["virDomainDefineXML*", "virDomainCreateXML*"]
contains = { xml = ["<description>bad"] }

[[rule]]
name = "root-only"
action = "deny"
class = "write"
user = "!root"
"""
NOBODY = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups")
# moves the guest NAME and prints how that ended: "moved", or the error's code and message
MOVE = """
import ast, libvirt, os, sys
libvirt.registerErrorHandler(lambda *arguments: None, None)
source, target, name, how, flags, port = sys.argv[1:7]
params = {libvirt.VIR_MIGRATE_PARAM_URI: "tcp://127.0.0.1:" + port, **ast.literal_eval(sys.argv[7])}
flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_UNSAFE | int(flags)
domain = libvirt.open(source).lookupByName(name)
try:
    if how == "peer":
        domain.migrateToURI3(target, params, flags | libvirt.VIR_MIGRATE_PEER2PEER)
    else:
        domain.migrate3(libvirt.open(target), params, flags)
    print("moved")
except libvirt.libvirtError as error:
    print(error.get_error_code(), error)
"""


@pytest.fixture(scope="module")
def enforced(tmp_path_factory) -> Iterator[Daemon]:
    policy = put(tmp_path_factory.mktemp("policy") / "policy.bin", POLICY)
    with Daemon(in_daemon(policy)) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def other() -> Iterator[Daemon]:
    """One without a policy."""
    with Daemon() as daemon:
        yield daemon


def move(
    source: Daemon,
    target: Daemon,
    name: str,
    *before: str,
    how: str = "direct",
    flags: int = 0,
    **params: str,
) -> str:
    (port,) = free_ports(1)
    command = [
        *before,
        PYTHON,
        "-c",
        MOVE,
        source.uri,
        target.tcp_uri if how == "peer" else target.uri,
        name,
        how,
        str(flags),
        str(port),
        repr(params),
    ]
    return subprocess.check_output(
        command,
        text=True,
        env={**os.environ, "HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent"},
    ).strip()


def guests(daemon: Daemon) -> set[str]:
    return set(daemon.virsh("list", "--all", "--name").stdout.split())


def denied(rule: str) -> str:
    return f'88 access denied: by rule "{rule}"'


@pytest.mark.parametrize("how", ["direct", "peer"])
def test_guest_that_stays_is_not_moved_out(enforced, other, how):
    guest = enforced.create("stays")
    try:
        assert move(enforced, other, "stays", how=how) == denied("stay")
        assert move(enforced, other, "stays", *NOBODY, how=how) == denied("stay")
        assert (guests(enforced), guests(other)) == ({"stays"}, set())
    finally:
        enforced.end(guest)


@pytest.mark.parametrize("how", ["direct", "peer"])
def test_others_move_for_whom_may(enforced, other, how):
    enforced.create("free")
    assert move(enforced, other, "free", *NOBODY, how=how) == denied("root-only")
    assert move(enforced, other, "free", how=how) == "moved"
    assert (guests(enforced), guests(other)) == (set(), {"free"})
    assert move(other, enforced, "free", *NOBODY) == denied("root-only")
    # over TCP nobody knows who the other daemon is
    assert move(other, enforced, "free", how="peer") == denied("root-only")
    assert move(other, enforced, "free") == "moved"
    assert (guests(enforced), guests(other)) == ({"free"}, set())
    enforced.virsh("destroy", "free")


def test_what_arrives_is_judged_as_what_it_becomes(enforced, other):
    guest = other.create("good")
    try:
        persist = 8  # VIR_MIGRATE_PERSIST_DEST
        for how in ("direct", "peer"):
            assert move(other, enforced, "good", how=how, destination_name="evil") == denied(
                "no-such-guests"
            )
            assert move(
                other, enforced, "good", how=how, destination_name="passing", flags=persist
            ) == denied("no-such-definitions")
        document = other.virsh("dumpxml", "--migratable", "good").stdout
        bad = document.replace("<memory ", "<description>bad</description><memory ", 1)
        assert move(other, enforced, "good", destination_xml=bad) == denied("no-hot-devices")
        assert guests(enforced) == set()
        assert move(other, enforced, "good", destination_name="passing") == "moved"
        assert guests(enforced) == {"passing"}
        enforced.virsh("destroy", "passing")
    finally:
        other.end(guest)


def test_migration_is_the_cause_on_both_sides(other, trace):
    """The guest goes to another daemon and comes to be there by calls, which are told."""
    guest = other.create("goes")
    with Daemon() as target:
        tracer = trace("-p", str(other.pid), "-p", str(target.pid))
        tracer.wait_attached()
        assert move(other, target, guest.name) == "moved"
        tracer.wait_for(lambda one: one["type"] == "domain" and one["event"] == "stopped")
        result = tracer.stop(lost=None)
    functions = {call["id"]: call["function"] for call in result.calls()}
    done = {
        (one["pid"], one["event"]): (one["detail"], functions.get(one["parent"]), one["cause"])
        for one in result.events
        if one["type"] == "domain"
    }
    names = {which: (detail, function) for which, (detail, function, _) in done.items()}
    assert names == {
        (target.pid, "started"): ("migrated", "virDomainMigratePrepare3Params"),
        (other.pid, "suspended"): ("migrated", "virDomainMigratePerform3Params"),
        (target.pid, "resumed"): ("migrated", "virDomainMigrateFinish3Params"),
        (other.pid, "stopped"): ("migrated", "virDomainMigrateConfirm3Params"),
    }
    assert {cause["kind"] for _, _, cause in done.values()} == {"call"}
