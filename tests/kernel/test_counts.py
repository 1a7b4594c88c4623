# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the rules of a policy have decided since it came into force: exact, over threads and what a
process forks, and begun anew with another policy; `ps` shows it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from enforcer.counting import digest, in_force, rule_counts
from tests.enforced import COMMAND, compiled, enforced_environment, put
from tests.needs import PATIENCE, PYTHON

POLICY = """
[[rule]]
name = "keep"
action = "deny"
function = ["virDomainSuspend", "virDomainReset"]
object = ["te*"]

[[rule]]
name = "look"
action = "audit"
function = "virDomainIsActive"

[[rule]]
name = "fine"
action = "allow"
function = "virDomainGetInfo"

[[rule]]
name = "never"
action = "deny"
function = "virDomainDestroy"
"""
CALLER = """
import libvirt, os, sys, threading
libvirt.registerErrorHandler(lambda *_: None, None)
domain = libvirt.open("test:///default").lookupByName("test")
def refused(function):
    try:
        function()
    except libvirt.libvirtError as error:
        assert error.get_error_code() == 88
    else:
        raise AssertionError
def work(times):
    for _ in range(times):
        refused(domain.suspend)
        domain.isActive(), domain.isActive()
        domain.info(), domain.name()
    refused(lambda: domain.reset(0))
threads = [threading.Thread(target=work, args=(97,)) for _ in range(4)]
[one.start() for one in threads], [one.join() for one in threads]
if not (child := os.fork()):
    work(5)
    os._exit(0)
os.waitpid(child, 0)
print(flush=True)
for line in sys.stdin:
    (exec if "=" in line else eval)(line)
    print(flush=True)
"""
SUSPENDED, RESET = 4 * 97 + 5, 5
EXPECTED = {
    ("keep", "deny"): SUSPENDED + RESET,
    ("look", "audit"): 2 * SUSPENDED,
    ("fine", "allow"): SUSPENDED,
    ("never", "deny"): 0,
}


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return put(tmp_path / "policy.bin", POLICY)


@pytest.fixture
def caller(policy: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [PYTHON, "-c", CALLER],
        env=enforced_environment(policy),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "\n"
    yield process
    process.communicate(timeout=60 * PATIENCE)


def test_rules_are_counted_exactly(caller: subprocess.Popen[str]):
    (found,) = in_force(caller.pid)
    assert found.calls == EXPECTED and found.digest == digest(compiled(POLICY))
    several = [caller.pid, os.getpid(), caller.pid]
    assert rule_counts(several) == {(found.digest, *key): n for key, n in EXPECTED.items()}
    done = subprocess.run(
        [*COMMAND, "ps", "--json"], capture_output=True, text=True, timeout=60 * PATIENCE
    )
    (row,) = (one for one in map(json.loads, done.stdout.splitlines()) if one["pid"] == caller.pid)
    (shown,) = row["policies"]
    assert shown["digest"] == found.digest
    assert shown["rules"] == [
        {"rule": "look", "action": "audit", "calls": 2 * SUSPENDED},
        {"rule": "keep", "action": "deny", "calls": SUSPENDED + RESET},
        {"rule": "fine", "action": "allow", "calls": SUSPENDED},
    ]


def test_another_policy_begins_at_nothing(caller: subprocess.Popen[str], policy: Path):
    put(policy, 'mode = "audit"\n' + POLICY)
    assert caller.stdin and caller.stdout
    calls = 0
    while [found.summary.mode for found in in_force(caller.pid)] != ["audit"]:
        caller.stdin.write("domain.isActive()\n")
        caller.stdin.flush()
        caller.stdout.readline()
        calls += 1
    (found,) = in_force(caller.pid)
    assert found.calls and found.calls["look", "audit"] in (0, 1)
    before = found.calls["look", "audit"]
    for line in ("domain.reset(0)", "domain.isActive()"):
        caller.stdin.write(f"{line}\n")
        caller.stdin.flush()
        caller.stdout.readline()
    (found,) = in_force(caller.pid)
    assert found.calls == {
        ("keep", "audit"): 1,
        ("look", "audit"): before + 1,
        ("fine", "allow"): 0,
        ("never", "audit"): 0,
    }


def test_what_is_in_a_process_may_be_anything(tmp_path: Path):
    """Files by these names that say nothing, or too much."""
    script = """
import fcntl, mmap, os, struct, sys
held = []
def put(name, data, seals):
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    held.append((fd, mmap.mmap(fd, len(data), mmap.MAP_SHARED, mmap.PROT_READ)))
    return os.fstat(fd).st_ino
policy = bytearray(open(sys.argv[1], "rb").read())
inode = put("libvirt-trace-policy", bytes(policy), 15)
counts = struct.pack("<QQ", inode, 1 << 60) + struct.pack("<Q", 2**64 - 1) * 2
put("libvirt-trace-counts", counts, 7)
put("libvirt-trace-counts", b"short", 7)
put("libvirt-trace-counts", counts, 0)
put("libvirt-trace-counts-more", counts, 7)
policy[0x48:0x50] = b"\\xff" * 8
put("libvirt-trace-policy", bytes(policy), 15)
print(flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [PYTHON, "-c", script, put(tmp_path / "policy.bin", POLICY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "\n"
    first = next(iter(in_force(process.pid)))
    assert first.calls is not None and sum(first.calls.values()) == 2 * (2**64 - 1)
    assert len(list(in_force(process.pid))) <= 2
    assert rule_counts([process.pid])
    process.communicate(timeout=60 * PATIENCE)
