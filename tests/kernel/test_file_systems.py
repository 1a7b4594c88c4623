# SPDX-License-Identifier: LGPL-2.1-or-later
"""Libraries where stat() and mappings name different devices: on btrfs and on overlays; and
libraries that are bundled.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.host.libraries import mapwatch
from probes.host.libraries.enforcers import Enforcers
from probes.host.libraries.symbols import Symbols
from probes.host.libraries.targets import Targets
from probes.host.looking import maps
from probes.kernel.records import VERDICT_FUNCTION
from tests.enforced import library
from tests.kernel.conftest import CALLS, end
from tests.kernel.test_targets import LIBVIRT, copy, in_namespace, wait_mapped
from tests.lives import Told
from tests.needs import PYTHON, lack
from tests.neighbours import made_up

SUBVOLUMES = ("one", "two")


@pytest.fixture(scope="module")
def btrfs(tmp_path_factory) -> Iterator[Path]:
    """A file system with a copy of the library in each of two subvolumes, under one number, and
    of the first a snapshot.
    """
    if not shutil.which("mkfs.btrfs") or "btrfs" not in Path("/proc/filesystems").read_text():
        lack("kernel", "btrfs-progs is not installed, or the kernel has no btrfs")
    folder = tmp_path_factory.mktemp("btrfs")
    image, mounted = folder / "image", folder / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    try:
        for name in SUBVOLUMES:
            subprocess.run(
                ["btrfs", "-q", "subvolume", "create", mounted / name],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            shutil.copy(LIBVIRT, mounted / name / "libvirt.so.0")
        with (mounted / "two" / "libvirt.so.0").open("ab") as file:
            file.write(b"other")
        subprocess.run(
            ["btrfs", "-q", "subvolume", "snapshot", mounted / "one", mounted / "snapshot"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        yield mounted
    finally:
        # other tracers here may hold the files for a while
        subprocess.run(["umount", "-l", mounted], check=True)


def test_files_of_subvolumes_are_told_apart(btrfs, load) -> None:
    paths = [btrfs / name / "libvirt.so.0" for name in (*SUBVOLUMES, "snapshot")]
    assert len({path.stat().st_ino for path in paths}) == 1
    load(*paths)
    found = Targets()
    mine = [target for target in found.scan() if target.path.startswith(str(btrfs))]
    assert sorted(target.path for target in mine) == sorted(map(str, paths))
    for target in mine:
        assert os.path.samestat(os.stat(target.path), os.stat(target.path_for_kernel))
    found.close()


def test_a_library_is_found_by_its_path_when_its_process_has_gone(btrfs, load) -> None:
    watch = mapwatch.watch_maps(Told(), Symbols())
    path = btrfs / "one" / "libvirt.so.0"
    end(load(path))
    record = wait_mapped(watch, str(path))
    status = path.stat()
    assert (record.major, record.minor) != (os.major(status.st_dev), os.minor(status.st_dev)), (
        "else this test shows nothing"
    )
    found = Targets()
    target = found.of(record.mapping)
    assert target and os.path.samestat(os.stat(target.path_for_kernel), status)
    assert found.refused == []
    # and if it can't be found, that is told, once
    assert (
        found.of(
            record._replace(path="/proc/nowhere/libvirt.so.0", inode=record.inode + 1000).mapping
        )
        is None
    )
    assert (
        found.of(
            record._replace(path="/proc/nowhere/libvirt.so.0", inode=record.inode + 1000).mapping
        )
        is None
    )
    ((path_told, reason),) = found.refused
    assert (
        path_told == "/proc/nowhere/libvirt.so.0"
        and ("ended before the file could be opened") in reason
    )
    found.close()
    watch.close()


def test_code_in_a_subvolume_has_a_name(btrfs, load) -> None:
    child = load(btrfs / "two" / "libvirt.so.0")
    first = next(mapping for mapping in maps.read(child.pid) if mapping.path.startswith(str(btrfs)))
    found = Targets()
    target = found.of(first)
    assert target
    name, offset = target.functions[0]
    code = Symbols()._mapping(child.pid, first.start)
    assert code
    assert Symbols().describe(child.pid, first.start + offset - code.offset) == name
    found.close()


def test_the_enforcer_on_two_overlays_of_a_layer_is_one(tmp_path, load) -> None:
    enforcer = library()
    script = f"""mount -t tmpfs none {tmp_path}; cd {tmp_path}; mkdir lower u1 w1 o1 u2 w2 o2
        cp {enforcer} lower/{maps.ENFORCER}; cp {LIBVIRT} lower/libvirt.so.0
        mount -t overlay o1 -o lowerdir=lower,upperdir=u1,workdir=w1 o1
        mount -t overlay o2 -o lowerdir=lower,upperdir=u2,workdir=w2 o2"""
    child = load(
        *(tmp_path / folder / maps.ENFORCER for folder in ("o1", "o2", "lower")),
        before=in_namespace(script),
    )
    mappings = [mapping for mapping in maps.read(child.pid) if maps.is_enforcer(mapping.path)]
    assert len({mapping.path for mapping in mappings}) == 3
    found = Enforcers(list)
    assert len({found.of(mapping) for mapping in mappings}) == 1
    assert len(found.take()) == 1
    end(child)
    found.begin()
    assert found.unused() == []
    assert len(found.unused()) == 1
    found.close()


def test_an_enforcer_that_others_can_write_is_not_believed(tmp_path, load) -> None:
    path = Path(shutil.copy(library(), tmp_path / maps.ENFORCER))
    (mapping,) = [each for each in maps.read(load(path).pid) if each.path == str(path)]
    for uid, mode in ((65534, 0o755), (0, 0o775), (0, 0o757)):
        os.chown(path, uid, 0)
        path.chmod(mode)
        found = Enforcers(list)
        assert found.of(mapping) is None
        ((told, reason),) = found.refused
        assert told == str(path) and "not believed" in reason
        found.close()
    # but it may be the host's own, in a user's clone
    found = Enforcers(lambda: [path])
    assert found.of(mapping)
    assert len(found.take()) == 1
    assert found.of(mapping)
    assert found.take() == []
    found.close()


def test_a_bundled_library_has_another_name(tmp_path, load) -> None:
    """As auditwheel does it: the file, its soname and what needs it have the same new name."""
    if not shutil.which("patchelf"):
        lack("kernel", "patchelf is not installed")
    bundled = copy(tmp_path, "libvirt-1a2b3c4d.so.0.9000.0")
    qemu = Path(
        shutil.copy(
            LIBVIRT.replace("libvirt.so", "libvirt-qemu.so"),
            tmp_path / "libvirt-qemu-1a2b3c4d.so.0.9000.0",
        )
    )
    for path in (bundled, qemu):
        subprocess.run(["patchelf", "--set-soname", path.name, path], check=True)
    load(bundled, qemu)
    found = Targets()
    mine = {target.path: target for target in found.scan() if target.path.startswith(str(tmp_path))}
    assert {path: target.soname for path, target in mine.items()} == {
        str(bundled): "libvirt.so.0",
        str(qemu): "libvirt-qemu.so.0",
    }
    assert len({name for name, _ in mine[str(bundled)].functions}) > 400
    assert mine[str(bundled)].layout.name == "gobject"
    found.close()


def test_an_enforcer_whose_function_cannot_be_probed_ends_nothing(trace, load, tmp_path) -> None:
    data = made_up(tmp_path, [VERDICT_FUNCTION], ".byte 0xcc")
    path = tmp_path / maps.ENFORCER
    path.write_bytes(data)
    path.chmod(0o755)
    child = load(path)
    tracer = trace("-p", str(child.pid))
    tracer.wait_for(
        lambda event: (
            event["type"] == "unattached"
            and event["path"] == str(path)
            and "probe the instruction" in event["reason"]
        )
    )
    assert tracer.stop().status == 0


IN_MEMORY = """
import ctypes, os, sys
fd = os.memfd_create("libvirt.so.0")
os.sendfile(fd, os.open(sys.argv[1], os.O_RDONLY), 0, 1 << 28)
library = ctypes.CDLL(f"/proc/self/fd/{fd}")
os.close(fd)
print(os.getpid(), flush=True)
for line in sys.stdin:
    print(sum(library.virGetVersion(None, None, None) == -1 for _ in range(int(line))), flush=True)
"""


def test_a_library_that_is_only_in_memory(trace) -> None:
    """As some loaders of one-file programs have it."""
    tracer = trace("-f", "virGetVersion")
    child = subprocess.Popen(
        [PYTHON, "-c", IN_MEMORY, LIBVIRT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin and child.stdout
    pid = int(child.stdout.readline())
    tracer.wait_for(
        lambda event: (
            event["type"] == "attached"
            and event["targets"][0]["path"] == "/memfd:libvirt.so.0 (deleted)"
        )
    )
    assert child.communicate(f"{CALLS}\n")[0] == f"{CALLS}\n"
    assert len(tracer.stop(lost=None).calls("virGetVersion", pid)) == CALLS


def test_a_library_on_an_overlay_that_is_removed(trace, steps, tmp_path) -> None:
    tracer = trace("-f", "virDomainGetName")
    script = f"""mount -t tmpfs none {tmp_path}; cd {tmp_path}; mkdir lower upper work over
        cp {LIBVIRT} lower/libvirt.so.0
        mount -t overlay over -o lowerdir=lower,upperdir=upper,workdir=work over
        cp {LIBVIRT} over/new; mv over/new over/libvirt.so.0
        export LD_LIBRARY_PATH={tmp_path}/over"""
    step = steps(before=in_namespace(script))
    path = f"{tmp_path}/over/libvirt.so.0"
    subprocess.run(["nsenter", "-m", "-t", str(step.pid), "rm", path], check=True)
    tracer.wait_for(
        lambda event: event["type"] == "attached" and event["targets"][0]["path"].startswith(path)
    )
    step.call()
    assert len(tracer.stop(lost=None).calls("virDomainGetName", step.pid)) == CALLS
