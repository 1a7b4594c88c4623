# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is read out of aarch64's machine code, against binutils of that machine."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from probes.internals.elf import read_elf
from probes.internals.returns import LibraryCode, can_be_found
from probes.kernel import abi
from probes.kernel.machines.aarch64 import AARCH64

TOOLS = "aarch64-linux-gnu-"
CODE = """
#include <pthread.h>
struct pair { long first, second; };
struct object { char base[80]; void *socket; char flags[5]; char readonly, more[290];
                short number; void *address; struct pair pair; };
extern int elsewhere(const void *), other(int);
_Static_assert(sizeof(pthread_mutex_t) == MUTEX, "");
void *socket_of(struct object *o) { return o->socket; }
char readonly(struct object *o) { return o->readonly; }
short number(struct object *o) { return o->number; }
void *address(struct object *o) { return &o->address; }
long pair(struct object *o) { return o->pair.first ^ o->pair.second; }
int one(struct object *o) { return elsewhere(o) + 1; }
int by_pointer(int (*f)(int)) { return f(1) + 1; }
int tail(int a) { return other(a); }
int maybe_tail(int a) { return a ? other(a) : 1; }
int loops(int a) { int i, sum = 0; for (i = 0; i < a; i++) sum += other(i); return sum; }
int switches(int a) {
    switch (a) {
    case 0: return other(7); case 1: return other(3) + 1; case 2: return other(9) - 1;
    case 3: return elsewhere(0) * 5; case 4: return other(11) + 3; case 5: return other(12) ^ 5;
    case 6: return other(13) + 8; default: return 1;
    }
}
"""
# functions that go on in others, of which it can't be told where they return
LEAVES = {"tail", "maybe_tail", "switches"}

pytestmark = pytest.mark.skipif(not can_be_found(), reason="there is no disassembler")


@pytest.fixture(scope="module", params=["none", "standard"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With and without signed return addresses and marked targets of jumps."""
    folder = tmp_path_factory.mktemp("aarch64")
    (folder / "code.c").write_text(CODE)
    command = [f"{TOOLS}gcc", "-O2", "-shared", "-fPIC", "-nostdlib", f"-DMUTEX={AARCH64.mutex}"]
    command += ["-Wl,-z,lazy", f"-mbranch-protection={request.param}", "-o", "code.so", "code.c"]
    if request.param == "standard":
        command.append("-Wl,-z,force-bti")
    subprocess.run(command, cwd=folder, check=True)
    return folder / "code.so"


def lines_of(library: Path) -> dict[int, tuple[str, str]]:
    """Each instruction, by its address, as objdump has it."""
    command = [f"{TOOLS}objdump", "-dz", "--no-show-raw-insn", str(library)]
    output = subprocess.check_output(command, text=True)
    found = re.findall(r"^ +([0-9a-f]+):\t(\S+)(?:\t(.*?))?\s*$", output, flags=re.M)
    return {int(at, 16): (name, operands) for at, name, operands in found}


def code_of(library: Path, function: str) -> bytes:
    with library.open("rb") as file:
        elf = read_elf(file.fileno(), "file")
        (f,) = (f for f in elf.functions if f.name == function)
        assert elf.machine == AARCH64.name
        return os.pread(file.fileno(), f.size, f.offset)


@pytest.mark.parametrize(
    ("function", "distances"),
    [
        ("socket_of", {80}),
        ("readonly", {93}),
        ("number", {384}),
        ("address", {392}),
        ("pair", {400, 408}),
    ],
)
def test_distances(library: Path, function: str, distances: set[int]) -> None:
    code = code_of(library, function)
    assert AARCH64.displacements(code) == distances
    loads = {at for at in range(512) if AARCH64.loads(code, at)}
    assert loads == (distances if function in ("socket_of", "readonly") else set())


def test_instructions_are_those_of_objdump(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abi, "HERE", AARCH64)
    listing = lines_of(library)
    disassemble = AARCH64.disassembler(64)
    data = library.read_bytes()
    seen = set()
    for at, (name, operands) in listing.items():
        code = data[at : at + 4]
        assert AARCH64.ends_with_call(code) == (name in ("bl", "blr")), (name, operands)
        for line in disassemble(code, at):
            assert (line.returns, line.calls) == (name == "ret", name in ("bl", "blr"))
            assert line.jumps == bool(re.match(r"(b|br|cbn?z|tbn?z|b\..+)$", name)), name
            target = re.search(r"\b([0-9a-f]+) <", operands)
            if line.jumps or line.calls:
                assert line.target == (int(target[1], 16) if target else None), (name, operands)
                seen.add(name)
    assert {"bl", "blr", "b", "br"} <= seen and seen & {"cbz", "b.hi", "b.le", "cbnz"}


def test_linkage_table(library: Path) -> None:
    """Each entry jumps by the pointer that the loader puts there."""
    command = [f"{TOOLS}readelf", "-rW", str(library)]
    output = subprocess.check_output(command, text=True)
    pointers = {int(at, 16) for at in re.findall(r"^([0-9a-f]+) .*JUMP_SLOT", output, flags=re.M)}
    data = library.read_bytes()
    found = {
        at + distance
        for at in lines_of(library)
        if (distance := AARCH64.linkage_distance(data[at : at + 16], at)) is not None
    }
    assert pointers and pointers <= found
    assert len(found) == len(pointers) + 1  # and the loader's own, to bind late
    assert AARCH64.linkage_distance(b"", 0) is None


def test_returns(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abi, "HERE", AARCH64)
    listing = lines_of(library)
    with library.open("rb") as file:
        code = LibraryCode(file.fileno(), "file")
        elf = read_elf(file.fileno(), "file")
        for f in elf.functions:
            places = range(f.offset, f.offset + f.size, 4)
            expected = tuple(at for at in places if listing[at][0] == "ret")
            assert code.returns(f.offset) == (() if f.name in LEAVES else expected), f.name
        by_name = {f.name: f for f in elf.functions}
        (behind,) = code.after_calls("elsewhere", {"one"})
        (call,) = (
            at
            for at in range(by_name["one"].offset, by_name["one"].offset + by_name["one"].size, 4)
            if "elsewhere" in listing[at][1]
        )
        assert behind == call + 4
