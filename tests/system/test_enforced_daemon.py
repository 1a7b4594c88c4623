# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real libvirtd under the enforcer: clients that know nothing of it are refused, whatever they say about themselves."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.host.maps import ENFORCER
from tests.daemon import Daemon
from tests.enforced import library, put
from tests.needs import PATIENCE, PYTHON

POLICY = """
[[rule]]
name = "root-may-reset"
action = "allow"
function = "virDomainReset"
user = "root"

[[rule]]
name = "keep-web"
action = "deny"
function = ["virDomainDestroy*", "virDomainSuspend", "virDomainReset", "virDomainSnapshotDelete"]
object = ["web*"]
message = "web servers are kept"

[[rule]]
name = "no-such-guests"
action = "deny"
function = ["virDomainCreateXML*", "virDomainDefineXML*"]
object = ["evil*"]
message = "no such guests"

[[rule]]
name = "no-keys-from-alice"
action = "deny"
function = "virDomainSendKey"
user = ["x509:O=clients,CN=alice"]

[[rule]]
name = "look"
action = "audit"
function = "virDomainGetState"
"""
REFUSED = "error: access denied: web servers are kept\n"
# a client that says that its handle of web1 is another domain's
FORGED = """
import ctypes, libvirt, os, sys
libvirt.registerErrorHandler(lambda *arguments: None, None)
domain = libvirt.open(sys.argv[1]).lookupByName(sys.argv[2])
name = ctypes.create_string_buffer(b"innocent")
ctypes.c_void_p.from_address(domain.c_pointer() + 32).value = ctypes.addressof(name)
try:
    domain.suspend()
    print(domain.name(), "suspended", flush=True)
except libvirt.libvirtError as error:
    print(domain.name(), error.get_error_code(), error, flush=True)
os._exit(0)
"""
XML = """<domain type='qemu'><name>{}</name><memory unit='MiB'>64</memory><os><type arch='x86_64'>hvm</type></os></domain>"""


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> Path:
    return put(tmp_path_factory.mktemp("policy") / "policy.bin", POLICY)


@pytest.fixture(scope="module")
def enforced(policy) -> Iterator[Daemon]:
    """A libvirtd that obeys the policy."""
    with Daemon({"LD_PRELOAD": str(library()), "LIBVIRT_TRACE_POLICY": str(policy)}) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def web(enforced):
    guest = enforced.create("web1")
    yield guest
    enforced.end(guest)


def test_plain_virsh_is_refused_and_the_guest_goes_on(enforced, web):
    for word in ("suspend", "destroy"):
        result = enforced.virsh(word, "web1", check=False)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == f"error: Failed to {word} domain 'web1'\n{REFUSED}"
    assert enforced.virsh("domstate", "web1").stdout == "running\n"
    os.kill(web.pid, 0)


def test_certificate_of_a_client_names_its_user(enforced, web):
    refused = enforced.virsh("-c", enforced.tls_uri, "send-key", "web1", "KEY_A", check=False)
    assert (refused.returncode, refused.stderr) == (1, 'error: access denied: by rule "no-keys-from-alice"\n')
    for uri in (enforced.tcp_uri, enforced.uri):
        assert enforced.virsh("-c", uri, "send-key", "web1", "KEY_A").stderr == ""


def test_other_guests_are_free(enforced, web):
    other = enforced.create("other")
    for word, state in (("suspend", "paused"), ("resume", "running")):
        enforced.virsh(word, "other")
        assert enforced.virsh("domstate", "other").stdout == f"{state}\n"
    enforced.virsh("destroy", "other")
    assert other.name not in enforced.virsh("list", "--name").stdout


def test_name_in_a_handle_proves_nothing(enforced, web):
    printed = subprocess.check_output([PYTHON, "-c", FORGED, enforced.uri, "web1"], text=True)
    assert printed == "innocent 88 access denied: web servers are kept\n"
    assert enforced.virsh("domstate", "web1").stdout == "running\n"


def test_name_in_xml_is_read(enforced, tmp_path):
    for name, refused in (("evil1", True), ("&#101;vil1", True), ("good1", False), ("go<!-- -->od2", True)):
        (tmp_path / "domain.xml").write_text(XML.format(name))
        result = enforced.virsh("define", str(tmp_path / "domain.xml"), check=False)
        assert ("error: access denied: no such guests" in result.stderr) is refused, (name, result)
    assert enforced.virsh("list", "--all", "--name").stdout.split().count("good1") == 1
    enforced.virsh("undefine", "good1")


def test_user_is_the_client(enforced, web):
    assert enforced.virsh("reset", "web1").returncode == 0
    command = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "virsh", "-q", "-c", enforced.uri, "reset", "web1"]
    environment = {**os.environ, "HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, f"error: Failed to reset domain 'web1'\n{REFUSED}")


def test_guests_and_hooks_start_without_it(enforced, web):
    environment = Path(f"/proc/{web.pid}/environ").read_bytes()
    assert b"LD_PRELOAD" not in environment and b"LIBVIRT_TRACE" not in environment
    assert ENFORCER not in Path(f"/proc/{web.pid}/maps").read_text()
    assert ENFORCER in Path(f"/proc/{enforced.pid}/maps").read_text()


def test_new_policy_comes_into_force_without_a_restart(enforced, web, policy):
    put(policy, "")
    deadline = time.monotonic() + 60 * PATIENCE
    while enforced.virsh("suspend", "web1", check=False).returncode and time.monotonic() < deadline:
        time.sleep(0.1)
    assert enforced.virsh("domstate", "web1").stdout == "paused\n"
    enforced.virsh("resume", "web1")
    put(policy, POLICY)
    deadline = time.monotonic() + 60 * PATIENCE
    while not enforced.virsh("suspend", "web1", check=False).returncode and time.monotonic() < deadline:
        enforced.virsh("resume", "web1")
    assert enforced.virsh("suspend", "web1", check=False).stderr.endswith(REFUSED)


def test_verdicts_are_in_the_log(enforced, web, trace):
    tracer = trace("-p", str(enforced.pid), "-f", "virDomainSuspend", "-f", "virDomainGetState", "-f", "virDomainLookupByUUID")
    enforced.virsh("suspend", "web1", check=False)
    subprocess.run([PYTHON, "-c", FORGED, enforced.uri, "web1"], check=True, stdout=subprocess.DEVNULL)
    enforced.virsh("domstate", "web1")
    tracer.wait_for(lambda event: event.get("function") == "virDomainGetState")
    result = tracer.stop()
    denied = result.calls("virDomainSuspend")
    assert [event["type"] for event in denied] == ["verdict", "verdict"]
    assert [event["verdict"].get("note") for event in denied] == [None, 'the handle says "innocent", the driver "web1"']
    assert [event["args"]["domain"]["name"] for event in denied] == ["web1", "innocent"]
    assert {event["rule"] for event in denied} == {"keep-web"}
    (state,) = result.calls("virDomainGetState")
    assert (state["type"], state["verdict"]) == ("call", {"action": "audit", "rule": "look"})
    assert result.calls("virDomainLookupByUUID") == []  # the enforcer's own
    assert result.end["denied"] == 2
