# SPDX-License-Identifier: LGPL-2.1-or-later
"""Targets on a real host: libraries that are there, are mapped, have been deleted or replaced,
or are in another mount namespace.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest

from log.errors import TraceError
from probes.host.libraries import library, mapwatch, targets
from probes.host.libraries.library import Target
from probes.host.libraries.symbols import Symbols
from probes.host.libraries.targets import Targets
from probes.host.looking import maps
from probes.internals import private
from probes.internals.elf import read_elf
from tests.kernel.conftest import CALLS, end
from tests.lives import Told
from tests.needs import PATIENCE, PYTHON

LIBVIRT = os.path.realpath("/usr/lib/x86_64-linux-gnu/libvirt.so.0")


class Known(Targets):
    """Targets after a first scan; of later ones those of this test, for other programs of the
    host load and unload libraries too.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        super().scan()
        self._folder = str(folder)

    def _mine(self, found: Sequence[Target]) -> list[Target]:
        return [target for target in found if target.path.startswith(self._folder)]

    def scan(self) -> list[Target]:
        return self._mine(super().scan())

    def unused(self, pending: Collection[Target] = ()) -> list[Target]:
        return self._mine(super().unused(pending))


@pytest.fixture
def known(tmp_path: Path) -> Iterator[Known]:
    """Targets after a first scan."""
    found = Known(tmp_path)
    yield found
    found.close()


def copy(folder: Path, name: str = "libvirt.so.0.9000.0") -> Path:
    return Path(shutil.copy(LIBVIRT, folder / name))


def build(
    folder: Path,
    *flags: str,
    soname: str = "libvirt.so.0",
    versions: str = ("LIBVIRT_0.9.9 { virA; }; LIBVIRT_0.9.11 { virB; virC; };"),
) -> Path:
    source, script, output = folder / "small.c", folder / "small.map", folder / "libvirt.so.0"
    source.write_text(
        "int virA(void) { return 1; }\nint virC(void) { return 2; }\nint virB(void) "
        '__attribute__((alias("virC")));\n'
    )
    script.write_text(versions)
    common = [
        "-shared",
        "-fPIC",
        "-nostdlib",
        f"-Wl,-soname,{soname}",
        f"-Wl,--version-script={script}",
    ]
    subprocess.run(["gcc", *common, *flags, "-o", output, source], check=True)
    return output


def is_file(target: Target, path: str | Path) -> bool:
    return os.path.samestat(os.stat(target.path_for_kernel), os.stat(path))


def test_host_libraries_are_found_though_nobody_has_them_loaded():
    found = Targets()
    by_soname = {target.soname: target for target in found.host()}
    assert set(by_soname) == {"libvirt.so.0", "libvirt-qemu.so.0", "libvirt-lxc.so.0"}
    for soname, target in by_soname.items():
        assert is_file(target, f"/usr/lib/x86_64-linux-gnu/{soname}")
        assert (target.device, target.inode) == (
            os.stat(target.path).st_dev,
            os.stat(target.path).st_ino,
        )
        version = subprocess.check_output(
            ["dpkg-query", "-W", "-f", "${Version}", "libvirt0"], text=True
        ).split("-")[0]
        assert target.version == version
        assert (target.layout.name, target.is_32_bit) == ("gobject", False)
    found.close()


def test_functions_are_those_that_nm_lists_as_public():
    found = Targets()
    for target in found.host():
        lines = subprocess.check_output(
            ["nm", "-D", "--defined-only", target.path], text=True
        ).splitlines()
        public = {
            m[1]
            for line in lines
            if (m := re.fullmatch(r"\S+ T (\S+?)@@LIBVIRT_(?:QEMU_|LXC_)?[0-9.]+", line))
        }
        assert {name for name, _ in target.functions} | set(target.aliases) == public
        assert len({offset for _, offset in target.functions}) == len(target.functions)
        # in the driver; exported by no release that was looked at
        elsewhere = {"qemuMonitorSend", private.TELLS, private.CLOSES, *private.AGENT}
        elsewhere |= {f"virAccessManagerCheck{what}" for what in ("NWFilterBinding", "NetworkPort")}
        inner = library.PRIVATE_NAMES - elsewhere if target.soname == "libvirt.so.0" else set()
        assert {name.partition(",")[0] for name in target.private} - elsewhere == inner
        assert private.DISPATCH + private.ELSEWHERE not in target.private and target.note is None
        assert all(target.text[0] <= offset < sum(target.text) for _, offset in target.functions)
    found.close()


def test_standard_folders_serve_where_there_is_no_cache(monkeypatch):
    expected = set(targets.host_libraries())
    assert expected

    def refuse(*arguments, **options):
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", refuse)
    assert expected <= set(targets.host_libraries())


def test_library_of_the_user(tmp_path):
    given = copy(tmp_path, "any-name.so")
    found = Targets([given])
    assert is_file(found.scan()[0], given)
    assert found.unused() == []
    found.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "can't open"),
        (lambda path: path.write_text("#!/bin/sh\n" * 10), "is not an ELF file"),
        (
            lambda path: shutil.copy("/lib/x86_64-linux-gnu/libc.so.6", path),
            "it calls itself libc.so.6",
        ),
        (lambda path: shutil.copy("/bin/true", path), "it calls itself nothing"),
        (lambda path: os.mkfifo(path), "is not a file"),
        (lambda path: path.mkdir(), "is not a file"),
    ],
    ids=["missing", "script", "libc", "program", "pipe", "folder"],
)
def test_library_of_the_user_that_is_none(tmp_path, make, message):
    path = tmp_path / "libvirt.so.0"
    make(path)
    found = Targets([path])
    with pytest.raises(TraceError, match=message) as caught:
        found.scan()
    assert str(path) in str(caught.value)
    found.close()


def test_copy_of_a_process_is_found_once(tmp_path, load, known):
    path = copy(tmp_path)
    os.link(path, tmp_path / "libvirt.so.0.twin")
    load(path)
    load(tmp_path / "libvirt.so.0.twin")
    new = known.scan()
    assert len(new) == 1
    assert is_file(new[0], path)
    assert known.scan() == []


def test_deleted_library(tmp_path, load, known):
    path = copy(tmp_path)
    expected = os.stat(path)
    load(path)
    path.unlink()
    (target,) = known.scan()
    assert target.path == f"{path} (deleted)"
    assert (target.device, target.inode) == (expected.st_dev, expected.st_ino)
    assert Path(target.path_for_kernel).read_bytes() == Path(LIBVIRT).read_bytes()


def test_replaced_library_is_a_second_target(tmp_path, load, known):
    path = copy(tmp_path)
    load(path)
    (old,) = known.scan()
    # as package managers do it: the new file takes the place of the old one, which lives on in
    # processes
    copy(tmp_path, "libvirt.so.0.9000.0.dpkg-new").rename(path)
    load(path)
    (new,) = known.scan()
    assert is_file(new, path)
    assert not is_file(old, path)


def in_namespace(script: str) -> tuple[str, ...]:
    return (
        "unshare",
        "-m",
        "--propagation",
        "private",
        "sh",
        "-eu",
        "-c",
        f'{script}; exec "$@"',
        "sh",
    )


def test_library_in_another_mount_namespace(tmp_path, load, known):
    load(
        tmp_path / "libvirt.so.0",
        before=in_namespace(
            f"mount -t tmpfs none {tmp_path}; cp {LIBVIRT} {tmp_path}/libvirt.so.0"
        ),
    )
    assert not (tmp_path / "libvirt.so.0").exists()
    (target,) = known.scan()
    assert target.path == f"{tmp_path}/libvirt.so.0"
    assert Path(target.path_for_kernel).read_bytes() == Path(LIBVIRT).read_bytes()


def test_same_number_in_two_file_systems_is_two_targets(tmp_path, load, known):
    script = f"mount -t tmpfs none {tmp_path}; cp -p {LIBVIRT} {tmp_path}/libvirt.so.0"
    for _ in range(2):
        load(tmp_path / "libvirt.so.0", before=in_namespace(script))
    first, second = known.scan()
    assert first.inode == second.inode
    assert first.device != second.device


def test_overlays_on_one_file_are_one_target(tmp_path, load, known):
    script = f"""mount -t tmpfs none {tmp_path}; cd {tmp_path}; mkdir lower u1 w1 o1 u2 w2 o2
        cp {LIBVIRT} lower/libvirt.so.0
        mount -t overlay o1 -o lowerdir=lower,upperdir=u1,workdir=w1 o1
        mount -t overlay o2 -o lowerdir=lower,upperdir=u2,workdir=w2 o2"""
    libraries = [tmp_path / folder / "libvirt.so.0" for folder in ("o1", "o2", "lower")]
    child = load(*libraries, before=in_namespace(script))
    mapped = [mapping for mapping in maps.read(child.pid) if maps.is_library(mapping.path)]
    assert len({mapping.path for mapping in mapped}) == 3
    assert len(known.scan()) == 1


def test_file_that_only_has_the_name_is_passed_over(tmp_path, load, known):
    load(shutil.copy("/lib/x86_64-linux-gnu/libm.so.6", tmp_path / "libvirt.so.0"))
    assert known.scan() == []
    assert known.scan() == []


def test_unused_targets_are_let_go(tmp_path, load, known):
    path = copy(tmp_path)
    child = load(path)
    (target,) = known.scan()
    assert [known.unused(), known.unused()] == [[], []]
    end(child)
    other = copy(tmp_path, "libvirt.so.0.other")
    load(other)
    (new,) = known.scan()
    assert new.path == str(other)
    assert known.unused() == []  # it may have been handed on meanwhile
    assert known.scan() == []
    assert known.unused() == [target]
    assert known.unused() == []
    target.close()
    load(path)
    assert [new.path for new in known.scan()] == [str(path)]


def wait_mapped(watch: mapwatch.Watch, path: str) -> mapwatch.Mapped:
    deadline = time.monotonic() + 60 * PATIENCE
    while time.monotonic() < deadline:
        for record in watch.poll():
            if isinstance(record, mapwatch.Mapped) and record.path == path:
                return record
        time.sleep(0.005)
    raise AssertionError(f"{path} was not noticed")


def test_mapping_that_is_noticed_becomes_a_target(tmp_path, load, known):
    watch = mapwatch.watch_maps(Told(), Symbols())
    path = copy(tmp_path)
    load(path)
    record = wait_mapped(watch, str(path))
    target = known.of(record.mapping)
    assert target and is_file(target, path)
    assert known.knows(record.mapping)
    # one that the loader splits after it was noticed
    second = copy(tmp_path, "libvirt.so.0.second")
    load(second)
    record = wait_mapped(watch, str(second))
    assert known.of(record._replace(start=record.start - 4096, length=record.length + 8192).mapping)
    watch.close()


def test_library_of_a_process_that_has_gone_is_found_by_its_path(tmp_path, load, known):
    watch = mapwatch.watch_maps(Told(), Symbols())
    path = copy(tmp_path)
    end(load(path))
    record = wait_mapped(watch, str(path))
    other = copy(tmp_path, "libvirt.so.0.other")
    # not the file that was mapped
    assert known.of(record._replace(path=str(other)).mapping) is None
    target = known.of(record.mapping)
    assert target and is_file(target, path)
    watch.close()


def test_functions_at_one_place_are_probed_once(tmp_path):
    found = Targets([build(tmp_path)])
    target = found.scan()[0]  # the user's come first
    assert [name for name, _ in target.functions] == ["virA", "virB"]
    assert target.aliases == {"virC": "virB"}
    assert target.version == "0.9.11"  # the newest public node, by number
    found.close()


def test_32_bit_library_is_said_to_be_one(tmp_path):
    found = Targets([build(tmp_path, "-m32")])
    target = found.scan()[0]
    assert target.is_32_bit
    assert "32-bit" in (target.layout.reason or "")
    assert target.functions
    found.close()


def test_library_with_absurdly_many_functions_is_refused(tmp_path):
    names = [f"vir{number}" for number in range(library.MOST_FUNCTIONS + 1)]
    (tmp_path / "more.h").write_text(
        "".join((f"int {name}(void) {{ return {number}; }}\n") for number, name in enumerate(names))
    )
    path = build(
        tmp_path,
        "-include",
        str(tmp_path / "more.h"),
        versions=f"LIBVIRT_1.0 {{ {'; '.join(names)}; }};",
    )
    with pytest.raises(TraceError, match="too many functions"):
        Targets([path]).scan()


GET_ID = """
import libvirt
connection = libvirt.open("test:///default")
print(libvirt.virDomain.ID(connection.lookupByName("test")))
"""


def test_a_library_that_is_overwritten_is_let_go_of_at_once(tmp_path, trace, steps):
    """Else new processes would go on with old instructions in new code."""
    path = copy(tmp_path, "libvirt.so.0")
    step = steps(env={"LD_LIBRARY_PATH": str(tmp_path)})
    tracer = trace("-p", str(step.pid), "-f", "virDomainGetName")

    def count(times: int) -> None:
        step.call()
        tracer.wait_for(
            lambda event: event["type"] == "call" and event["pid"] == step.pid, count=times * CALLS
        )

    count(1)
    content = path.read_bytes()
    with path.open("r+b") as file:  # the same, and so no harm
        file.write(content)
    count(2)
    with path.open("rb") as library:
        offset = next(
            function.offset
            for function in read_elf(library.fileno(), "x").functions
            if function.name == "virDomainGetID"
        )
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xb8\x07\0\0\0\xc3")  # mov $7, %eax; ret
    told = tracer.wait_for(
        lambda event: event["type"] == "unattached" and event["path"] == str(path)
    )
    assert "written" in told["reason"]
    new = [PYTHON, "-c", GET_ID]
    # another tracer on this host may let go of it a little later
    deadline = time.monotonic() + 20 * PATIENCE
    while (
        got := subprocess.run(
            new,
            capture_output=True,
            text=True,
            env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        )
    ).returncode:
        assert time.monotonic() < deadline, got
    assert got.stdout == "7\n"
    step.call()  # it lives
    assert [event["path"] for event in tracer.stop().events if event["type"] == "unattached"].count(
        str(path)
    ) == 1
