# SPDX-License-Identifier: LGPL-2.1-or-later
"""Denials in the system's log, whoever reads it: a /dev/log of its own for these processes."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from tests.enforced import KEEP_TEST, enforced_environment, put
from tests.needs import PATIENCE, PYTHON, lack

# a /dev with what programs need, and room for a socket
START = """
mount -t tmpfs tmpfs "$1"
for node in null zero full random urandom tty; do
    touch "$1/$node"; mount --bind "/dev/$node" "$1/$node"
done
mount --rbind "$1" /dev
shift
exec "$@"
"""
# binds /dev/log, runs the command, prints its status and what came
LISTEN = """
import json, socket, subprocess, sys
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind("/dev/log")
log.setblocking(False)
environment = json.loads(sys.argv[1])
nowhere = subprocess.DEVNULL
status = subprocess.run(sys.argv[2:], env=environment, stdout=nowhere, stderr=nowhere).returncode
lines = []
try:
    while True:
        lines.append(log.recv(4096).decode())
except BlockingIOError:
    pass
print(json.dumps([status, lines]))
"""


@pytest.fixture
def listen(tmp_path):
    """listen(POLICY, COMMAND): the command's status, and the lines that it logged."""
    if os.geteuid():
        lack("preload", "not root")
    (tmp_path / "dev").mkdir()

    def run(policy: str, command: list[str]) -> tuple[int, list[str]]:
        environment = enforced_environment(put(tmp_path / "policy.bin", policy))
        words = [
            "unshare",
            "--mount",
            "sh",
            "-eu",
            "-c",
            START,
            "sh",
            str(tmp_path / "dev"),
            PYTHON,
            "-c",
            LISTEN,
        ]
        printed = subprocess.check_output(
            [*words, json.dumps(environment), *command],
            text=True,
            timeout=60 * PATIENCE,
            stdin=subprocess.DEVNULL,
        )
        status, lines = json.loads(printed)
        return status, lines

    return run


def test_denial_is_logged(listen):
    status, (line,) = listen(KEEP_TEST, ["virsh", "-q", "-c", "test:///default", "suspend test"])
    assert status == 1
    assert re.fullmatch(
        r'<84>libvirt-trace\[[0-9]+\]: denied virDomainSuspend for uid 0 by rule "keep-test": ask '
        r"the on-call engineer",
        line,
    )


def test_flood_of_denials_is_counted(listen):
    script = "; ".join(["suspend test"] * 100)
    status, lines = listen(KEEP_TEST, ["virsh", "-q", "-c", "test:///default", script])
    assert status == 1 and 10 <= len(lines) < 100
    left_out = sum(
        int(found[1])
        for line in lines
        if (
            found := re.search(
                r"\(([0-9]+) more "
                r"denials were not "
                r"logged\)$",
                line,
            )
        )
    )
    assert len(lines) + left_out <= 100


def test_full_log_blocks_nobody(listen):
    """A socket queues about ten lines, which nobody reads meanwhile."""
    script = "virsh -q -c test:///default '" + "; ".join(["suspend test"] * 9) + "'"
    status, lines = listen(KEEP_TEST, ["sh", "-c", f"{script}; {script}; {script}; {script}"])
    assert status == 1 and 1 <= len(lines) < 36


def test_broken_policy_is_an_alert(listen, tmp_path):
    broken = tmp_path / "broken.bin"
    broken.write_bytes(b"x" * 500)
    command = [
        "env",
        f"LIBVIRT_TRACE_POLICY={broken}",
        "virsh",
        "-q",
        "-c",
        "test:///default",
        "suspend test",
    ]
    status, lines = listen(KEEP_TEST, command)
    assert status == 0
    assert [re.sub(r"\[[0-9]+\]", "[]", line) for line in lines] == [
        f"<84>libvirt-trace[]: {broken}: it is no compiled policy"
    ]


# the file is away twice; the library looks at most once a second, when a call is made
COMES_AND_GOES = """
import libvirt, os, sys, time
path = sys.argv[1]
connection = libvirt.open("test:///default")
def call():
    end = time.monotonic() + 1.1
    while time.monotonic() < end:
        connection.getType()
for _ in range(2):
    os.rename(path, path + ".away")
    call()
    os.rename(path + ".away", path)
    call()
try:
    connection.lookupByName("test").suspend()
except libvirt.libvirtError:
    sys.exit(3)
"""


def test_policy_that_disappears_is_an_alert_each_time(listen, tmp_path):
    """It stays in force meanwhile, and is the same when it is back."""
    policy = str(tmp_path / "policy.bin")
    status, lines = listen(KEEP_TEST, [PYTHON, "-c", COMES_AND_GOES, policy])
    assert status == 3
    *gone, denied = [re.sub(r"\[[0-9]+\]", "[]", line) for line in lines]
    assert gone == [f"<84>libvirt-trace[]: {policy}: it can't be opened"] * 2
    assert "denied virDomainSuspend" in denied
