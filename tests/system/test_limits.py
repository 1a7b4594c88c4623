# SPDX-License-Identifier: LGPL-2.1-or-later
"""A libvirtd whose limits are reached: what `stuck` says of calls that wait for that, and `top` of
the daemon.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from log.parsing.parse import parse
from log.render import text
from tests.daemon import DOMAIN, Daemon
from tests.needs import PATIENCE, PYTHON, ROOT
from tests.system.test_stuck import STACKS
from tests.tracing import Event

CLIENTS, WORKERS, REQUESTS = 16, 3, 2
SETTINGS = f"""
max_clients = {CLIENTS}
max_anonymous_clients = {CLIENTS}
min_workers = 1
max_workers = {WORKERS}
max_client_requests = {REQUESTS}
"""
# no guest gets ready as long as nobody writes, and none does then
HOOK = '#!/bin/sh -e\n[ "$2" != prepare ] || {{ read line <{fifo}; exit 1; }}\n'
# so many connections, and calls at the same time on one of them
CLIENT = """
import sys, threading, libvirt
libvirt.registerErrorHandler(lambda *_: None, None)
uri, connections, *guests = sys.argv[1:]
opened = [libvirt.open(uri) for _ in range(int(connections))]
print(flush=True)
def create(text):
    try:
        opened[0].createXML(text)
    except libvirt.libvirtError:
        pass
threads = [threading.Thread(target=create, args=[text]) for text in guests]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
sys.stdin.read()
"""


class Full(NamedTuple):
    """A daemon whose limits are reached, and what is said of it."""

    daemon: int
    beyond: int  # a client: one call more than are taken of one
    queued: int  # a client whose call no worker takes
    outside: list[int]  # clients whose connection is not accepted
    stuck: list[Event]
    notes: str
    top: Event


def clients_of(daemon: Daemon, running: list[subprocess.Popen[str]], *what: str) -> int:
    command = [PYTHON, "-c", CLIENT, daemon.uri, *what]
    pipe = subprocess.PIPE
    running.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
    return running[-1].pid


def wait_inside(pid: int, function: str, count: int) -> None:
    """Returns when so many threads of the process are in the function."""
    while sum(one.function == function for one in STACKS.scan([pid])) != count:
        pass


def guests(*names: str) -> list[str]:
    return [DOMAIN.format(name=name) for name in names]


def ask(*words: str) -> subprocess.Popen[str]:
    command = [PYTHON, "-E", "-s", str(ROOT / "tracer.py"), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer(asked: subprocess.Popen[str]) -> tuple[list[Event], str]:
    output, notes = asked.communicate(timeout=60 * PATIENCE)
    assert asked.returncode == 0, notes
    return [json.loads(line) for line in output.splitlines()], notes


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Full]:
    fifo = tmp_path_factory.mktemp("limits") / "go"
    os.mkfifo(fifo)
    running: list[subprocess.Popen[str]] = []
    with Daemon(settings=SETTINGS, hook=HOOK.format(fifo=fifo)) as daemon:
        try:
            beyond = clients_of(daemon, running, "1", *guests("a", "b", "c"))
            wait_inside(beyond, "virDomainCreateXML", REQUESTS + 1)
            wait_inside(daemon.pid, "virDomainCreateXML", REQUESTS)
            clients_of(daemon, running, "1", *guests("d"))
            wait_inside(daemon.pid, "virDomainCreateXML", WORKERS)
            queued = clients_of(daemon, running, "1", *guests("e"))
            wait_inside(queued, "virDomainCreateXML", 1)
            clients_of(daemon, running, str(CLIENTS - len(running)))
            idle = running[-1]
            assert idle.stdout and idle.stdout.readline()
            outside = [clients_of(daemon, running, "1") for _ in range(2)]
            for pid in outside:
                wait_inside(pid, "virConnectOpen", 1)
            looking = ask("top", "--once", "-d", "0.1", "--json")
            stuck, notes = answer(ask("stuck", "-d", "0.5", "--json"))
            (top,), _ = answer(looking)
            yield Full(daemon.pid, beyond, queued, outside, stuck, notes, top)
        finally:
            for one in running:
                one.kill()
                one.communicate()
            let_go(fifo)


def let_go(fifo: Path) -> None:
    """Ends what waits for somebody to write."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"/hooks/qemu\0" in words and os.fsencode(fifo) in hook_of(pid):
                os.kill(int(pid), signal.SIGTERM)
        except OSError:  # it has ended
            continue


def hook_of(pid: str) -> bytes:
    return Path(f"/proc/{pid}/root/etc/libvirt/hooks/qemu").read_bytes()


def limited(full: Full, pid: int) -> Event:
    """The only call of that process that waits for a limit."""
    (found,) = (one for one in full.stuck if one["pid"] == pid and one["limit"])
    assert found["where"] == "waiting for the daemon"
    return found


def line_of(event: Event) -> str:
    told = parse(json.dumps(event).encode() + b"\n")
    assert told is not None
    return text.line(told).rstrip("\n")


def test_clients_beyond_max_clients_wait_for_that(full: Full):
    for pid in full.outside:
        found = limited(full, pid)
        assert found["function"] == "virConnectOpen"
        assert found["limit"] == {"limit": "max_clients", "most": CLIENTS, "pid": full.daemon}
        told = f"waiting for the daemon, process {full.daemon} has {CLIENTS} clients (max_clients)"
        assert line_of(found).endswith(told)


def test_call_beyond_max_workers_waits_for_that(full: Full):
    found = limited(full, full.queued)
    assert found["limit"] == {"limit": "max_workers", "most": WORKERS, "pid": full.daemon}
    assert line_of(found).endswith(
        f"waiting for the daemon, all {WORKERS} workers of process {full.daemon} busy (max_workers)"
    )


def test_call_beyond_max_client_requests_waits_for_that(full: Full):
    """Those before it are worked on."""
    found = limited(full, full.beyond)
    assert found["limit"] == {"limit": "max_client_requests", "most": REQUESTS, "pid": full.daemon}
    theirs = [one for one in full.stuck if one["pid"] == full.beyond]
    assert [one["where"] for one in theirs].count("in the daemon") == REQUESTS
    assert len(theirs) == REQUESTS + 1


def test_limits_that_are_reached_are_named(full: Full):
    (row,) = (one for one in full.top["daemons"] if one["daemon"] == full.daemon)
    assert (row["clients"], row["max_clients"]) == (CLIENTS, CLIENTS)
    assert (row["workers"], row["max_workers"], row["free_workers"]) == (WORKERS, WORKERS, 0)
    assert row["waiting_calls"] == 1
    assert {(one["limit"], one["most"], one["client"]) for one in row["reached"]} == {
        ("max_clients", CLIENTS, None),
        ("max_workers", WORKERS, None),
        ("max_client_requests", REQUESTS, full.beyond),
    }
    for line in (
        f"libvirtd, process {full.daemon}: max_clients reached, {CLIENTS} clients\n",
        f"max_workers reached, all {WORKERS} workers busy, 1 calls wait\n",
        f"max_client_requests reached, process {full.beyond} has {REQUESTS} calls under way",
    ):
        assert line in full.notes
