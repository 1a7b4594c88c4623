# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where functions return, against objdump; no breakpoint in the middle of an instruction."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections import defaultdict
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from log.errors import TraceError
from probes.internals import returns
from probes.internals.elf import read_elf
from probes.internals.private import CALLERS
from probes.internals.returns import LibraryCode, can_be_found, of_library
from probes.kernel.loading import kept
from probes.kernel.machines.machine import Instruction

LIBVIRT = os.path.realpath("/usr/lib/x86_64-linux-gnu/libvirt.so.0")
# of each function: how many returns are to be found in it
SHAPES = {
    "one": ("mov $1, %eax; ret", 1),
    "two": ("test %edi, %edi; je 1f; ret; 1: xor %eax, %eax; repz ret", 2),
    "pops": ("nop; ret $8", 1),
    "jumps_on": ("test %edi, %edi; je one; ret", 0),
    "jumps_by_table": ("test %edi, %edi; je elsewhere@PLT; ret", 0),
    "jumps_by_pointer": ("mov (%rdi), %rax; test %rax, %rax; je 1f; jmp *%rax; 1: ret", 0),
    "switches": (
        "lea 1f(%rip), %rdx; movslq (%rdx,%rdi,4), %rax; add %rdx, %rax; jmp *%rax; 1: ret",
        1,
    ),
    "only_returns": ("ret", 0),
    "jumps_inside": ("test %edi, %edi; je 1f + 1; 1: mov $0xc3c3c3c3, %eax; ret", 0),
    "has_data": ("ret; .byte 0x06, 0x06", 0),
    "unwinds": ("test %edi, %edi; je cold; ret", 1),
    "far": ("nop; lretq", 0),
}
MANY = "many", "; ".join(["mov $1, %eax; ret"] * 17)

pytestmark = pytest.mark.skipif(not can_be_found(), reason="there is no disassembler")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("returns")
    bodies = {name: body for name, (body, _) in SHAPES.items()} | {MANY[0]: MANY[1]}
    text = ".text\ncold: ud2\n.p2align 4\n" + "".join(
        f".globl {name}\n.type {name}, @function\n{name}:\n{body}\n.size {name}, . - {name}\n"
        ".p2align 4\n"
        for name, body in bodies.items()
    )
    calls = "call_it: sub $8, %rsp; call elsewhere@PLT; call *%rax; call one; add $8, %rsp; ret"
    text += f".globl call_it\n.type call_it, @function\n{calls}\n.size call_it, . - call_it\n"
    (folder / "shapes.s").write_text(text)
    command = ["gcc", "-shared", "-nostdlib", "-Wl,-Bsymbolic", "-o", f"{folder}/shapes.so"]
    subprocess.run([*command, f"{folder}/shapes.s"], check=True)
    return folder / "shapes.so"


def test_each_shape(shapes: Path) -> None:
    with shapes.open("rb") as file:
        code = LibraryCode(file.fileno(), "file")
        offsets = {f.name: f.offset for f in read_elf(file.fileno(), "file").functions}
        found = {name: len(code.returns(offset)) for name, offset in offsets.items()}
        found.pop("call_it")
        assert found == {name: count for name, (_, count) in SHAPES.items()} | {MANY[0]: 0}
        (behind,) = code.after_calls("elsewhere", {"call_it", "not there"})
        assert behind == offsets["call_it"] + 9  # sub: 4, call: 5


def test_reads_may_give_less_than_was_asked_for(
    shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on 9p, where one gives half a megabyte of a library's code."""
    read = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, count, at: read(fd, min(count, 64), at))
    test_each_shape(shapes)


def lines_of(path: str) -> dict[int, str]:
    """Offsets of all instructions, and what they are; the code is where it is linked."""
    output = subprocess.check_output(["objdump", "-dw", "--no-show-raw-insn", path], text=True)
    return {
        int(at, 16): what
        for at, what in re.findall(r"^ +([0-9a-f]+):\s+(.*?)\s*$", output, flags=re.M)
    }


def test_libvirt(tmp_path: Path) -> None:
    """All that objdump calls a return, of all functions but those that go on in others."""
    listing = lines_of(LIBVIRT)
    with open(LIBVIRT, "rb") as file:
        elf = read_elf(file.fileno(), LIBVIRT)
        assert all(f.offset == f.address for f in elf.functions)
        code = LibraryCode(file.fileno(), LIBVIRT)
        public = [f for f in elf.functions if f.version and "PRIVATE" not in f.version]
        found = {f: code.returns(f.offset) for f in public}
        expected = defaultdict(list)
        for f in public:
            for at in range(f.offset, f.offset + f.size):
                if re.match(r"(repz )?ret", listing.get(at, "")):
                    expected[f].append(at)
        assert {f: list(places) for f, places in found.items() if places} == {
            f: expected[f] for f, places in found.items() if places
        }
        left_out = [f.name for f, places in found.items() if not places]
        assert len(left_out) < len(public) // 20, left_out
        for name, callers in CALLERS.items():
            behind = code.after_calls(name, callers)
            called = [at for at, what in listing.items() if re.match(rf"call .*<{name}[@>]", what)]
            places = sorted(listing)
            assert sorted(behind) == [places[places.index(at) + 1] for at in called]


@settings(max_examples=60)
@given(data=st.data())
def test_damaged_files(shapes: Path, data: st.DataObject) -> None:
    damaged = bytearray(shapes.read_bytes())
    places = st.integers(0, len(damaged) - 1)
    for at, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=64)):
        damaged[at] = byte
    fd = os.memfd_create("code", os.MFD_CLOEXEC)
    try:
        os.write(fd, damaged)
        with contextlib.suppress(TraceError):
            code = LibraryCode(fd, "file")
            for offset in {f.offset for f in read_elf(fd, "file").functions}:
                code.returns(offset)
            code.after_calls("elsewhere", {"call_it"})
    finally:
        os.close(fd)


def test_what_was_found_is_kept(shapes: Path, tmp_path: Path, monkeypatch) -> None:
    """For the same code alone, of this user's files alone: others' would push it out."""
    folder = tmp_path / "kept"
    monkeypatch.setattr(kept, "read", partial(kept.read, folder=folder))
    monkeypatch.setattr(kept, "write", partial(kept.write, folder=folder))
    calls: list[int] = []
    disassemble = LibraryCode._disassemble

    def counted(code: LibraryCode, offset: int) -> list[Instruction]:
        calls.append(offset)
        return disassemble(code, offset)

    monkeypatch.setattr(LibraryCode, "_disassemble", counted)

    def look(path: Path) -> tuple[object, int]:
        calls.clear()
        with path.open("rb") as file:
            offsets = {f.name: f.offset for f in read_elf(file.fileno(), str(path)).functions}
            wanted = [offsets[name] for name in SHAPES]
            return of_library(file.fileno(), str(path), wanted, {}), len(calls)

    found, made = look(shapes)
    assert made == len(SHAPES)
    assert look(shapes) == (found, 0)
    same, other = tmp_path / "same.so", tmp_path / "other.so"
    shutil.copy(shapes, same)
    assert look(same) == (found, 0)
    content = bytearray(shapes.read_bytes())
    with shapes.open("rb") as file:
        start, size = read_elf(file.fileno(), str(shapes)).text
    content[start + size - 1] ^= 1
    other.write_bytes(content)
    assert look(other)[1] == len(SHAPES)
    os.chown(same, 65534, 65534)
    assert look(same) == (found, len(SHAPES))
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    ("limit", "most", "found"),
    [("MOST_CODE", 14, [1, 0]), ("LONGEST", 5, [0, 0]), ("MOST_TEXT", 1, [0, 0])],
)
def test_so_much_code_is_disassembled(
    shapes: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, found: list[int]
) -> None:
    monkeypatch.setattr(returns, limit, most)
    with shapes.open("rb") as file:
        code = LibraryCode(file.fileno(), "file")
        offsets = {f.name: f.offset for f in read_elf(file.fileno(), "file").functions}
        # 6 and 9 bytes
        assert [len(code.returns(offsets[name])) for name in ("one", "two")] == found
