# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls that libvirt itself refuses: which permission it asked polkit for and what polkit
answered, told with the call in the daemon and with that of its client; and what is told where
polkit can't be asked.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from log.recording.parse import parse
from log.render.jsonl import line
from tests.daemon import DOMAIN, Daemon
from tests.needs import PATIENCE, PYTHON
from tests.polkit import CONNECT

RULES = """
polkit.addRule(function(action, subject) {
    if (subject.user == "nobody" && action.id == "org.libvirt.api.domain.start" &&
        action.lookup("domain_name") == "kept")
        return polkit.Result.NO;
    if (subject.user == "nobody" && action.id == "org.libvirt.api.domain.stop")
        return polkit.Result.AUTH_ADMIN;
    if (subject.user == "man" && action.id == "org.libvirt.unix.manage")
        return polkit.Result.NO;
    return polkit.Result.YES;
});
"""
CLIENT = """
import os, sys, libvirt
uri, uid, rest = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
os.setgid(uid); os.setuid(uid)
libvirt.registerErrorHandler(lambda *_: None, None)
try:
    connection = libvirt.open(uri)
    for function in rest:
        try:
            domain = connection.lookupByName("kept")
            print(getattr(domain, function)())
        except libvirt.libvirtError as error:
            print(error.get_error_code())
except libvirt.libvirtError as error:
    print(error.get_error_code())
"""
ROOT_UID, MAN, NOBODY = 0, 6, 65534
DENIED = "88"  # VIR_ERR_ACCESS_DENIED


@pytest.fixture(scope="module")
def asking() -> Iterator[Daemon]:
    """A libvirtd that asks a polkit of its own, also who may connect."""
    with Daemon(auth="polkit", rules=RULES) as daemon:
        yield daemon


def client(daemon: Daemon, uid: int, *functions: str) -> tuple[int, list[str]]:
    """The pid of who called, and what he got for each function."""
    command = [PYTHON, "-c", CLIENT, daemon.uri, str(uid), *functions]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=60 * PATIENCE)
    return process.pid, output.split()


def test_permission_and_answer_are_told_with_what_was_refused(trace, asking, tmp_path: Path):
    description = tmp_path / "domain.xml"
    description.write_text(DOMAIN.format(name="kept"))
    asking.virsh("define", str(description))
    uuid = asking.virsh("domuuid", "kept").stdout.strip()
    tracer = trace("-f", "virDomain*", "-f", "virConnectOpen*")
    pid, got = client(asking, NOBODY, "create", "destroy", "isActive")
    assert got == [DENIED, DENIED, "0"]
    refused, at_the_door = client(asking, MAN)
    assert at_the_door in (["45"], ["79"])  # VIR_ERR_AUTH_FAILED, VIR_ERR_AUTH_UNAVAILABLE
    asking.end_polkit()
    root, unanswered = client(asking, ROOT_UID, "suspend")
    result = tracer.stop()
    assert unanswered == [DENIED] and result.lost == 0
    for function, permission, word in (
        ("virDomainCreate", "domain.start", "access denied by policy"),
        ("virDomainDestroy", "domain.stop", "no polkit agent"),
    ):
        (theirs,) = result.calls(function, pid)
        (ours,) = result.calls(function, asking.pid)
        assert theirs["access"] == ours["access"]
        asked = ours["access"][-1]
        assert word in asked.pop("message")
        assert asked == {
            "permission": permission,
            "driver": "polkit",
            "action": f"org.libvirt.api.{permission}",
            "details": {"connect_driver": "QEMU", "domain_name": "kept", "domain_uuid": uuid},
            "answer": "denied",
        }
        assert {one["answer"] for one in ours["access"][:-1]} <= {"allowed"}
    assert not any("access" in call for call in result.calls("virDomainIsActive"))
    (opened,) = result.calls("virConnectOpen", refused)
    (asked,) = opened["access"]
    assert (asked["permission"], asked["action"], asked["answer"]) == (None, CONNECT, "denied")
    (opened,) = result.calls("virConnectOpen", root)
    (asked,) = opened["access"]
    assert (asked["permission"], asked["answer"]) == ("connect.getattr", "failed")
    assert "Failed to execute" in asked["message"]
    for event in result.calls():
        if "access" in event:
            recorded = parse(json.dumps(event))
            assert recorded and json.loads(line(recorded)) == event
