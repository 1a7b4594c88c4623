# SPDX-License-Identifier: LGPL-2.1-or-later
"""Enforced modular daemons: other users are refused on each way in, whatever they say and
whichever daemon asks for them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.enforced import put
from tests.modular.conftest import NAMES, Modular
from tests.needs import MODULAR, PYTHON
from tests.needs import ROOT as TESTS_ROOT
from tests.system.test_identity import ASKS, NOBODY

POLICY = """
[[rule]]
name = "root-may"
action = "allow"
class = "write"
user = "root"

[[rule]]
name = "guests-of-nobody"
action = "allow"
function = "virDomainCreateXML"
user = "nobody"
object = "mine*"

[[rule]]
name = "others-may-claim"
action = "allow"
function = "virConnectSetIdentity"

[[rule]]
name = "root-only"
action = "deny"
class = "write"
"""
# tries three calls of three daemons, and prints how each ended: "0", or the error's code
TRIES = (
    ASKS
    + """
if claims:
    print("claim", tried(lambda: connection.setIdentity(claims)), end=" ")
def guest():
    domain = connection.lookupByName("web1")
    domain.suspend()
    domain.resume()
def network():
    connection.networkDefineXML("<network><name>new</name><bridge name='vt-n'/></network>")
    connection.networkLookupByName("new").undefine()
def secret():
    xml = "<secret ephemeral='yes'><usage type='volume'><volume>/new</volume></usage></secret>"
    connection.secretDefineXML(xml).undefine()
print("guest", tried(guest), end=" ")
print("network", tried(network), "secret", tried(secret))
"""
)
ALLOWED, DENIED = "guest 0 network 0 secret 0", "guest 88 network 88 secret 88"
ROOT = {"unix-user-id": 0, "user-name": "root", "unix-group-id": 0}
BRIDGED = "<network><name>{0}</name><forward mode='bridge'/><bridge name='vt-nosuch'/></network>"
ON_NETWORK = "<interface type='network'><source network='bridged'/></interface>"
SECRET = (
    "<secret ephemeral='yes' private='yes'><uuid>{0}</uuid><usage type='volume'>"
    "<volume>{1}</volume></usage></secret>"
)
ENCRYPTED = (
    "<disk type='file'><driver name='qemu' type='qcow2'/><source file='{1}'><encryption "
    "format='luks'><secret type='passphrase' uuid='{0}'/></encryption></source>"
    "<target dev='vda' bus='virtio'/></disk>"
)
KEY = "6695eb01-f6a4-8304-79aa-97f2502e1951"


@pytest.fixture(scope="module")
def enforced(only_one, tmp_path_factory) -> Iterator[Modular]:
    """All of them obey the policy."""
    policy = put(tmp_path_factory.mktemp("policy") / "policy.bin", POLICY)
    with Modular(dict.fromkeys(NAMES, policy)) as daemons:
        assert daemons.create("web1").returncode == 0
        yield daemons


def test_what_these_daemons_import_has_a_stub_or_a_reason():
    done = subprocess.run(
        [PYTHON, "-m", "pytest", "-q", "tests/unit/enforcer/policy/test_arrivals.py"],
        cwd=TESTS_ROOT,
        env={**os.environ, "LIBVIRT_TRACE_DAEMONS": str(MODULAR / "sbin")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout


def test_users_are_told_apart_on_each_way_in(enforced):
    for uri, of_root in (
        (enforced.uri, ALLOWED),
        (enforced.proxy_uri, ALLOWED),
        (enforced.tcp_uri, DENIED),  # nobody is known there
    ):
        assert enforced.run(TRIES, uri, "{}") == of_root, uri
        assert enforced.run(TRIES, uri, "{}", before=NOBODY) == DENIED, uri


def test_claims_prove_nothing_to_any_of_them(enforced):
    for uri in (enforced.uri, enforced.proxy_uri, enforced.tcp_uri):
        for name in NAMES:
            claims = {**ROOT, "process-id": enforced.pid(name)}
            said = enforced.run(TRIES, uri, repr(claims), before=NOBODY)
            assert said == f"claim 0 {DENIED}", (uri, name)
    said = enforced.run(TRIES, enforced.readonly_uri, repr(ROOT), "readonly", before=NOBODY)
    assert "guest 0" not in said and "network 0" not in said and "secret 0" not in said


def test_daemon_asks_others_in_the_name_of_its_client(enforced, tmp_path):
    """virtqemud asks virtsecretd for the key of a disk, and virtnetworkd for a port."""
    disk = enforced.folder / "disk.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "--object", "secret,id=s,data=key", "-f", "qcow2", "-o",
         "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", disk, "1M"],
        check=True,
    )  # fmt: skip
    path = tmp_path / "object.xml"
    for xml, uri, words in (
        (
            SECRET.format(KEY, disk),
            enforced.secret_uri,
            f"secret-define {path}; secret-set-value {KEY} a2V5",
        ),
        (BRIDGED.format("bridged"), enforced.network_uri, f"net-define {path}; net-start bridged"),
    ):
        path.write_text(xml)
        done = enforced.virsh(words, uri=uri)
        assert done.returncode == 0, done.stderr
    for devices, of_root in (
        (ENCRYPTED.format(KEY, disk), ""),
        (ON_NETWORK, "vt-nosuch"),  # it gets as far as the bridge
    ):
        for uri in (enforced.uri, enforced.proxy_uri):
            guest = enforced.describe("mine", devices)
            denied = enforced.virsh("create", str(guest), uri=uri, before=NOBODY)
            assert denied.returncode and 'denied: by rule "root-only"' in denied.stderr, uri
            assert enforced.virsh("list", "--all", "--name").stdout.split() == ["web1"]
            done = enforced.virsh("create", str(guest), uri=uri)
            assert of_root in done.stderr and "denied" not in done.stderr
            enforced.virsh("destroy", "mine")


def test_daemon_that_is_not_enforced_speaks_for_nobody_who_is_known(only_one, tmp_path):
    """Its clients could claim there to be anybody: virtnetworkd must not believe it."""
    policy = put(tmp_path / "policy.bin", POLICY)
    with Modular({"virtnetworkd": policy}) as daemons:
        assert daemons.create("web1").returncode == 0
        for claims in ({}, ROOT, {**ROOT, "process-id": daemons.pid("virtqemud")}):
            for uri in (daemons.uri, daemons.proxy_uri):
                said = daemons.run(TRIES, uri, repr(claims), before=NOBODY)
                assert "network 88" in said, (claims, uri)
        assert "network 0" in daemons.run(TRIES, daemons.network_uri, "{}")
