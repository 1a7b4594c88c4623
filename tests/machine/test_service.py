# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian 13's libvirtd as a service under the enforcer, with AppArmor, and the record as one: from
`make install` to `make uninstall`, in this order.
"""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.needs import PATIENCE

DOMAIN = """
<domain type='qemu'><name>web1</name><memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='none'/></devices>
</domain>
"""
POLICY = """
[[rule]]
name = "keep-web"
action = "deny"
function = ["virDomainDestroy*", "virDomainUndefine*"]
object = ["web*"]
message = "web servers are kept"
"""
VIRSH = "LC_ALL=C virsh -q -c qemu:///system "
# a processor that is emulated is as slow as no real one
UNHURRIED = "[Service]\nTimeoutStartSec=1h\nWatchdogSec=1h\n"
DROP_IN = "/etc/systemd/system/libvirtd.service.d/libvirt-trace.conf"


@pytest.fixture(scope="module")
def guarded(machine):
    """The machine, in which libvirtd.service is enforced and the guest web1 runs."""
    machine.copy_checkout()
    machine.run("cd libvirt-trace && make enforcer && sudo make install", seconds=600)
    machine.run("cat >policy.toml", stdin=POLICY.encode())
    machine.run("cat >web1.xml", stdin=DOMAIN.encode())
    machine.run("sudo libvirt-trace policy apply policy.toml")
    said = machine.run("sudo libvirt-trace enforce --service libvirtd")
    (restart,) = re.findall(r" after: (.*)", said.stdout + said.stderr)
    assert restart == "systemctl daemon-reload && systemctl restart libvirtd.service"
    machine.run("sudo systemctl daemon-reload && sudo systemctl restart libvirtd.service")
    machine.run(f"sudo {VIRSH} create web1.xml", seconds=600)
    return machine


def pid_of(machine, service: str) -> str:
    """Its main process; "0": there is none."""
    shown = machine.run(f"systemctl show --value --property MainPID {service}.service").stdout
    return str(shown.strip())


def daemon(machine) -> str:
    """libvirtd's pid."""
    return pid_of(machine, "libvirtd")


def recorded(machine) -> list[tuple[str, str]]:
    """Function and process of every write call on web1 in the record."""
    done = machine.run("sudo libvirt-trace log --json -w --object web1")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        (event["function"], event["comm"])
        for event in events
        if event["type"] in ("call", "verdict") and event["depth"] == 0
    ]


def assert_recorded(machine) -> None:
    """Two more calls come into the record, and it is intact."""
    before = recorded(machine)
    machine.run(f"sudo {VIRSH} suspend web1 && sudo {VIRSH} resume web1")
    deadline = time.monotonic() + 60 * PATIENCE
    while len(new := recorded(machine)[len(before) :]) < 4 and time.monotonic() < deadline:
        time.sleep(1)  # nothing tells
    assert [function for function, comm in new if comm == "virsh"] == [
        "virDomainSuspend",
        "virDomainResume",
    ]
    assert [function for function, comm in new if comm != "virsh"] == [
        "virDomainSuspend",
        "virDomainResume",
    ]


def assert_denied(machine) -> None:
    """The guest can't be destroyed, and runs on."""
    denied = machine.run(f"sudo {VIRSH} destroy web1", check=False)
    assert denied.returncode == 1 and "access denied: web servers are kept" in denied.stderr, denied
    assert machine.run(f"sudo {VIRSH} domstate web1").stdout == "running\n"


def test_it_is_the_machine_that_is_meant(machine):
    assert machine.run(". /etc/os-release && echo $VERSION_CODENAME").stdout == "trixie\n"
    assert machine.run("uname -r").stdout.startswith("6.12.")
    assert machine.run("ps -o comm= -p 1").stdout == "systemd\n"
    assert machine.run("cat /sys/module/apparmor/parameters/enabled").stdout == "Y\n"


def test_daemon_is_confined_and_enforced_and_ps_says_so(guarded):
    pid = daemon(guarded)
    assert (
        guarded.run(f"sudo cat /proc/{pid}/attr/current").stdout.strip("\n\0")
        == "libvirtd (enforce)"
    )
    assert (
        "/usr/local/lib/libvirt-trace/enforcer/libvirt-trace-enforcer.so"
        in guarded.run(f"sudo cat /proc/{pid}/maps").stdout
    )

    (row,) = [
        line
        for line in guarded.run("sudo libvirt-trace ps").stdout.splitlines()
        if line.split()[:1] == [pid]
    ]
    assert "libvirtd.service" in row and "/home/alice/policy.toml" in row, row


def test_denied_call_is_denied_and_others_pass(guarded):
    assert_denied(guarded)
    guarded.run(f"sudo {VIRSH} suspend web1")
    assert guarded.run(f"sudo {VIRSH} domstate web1").stdout == "paused\n"
    guarded.run(f"sudo {VIRSH} resume web1")


def test_guest_of_an_enforced_daemon_is_confined_as_ever(guarded):
    (pid,) = guarded.run("pgrep -f guest=[w]eb1").stdout.split()
    uuid = guarded.run(f"sudo {VIRSH} domuuid web1").stdout.strip()
    assert (
        guarded.run(f"sudo cat /proc/{pid}/attr/current").stdout.strip("\n\0")
        == f"libvirt-{uuid} (enforce)"
    )


def test_log_shows_who_was_denied_what(guarded):
    traced = guarded.run(
        f"sudo libvirt-trace --json --both -- {VIRSH.removeprefix('LC_ALL=C ')} destroy web1",
        check=False,
        seconds=600,
    )
    events = [json.loads(line) for line in traced.stdout.splitlines() if line.startswith('{"type"')]
    assert events[-1]["type"] == "end" and events[-1]["lost"] == 0, traced
    (verdict,) = [event for event in events if event["type"] == "verdict"]
    assert (verdict["function"], verdict["action"], verdict["rule"]) == (
        "virDomainDestroy",
        "deny",
        "keep-web",
    )
    assert (
        verdict["args"]["domain"]["name"] == "web1"
        and verdict["error"]["name"] == "VIR_ERR_ACCESS_DENIED"
    )
    assert (str(verdict["pid"]), verdict["unit"]) == (daemon(guarded), "libvirtd.service")
    (call,) = [
        event
        for event in events
        if event["type"] == "call" and event["function"] == "virDomainDestroy"
    ]
    assert (call["comm"], call["failed"], verdict["client"]["pid"]) == ("virsh", True, call["pid"])


def test_it_stays_enforced_when_it_is_restarted_and_when_a_socket_starts_it(guarded):
    before = daemon(guarded)
    guarded.run("sudo systemctl restart libvirtd.service")
    assert daemon(guarded) != before
    assert_denied(guarded)

    guarded.run("sudo systemctl stop libvirtd.service")
    assert daemon(guarded) == "0"
    assert_denied(guarded)
    assert (
        "libvirt-trace-enforcer.so" in guarded.run(f"sudo cat /proc/{daemon(guarded)}/maps").stdout
    )


def test_record_is_a_service_that_says_how_it_is(guarded):
    guarded.run("sudo mkdir /etc/systemd/system/libvirt-trace.service.d")
    guarded.run(
        "sudo tee /etc/systemd/system/libvirt-trace.service.d/slow.conf", stdin=UNHURRIED.encode()
    )
    guarded.run(
        "sudo systemctl daemon-reload && sudo systemctl enable --now libvirt-trace", seconds=900
    )
    assert_recorded(guarded)
    status = guarded.run("systemctl status libvirt-trace.service").stdout
    assert re.search(r"Active: active \(running\)", status), status
    assert re.search(r'Status: "recording; [0-9]+ calls written, ', status), status


def test_record_goes_on_when_it_is_reloaded_and_restarted(guarded):
    before = pid_of(guarded, "libvirt-trace")
    guarded.run("sudo systemctl reload libvirt-trace.service")
    assert_recorded(guarded)
    assert pid_of(guarded, "libvirt-trace") == before
    guarded.run("sudo systemctl restart libvirt-trace.service", seconds=900)
    assert pid_of(guarded, "libvirt-trace") not in ("0", before)
    assert_recorded(guarded)
    assert guarded.run("sudo libvirt-trace verify").stdout.startswith("intact: ")


def test_record_and_rules_are_there_after_a_reboot(guarded):
    before = recorded(guarded)
    guarded.reboot()
    assert recorded(guarded)[: len(before)] == before
    assert guarded.run("systemctl is-active libvirt-trace.service").stdout == "active\n"
    # the first that asks for the daemon has it started, and is recorded
    guarded.run(f"sudo {VIRSH} create web1.xml", seconds=600)
    assert_denied(guarded)
    assert ("virDomainDestroy", "virsh") in recorded(guarded)[len(before) :]
    assert_recorded(guarded)
    assert guarded.run("sudo libvirt-trace verify").stdout.startswith("intact: ")


def test_nothing_is_left_that_guards_nothing(guarded):
    refused = guarded.run("cd libvirt-trace && sudo make uninstall", check=False)
    assert refused.returncode != 0 and "libvirtd.service would run unguarded" in refused.stdout, (
        refused
    )
    assert_denied(guarded)

    guarded.run("sudo libvirt-trace enforce --service libvirtd --remove")
    refused = guarded.run("cd libvirt-trace && sudo make uninstall", check=False)
    assert refused.returncode != 0 and "the record is being written" in refused.stdout, refused
    guarded.run("sudo systemctl disable --now libvirt-trace.service")
    guarded.run("sudo rm -r /etc/systemd/system/libvirt-trace.service.d")
    guarded.run("sudo systemctl daemon-reload && sudo systemctl restart libvirtd.service")
    assert (
        guarded.run(
            f"test ! -e {DROP_IN} && systemctl show --value --property Environment libvirtd.service"
        ).stdout
        == "\n"
    )
    guarded.run(f"sudo {VIRSH} destroy web1")

    guarded.run("cd libvirt-trace && sudo make uninstall")
    left = guarded.run("sudo find / -xdev -name '*libvirt-trace*' ! -path '/home/*'").stdout
    assert sorted(left.splitlines()) == ["/etc/libvirt-trace", "/var/log/libvirt-trace"]
    assert (
        "cannot be preloaded"
        not in guarded.run("sudo journalctl --quiet --unit libvirtd.service").stdout
    )
