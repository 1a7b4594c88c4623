# SPDX-License-Identifier: LGPL-2.1-or-later
"""What calls carry to and from real guests: monitor commands, statistics, secrets, snapshots
and a live migration between two daemons.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, free_ports
from tests.needs import PATIENCE, PYTHON
from tests.tracing import Event, Result

PROGRAM = r"""
import json, os, sys
import libvirt, libvirt_qemu
uri, name, facts = sys.argv[1:]
libvirt.registerErrorHandler(lambda context, error: None, None)
conn = libvirt.open(uri)
domain = conn.lookupByName(name)
found = {"pid": os.getpid()}
found["status"] = libvirt_qemu.qemuMonitorCommand(domain, '{"execute":"query-status"}', 0)
HMP = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
found["human"] = libvirt_qemu.qemuMonitorCommand(domain, "info version", HMP)
found["stats"] = conn.domainListGetStats([domain], 0, 0)[0][1]
found["info"] = domain.info()
found["pins"] = domain.vcpuPinInfo()
found["models"] = conn.getCPUModelNames("x86_64")
usage = "<usage type='ceph'><name>u1</name></usage>"
secret = conn.secretDefineXML("<secret ephemeral='yes' private='no'>" + usage + "</secret>")
secret.setValue(b"swordfish")
assert secret.value() == b"swordfish"
secret.undefine()
domain.sendKey(0, 0, [30, 48], 2)
found["peek"] = len(domain.memoryPeek(0, 64, libvirt.VIR_MEMORY_PHYSICAL))
for call in (
    lambda: domain.migrateToURI3("qemu+tcp://fred:swordfish@nohost/system",
                                 {"bandwidth": 7, "migrate_disks": ["vda", "vdb"]}, 0),
    lambda: domain.snapshotCreateXML("<domainsnapshot><name>s1</name><memory snapshot='no'/>"
                                     "</domainsnapshot>"),
    lambda: domain.blockCopy("vda", "<disk type='file'><source file='/x'/></disk>",
                             {"granularity": 65536}),
    lambda: libvirt_qemu.qemuAgentCommand(domain, '{"execute":"guest-ping"}', 5, 0),
):
    try:
        call()
    except libvirt.libvirtError:
        pass
with open(facts, "w") as file:
    json.dump(found, file)
"""


@pytest.fixture
def traced(trace, libvirtd, guest, tmp_path: Path) -> tuple[Result, dict[str, Any]]:
    """The finished run of PROGRAM, and its facts."""
    program, facts = tmp_path / "program.py", tmp_path / "facts"
    program.write_text(PROGRAM)
    tracer = trace(
        "-s",
        "4096",
        "--",
        PYTHON,
        str(program),
        libvirtd.uri,
        guest.name,
        str(facts),
        attached=False,
    )
    return tracer.finish(60), json.loads(facts.read_text())


def numbers(value: Any) -> Any:
    """Without the names of constants."""
    if not isinstance(value, dict):
        return value
    return (
        value["value"]
        if set(value) == {"value", "name"}
        else {key: numbers(item) for key, item in value.items()}
    )


def test_what_a_guest_answers(traced, guest) -> None:
    result, facts = traced

    def one(function: str) -> Event:
        (call,) = result.calls(function, pid=facts["pid"])
        found: Event = call
        return found

    first_info = result.calls("virDomainGetInfo", pid=facts["pid"])[0]
    machine, human = result.calls("virDomainQemuMonitorCommand", pid=facts["pid"])
    assert (machine["args"]["cmd"], machine["out"]["result"]) == (
        '{"execute":"query-status"}',
        facts["status"],
    )
    # text for people may hold anything
    assert (human["args"]["cmd"], human["out"]["result"]) == (
        "info version",
        {"redacted": True, "length": len(facts["human"])},
    )
    assert human["args"]["flags"] == {"value": 1, "names": ["VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP"]}
    (record,) = one("virDomainListGetStats")["out"]["retStats"]
    assert record["dom"]["name"] == guest.name
    assert numbers(record["params"]) == facts["stats"]
    assert record["params"]["state.state"] == {"value": 1, "name": "VIR_DOMAIN_RUNNING"}
    assert [domain["uuid"] for domain in one("virDomainListGetStats")["args"]["doms"]] == [
        guest.uuid
    ]
    assert [numbers(value) for value in first_info["out"]["info"].values()] == facts["info"]
    models, known = one("virConnectGetCPUModelNames")["out"]["models"], facts["models"]
    assert models == (
        known if len(known) <= 64 else {"items": known[:64], "count": len(known), "cut": True}
    )
    assert one("virDomainSendKey")["args"]["keycodes"] == [30, 48]
    assert one("virDomainMemoryPeek")["out"]["buffer"] == {
        "redacted": True,
        "length": facts["peek"],
    }
    migration = one("virDomainMigrateToURI3")["args"]
    assert migration["params"] == {"bandwidth": 7, "migrate_disks": ["vda", "vdb"]}
    assert migration["dconnuri"] == "qemu+tcp://fred:<redacted>@nohost/system"
    assert one("virDomainBlockCopy")["args"]["params"] == {"granularity": 65536}
    assert one("virDomainQemuAgentCommand")["args"]["cmd"] == '{"execute":"guest-ping"}'
    assert one("virDomainSnapshotCreateXML")["args"]["xmlDesc"].startswith("<domainsnapshot>")


def test_a_secret_s_value_is_not_in_the_log(traced) -> None:
    result, _ = traced
    given, got = result.calls("virSecretSetValue"), result.calls("virSecretGetValue")
    assert len(given) == len(got) == 2  # in the client and in the daemon
    assert [call["args"]["value"] for call in given] == [{"redacted": True, "length": 9}] * 2
    assert [(call["ret"], call["out"]) for call in got] == [
        ({"redacted": True, "length": 9}, {"value_size": 9})
    ] * 2
    assert "swordfish" not in json.dumps(result.events)


@pytest.fixture
def other():
    """A second libvirtd."""
    with Daemon() as daemon:
        yield daemon


def test_both_sides_of_a_live_migration(trace, libvirtd, other, guest) -> None:
    target = f"qemu+unix:///system?socket={other.uri.partition('=')[2]}"
    tracer = trace("-s", "65536", "-f", "virDomainMigrate*")
    (port,) = free_ports(1)
    where = ("--migrateuri", f"tcp://127.0.0.1:{port}", "--listen-address", "127.0.0.1")
    argv = [
        "virsh",
        "--quiet",
        "-c",
        libvirtd.uri,
        "migrate",
        "--live",
        "--p2p",
        "--unsafe",
        "--bandwidth",
        "100",
        *where,
        guest.name,
        target,
    ]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, timeout=60 * PATIENCE)
    tracer.wait_for(lambda event: event.get("function") == "virDomainMigrateToURI3")
    tracer.wait_for(lambda event: event.get("function") == "virDomainMigrateFinish3Params")
    result = tracer.stop(lost=None)
    other.virsh("destroy", guest.uuid)

    calls = {
        (call["pid"], call["function"]): call
        for call in result.calls()
        if not call["failed"] and call["depth"] == 0
    }
    perform = calls[libvirtd.pid, "virDomainMigratePerform3Params"]
    prepare = calls[other.pid, "virDomainMigratePrepare3Params"]
    finish = calls[other.pid, "virDomainMigrateFinish3Params"]
    asked = {
        "migrate_uri": f"tcp://127.0.0.1:{port}",
        "listen_address": "127.0.0.1",
        "bandwidth": 100,
    }
    assert (perform["args"]["domain"]["name"], perform["args"]["dconnuri"]) == (guest.name, target)
    assert perform["args"]["params"] == asked
    assert {
        name: value for name, value in prepare["args"]["params"].items() if name in asked
    } == asked
    assert f"<name>{guest.name}</name>" in prepare["args"]["params"]["destination_xml"]
    assert prepare["args"]["cookiein"].startswith("<qemu-migration>")
    assert len(prepare["args"]["cookiein"]) + 1 == prepare["args"]["cookieinlen"]
    assert len(prepare["out"]["cookieout"]) + 1 == prepare["out"]["cookieoutlen"]
    assert set(prepare["args"]["flags"]["names"]) == {
        "VIR_MIGRATE_LIVE",
        "VIR_MIGRATE_PEER2PEER",
        "VIR_MIGRATE_UNSAFE",
    }
    assert (finish["ret"]["name"], finish["ret"]["uuid"], finish["args"]["cancelled"]) == (
        guest.name,
        guest.uuid,
        0,
    )
