# SPDX-License-Identifier: LGPL-2.1-or-later
"""What clients begin and do not end: each kind with a real daemon and guest, told when its client
has gone, when somebody asks, at the end of a run and from a record; what is ended is told no more.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import readme
from tests.daemon import Daemon
from tests.needs import PATIENCE, PYTHON, ROOT
from tests.system.test_stuck import inside, under_way
from tests.tracing import Event, Tracer

GUEST = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <emulator>{folder}/qemu</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{folder}/disk'/><target dev='vda'/>
    </disk>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <serial type='pty'/><memballoon model='none'/>
  </devices>
</domain>
"""
BOUND = (
    "<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory>"
    "<os><type>hvm</type></os></domain>"
)
COPY = "<disk type='file'><source file='{folder}/copy'/><driver type='raw'/></disk>"
# does what it is told, line by line, and says so
CLIENT = """
import sys, libvirt
libvirt.registerErrorHandler(lambda *_: None, None)
def in_the_end(call):
    try:
        call()
    except libvirt.libvirtError as error:
        assert error.get_error_code() == libvirt.VIR_ERR_OPERATION_TIMEOUT
        in_the_end(call)
for line in sys.stdin:
    exec(line)
    print(flush=True)
"""


class Client:
    """A program that waits for its next line."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [PYTHON, "-c", CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid

    def do(self, *lines: str) -> Client:
        for line in lines:
            self.begin(line)
            self.go_on()
        return self

    def begin(self, line: str) -> None:
        assert self._process.stdin
        print(line, file=self._process.stdin, flush=True)

    def go_on(self) -> None:
        """Returns when it has done what it began."""
        assert self._process.stdout and self._process.stdout.readline()

    def end(self) -> int:
        self._process.kill()
        self._process.communicate()
        return self.pid


class Place(NamedTuple):
    """A guest with an agent, a tracer of everything, and its file."""

    daemon: Daemon
    folder: Path
    name: str
    tracer: Tracer
    log: Path

    def client(self) -> Client:
        """One that has the guest."""
        opened = f"conn = libvirt.open({self.daemon.uri!r})"
        return Client().do(opened, f"guest = conn.lookupByName({self.name!r})")

    def owed(self, what: str, pid: int, *, gone: bool) -> Event:
        """What that process owes, as soon as it is told."""
        return self.tracer.wait_for(
            lambda one: (
                one["type"] == "owed"
                and (one["what"], one["by"].get("pid"), one["gone"]) == (what, pid, gone)
            )
        )

    def asked(self, pid: int) -> list[Event]:
        """All that it owes, now."""
        last = Client().do("conn = libvirt.open('test:///default')", "conn.changeBegin()")
        self.tracer.wait_for(
            lambda one: one.get("function") == "virInterfaceChangeBegin" and one["pid"] == last.pid
        )
        before = len(self.tracer.events)
        os.kill(self.tracer.pid, signal.SIGUSR1)
        self.owed("interface change", last.pid, gone=False)
        last.end()
        told = [one for one in self.tracer.events[before:] if one["type"] == "owed"]
        return [one for one in told if one["by"].get("pid") == pid]


@pytest.fixture(scope="module")
def place(libvirtd: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("agent")
    folder.chmod(0o755)
    shutil.copy(ROOT / "tests" / "agent.py", folder / "qemu")
    (folder / "qemu").chmod(0o755)
    (folder / "disk").write_bytes(bytes(1 << 20))
    name, description = f"owing-{os.getpid()}", folder / "domain.xml"
    description.write_text(GUEST.format(name=name, folder=folder))
    tracer = Tracer("-o", str(folder / "log.json"))
    try:
        tracer.wait_attached()
        libvirtd.virsh("create", str(description))
        ping = ("qemu-agent-command", name, '{"execute":"guest-ping"}')
        while libvirtd.virsh(*ping, check=False).returncode:
            pass  # the agent is not connected yet
        yield Place(libvirtd, folder, name, tracer, folder / "log.json")
    finally:
        tracer.kill()
        libvirtd.virsh("destroy", name, check=False)
        for left in (folder / "copy",):
            left.unlink(missing_ok=True)


def listed(*arguments: str) -> list[Any]:
    """What `open` lists."""
    command = [PYTHON, "-E", "-s", str(ROOT / "tracer.py"), "open", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * PATIENCE)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def stuck() -> list[Event]:
    """What `stuck` lists."""
    command = [PYTHON, "-E", "-s", str(ROOT / "tracer.py"), "stuck", "-d", "0.5", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * PATIENCE)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


OUTLIVE: dict[str, tuple[str, str]] = {  # what begins it, what ends it
    "frozen": ("guest.fsFreeze()", "guest.fsThaw()"),
    "paused": ("guest.suspend()", "guest.resume()"),
    "block job": (
        "guest.blockCopy('vda', {copy!r}, {{}}, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)",
        "guest.blockJobAbort('vda')",
    ),
}


@pytest.mark.parametrize("what", OUTLIVE)
def test_what_a_client_leaves_behind(place: Place, what: str):
    begin, end = (one.format(copy=COPY.format(folder=place.folder)) for one in OUTLIVE[what])
    client = place.client().do(begin)
    pid = client.pid
    (now,) = place.asked(pid)
    assert (now["what"], now["gone"], now["sure"]) == (what, False, True)
    client.end()
    owed = place.owed(what, pid, gone=True)
    assert owed["object"]["name"] == place.name
    assert owed["by"]["exe"] == os.path.realpath(PYTHON) and owed["by"]["uid"] == os.getuid()
    assert owed["detail"] == ("vda" if what == "block job" else None)
    begun = place.tracer.wait_for(lambda one: one.get("id") == owed["call"])
    assert begun["client"]["pid"] == pid and owed["since"] >= begun["time"]
    if what == "frozen":
        by = f"{os.path.basename(os.path.realpath(PYTHON))} root"
        assert readme.quotes(owed, "web1: ", {place.name: "web1", by: "backup alice"})
    # a record tells the same
    recorded = [one for one in listed(str(place.log)) if one["call"] == owed["call"]]
    assert [(one["what"], one["gone"]) for one in recorded] == [(what, True)]
    place.client().do(end).end()
    assert place.asked(pid) == []
    assert [one for one in listed(str(place.log)) if one["call"] == owed["call"]] == []


def test_what_goes_with_its_client(place: Place):
    """A console that is held, and a guest that lives as long as its connection."""
    locks = ["nsenter", "-t", str(place.daemon.pid), "-m", "mkdir", "-p", "/run/lock"]
    subprocess.run(locks, check=True)  # of consoles
    client = place.client().do(
        "stream = conn.newStream(0)",
        "guest.openConsole(None, stream, 0)",
    )
    (held,) = place.asked(client.pid)
    assert (held["what"], held["object"]["name"]) == ("stream", place.name)
    client.do("stream.finish()")
    assert place.asked(client.pid) == []
    client.do("guest.openConsole(None, conn.newStream(0), libvirt.VIR_DOMAIN_CONSOLE_FORCE)")
    name = f"bound-{client.pid}"
    client.do(f"conn.createXML({BOUND.format(name=name)!r}, libvirt.VIR_DOMAIN_START_AUTODESTROY)")
    told = {one["what"]: one["object"]["name"] for one in place.asked(client.pid)}
    assert told == {"stream": place.name, "bound to its connection": name}
    client.end()
    assert place.asked(client.pid) == []
    assert not [
        one
        for one in place.tracer.events
        if one["type"] == "owed" and one["gone"] and one["by"].get("pid") == client.pid
    ]


def test_change_of_interfaces(place: Place):
    client = Client().do("conn = libvirt.open('test:///default')", "conn.changeBegin()")
    (owed,) = place.asked(client.pid)
    assert (owed["what"], owed["object"]["uri"]) == ("interface change", "test:///default")
    client.do("conn.changeRollback()")
    assert place.asked(client.pid) == []
    client.end()


def test_connection_that_was_closed_and_is_open(tmp_path: Path):
    """`open -d` looks on for a while, and tells what still refers to it."""
    command = [PYTHON, "-E", "-s", str(ROOT / "tracer.py"), "open", "--json", "-d", "2"]
    with (tmp_path / "shown").open("w") as shown_to:  # a pipe would have to be read meanwhile
        looking = subprocess.Popen(command, stdout=shown_to)
    client = Client().do("kept = []")
    while looking.poll() is None:
        client.do(
            "conn = libvirt.open('test:///default')",
            "kept.append(conn.lookupByName('test'))",
            "assert conn.close() == 1",
            "conn = libvirt.open('test:///default')",
            "gone = conn.lookupByName('test')",
            "assert conn.close() == 1",
            "del gone",
        )
    shown = [json.loads(line) for line in (tmp_path / "shown").read_text().splitlines()]
    client.end()
    assert looking.returncode == 0
    mine = [one for one in shown if one["by"].get("pid") == client.pid]
    assert {one["what"] for one in mine} == {"connection"} and len(mine) > 2
    # what refers to the first may have been made before
    assert {tuple(one["refers"]) for one in mine[1:]} == {("domain test",)}


def is_told(one: Event) -> bool:
    """Whether what the daemon does was read, too."""
    return bool(one["where"] != "waiting for the daemon")


def test_agent_that_does_not_answer(place: Place, trace):
    """Who asked it, for what, and who waits for that: told by a tracer that was there before, and
    by one that comes later.
    """
    silent = place.folder / "silent"
    silent.write_text("guest-get-time")
    tracer = trace("--object", place.name)
    tracer.wait_attached()
    clients = [place.client() for _ in range(2)]
    try:
        first, other = clients
        first.begin("guest.getTime()")
        inside(place.daemon.pid, "virDomainGetTime")
        other.begin("in_the_end(guest.fsFreeze)")  # the daemon lets nobody wait for more than 30 s
        inside(place.daemon.pid, "virDomainFSFreeze")
        asking = under_way(tracer, "virDomainGetTime", is_told)
        waiting = under_way(tracer, "virDomainFSFreeze", is_told)
        later: dict[int, Event] = {}
        while not {first.pid, other.pid} <= later.keys():
            later = {one["pid"]: one for one in stuck()}
    finally:
        silent.unlink()
    first.go_on()
    other.go_on()
    other.do("guest.fsThaw()")
    for one in (asking, later[first.pid]):
        assert (one["pid"], one["where"]) == (first.pid, "waiting for the agent")
        assert one["object"]["name"] == place.name and "guest-get-time" in one["command"]
    for one in (waiting, later[other.pid]):
        assert (one["pid"], one["where"]) == (other.pid, "waiting for the domain's agent job")
        by = one["held_by"]
        assert (by["function"], by["pid"]) == ("virDomainGetTime", first.pid)
    assert later[first.pid]["before"]
    for client in clients:
        client.end()
