# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls that hang: which they are, what they wait for and who keeps them waiting, whether tracing
began before they did or after.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from probes.host.daemons.stacks import Inside, Stacks
from tests import readme
from tests.daemon import Daemon, Guest
from tests.needs import PATIENCE, PYTHON, ROOT
from tests.tracing import Event, Tracer

# with a time limit of its own, so that the last one gives up before the tests do
CLIENT = """
import sys, libvirt
libvirt.registerErrorHandler(lambda *_: None, None)
domain = libvirt.open(sys.argv[1]).lookupByName(sys.argv[2])
print(flush=True)
try:
    {"suspend": domain.suspend, "stats": lambda: domain.blockStats("vda"),
     "commands": lambda: domain.setMemoryStatsPeriod(1, 1), "reset": domain.reset}[sys.argv[3]]()
except libvirt.libvirtError as error:
    print(error.get_error_code(), flush=True)
"""
TIMED_OUT = "68"  # VIR_ERR_OPERATION_TIMEOUT
STUCK = [PYTHON, "-E", "-s", str(ROOT / "tracer.py"), "stuck", "-d", "0.5"]


class Clients:
    """Programs that call, one after the other, and are known to be inside."""

    def __init__(self, daemon: Daemon, guest: Guest) -> None:
        self._daemon, self._guest = daemon, guest
        self.running: list[subprocess.Popen[str]] = []

    def call(self, what: str) -> subprocess.Popen[str]:
        command = [PYTHON, "-c", CLIENT, self._daemon.uri, self._guest.name, what]
        client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.running.append(client)
        assert client.stdout and client.stdout.readline()
        return client

    def end(self) -> None:
        for client in self.running:
            client.kill()
            client.communicate()


@pytest.fixture
def hanging(guest: Guest, libvirtd: Daemon) -> Iterator[Clients]:
    """Clients of a guest that stands still."""
    os.kill(guest.pid, signal.SIGSTOP)
    clients = Clients(libvirtd, guest)
    yield clients
    os.kill(guest.pid, signal.SIGCONT)
    clients.end()


def inside(pid: int, function: str, count: int = 1) -> Inside:
    """A thread of the process, as soon as so many are in a function and wait there."""
    stacks = Stacks()
    try:
        while True:
            found = [one for one in stacks.scan([pid]) if one.function == function]
            if len([one for one in found if one.waits_for]) == count:
                return found[0]
    finally:
        stacks.close()


def under_way(tracer: Tracer, function: str) -> Event:
    """It, told when asked for."""
    told = sum(one["type"] == "under_way" for one in tracer.events)
    os.kill(tracer.pid, signal.SIGUSR1)
    tracer.wait_for(lambda one: one["type"] == "under_way", count=told + 1)
    return tracer.wait_for(lambda one: one["type"] == "under_way" and one["function"] == function)


def test_who_waits_for_whom(trace, hanging: Clients, libvirtd: Daemon, guest: Guest):
    tracer = trace("--object", guest.name)
    first = hanging.call("suspend")
    inside(libvirtd.pid, "virDomainSuspend")
    asking = under_way(tracer, "virDomainSuspend")
    assert asking["where"] == "waiting for the monitor"
    assert json.loads(asking["command"])["execute"] == "stop"
    assert asking["held_by"] is None and asking["age_ns"] > 0
    others = [hanging.call("reset") for _ in range(3)]
    inside(libvirtd.pid, "virDomainReset", len(others))
    waiting = under_way(tracer, "virDomainReset")
    assert waiting["where"] == "waiting for the domain's job"
    assert waiting["held_by"]["function"] == "virDomainSuspend"
    assert waiting["held_by"]["pid"] == first.pid
    assert waiting["object"]["name"] == guest.name
    names = {
        guest.name: "web1",
        os.path.basename(os.path.realpath(PYTHON)): "virsh",
        "python3": "virsh",
    }
    assert readme.quotes(asking, "waiting for", names)
    of_client = next(
        one
        for one in tracer.events
        if one["type"] == "under_way" and one["pid"] == others[0].pid and one["held_by"]
    )
    assert readme.quotes(of_client, str(others[0].pid), names)
    for client in others:
        output, _ = client.communicate(timeout=90 * PATIENCE)
        assert output.strip() == TIMED_OUT
    os.kill(guest.pid, signal.SIGCONT)
    assert first.wait(60 * PATIENCE) == 0
    result = tracer.stop()
    (held,) = result.calls("virDomainSuspend", libvirtd.pid)
    for pid in (libvirtd.pid, *(client.pid for client in others)):
        for call in result.calls("virDomainReset", pid):
            assert call["error"]["name"] == "VIR_ERR_OPERATION_TIMEOUT"
            by = call["held_by"]
            assert (by["id"], by["function"], by["pid"]) == (
                held["id"],
                held["function"],
                first.pid,
            )
    assert len(result.calls("virDomainReset", libvirtd.pid)) == 3
    assert "held_by" not in held


def test_calls_that_hang_before_anybody_looks(hanging: Clients, libvirtd: Daemon):
    first, second = hanging.call("suspend"), hanging.call("reset")
    waits = {
        (pid, function): inside(pid, function).waits_for
        for pid in (libvirtd.pid, first.pid, second.pid)
        for function in ("virDomainSuspend", "virDomainReset")
        if (pid, function) not in ((first.pid, "virDomainReset"), (second.pid, "virDomainSuspend"))
    }
    assert waits[libvirtd.pid, "virDomainSuspend"] == "qemuMonitorSend"
    assert waits[libvirtd.pid, "virDomainReset"] == "virDomainObjBeginJobInternal"
    done = subprocess.run([*STUCK, "--json"], capture_output=True, text=True, timeout=60 * PATIENCE)
    assert done.returncode == 0, done.stderr
    told = {
        (one["pid"], one["function"]): (one["where"], one["age_ns"])
        for one in map(json.loads, done.stdout.splitlines())
        if one["pid"] in (libvirtd.pid, first.pid, second.pid)
    }
    assert told == {
        (libvirtd.pid, "virDomainSuspend"): ("waiting for the monitor", None),
        (libvirtd.pid, "virDomainReset"): ("waiting for the domain's job", None),
        (first.pid, "virDomainSuspend"): ("waiting for the daemon", None),
        (second.pid, "virDomainReset"): ("waiting for the daemon", None),
    }
    shown = subprocess.run(STUCK, capture_output=True, text=True, timeout=60 * PATIENCE).stdout
    (line,) = (one for one in shown.splitlines() if f" {first.pid} " in one)
    assert line.endswith(" virDomainSuspend() begun before tracing, waiting for the daemon")


def test_end_of_a_run_tells_what_hangs(trace, hanging: Clients, libvirtd: Daemon, guest: Guest):
    tracer = trace("--object", guest.name)
    client = hanging.call("suspend")
    inside(libvirtd.pid, "virDomainSuspend")
    began = time.monotonic()
    while time.monotonic() < began + 1.1:  # for less it is not told
        inside(libvirtd.pid, "virDomainSuspend")
    result = tracer.stop()
    last = [event for event in result.events if event["type"] == "under_way"][-1]
    (unfinished,) = result.calls("virDomainSuspend", client.pid)
    assert (last["call"], last["where"]) == (unfinished["id"], "waiting for the monitor")
    assert unfinished["reason"] == "still running"
    assert result.events.index(last) < result.events.index(unfinished)


# defines a domain of that name, asks for it and takes it away: 25 calls on it
ASKING = """
import sys, libvirt
conn = libvirt.open(sys.argv[1])
domain = conn.defineXML(sys.argv[2])
for _ in range(23):
    domain.isActive()
domain.undefine()
"""


def test_top_tells_waiting_from_work(libvirtd: Daemon):
    """Who asks waits until the daemon takes it, for each call anew."""
    looking = subprocess.Popen(
        [PYTHON, "-E", "-s", str(ROOT / "tracer.py"), "top", "--once", "--json", "-d", "600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert looking.stderr and "counting calls" in looking.stderr.readline()
    name = f"counted-{os.getpid()}"
    defined = (
        f"<domain type='qemu'><name>{name}</name><memory>1024</memory>"
        "<os><type>hvm</type></os></domain>"
    )
    subprocess.run([PYTHON, "-c", ASKING, libvirtd.uri, defined], check=True)
    looking.send_signal(signal.SIGINT)
    output, complaints = looking.communicate(timeout=60 * PATIENCE)
    assert looking.returncode == 0, complaints
    (row,) = [row for row in json.loads(output)["domains"] if row["domain"] == name]
    assert (row["calls"], row["queued"], row["failed"]) == (25, 25, 0)
    assert 0 < row["longest_queue_ns"] < row["queue_ns"]
    assert row["daemon_ns"] > 0 and row["queue_ns"] + row["daemon_ns"] < row["total_ns"]
