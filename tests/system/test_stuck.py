# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls that hang: which they are, what they wait for and who keeps them waiting, whether tracing
began before they did or after.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from log.parsing.fields import moment
from log.parsing.parse import parse
from log.render import text
from probes.host.daemons.stacks import Inside, Stacks
from tests import readme
from tests.daemon import Daemon, Guest
from tests.needs import PATIENCE, PYTHON, ROOT
from tests.tracing import WITH, Event, Result, Tracer

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
# what takes long before anything is looked at
READY = "import capstone, probes.tracing.session"


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


STACKS = Stacks()  # knows the library after the first look


def waiting_in(pid: int, function: str) -> list[Inside]:
    """Threads of the process that are in a function and wait there."""
    return [one for one in STACKS.scan([pid]) if one.function == function and one.waits_for]


def inside(pid: int, function: str) -> None:
    """Returns as soon as a thread of the process is in the function, and waits there."""
    while not waiting_in(pid, function):
        pass


def under_way(tracer: Tracer, function: str, is_wanted: Callable[[Event], bool] = bool) -> Event:
    """It, told when asked for, as often as it takes until it is as wanted."""

    def is_it(one: Event) -> bool:
        return bool(one["type"] == "under_way" and one["function"] == function)

    while True:
        told = sum(map(is_it, tracer.events))
        os.kill(tracer.pid, signal.SIGUSR1)
        found = tracer.wait_for(is_it, count=told + 1)
        if is_wanted(found):
            return found


class Hung(NamedTuple):
    """A guest that stands still, and what is told of the calls on it, which hang."""

    daemon: int
    guest: Guest
    uri: str
    first: int  # the client that has the job
    others: list[int]  # three that wait for it
    last: int  # one more, that came when the later tracer was there
    took: float  # s since the first call began, when it was looked
    asking: Event  # of the first, asked of a tracer that was there before
    waiting: Event  # of the others
    stuck: list[Event]  # what `stuck` says, which came later
    later: Event  # of the last one, asked of a tracer that came later
    result: Result
    later_result: Result
    gave_up: list[str]  # what clients say that waited for the job
    waited: int  # how many there were


@pytest.fixture(scope="module")
def hung(libvirtd: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hung]:
    """Clients give up after 30 s: all that can be seen meanwhile is looked at at once, and again
    if that was too late.
    """
    guest = libvirtd.create(f"hung-{os.getpid()}")
    go = tmp_path_factory.mktemp("hung") / "go"
    os.mkfifo(go)
    before = Tracer("--object", guest.name)
    later = Tracer("--object", guest.name, before=f"{READY}; open({str(go)!r}).read()")
    clients = Clients(libvirtd, guest)
    try:
        before.wait_attached()
        os.kill(guest.pid, signal.SIGSTOP)
        began = time.monotonic()
        first = clients.call("suspend")
        inside(libvirtd.pid, "virDomainSuspend")
        asking = under_way(before, "virDomainSuspend")
        waiting, found = None, None
        while waiting is None or found is None:
            stuck = later_stuck()
            others = [clients.call("reset") for _ in range(3)]
            all_inside(libvirtd.pid, others)
            waiting = waiting or under_way_of(before, others[0])
            assert stuck.stdin and stuck.stdout
            stuck.stdin.close()
            lines = [stuck.stdout.readline()]
            took = time.monotonic() - began
            lines += stuck.stdout.readlines()
            assert stuck.wait(60 * PATIENCE) == 0
            told = [json.loads(line) for line in lines]
            if is_in_time(before, others, told):
                found = told
        go.open("w").close()
        later.wait_attached()
        later_waiting = None
        while later_waiting is None:
            last = clients.call("reset")
            all_inside(libvirtd.pid, [*(one for one in others if one.poll() is None), last])
            later_waiting = under_way_of(later, last)
        gave_up = [one.communicate(timeout=90 * PATIENCE)[0].strip() for one in (*others, last)]
        later_result = later.stop()
        os.kill(guest.pid, signal.SIGCONT)
        assert first.wait(60 * PATIENCE) == 0
        pids = [one.pid for one in others]
        ours = {first.pid, *pids, libvirtd.pid}
        yield Hung(
            libvirtd.pid, guest, libvirtd.uri, first.pid, pids, last.pid, took, asking, waiting,
            [one for one in found if one["pid"] in ours], later_waiting, before.stop(),
            later_result, gave_up, len(clients.running) - 1,
        )  # fmt: skip
    finally:
        os.kill(guest.pid, signal.SIGCONT)
        clients.end()
        before.kill()
        later.kill()
        libvirtd.end(guest)


def under_way_of(tracer: Tracer, client: subprocess.Popen[str]) -> Event | None:
    """What the client waits for and who has it, told when asked for; None: it has given up."""
    number = 0

    def is_it(one: Event) -> bool:
        is_ours = one.get("function") == "virDomainReset" and one["pid"] == client.pid
        return is_ours and one["type"] in ("under_way", "call")

    while True:
        os.kill(tracer.pid, signal.SIGUSR1)
        number += 1
        found = tracer.wait_for(is_it, count=number)
        if found["type"] == "call":
            return None
        if found["held_by"]:
            return found


def is_in_time(tracer: Tracer, clients: list[subprocess.Popen[str]], told: list[Event]) -> bool:
    """Whether none had given up when it was looked."""
    looked = moment(told[0]["time"])
    for client in {one.pid for one in clients} - {one["pid"] for one in told}:

        def is_it(one: Event, pid: int = client) -> bool:
            is_end = one["type"] == "call" and one["function"] == "virDomainReset"
            return bool(is_end and one["pid"] == pid)

        ended = tracer.wait_for(is_it)
        if moment(ended["time"]) + ended["duration_ns"] < looked:
            return False
    return True


def all_inside(pid: int, clients: list[subprocess.Popen[str]]) -> None:
    """Returns when each has a thread of the daemon that waits for it, or one has given up."""
    while all(one.poll() is None for one in clients):
        if len(waiting_in(pid, "virDomainReset")) >= len(clients):
            return


def later_stuck() -> subprocess.Popen[str]:
    """`stuck`, once its input ends."""
    program = WITH.format(before=f"{READY}; sys.stdin.read()", root=str(ROOT))
    command = [PYTHON, "-E", "-s", "-c", program, "stuck", "-d", "0.5", "--json"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)


def test_who_waits_for_whom(hung: Hung):
    asking, waiting = hung.asking, hung.waiting
    assert (asking["where"], asking["before"]) == ("waiting for the monitor", False)
    assert json.loads(asking["command"])["execute"] == "stop"
    assert asking["held_by"] is None and asking["age_ns"] > 0
    assert waiting["where"] == "waiting for the domain's job"
    assert waiting["object"]["name"] == hung.guest.name and waiting["connection"] == hung.uri
    by = waiting["held_by"]
    assert (by["function"], by["pid"]) == ("virDomainSuspend", hung.first)
    assert by["age_ns"] > waiting["age_ns"]


def test_call_that_gives_up_names_who_kept_it_waiting(hung: Hung):
    assert set(hung.gave_up) == {TIMED_OUT} and len(hung.gave_up) == 4
    (held,) = hung.result.calls("virDomainSuspend", hung.daemon)
    everybody = [*hung.others, hung.last]
    for pid in (hung.daemon, *everybody):
        for call in hung.result.calls("virDomainReset", pid):
            assert call["error"]["name"] == "VIR_ERR_OPERATION_TIMEOUT"
            by = call["held_by"]
            assert (by["id"], by["function"], by["pid"]) == (
                held["id"],
                held["function"],
                hung.first,
            )
    assert len(hung.result.calls("virDomainReset", hung.daemon)) == hung.waited
    assert "held_by" not in held


def test_calls_that_hang_before_anybody_looks(hung: Hung):
    """All is told of each; what a daemon does is told with its client's call."""
    told = [*hung.stuck]
    assert sorted(one["pid"] for one in told) == sorted([hung.first, *hung.others])
    for one in told:
        assert (one["object"]["name"], one["object"]["uuid"]) == (hung.guest.name, hung.guest.uuid)
        assert one["before"] and one["call"] is None
        assert one["connection"] == hung.uri
        assert 0 < one["age_ns"] < hung.took * 1e9
    (asking,) = (one for one in told if one["function"] == "virDomainSuspend")
    assert asking["where"] == "waiting for the monitor" and asking["held_by"] is None
    assert json.loads(asking["command"])["execute"] == "stop"
    told.remove(asking)
    names = dict.fromkeys([os.path.basename(os.path.realpath(PYTHON)), "python3"], "virsh")
    names[hung.guest.name] = "web1"
    assert readme.quotes(asking, "virDomainSuspend", names)
    assert readme.quotes(told[0], "virDomainReset", names)
    for one in told:
        assert (one["function"], one["where"]) == ("virDomainReset", "waiting for the domain's job")
        by = one["held_by"]
        assert (by["id"], by["function"], by["pid"]) == (None, "virDomainSuspend", asking["pid"])
        assert by["exe"] == os.path.realpath(PYTHON)
        assert one["age_ns"] < by["age_ns"] < hung.took * 1e9
    line = in_text(told[0])
    held = rf"held by virDomainSuspend of {asking['pid']} \S+ root( \(.*\))? for [0-9.]+m?s"
    assert re.search(
        rf" virDomainReset\({hung.guest.name}\) begun before tracing, at least [0-9.]+m?s ago, "
        rf"waiting for the domain's job, {held}$",
        line,
    ), line


def in_text(event: Event) -> str:
    told = parse(json.dumps(event).encode() + b"\n")
    assert told is not None
    return text.line(told).rstrip("\n")


def test_job_that_was_begun_before_the_tracer(hung: Hung):
    """It finds out who has it, as nobody has told it."""
    assert (hung.later["pid"], hung.later["before"]) == (hung.last, False)
    calls = hung.later_result.calls("virDomainReset", hung.last)
    assert [call["error"]["name"] for call in calls] == ["VIR_ERR_OPERATION_TIMEOUT"]
    for by in (hung.later["held_by"], calls[0]["held_by"]):
        assert (by["id"], by["function"], by["pid"]) == (None, "virDomainSuspend", hung.first)


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
    name = f"counted-{os.getpid()}"
    program = [PYTHON, "-E", "-s", str(ROOT / "tracer.py")]
    looking = subprocess.Popen(
        [*program, "top", "--once", "--json", "-d", "600", "--object", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert looking.stderr and "counting calls" in looking.stderr.readline()
    defined = (
        f"<domain type='qemu'><name>{name}</name><memory>1024</memory>"
        "<os><type>hvm</type></os></domain>"
    )
    subprocess.run([PYTHON, "-c", ASKING, libvirtd.uri, defined], check=True)
    looking.send_signal(signal.SIGINT)
    output, complaints = looking.communicate(timeout=60 * PATIENCE)
    assert looking.returncode == 0, complaints
    (row,) = json.loads(output)["domains"]
    assert row["domain"] == name
    assert (row["calls"], row["queued"], row["failed"]) == (25, 25, 0)
    assert 0 < row["longest_queue_ns"] < row["queue_ns"]
    assert row["daemon_ns"] > 0 and row["queue_ns"] + row["daemon_ns"] < row["total_ns"]
