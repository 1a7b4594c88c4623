# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real libvirtd under the enforcer: clients that know nothing of it are refused, whatever
they say about themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probes.host.looking.maps import ENFORCER
from tests.daemon import Daemon
from tests.enforced import in_daemon, put
from tests.needs import PATIENCE, PYTHON, ROOT

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
XML = (
    "<domain type='qemu'><name>{}</name><memory unit='MiB'>64</memory>"
    "<os><type arch='x86_64'>hvm</type></os></domain>"
)


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> Path:
    return put(tmp_path_factory.mktemp("policy") / "policy.bin", POLICY)


@pytest.fixture(scope="module")
def enforced(policy) -> Iterator[Daemon]:
    """A libvirtd that obeys the policy."""
    with Daemon(in_daemon(policy)) as daemon:
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
    assert (refused.returncode, refused.stderr) == (
        1,
        'error: access denied: by rule "no-keys-from-alice"\n',
    )
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
    for name, refused in (
        ("evil1", True),
        ("&#101;vil1", True),
        ("good1", False),
        ("go<!-- -->od2", True),
    ):
        (tmp_path / "domain.xml").write_text(XML.format(name))
        result = enforced.virsh("define", str(tmp_path / "domain.xml"), check=False)
        assert ("error: access denied: no such guests" in result.stderr) is refused, (name, result)
    assert enforced.virsh("list", "--all", "--name").stdout.split().count("good1") == 1
    enforced.virsh("undefine", "good1")


def test_user_is_the_client(enforced, web):
    assert enforced.virsh("reset", "web1").returncode == 0
    command = [
        "setpriv",
        "--reuid",
        "nobody",
        "--regid",
        "nogroup",
        "--clear-groups",
        "virsh",
        "-q",
        "-c",
        enforced.uri,
        "reset",
        "web1",
    ]
    environment = {
        **os.environ,
        "HOME": "/nonexistent",
        "XDG_CACHE_HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
    }
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (
        1,
        f"error: Failed to reset domain 'web1'\n{REFUSED}",
    )


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
    while (
        not enforced.virsh("suspend", "web1", check=False).returncode
        and time.monotonic() < deadline
    ):
        enforced.virsh("resume", "web1")
    assert enforced.virsh("suspend", "web1", check=False).stderr.endswith(REFUSED)


def test_verdicts_are_in_the_log(enforced, web, trace):
    tracer = trace(
        "-p",
        str(enforced.pid),
        "-f",
        "virDomainSuspend",
        "-f",
        "virDomainGetState",
        "-f",
        "virDomainLookupByUUID",
    )
    enforced.virsh("suspend", "web1", check=False)
    subprocess.run(
        [PYTHON, "-c", FORGED, enforced.uri, "web1"], check=True, stdout=subprocess.DEVNULL
    )
    enforced.virsh("domstate", "web1")
    tracer.wait_for(lambda event: event.get("function") == "virDomainGetState")
    result = tracer.stop()
    denied = result.calls("virDomainSuspend")
    assert [event["type"] for event in denied] == ["verdict", "verdict"]
    assert [event["verdict"].get("note") for event in denied] == [
        None,
        ('the handle says "innocent", the driver "web1"'),
    ]
    assert [event["args"]["domain"]["name"] for event in denied] == ["web1", "innocent"]
    assert {event["rule"] for event in denied} == {"keep-web"}
    (state,) = result.calls("virDomainGetState")
    assert (state["type"], state["verdict"]) == ("call", {"action": "audit", "rule": "look"})
    assert result.calls("virDomainLookupByUUID") == []  # the enforcer's own
    assert result.end["denied"] == 2


# the host's policy covers the client's process, too, which nobody asks in


IN_FORCE = """
mount -t tmpfs -o mode=755 tmpfs /etc/libvirt-trace
install -m 644 "$1" /etc/libvirt-trace/policy.bin
shift
exec "$@"
"""


def folded(policy: Path, folder: Path, *command: str) -> tuple[list[str], list[dict[str, Any]]]:
    """The lines and the events of the command, where the policy is the host's."""
    folder.mkdir(exist_ok=True)
    log = folder / "log.json"
    log.unlink(missing_ok=True)
    tracer = [
        PYTHON,
        "-E",
        "-s",
        str(ROOT / "tracer.py"),
        "-f",
        "virDomain[!LF]*",
        "-o",
        str(log),
        "--",
        *command,
    ]
    with system_policy_folder():
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-eu", "-c", IN_FORCE, "sh", str(policy), *tracer],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60 * PATIENCE,
        )
    assert ", 0 lost in " in done.stderr, done.stderr
    events = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in done.stdout.splitlines() if (" virDomain") in line], [
        event for event in events if "function" in event
    ]


@contextlib.contextmanager
def system_policy_folder() -> Iterator[None]:
    """/etc/libvirt-trace is there, if only to mount something on it."""
    folder = Path("/etc/libvirt-trace")
    made = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        yield
    finally:
        if made:
            folder.rmdir()


def test_clients_line_says_what_the_daemons_enforcer_said(enforced, web, tmp_path):
    policy = put(tmp_path / "policy.bin", POLICY)
    lines, events = folded(
        policy,
        tmp_path,
        "virsh",
        "-q",
        "-c",
        enforced.uri,
        "suspend web1; reset web1; domstate web1; inject-nmi web1",
    )
    shown = {
        call["function"]: line
        for line in lines
        for call in events
        if (f" {call['function']}(") in line
    }
    assert len(lines) == 4 and not [line for line in lines if "NOT ENFORCED" in line], lines
    assert shown["virDomainSuspend"].endswith('> DENIED by rule "keep-web" (libvirtd)')
    assert (" = -1 VIR_ERR_ACCESS_DENIED (access denied: web servers are kept) <") in shown[
        "virDomainSuspend"
    ]
    assert shown["virDomainGetState"].endswith('> AUDITED by rule "look" (libvirtd)')
    for function in ("virDomainReset", "virDomainInjectNMI"):
        assert " = 0 <" in shown[function] and shown[function].endswith(">"), shown[function]
    client = {call["function"]: call["verdict"] for call in events if call["client"] is None}
    daemon = {
        call["function"]: call["verdict"] and call["verdict"]["action"]
        for call in events
        if call["pid"] == enforced.pid
    }
    assert client == dict.fromkeys(shown)  # the verdict is the daemon's
    assert daemon == {
        "virDomainSuspend": "deny",
        "virDomainReset": "allow",
        "virDomainGetState": "audit",
        "virDomainInjectNMI": None,
    }


def test_client_of_a_daemon_that_is_not_enforced_is_marked(libvirtd, guest, tmp_path):
    policy = put(tmp_path / "policy.bin", POLICY)
    lines, events = folded(
        policy,
        tmp_path,
        "virsh",
        "-q",
        "-c",
        libvirtd.uri,
        f"suspend {guest.name}; resume {guest.name}",
    )
    assert [" NOT ENFORCED" in line for line in lines] == [True, False], lines
    verdicts = {
        (call["function"], call["pid"] == libvirtd.pid): call["verdict"]
        and call["verdict"]["action"]
        for call in events
    }
    assert verdicts == {
        (function, in_daemon): said
        for function, said in (("virDomainSuspend", "not enforced"), ("virDomainResume", None))
        for in_daemon in (True, False)
    }
