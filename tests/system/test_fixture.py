# SPDX-License-Identifier: LGPL-2.1-or-later
"""The private libvirtd and its guest are what the other tests take them for."""

import os
from pathlib import Path


def test_guest_is_running(libvirtd, guest):
    assert libvirtd.virsh("domstate", guest.name).stdout.strip() == "running"
    assert guest.name in libvirtd.virsh("list").stdout
    assert os.readlink(f"/proc/{guest.pid}/exe").endswith("/qemu-system-x86_64")


def test_guest_is_suspended_and_resumed(libvirtd, guest):
    libvirtd.virsh("suspend", guest.name)
    assert libvirtd.virsh("domstate", guest.name).stdout.strip() == "paused"
    libvirtd.virsh("resume", guest.name)
    assert libvirtd.virsh("domstate", guest.name).stdout.strip() == "running"


def test_daemon_is_private(libvirtd, guest):
    assert not Path(f"/run/libvirt/qemu/{guest.name}.pid").exists()
    assert os.readlink(f"/proc/{libvirtd.pid}/exe").endswith("/libvirtd")
    assert libvirtd.virsh("uri").stdout.strip() == libvirtd.uri
    assert libvirtd.virsh("-c", libvirtd.uri, "domstate", "nosuch", check=False).returncode == 1
