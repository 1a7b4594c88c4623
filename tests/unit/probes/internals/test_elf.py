# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ELF reader against nm, readelf and the dynamic loader, and against damaged files."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import struct
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from log.errors import TraceError
from probes.internals import elf
from probes.internals.elf import imports, read_elf

LIBVIRT = os.path.realpath("/usr/lib/x86_64-linux-gnu/libvirt.so.0")
SOURCE = """
int shown(void) { return 1; }
int also_shown(void) __attribute__((alias("shown")));
int inner(void) { return 2; }
extern int wanted(void);
int asks(void) { return wanted(); }
int data = 5;
"""
VERSIONS = """
LIBVIRT_1.0 { global: shown; also_shown; };
LIBVIRT_1.1 { global: asks; data; } LIBVIRT_1.0;
PRIVATE_1.1 { global: inner; local: *; };
"""


def read(data: bytes):
    fd = os.memfd_create("elf", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        with contextlib.suppress(TraceError):
            imports(fd, "file", b"want")
        return read_elf(fd, "file")
    finally:
        os.close(fd)


def build(folder: Path, *flags: str) -> bytes:
    (folder / "lib.c").write_text(SOURCE)
    (folder / "lib.map").write_text(VERSIONS)
    output = folder / "lib.so"
    common = [
        "-shared",
        "-fPIC",
        "-nostdlib",
        "-Wl,-soname,libsmall.so.1",
        f"-Wl,--version-script={folder}/lib.map",
    ]
    subprocess.run(["gcc", *common, *flags, "-o", output, folder / "lib.c"], check=True)
    return output.read_bytes()


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> bytes:
    return build(tmp_path_factory.mktemp("elf"))


@pytest.fixture(scope="module")
def libvirt():
    fd = os.open(LIBVIRT, os.O_RDONLY | os.O_CLOEXEC)
    yield read_elf(fd, LIBVIRT)
    os.close(fd)


def test_libvirt_has_the_functions_that_readelf_lists(libvirt):
    lines = subprocess.check_output(
        ["readelf", "-W", "--dyn-syms", LIBVIRT], text=True
    ).splitlines()
    expected = set()
    for line in lines:
        if match := re.match(
            r"\s*\d+: ([0-9a-f]+)\s+(\d+) FUNC\s+(?:GLOBAL|WEAK)\s+DEFAULT\s+\d+ "
            r"([^@\s]+)@@?(\S+)",
            line,
        ):
            expected.add((match[3], match[4], int(match[1], 16), int(match[2])))
    assert len(expected) > 5000
    assert {
        (f.name, f.version, f.address, f.size) for f in libvirt.functions if f.version
    } == expected


def test_libvirt_imports_what_nm_lists(libvirt):
    lines = subprocess.check_output(
        ["nm", "-D", "--undefined-only", LIBVIRT], text=True
    ).splitlines()
    assert libvirt.imports - {""} == {line.split()[-1].partition("@")[0] for line in lines}


def test_offsets_are_those_of_the_loaded_library(libvirt):
    loaded = ctypes.CDLL(LIBVIRT)
    mappings = [
        line.split()
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(LIBVIRT)
    ]
    for function in libvirt.functions[::500]:
        address = ctypes.cast(getattr(loaded, function.name), ctypes.c_void_p).value or 0
        start, offset = next(
            (int(field[0].split("-")[0], 16), int(field[2], 16))
            for field in mappings
            if int(field[0].split("-")[0], 16) <= address < int(field[0].split("-")[1], 16)
        )
        assert function.offset == address - start + offset
        assert libvirt.text[0] <= function.offset < sum(libvirt.text)


def test_libvirt_names_itself(libvirt):
    assert (libvirt.bits, libvirt.machine, libvirt.soname) == (64, "x86-64", "libvirt.so.0")
    assert any(node.startswith("LIBVIRT_PRIVATE_") for node in libvirt.versions)
    assert "GLIBC_2.2.5" in libvirt.needs


def test_reading_libvirt_is_quick():
    times = []
    for _ in range(7):
        fd = os.open(LIBVIRT, os.O_RDONLY | os.O_CLOEXEC)
        started = time.process_time()
        read_elf(fd, LIBVIRT)
        times.append(time.process_time() - started)
        os.close(fd)
    assert min(times) < 0.03


@pytest.mark.parametrize(
    "flags",
    [(), ("-Wl,--hash-style=sysv",), ("-Wl,--hash-style=gnu", "-s"), ("-m32",)],
    ids=["both", "sysv", "stripped", "32 bit"],
)
def test_small_library(tmp_path, flags):
    elf = read(build(tmp_path, *flags))
    assert elf.bits == (32 if "-m32" in flags else 64)
    assert elf.machine == ("i386" if "-m32" in flags else "x86-64")
    assert elf.soname == "libsmall.so.1"
    assert elf.versions == ("LIBVIRT_1.0", "LIBVIRT_1.1", "PRIVATE_1.1")
    assert {f.name: f.version for f in elf.functions} == {
        "shown": "LIBVIRT_1.0", "also_shown": "LIBVIRT_1.0", "asks": "LIBVIRT_1.1",
        "inner": "PRIVATE_1.1",
    }  # fmt: skip
    assert len({f.offset for f in elf.functions}) == 3
    assert "wanted" in elf.imports


def test_program_without_dynamic_section_has_nothing(tmp_path):
    (tmp_path / "p.c").write_text("void _start(void) { for (;;); }")
    subprocess.run(
        ["gcc", "-static", "-nostdlib", "-o", tmp_path / "p", tmp_path / "p.c"], check=True
    )
    elf = read((tmp_path / "p").read_bytes())
    assert (elf.soname, elf.functions, elf.imports) == (None, (), frozenset())


@pytest.mark.parametrize(
    "data",
    [b"", b"\x7fELF", b"#!/bin/sh\n" * 20, b"\0" * 4096, b"\x7fELF\x02\x01" + b"\xff" * 200],
    ids=range(5),
)
def test_other_files_are_refused(data):
    with pytest.raises(TraceError):
        read(data)


def test_what_is_no_file_is_refused(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY | os.O_CLOEXEC)
    with pytest.raises(TraceError, match="is not a file"):
        read_elf(fd, "folder")
    os.close(fd)


def test_truncated_library_is_refused(small):
    for length in range(0, len(small), 61):
        try:
            read(small[:length])  # what is cut off may be what nobody reads: section headers
        except TraceError:
            continue
        assert length > len(small) // 2


def test_sparse_giant_is_refused(small):
    fd = os.memfd_create("elf", os.MFD_CLOEXEC)
    os.write(
        fd,
        small[:64]
        + struct.pack("<IIQQQQQQ", 2, 4, 4096, 4096, 4096, 1 << 40, 1 << 40, 8)
        * struct.unpack_from("<H", small, 56)[0],
    )
    os.ftruncate(fd, 1 << 41)
    with pytest.raises(TraceError, match="too large"):
        read_elf(fd, "file")
    os.close(fd)


@settings(
    max_examples=400, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_library_never_raises_anything_else(small, data):
    # headers and tables are in the first part; what matters most is hit most
    places = st.one_of(
        st.integers(0, 0x400),
        st.integers(0, 0x600),
        st.integers(0, len(small) - 1),
        _dynamic(small),
    )
    values = st.one_of(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), st.integers(0, 255))
    damaged = bytearray(small)
    for place, value in data.draw(st.lists(st.tuples(places, values), min_size=1, max_size=12)):
        damaged[place] = value
    try:
        elf = read(bytes(damaged))
    except TraceError as error:
        assert "\n" not in str(error)
    else:
        assert all(0 <= function.offset < len(small) for function in elf.functions)


def _dynamic(small: bytes):
    """Places in the dynamic section."""
    phoff, phnum = struct.unpack_from("<Q", small, 32)[0], struct.unpack_from("<H", small, 56)[0]
    for at in range(phoff, phoff + 56 * phnum, 56):
        kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", small, at)
        if kind == 2:
            return st.integers(offset, offset + size - 1)
    raise AssertionError("no dynamic section")


@pytest.mark.parametrize("style", ["gnu", "sysv", "both"])
def test_imports_are_found_by_their_beginning(tmp_path, style):
    build(tmp_path, f"-Wl,--hash-style={style}")
    fd = os.open(tmp_path / "lib.so", os.O_RDONLY)
    try:
        found = [
            name
            for name in (b"wanted", b"want", b"anted", b"shown", b"missing", b"wanted2")
            if imports(fd, "file", name)
        ]
    finally:
        os.close(fd)
    assert found == [b"wanted", b"want"]


@settings(max_examples=150, deadline=2000)
@given(
    st.binary(max_size=2000),
    st.sampled_from([b"\x7fELF\x02\x01\x01", b"\x7fELF\x01\x01\x01", b"\x7fELF\x02\x02\x01"]),
)
def test_garbage_is_refused_or_empty(garbage, start):
    with contextlib.suppress(TraceError):
        read(start + garbage)


@pytest.mark.parametrize(
    ("limit", "most", "said"),
    [
        ("MOST_HEADERS", 1, "too many"),
        ("MOST_SYMBOLS", 1, "too many symbols"),
        ("LONGEST_NAME", 3, "too long"),
    ],
)
def test_what_is_over_a_limit_is_refused(small, monkeypatch, limit: str, most: int, said: str):
    assert read(small).functions
    monkeypatch.setattr(elf, limit, most)
    with pytest.raises(TraceError, match=said):
        read(small)


def test_table_has_a_limit():
    fd = os.memfd_create("elf", os.MFD_CLOEXEC)
    try:
        os.truncate(fd, elf.MOST_BYTES + 1)
        file = elf.File(fd, "file")
        assert len(file.read(1, elf.MOST_BYTES)) == elf.MOST_BYTES == 4 << 20
        with pytest.raises(TraceError, match="too large"):
            file.read(0, elf.MOST_BYTES + 1)
    finally:
        os.close(fd)


def test_so_many_versions_and_imports_are_looked_at(small, monkeypatch):
    assert read(small).versions == ("LIBVIRT_1.0", "LIBVIRT_1.1", "PRIVATE_1.1")
    fd = os.memfd_create("elf", os.MFD_CLOEXEC)
    try:
        os.write(fd, small)
        assert imports(fd, "file", b"want")
        for limit in ("MOST_IMPORTS", "MOST_STRINGS"):
            with monkeypatch.context() as patch:
                patch.setattr(elf, limit, 1)
                assert not imports(fd, "file", b"want")
    finally:
        os.close(fd)
    monkeypatch.setattr(elf, "MOST_VERSIONS", 2)  # the first is the file's own name
    assert read(small).versions == ("LIBVIRT_1.0",)
