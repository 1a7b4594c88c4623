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

from log.parsing.parse import parse
from log.render import text
from log.render.jsonl import line
from tests.daemon import DOMAIN, Daemon
from tests.needs import PATIENCE, PYTHON, ROOT
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
PERMISSIVE = "polkit.addRule(function(action, subject) { return polkit.Result.YES; });"
CLIENT = """
import os, sys, libvirt
uri, uid, rest = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
os.setgid(uid); os.setuid(uid)
libvirt.registerErrorHandler(lambda *_: None, None)
try:
    connection = libvirt.open(uri)
    for function in rest:
        function, _, name = function.partition(":")
        try:
            domain = connection.lookupByName(name or "kept")
            print(getattr(domain, function)(*([True] if function == "setAutostart" else [])))
        except libvirt.libvirtError as error:
            print(error.get_error_code())
except libvirt.libvirtError as error:
    print(error.get_error_code())
"""
NAMES = ("kept", "build-1", "build-2", "build-3", "build-4")
ROOT_UID, MAN, NOBODY = 0, 6, 65534
DENIED, INVALID = "88", "55"  # VIR_ERR_ACCESS_DENIED, VIR_ERR_OPERATION_INVALID


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A libvirtd that asks a polkit of its own, also who may connect."""
    with Daemon(auth="polkit", rules=PERMISSIVE) as daemon:
        description = tmp_path_factory.mktemp("domains") / "domain.xml"
        for name in NAMES:
            description.write_text(DOMAIN.format(name=name))
            daemon.virsh("define", str(description))
        yield daemon


def client(daemon: Daemon, uid: int, *functions: str) -> tuple[int, list[str]]:
    """The pid of who called, and what he got for each function."""
    command = [PYTHON, "-c", CLIENT, daemon.uri, str(uid), *functions]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=60 * PATIENCE)
    return process.pid, output.split()


def test_learned_rules_of_polkit_allow_what_was_seen_and_nothing_else(
    trace, asking: Daemon, tmp_path: Path
):
    tracer = trace("-f", "virDomain*", "-f", "virConnect*", "-w")
    seen = [f"setAutostart:{name}" for name in NAMES[:4]]
    pid, got = client(asking, NOBODY, *seen, "create", "destroy", "create", "destroy", *seen)
    assert got == ["0"] * 12
    once, got = client(asking, MAN, "setAutostart", "setAutostart", "reset:nosuch")
    assert got[:2] == ["0"] * 2
    result = tracer.stop()
    assert result.lost == 0
    record = tmp_path / "calls.jsonl"
    record.write_text(
        "".join(
            f"{json.dumps(event, separators=(',', ':'))}\n"
            for event in result.calls(pid=asking.pid)
            if event["client"]["pid"] in (pid, once)
        )
    )
    output = tmp_path / "60-learned.rules"
    command = [PYTHON, "-E", "-s", str(ROOT / "tracer.py"), "policy", "learn", "--polkit"]
    done = subprocess.run(
        [*command, str(record), "-o", str(output)],
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    rules = output.read_text()
    assert "new RegExp(" in rules and "var audit = true;" in rules
    for audit, others in ((True, [INVALID, "0", INVALID]), (False, [DENIED] * 3)):
        said = rules.replace("audit = true;", f"audit = {str(audit).lower()};")
        asking.ask_polkit(said + PERMISSIVE)  # which is about who may connect
        calls = ["create", "destroy", *seen, "isActive"]
        _, got = client(asking, NOBODY, *calls, "suspend:build-1", "setAutostart:build-4", "reset")
        assert got == ["0"] * len(calls) + others
    _, got = client(asking, MAN, "setAutostart", "create")
    assert got == ["0", DENIED]


def test_permission_and_answer_are_told_with_what_was_refused(trace, asking: Daemon):
    uuid = asking.virsh("domuuid", "kept").stdout.strip()
    asking.ask_polkit(RULES)
    tracer = trace("-f", "virDomain*", "-f", "virConnectOpen*")
    pid, got = client(asking, NOBODY, "create", "destroy", "isActive")
    assert got == [DENIED, DENIED, "0"]
    refused, at_the_door = client(asking, MAN)
    assert at_the_door in (["45"], ["79"])  # VIR_ERR_AUTH_FAILED, VIR_ERR_AUTH_UNAVAILABLE
    asking.ask_polkit(None)
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
        shown = parse(json.dumps(theirs))
        assert shown and f" access {permission}(connect_driver=" in text.line(shown)
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
    first, asked = opened["access"]  # of a stack of drivers
    assert first == {"permission": "connect", "driver": "none", "answer": "allowed"}
    assert (asked["permission"], asked["answer"]) == ("connect.getattr", "failed")
    assert "Failed to execute" in asked["message"]
    for event in result.calls():
        if "access" in event:
            recorded = parse(json.dumps(event))
            assert recorded and json.loads(line(recorded)) == event
