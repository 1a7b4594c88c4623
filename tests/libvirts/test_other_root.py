# SPDX-License-Identifier: LGPL-2.1-or-later
"""The roots are what the other tests take them for."""

import os

from probes.internals.elf import read_elf
from probes.internals.layouts import choose_layout

VERSIONS = {"bullseye": "7.0.0", "trixie": "11.3.0"}


def test_its_libvirt_is_another(release):
    assert release.version == VERSIONS.get(release.path.name, release.version)
    at_least, mine = (tuple(map(int, text.split("."))) for text in ("12.0.0", release.version))
    assert release.path.name in VERSIONS or mine >= at_least
    listing = release.run("virsh", "-c", "test:///default", "list", "--all")
    assert (listing.returncode, listing.stderr) == (0, "")
    assert listing.stdout.split()[-3:] == ["1", "test", "running"]
    major, minor, patch = mine
    number = release.run("python3", "-c", "import libvirt; print(libvirt.getVersion())").stdout
    assert int(number) == major * 1_000_000 + minor * 1000 + patch


def test_process_has_a_root_of_its_own(release):
    process = release.start("sh", "-c", "echo ready; exec sleep 60")
    try:
        assert process.stdout.readline() == "ready\n"
        mine, its = (
            os.stat("/proc/self/ns/mnt").st_ino,
            os.stat(f"/proc/{process.pid}/ns/mnt").st_ino,
        )
        assert its != mine
        assert os.path.samestat(os.stat(f"/proc/{process.pid}/root"), os.stat(release.path))
    finally:
        process.kill()
        process.communicate()


def test_objects_have_the_known_layout(release):
    paths = [
        path for path in release.path.glob("usr/lib/*/libvirt*.so.0") if "admin" not in path.name
    ]
    assert paths
    for path in paths:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        assert choose_layout(read_elf(fd, str(path)), fd).name == "gobject", path
        os.close(fd)
