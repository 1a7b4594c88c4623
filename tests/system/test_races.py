# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clients whose threads change a name, a UUID and a document while calls are made with them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.daemon import Daemon
from tests.enforced import in_daemon, put, run

CALLS = 400
POLICY = """
[[rule]]
name = "kept"
action = "deny"
function = "virDomainSetAutostart"
object = "kept*"

[[rule]]
name = "not made"
action = "deny"
function = "virDomainDefineXML*"
object = "flip-evil"
"""
DOMAIN = "<domain type='{}'><name>{}</name><memory>65536</memory><os><type>hvm</type></os></domain>"


@pytest.fixture(scope="module")
def enforced(tmp_path_factory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("policy")
    policy = put(folder / "policy.bin", POLICY)
    with Daemon(in_daemon(policy)) as daemon:
        for name in ("kept1", "other1"):
            (folder / "domain.xml").write_text(DOMAIN.format("qemu", name))
            daemon.virsh("define", str(folder / "domain.xml"))
        yield daemon


def test_a_daemon_does_what_it_has_judged(enforced, caller):
    """Whatever the client's memory holds by then: what came is a copy of the daemon's own."""
    done = run([caller("flips", "-pthread"), enforced.uri, CALLS, "kept1", "other1"], None)
    assert done.returncode == 0, done
    passed, denied, other, defined, refused, broken = map(int, done.stdout.split())
    # a handle that is half of one guest and half of the other names none
    assert passed + denied + other == defined + refused + broken == CALLS
    assert passed and denied and defined and refused
    assert "flip-evil" not in enforced.virsh("list", "--all", "--name").stdout.split()
    for name, autostart in (("kept1", "disable"), ("other1", "enable")):
        assert f"Autostart:      {autostart}" in enforced.virsh("dominfo", name).stdout


def test_a_client_is_a_guard_rail_that_breaks_nothing(caller, tmp_path):
    """Between verdict and call it may change what it names: each call is denied or libvirt's,
    and the program goes on.
    """
    policy = put(tmp_path / "policy.bin", POLICY.replace("kept*", "test"))
    done = run([caller("flips", "-pthread"), "test:///default", 10 * CALLS, "test", "test"], policy)
    assert done.returncode == 0, done
    *guests, defined, refused, broken = map(int, done.stdout.split())
    assert guests == [0, 10 * CALLS, 0]
    assert defined + refused + broken == 10 * CALLS and defined and refused
