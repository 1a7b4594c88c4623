# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why guests end: a dozen endings, each with the cause that it has, told exactly. The guests are
boot sectors that do one thing.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import readme
from tests.cgroups import limited_cgroup, remove, root_of_all
from tests.daemon import DOMAIN, Daemon, Guest
from tests.needs import PATIENCE, PYTHON
from tests.tracing import Event, Tracer

GUEST = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' error_policy='stop'/>
      <source file='{disk}'/><target dev='hda' bus='ide'/>
    </disk>
    <memballoon model='none'/><panic model='isa'/>
  </devices>
</domain>
"""
# 16-bit code, at the beginning of a disk
WAIT = b"\xfa\xf4\xeb\xfc"  # cli; hlt; jmp
POWER_OFF = b"\xba\x04\x06\xb8\x00\x20\xef"  # out 0x2000 to the port of ACPI's PM1 control
# once the power button, which is switched on, was pressed (PM1 enable and status, bit 8)
OBEY = b"\xba\x02\x06\xb8\x00\x01\xef\xba\x00\x06\xed\xf6\xc4\x01\x74\xfa" + POWER_OFF
RESET = b"\xb0\xfe\xe6\x64"  # out 0xfe to the keyboard controller
PANIC = b"\xba\x05\x05\xb0\x01\xee"  # out 1 to the panic device
# write sectors 2, 3, ... of the first disk until there is no more room for them
WRITE = (
    b"\x31\xc0\x8e\xd8\x8e\xc0\xbb\x00\x7c\xb9\x02\x00\xba\x80\x00"
    b"\xb8\x3f\x03\xcd\x13\xfe\xc5\xeb\xf7"
)
AUTODESTROY = """
import os, sys, libvirt
libvirt.open(sys.argv[1]).createXML(open(sys.argv[2]).read(), libvirt.VIR_DOMAIN_START_AUTODESTROY)
print(flush=True)
sys.stdin.read()
"""
QUIT = """
import sys, libvirt, libvirt_qemu
libvirt.registerErrorHandler(lambda *_: None, None)
domain = libvirt.open(sys.argv[1]).lookupByName(sys.argv[2])
try:
    libvirt_qemu.qemuMonitorCommand(domain, '{"execute":"quit"}', 0)
except libvirt.libvirtError:  # it may not come to answer
    pass
"""


class Place(NamedTuple):
    """A daemon, where its guests' disks are, and a tracer."""

    daemon: Daemon
    folder: Path
    tracer: Tracer

    def create(self, name: str, code: bytes = WAIT) -> Guest:
        """A running guest that executes the code."""
        return self.daemon.create(name, self.describe(name, code))

    def describe(self, name: str, code: bytes, disk: Path | None = None) -> str:
        disk = disk or self.folder / f"{name}.img"
        if not disk.exists():
            disk.write_bytes((code + WAIT).ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 16))
        return GUEST.format(name=name, disk=disk)

    def event(self, name: str, event: str) -> Event:
        """It, of that guest."""
        return self.tracer.wait_for(
            lambda one: (
                one["type"] == "domain" and one["domain"]["name"] == name and one["event"] == event
            )
        )


@pytest.fixture
def limited() -> Iterator[Path]:
    """A cgroup whose processes have 20 MiB."""
    yield from limited_cgroup()


@pytest.fixture
def unit() -> Iterator[Path]:
    """A cgroup that is named as that of a service."""
    group = root_of_all() / f"ends-{os.getpid()}.service"
    group.mkdir()
    yield group
    remove(group)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("disks")
    folder.chmod(0o755)
    with Daemon() as daemon:
        tracer = Tracer("-w", "-p", str(daemon.pid))
        try:
            tracer.wait_attached()
            yield Place(daemon, folder, tracer)
        finally:
            tracer.kill()


def run(*command: str) -> int:
    """Its process's number; it has ended."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    process.wait(60 * PATIENCE)
    return process.pid


def seen(event: Event, *keys: str) -> dict[str, Any]:
    """What of its cause is to be the same each time."""
    return {key: event["cause"].get(key) for key in ("kind", *keys)}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_signal_has_its_sender(place: Place, unit: Path, number: signal.Signals):
    guest = place.create(f"by-{number.name.lower()}")
    kill = f"echo $$ >{unit}/cgroup.procs; exec /bin/kill -{int(number)} {guest.pid}"
    sender = run("/bin/sh", "-c", kill)
    stopped = place.event(guest.name, "stopped")
    assert seen(stopped, "signal", "pid", "comm", "exe", "uid", "user", "unit") == {
        "kind": "signal",
        "signal": number.name,
        "pid": sender,
        "comm": "kill",
        "exe": os.path.realpath("/bin/kill"),
        "uid": os.getuid(),
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "unit": unit.name,
    }
    assert (stopped["qemu_pid"], stopped["parent"]) == (guest.pid, None)


@pytest.mark.parametrize("flags", [(), ("--graceful",)], ids=["destroy", "graceful"])
def test_call_is_the_cause_of_both_events(place: Place, flags: tuple[str, ...]):
    guest = place.create(f"called-{len(flags)}")
    place.daemon.virsh("destroy", guest.name, *flags)
    stopped = place.event(guest.name, "stopped")
    call = place.tracer.wait_for(lambda one: one.get("id") == stopped["parent"])
    assert call["function"].startswith("virDomainDestroy") and call["pid"] == place.daemon.pid
    assert seen(stopped, "id") == {"kind": "call", "id": call["id"]}
    assert place.event(guest.name, "shutdown")["parent"] == call["id"]
    assert stopped["qemu_pid"] == guest.pid


def test_monitor_command_that_quits(place: Place):
    guest = place.create("quits")
    client = run(PYTHON, "-c", QUIT, place.daemon.uri, guest.name)
    stopped = place.event(guest.name, "stopped")
    call = place.tracer.wait_for(lambda one: one.get("id") == stopped["cause"]["id"])
    assert (call["function"], call["client"]["pid"]) == ("virDomainQemuMonitorCommand", client)
    if stopped["parent"] is None:  # it had ended
        assert seen(stopped, "function", "pid") == {
            "kind": "call",
            "function": "virDomainQemuMonitorCommand",
            "pid": client,
        }


def test_end_of_the_connection_that_started_it(place: Place):
    description = place.folder / "bound.xml"
    description.write_text(place.describe("bound", WAIT))
    client = subprocess.Popen(
        [PYTHON, "-c", AUTODESTROY, place.daemon.uri, str(description)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert client.stdout and client.stdout.readline()
    client.kill()
    client.communicate()
    stopped = place.event("bound", "stopped")
    (created,) = (
        call
        for call in place.tracer.calls("virDomainCreateXML", place.daemon.pid)
        if call["ret"]["name"] == "bound"
    )
    expected = {
        "kind": "connection end",
        "id": created["id"],
        "function": "virDomainCreateXML",
        "pid": client.pid,
        "exe": os.path.realpath(PYTHON),
    }
    assert seen(stopped, *expected) == expected
    assert readme.quotes(stopped, "domain web1", {"bound": "web1"})
    assert place.event("bound", "shutdown")["cause"]["kind"] == "connection end"


@pytest.mark.parametrize(
    ("code", "reason"),
    [(POWER_OFF, "guest-shutdown"), (RESET, "guest-reset"), (PANIC, "guest-panic")],
    ids=["power off", "reset", "panic"],
)
def test_guest_ends_itself(place: Place, code: bytes, reason: str):
    description = place.folder / f"{reason}.xml"
    description.write_text(place.describe(reason, code))
    place.daemon.virsh("create", str(description))
    stopped = place.event(reason, "stopped")
    assert stopped["cause"] == {"kind": "guest", "reason": reason}
    assert stopped["qemu_pid"] is not None


def test_guest_that_panics_and_goes_on(place: Place):
    """As it is to be started again then, each time."""
    text = place.describe("panics", PANIC)
    for action in ("on_crash", "on_reboot"):  # a reset ends the process otherwise
        text = text.replace(f"<{action}>destroy", f"<{action}>restart")
    guest = place.daemon.create("panics", text)

    def of_guest(event: Event) -> bool:
        return event["type"] == "domain" and bool(event["domain"]["name"] == guest.name)

    place.tracer.wait_for(lambda one: of_guest(one) and one["event"] == "crashed", count=2)
    place.daemon.virsh("destroy", guest.name)
    place.event(guest.name, "stopped")
    told = [event for event in place.tracer.events if of_guest(event)]
    causes = [
        (event["event"], event["cause"]) for event in told if event["cause"]["kind"] != "call"
    ]
    assert {event for event, _ in causes} - {"suspended"} == {"crashed", "resumed"}
    assert all(cause == {"kind": "guest", "reason": "guest-panic"} for _, cause in causes), causes


def test_guest_that_does_what_it_is_asked_for(place: Place):
    guest = place.create("obeys", OBEY)
    enabled = ["qemu-monitor-command", guest.name, "--hmp", "i /h 0x602"]  # PM1 enable
    while "= 0x0100" not in place.daemon.virsh(*enabled).stdout:
        pass  # a button that is pressed while the BIOS starts is not noticed
    shutdown = ["virsh", "-q", "-c", place.daemon.uri, "shutdown", guest.name, "--mode", "acpi"]
    client = run(*shutdown)
    while not place.tracer.calls("virDomainShutdownFlags", place.daemon.pid):
        place.tracer.wait_for(lambda one: one.get("function") == "virDomainShutdownFlags")
    stopped = place.event(guest.name, "stopped")
    assert readme.quotes(stopped, "domain web1", {guest.name: "web1"})
    asked = stopped["cause"].pop("asked")
    assert stopped["cause"] == {"kind": "guest", "reason": "guest-shutdown"}
    assert (asked["function"], asked["pid"]) == ("virDomainShutdownFlags", client)


def test_disk_without_room(place: Place):
    small = place.folder / "small"
    small.mkdir()
    enter = ["nsenter", "-t", str(place.daemon.pid), "-m"]
    subprocess.run([*enter, "mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", small], check=True)
    code = (WRITE + WAIT).ljust(510, b"\0") + b"\x55\xaa"
    disk = small / "disk"
    fill = f"cat >{disk} && truncate -s 8M {disk}"
    subprocess.run([*enter, "sh", "-c", fill], input=code, check=True)
    disk.touch()  # here, where the daemon does not look
    place.daemon.create("full", place.describe("full", WRITE, disk))
    suspended = place.event("full", "suspended")
    assert (suspended["detail"], suspended["cause"]["kind"]) == ("ioerror", "io error")
    place.daemon.virsh("destroy", "full")


def test_want_of_memory(place: Place, limited: Path):
    guest = place.create("greedy")
    (limited / "cgroup.procs").write_text(str(guest.pid))
    more = "object_add memory-backend-ram,id=more,size=200M,prealloc=on"
    place.daemon.virsh("qemu-monitor-command", guest.name, "--hmp", more, check=False)
    stopped = place.event(guest.name, "stopped")
    assert (stopped["cause"], stopped["qemu_pid"]) == ({"kind": "oom"}, guest.pid)


def test_revert_is_the_cause(place: Place):
    disk = place.folder / "reverts.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True)
    text = place.describe("reverts", WAIT, disk).replace("type='raw'", "type='qcow2'")
    guest = place.daemon.create("reverts", text)
    place.daemon.virsh("snapshot-create-as", guest.name, "before")
    place.daemon.virsh("snapshot-revert", guest.name, "before", "--force")
    place.daemon.virsh("destroy", guest.name)
    place.event(guest.name, "stopped")
    functions = {call["id"]: call["function"] for call in place.tracer.calls()}
    told = [
        (event["event"], event["detail"], functions.get(event["parent"]))
        for event in place.tracer.events
        if event["type"] == "domain" and event["domain"]["name"] == guest.name
    ]
    assert "virDomainRevertToSnapshot" in {function for _, _, function in told}, told
    assert None not in {function for _, _, function in told}, told


def test_daemon_that_starts_again(tmp_path: Path):
    """It starts guests, and finds those that it had."""
    with Daemon() as daemon:
        guest = daemon.create("left")
        description = tmp_path / "domain.xml"
        description.write_text(DOMAIN.format(name="starts-by-itself"))
        daemon.virsh("define", str(description))
        daemon.virsh("autostart", "starts-by-itself")
        done_before = "/run/libvirt/qemu/autostarted"
        enter = ("nsenter", "-t", str(guest.pid), "-m")
        tracer = Tracer("-w", "--object", "left", "--object", "starts-by-itself")
        try:
            tracer.wait_attached()
            daemon.restart(lambda: run(*enter, "rm", "-f", done_before))
            place = Place(daemon, tmp_path, tracer)
            assert place.event("starts-by-itself", "started")["cause"] == {"kind": "daemon"}
            sender = run("/bin/kill", "-9", str(guest.pid))
            stopped = place.event("left", "stopped")
        finally:
            tracer.kill()
    assert seen(stopped, "signal", "pid") == {"kind": "signal", "signal": "SIGKILL", "pid": sender}
    assert readme.quotes(stopped, "domain web1", {"left": "web1"})
    assert (stopped["qemu_pid"], stopped["pid"]) == (guest.pid, daemon.pid)
