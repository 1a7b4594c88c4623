# SPDX-License-Identifier: LGPL-2.1-or-later
"""Users of an enforced daemon by the names that SASL has proved, from a database of passwords."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import DOMAIN, Daemon
from tests.enforced import library, put
from tests.needs import PYTHON, lack

POLICY = """
[[rule]]
name = "alice-only"
action = "deny"
class = "write"
user = ["!sasl:alice*"]
"""
# as USER: claims to be CLAIM, if that is said, then makes a guest and destroys it; how each call
# ended: "0", or the error's code
CLIENT = """
import libvirt, sys
libvirt.registerErrorHandler(lambda *arguments: None, None)
uri, user, claim, xml = sys.argv[1:]
def answer(credentials, _):
    for credential in credentials:
        credential[4] = user if credential[0] == libvirt.VIR_CRED_AUTHNAME else "secret of " + user
    return 0
def tried(call):
    try:
        return call() and 0
    except libvirt.libvirtError as error:
        return error.get_error_code()
asked = [libvirt.VIR_CRED_AUTHNAME, libvirt.VIR_CRED_PASSPHRASE]
connection = libvirt.openAuth(uri, [asked, answer, None])
if claim:
    claims = {"sasl-user-name": claim, "unix-user-id": 0}
    print(tried(lambda: connection.setIdentity(claims, 0)), end=" ")
print(tried(lambda: connection.createXML(xml, libvirt.VIR_DOMAIN_START_AUTODESTROY)))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    if not shutil.which("saslpasswd2"):
        lack("system", "no saslpasswd2 (sasl2-bin)")
    path: Path = tmp_path_factory.mktemp("sasl")
    (path / "libvirt.conf").write_text(
        "mech_list: digest-md5\npwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: "
        f"{path}/users\n"
    )
    for user in ("alice", "mallory"):
        words = ["saslpasswd2", "-p", "-f", str(path / "users"), "-a", "libvirt", "-c", user]
        subprocess.run(words, input=f"secret of {user}", text=True, check=True)
    return path


@pytest.fixture(scope="module")
def enforced(folder) -> Iterator[Daemon]:
    policy = put(folder / "policy.bin", POLICY)
    env = {
        "LD_PRELOAD": str(library()),
        "LIBVIRT_TRACE_POLICY": str(policy),
        "SASL_CONF_PATH": str(folder),
    }
    with Daemon(env, auth="sasl") as daemon:
        yield daemon


def tried(daemon: Daemon, user: str, claim: str = "") -> str:
    words = [PYTHON, "-c", CLIENT, daemon.uri, user, claim, DOMAIN.format(name=user)]
    return subprocess.check_output(words, text=True, env={**os.environ, "LC_ALL": "C"}).strip()


def test_sasl_names_the_user(enforced):
    assert tried(enforced, "alice") == "0"
    assert tried(enforced, "mallory") == "88"


def test_a_claimed_name_proves_nothing(enforced):
    assert tried(enforced, "mallory", "alice").endswith("88")
    assert tried(enforced, "alice", "mallory").endswith("88")


def test_log_shows_the_name_that_was_proved(enforced, trace):
    tracer = trace("-p", str(enforced.pid), "--both", "-f", "virDomainCreateXML")
    assert tried(enforced, "mallory").endswith("88")
    (denied,) = tracer.stop().calls("virDomainCreateXML", enforced.pid)
    assert denied["type"] == "verdict" and str(denied["client"]["sasl"]).startswith("mallory")
