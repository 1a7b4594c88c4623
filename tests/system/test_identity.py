# SPDX-License-Identifier: LGPL-2.1-or-later
"""For whom an enforced daemon judges: the user that the kernel knows, whatever a client says of
itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.enforced import library, put
from tests.needs import PYTHON

POLICY = """
[[rule]]
name = "not-for-daemon"
action = "deny"
function = "virDomainReset"
user = "daemon"

[[rule]]
name = "daemon-may-interrupt"
action = "allow"
function = "virDomainInjectNMI"
user = "daemon"

[[rule]]
name = "root-may-not-interrupt"
action = "deny"
function = "virDomainInjectNMI"
user = "root"

[[rule]]
name = "not-with-python"
action = "deny"
function = "virDomainSendKey"
exe = "*/python*"

[[rule]]
name = "root-may"
action = "allow"
class = "write"
user = "root"

[[rule]]
name = "others-may-claim"
action = "allow"
function = "virConnectSetIdentity"

[[rule]]
name = "root-only"
action = "deny"
class = "write"
"""
NOBODY = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups")
# a program that says of itself what its second argument has, and tells how a call ended: 0, or the
# error's code
ASKS = """
import ast, libvirt, os, sys
libvirt.registerErrorHandler(lambda *_: None, None)
connection = (libvirt.openReadOnly if "readonly" in sys.argv else libvirt.open)(sys.argv[1])
def tried(call):
    try:
        return call() or 0
    except libvirt.libvirtError as error:
        return error.get_error_code()
claims = ast.literal_eval(sys.argv[2])
"""
CLAIM = (
    ASKS
    + """
if claims:
    claims.setdefault("process-id", os.getpid())
    print("claim", tried(lambda: connection.setIdentity(claims, 0)))
domain = connection.lookupByName("web1")
print("suspend", tried(domain.suspend), "reset", tried(domain.reset), end=" ")
print("key", tried(lambda: domain.sendKey(0, 0, [30], 1, 0)), end=" ")
print("nmi", tried(domain.injectNMI))
"""
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where libvirt's daemons are, as root has installed them: one that passes calls on is a
    Python here.
    """
    path = Path("/usr/local/lib/libvirt-trace-test")
    path.mkdir(mode=0o755)
    try:
        shutil.copy2("/usr/sbin/libvirtd", path / "libvirtd")
        shutil.copy2(os.path.realpath(PYTHON), path / "virtproxyd")
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture(scope="module")
def enforced(folder, tmp_path_factory) -> Iterator[Daemon]:
    policy = put(tmp_path_factory.mktemp("policy") / "policy.bin", POLICY)
    env = {
        "LD_PRELOAD": str(library()),
        "LIBVIRT_TRACE_POLICY": str(policy),
        "PATH": f"{folder}:{os.environ['PATH']}",
    }
    with Daemon(env) as daemon:
        assert os.readlink(f"/proc/{daemon.pid}/exe") == str(folder / "libvirtd")
        guest = daemon.create("web1")
        yield daemon
        daemon.end(guest)


def tried(
    daemon: Daemon,
    claims: dict[str, object],
    *before: object,
    program: object = PYTHON,
    uri: str = "",
    more: str = "",
    env: Mapping[str, str] | None = None,
) -> str:
    command = [*map(str, before), str(program), "-c", CLAIM, uri or daemon.uri, repr(claims), more]
    return subprocess.check_output(
        command,
        text=True,
        env={**os.environ, "HOME": "/nonexistent", "PYTHONHOME": "/usr", **(env or {})},
    ).strip()


def test_nobody_stays_nobody_whatever_he_claims(enforced):
    assert tried(enforced, {}, *NOBODY) == "suspend 88 reset 88 key 88 nmi 88"
    root = {"unix-user-id": 0, "user-name": "root", "unix-group-id": 0}
    for claims in (
        root,
        {**root, "process-id": enforced.pid},
        {"process-id": enforced.pid},
        {"process-id": enforced.pid, "unix-user-id": 0},
    ):
        assert tried(enforced, claims, *NOBODY) == ("claim 0\nsuspend 88 reset 88 key 88 nmi 88"), (
            claims
        )


def test_readonly_connections_and_tcp_claim_nothing_either(enforced):
    root = {"unix-user-id": 0, "process-id": enforced.pid}
    # libvirt itself lets read-only connections claim
    readonly = enforced.uri.replace("libvirt-sock", "libvirt-sock-ro")
    assert "suspend 0" not in tried(enforced, root, *NOBODY, uri=readonly, more="readonly")
    assert "suspend 88" in tried(enforced, root, *NOBODY, uri=enforced.tcp_uri)


def test_root_is_judged_as_both(enforced):
    assert tried(enforced, {}) == "suspend 0 reset 0 key 88 nmi 88"
    assert tried(enforced, {"unix-user-id": 1}) == "claim 0\nsuspend 88 reset 88 key 88 nmi 88"
    assert tried(enforced, {"unix-user-id": 0}).splitlines()[1] == "suspend 0 reset 0 key 88 nmi 88"


def test_libvirts_own_daemon_speaks_for_its_client(enforced, folder):
    def said(claims: dict[str, object], *before: object) -> str:
        with_library = {"LD_PRELOAD": str(library())}
        return tried(enforced, claims, *before, program=folder / "virtproxyd", env=with_library)

    # its path is no */python*
    assert said({}) == "suspend 0 reset 0 key 0 nmi 88"
    assert said({"unix-user-id": 65534}).startswith("claim 0\nsuspend 88 reset 88")
    assert said({"unix-user-id": 1}) == "claim 0\nsuspend 88 reset 88 key 88 nmi 0"
    assert said({"unix-user-id": 0}).startswith("claim 0\nsuspend 0 reset 0")
    # the file alone is not enough, nor is its name
    assert said({"unix-user-id": 0}, *NOBODY).startswith("claim 0\nsuspend 88 reset 88")


def test_for_whom_a_daemon_speaks_that_is_not_enforced_cant_be_told(enforced, folder):
    """Anybody may have claimed to it that he is root."""
    proxy = folder / "virtproxyd"
    assert tried(enforced, {}, program=proxy) == "suspend 0 reset 0 key 0 nmi 88"
    for key, value in (("unix-user-id", 0), ("unix-user-id", 65534), ("process-id", enforced.pid)):
        claims: dict[str, object] = {key: value}
        said = tried(enforced, claims, program=proxy)
        assert said.startswith("claim 0\nsuspend 88 reset 88 key 88"), claims


def test_name_of_libvirts_daemon_proves_nothing(enforced, tmp_path):
    shutil.copy2(os.path.realpath(PYTHON), tmp_path / "virtproxyd")
    assert (
        tried(enforced, {"unix-user-id": 1}, program=tmp_path / "virtproxyd")
        == "claim 0\nsuspend 88 reset 88 key 88 nmi 88"
    )


def test_path_in_a_mount_namespace_of_ones_own_proves_nothing(enforced, tmp_path):
    """A rule that denies for python matches what can't be told: another file may be at the path."""
    script = (
        f"mount --bind {os.path.realpath(PYTHON)} /usr/bin/true && exec /usr/bin/true -c "
        f'"$1" "$2" "{{}}" ""'
    )
    result = subprocess.check_output(
        ["unshare", "--mount", "sh", "-c", script, "sh", CLAIM, enforced.uri],
        text=True,
        env={**os.environ, "PYTHONHOME": "/usr"},
    )
    assert result.strip() == "suspend 0 reset 0 key 88 nmi 88"


def test_log_shows_who_it_is_and_what_he_says(enforced, trace):
    tracer = trace(
        "-p", str(enforced.pid), "--both", "-f", "virDomainSuspend", "-f", "virConnectSetIdentity*"
    )
    assert tried(
        enforced, {"unix-user-id": 0, "user-name": "root", "process-id": enforced.pid}, *NOBODY
    ).startswith("claim 0")
    result = tracer.stop()
    (claim,) = result.calls("virConnectSetIdentityEnsureACL")
    assert (claim["type"], claim["client"]["user"], "claims" in claim["client"]) == (
        "call",
        "nobody",
        False,
    )
    # the change is an event; before it and after it the kernel's word is there
    assert claim["client"]["peer"] == {
        key: claim["client"][key] for key in claim["client"] if key != "peer"
    }
    assert claim["client"]["peer"]["uid"] == 65534 and claim["write"]
    (denied,) = result.calls("virDomainSuspend", enforced.pid)
    client = denied["client"]
    assert (denied["type"], client["user"], client["uid"]) == ("verdict", "nobody", 65534)
    assert (client["peer"]["uid"], client["claims"]["uid"], client["claims"]["pid"]) == (
        65534,
        0,
        enforced.pid,
    )
    assert denied["verdict"]["note"] == "uid 65534 says that it acts for uid 0"


def test_log_shows_for_whom_libvirts_own_daemon_speaks(enforced, folder, trace):
    tracer = trace("-p", str(enforced.pid), "--both", "-f", "virDomainSuspend")
    tried(enforced, {"unix-user-id": 65534, "user-name": "nobody"}, program=folder / "virtproxyd")
    (denied,) = tracer.stop().calls("virDomainSuspend", enforced.pid)
    assert (denied["client"]["user"], denied["client"]["peer"]["uid"]) == ("nobody", 0)
    assert denied["client"]["peer"]["exe"] == str(folder / "virtproxyd")
