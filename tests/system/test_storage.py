# SPDX-License-Identifier: LGPL-2.1-or-later
"""Snapshots, block jobs, checkpoints and a stream of a real guest with a disk: what virsh does,
read off the log.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracing import Event

DOMAIN = """
<domain type='qemu'>
  <name>disk1</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <video><model type='vga'/></video>
    <graphics type='vnc' socket='{socket}'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""


@pytest.fixture
def disk_guest(libvirtd, tmp_path) -> Iterator[Path]:
    """The domain disk1 runs; the folder of its disk."""
    disk = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "16M"], check=True)
    description = tmp_path / "domain.xml"
    description.write_text(DOMAIN.format(disk=disk, socket=tmp_path / "vnc"))
    libvirtd.virsh("create", str(description))
    yield tmp_path
    libvirtd.virsh("destroy", "disk1", check=False)


def flags(call: Event) -> list[str]:
    names: list[str] = call["args"]["flags"]["names"]
    return names


def test_disks_of_a_guest(trace, libvirtd, disk_guest: Path):
    words = (
        "snapshot-create-as disk1 s1 --disk-only",
        "blockcommit disk1 vda --active --pivot --wait",
        f"blockcopy disk1 vda {disk_guest}/copy.qcow2 --transient-job",
        "blockjob disk1 vda --abort",
        "checkpoint-create-as disk1 c1",
        f"screenshot disk1 {disk_guest}/picture",
    )
    script = " && ".join(f"virsh -q -c '{libvirtd.uri}' {each}" for each in words)
    result = trace(
        "-s", "4096", "--", "sh", "-c", f"({script}) >/dev/null", attached=False
    ).finish()
    assert result.status == 0, result.stderr
    calls = {
        call["function"]: call
        for call in result.calls()
        if call["client"] is None and call["args"] is not None
    }

    snapshot = calls["virDomainSnapshotCreateXML"]
    assert "<name>s1</name>" in snapshot["args"]["xmlDesc"] and flags(snapshot) == [
        "VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY"
    ]
    assert (snapshot["ret"]["type"], snapshot["ret"]["name"]) == ("snapshot", "s1")
    commit = calls["virDomainBlockCommit"]
    assert [commit["args"][name] for name in ("disk", "base", "top", "bandwidth")] == [
        "vda",
        None,
        None,
        0,
    ]
    assert flags(commit) == ["VIR_DOMAIN_BLOCK_COMMIT_ACTIVE"]
    copy = calls["virDomainBlockCopy"]
    assert f"file='{disk_guest}/copy.qcow2'" in copy["args"]["destxml"] and flags(copy) == [
        "VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB"
    ]
    checkpoint = calls["virDomainCheckpointCreateXML"]
    assert (checkpoint["ret"]["type"], checkpoint["ret"]["name"]) == ("checkpoint", "c1")
    assert calls["virDomainScreenshot"]["ret"] == "image/png"
    assert calls["virStreamFinish"]["ret"] == 0
    changing = [snapshot, commit, copy, checkpoint, calls["virDomainScreenshot"]]
    told = {event["parent"] for event in result.events if event["type"] == "monitor"}
    for call in changing:  # the daemon makes others besides, for a stream for instance
        assert told & {
            served["id"] for served in result.calls() if served["parent"] == call["id"]
        }, call["function"]
    assert not [call for call in calls.values() if call["failed"]]
