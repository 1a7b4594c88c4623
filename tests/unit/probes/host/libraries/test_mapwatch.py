# SPDX-License-Identifier: LGPL-2.1-or-later
"""Perf records as bytes: what is told of them, what is left out, and that damaged ones do no
harm.
"""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from probes.host.libraries import mapwatch
from probes.host.libraries.mapwatch import Dropped, Mapped, ProcWatch
from probes.host.libraries.symbols import Symbols
from probes.host.looking import maps
from probes.host.processes.lives import Exec, Exited, Forked, Missed
from probes.kernel.rings.perf import split_records
from tests.lives import Told, ended, executed, forked


def record(kind: int, body: bytes, time: int, misc: int = 0) -> bytes:
    body += b"\0" * (-len(body) % 8)
    tail = struct.pack("<IIQII", 1, 1, time, 0, 0)
    return struct.pack("<IHH", kind, misc, 8 + len(body) + len(tail)) + body + tail


def mapped(time: int, pid: int, path: str, tid: int = 0) -> bytes:
    head = struct.pack(
        "<IIQQQIIQQII", pid, tid or pid, 0x7F0000000000, 0x2000, 0x1000, 254, 0, 99, 0, 5, 2
    )
    return record(10, head + path.encode() + b"\0", time)


def parse(*raws: bytes):
    return mapwatch.parse(((0, False, raw) for raw in raws), Symbols())


def test_life_of_a_process():
    raws = [
        (True, forked(1, 20, 10)),
        (False, mapped(2, 20, "/usr/bin/virsh")),
        (False, mapped(3, 20, "/usr/lib/ld.so")),
        (True, executed(4, 20, b"/usr/bin/virsh", b"virsh\0list\0")),
        (False, mapped(5, 20, "/usr/lib/libvirt.so.0.9000.0")),
        (True, ended(8, 20, 21)),
        (True, ended(9, 20, 20, last=True)),
    ]
    told = mapwatch.parse(((0, is_life, raw) for is_life, raw in raws), Symbols())
    assert [item[:5] if isinstance(item, Exec) else item for item in told] == [
        Forked(1, 20, 10, 77),
        (4, 20, "virsh", "/usr/bin/virsh", b"virsh\0list\0"),
        Mapped(5, 20, 20, 0x7F0000000000, 0x2000, 254, 0, 99, "/usr/lib/libvirt.so.0.9000.0"),
        Exited(8, 20, 21, False),
        Exited(9, 20, 20, True),
    ]


def test_only_libraries_of_libvirt_are_told():
    names = [
        "libvirt.so.0",
        "libvirt.so.0.9000.0;65f3",
        "libvirt-qemu.so.0 (deleted)",
        "libvirt-lxc.so.0.dpkg-new",
    ]
    others = [
        "libvirt-admin.so.0",
        "libvirt_driver_lxc.so",
        "libvirt-glib-1.0.so.0",
        "notlibvirt.so.0",
        "libvirt.so.0/other.so",
    ]
    raws = [mapped(i, 5, f"/usr/lib/{name}") for i, name in enumerate(names + others)]
    assert [told.path for told in parse(*raws)] == [f"/usr/lib/{name}" for name in names]
    assert all(maps.is_library(f"/x/{name}") for name in names)
    assert not any(maps.is_library(f"/x/{name}") for name in others)


def test_names_that_are_not_utf_8():
    raw = mapped(1, 5, "/x/libvirt.so.0").replace(b"/x/", b"/\xff/")
    assert parse(raw)[0].path == "/\udcff/libvirt.so.0"


def test_dropped_records():
    assert parse(record(2, struct.pack("<QQ", 7, 13), 1)) == [Dropped(13)]


def test_other_kinds_are_passed_over():
    assert parse(record(9, b"\0" * 64, 1), record(14, b"", 1)) == []


def test_records_are_split_with_their_times():
    raws = [mapped(5, 1, "/b"), mapped(3, 1, "/a"), record(9, b"", 9)]
    assert split_records(b"".join(raws)) == [
        (5, False, raws[0]),
        (3, False, raws[1]),
        (9, False, raws[2]),
    ]


@given(st.binary(max_size=300))
def test_damaged_records_do_no_harm(garbage):
    mapwatch.parse(
        split_records(mapped(5, 1, "/a") + garbage + mapped(3, 1, "/usr/lib/libvirt.so.0")),
        Symbols(),
    )


@given(st.integers(0, 20), st.integers(0, 65535), st.binary(max_size=120))
def test_short_records_do_no_harm(kind, misc, body):
    mapwatch.parse(split_records(record(kind, body, 1, misc)), Symbols())


def test_what_happens_is_told_in_order_when_it_has_settled(monkeypatch, tmp_path):
    """A record that is younger than a millisecond may have an elder that is not there yet."""
    now = 10_000_000
    monkeypatch.setattr("time.monotonic_ns", lambda: now)
    told = Told()
    watch = ProcWatch(told, Symbols(), tmp_path, interval=1000)
    told.raws = [
        ended(9_500_000, 3, 3),
        forked(5, 3, 1),
        executed(8, 3, b"/bin/b"),
        forked(4, 2, 1),
    ]
    assert [getattr(item, "time", item) for item in watch.poll()] == [4, 5, 8]
    told.raws, told.missed = [forked(9_400_000, 4, 3)], 7
    now = 20_000_000
    assert [getattr(item, "time", item) for item in watch.poll()] == [
        Missed(7),
        9_400_000,
        9_500_000,
    ]


MAPS = """55d0a0000000-55d0a0010000 r-xp 00000000 fe:00 11                         /usr/bin/virsh
7f0000000000-7f0000010000 r--p 00000000 fe:00 42                         /usr/lib/libvirt.so.0.9000.0
7f0000010000-7f0000020000 r-xp 00010000 fe:00 42                         /usr/lib/libvirt.so.0.9000.0
7f0000030000-7f0000040000 rwxp 00010000 00:1b 43                         /var/lib/a b\\012c/libvirt-qemu.so.0 (deleted)
7f0000050000-7f0000060000 r-xp 00010000 fe:00 44                         /usr/lib/libvirt_driver_lxc.so
7f0000070000-7f0000080000 r-xp 00010000 fe:00 45                         /usr/lib/libvirt-trace/libvirt-trace-enforcer.so
7fff00000000-7fff00010000 r-xp 00000000 00:00 0                          [vdso]
"""  # noqa: E501


def test_maps_of_a_process(tmp_path):
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "maps").write_text(MAPS)
    (tmp_path / "13").mkdir()  # one that may not be read
    (tmp_path / "self").mkdir()
    found = list(maps.scan(tmp_path))
    assert found == [
        (12, 0x7F0000010000, 0x7F0000020000, 0xFE, 0, 42, "/usr/lib/libvirt.so.0.9000.0"),
        (
            12,
            0x7F0000030000,
            0x7F0000040000,
            0,
            0x1B,
            43,
            "/var/lib/a b\nc/libvirt-qemu.so.0 (deleted)",
        ),
        (
            12,
            0x7F0000070000,
            0x7F0000080000,
            0xFE,
            0,
            45,
            "/usr/lib/libvirt-trace/libvirt-trace-enforcer.so",
        ),
    ]
    assert [maps.is_enforcer(mapping.path) for mapping in found] == [False, False, True]


def test_looking_at_proc_tells_what_is_new(tmp_path):
    watch = ProcWatch(Told(), Symbols(), tmp_path, interval=0)
    assert watch.poll() == []
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "maps").write_text(MAPS)
    told = watch.poll()
    assert [
        (item.pid, item.start, item.length, item.inode) for item in told if isinstance(item, Mapped)
    ] == [
        (12, 0x7F0000010000, 0x10000, 42),
        (12, 0x7F0000030000, 0x10000, 43),
        (12, 0x7F0000070000, 0x10000, 45),
    ]
    assert watch.poll() == []
    (tmp_path / "12" / "maps").unlink()
    (tmp_path / "12").rmdir()
    assert watch.poll() == []
