# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian 13 root is what the other tests take it for."""

import os

from probes.internals.elf import read_elf
from probes.internals.layouts import choose_layout
from tests.needs import TRIXIE


def test_virsh_is_of_libvirt_11(trixie):
    assert trixie.run("virsh", "--version").stdout.strip() == "11.3.0"


def test_test_driver_lists_its_domain(trixie):
    listing = trixie.run("virsh", "-c", "test:///default", "list", "--all")
    assert (listing.returncode, listing.stderr) == (0, "")
    assert listing.stdout.split()[-3:] == ["1", "test", "running"]


def test_python_binding_is_of_libvirt_11(trixie):
    assert (
        trixie.run("python3", "-c", "import libvirt; print(libvirt.getVersion())").stdout.strip()
        == "11003000"
    )


def test_process_has_a_root_of_its_own(trixie):
    process = trixie.start("sh", "-c", "echo ready; exec sleep 60")
    try:
        assert process.stdout.readline() == "ready\n"
        mine, its = (
            os.stat("/proc/self/ns/mnt").st_ino,
            os.stat(f"/proc/{process.pid}/ns/mnt").st_ino,
        )
        assert its != mine
        with open(f"/proc/{process.pid}/root/etc/debian_version") as version:
            assert version.read().startswith("13")
    finally:
        process.kill()
        process.communicate()


def test_objects_have_the_known_layout():
    paths = [path for path in TRIXIE.glob("usr/lib/*/libvirt*.so.0") if "admin" not in path.name]
    assert paths
    for path in paths:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        assert choose_layout(read_elf(fd, str(path)), fd).name == "gobject", path
        os.close(fd)
