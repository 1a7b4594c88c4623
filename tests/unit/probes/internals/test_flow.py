# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which registers have a function's arguments, as its code proves; what that says of libvirt."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.internals import callsites, flow, waiting
from probes.internals.elf import read_elf
from probes.internals.flow import Flow, follow
from probes.internals.private import DISPATCH
from tests.needs import PATIENCE

pytest.importorskip("capstone")
LIBVIRT = os.path.realpath("/usr/lib/x86_64-linux-gnu/libvirt.so.0")
RBX, RBP, R12 = 3, 6, 12
CODE = {
    # push %rbx; mov %rdi, %rbx; call; pop %rbx; ret
    "kept": (b"\x53\x48\x89\xfb\xe8\0\0\0\0\x5b\xc3", {RBX: 0}),
    # mov %rdi, %rbx; xor %ebx, %ebx; call; ret
    "overwritten": (b"\x48\x89\xfb\x31\xdb\xe8\0\0\0\0\xc3", {}),
    # mov %esi, %ebp; mov %rdx, %r12; call; ret
    "others": (b"\x89\xf5\x49\x89\xd4\xe8\0\0\0\0\xc3", {RBP: 1, R12: 2}),
    # mov %rdi, %rbx; test %esi, %esi; je over; mov %rsi, %rbx; over: call; ret
    "one way only": (b"\x48\x89\xfb\x85\xf6\x74\x03\x48\x89\xf3\xe8\0\0\0\0\xc3", {}),
    # again: mov %rdi, %rbx; call; jmp again
    "round": (b"\x48\x89\xfb\xe8\0\0\0\0\xeb\xf6", {}),
    # mov %rdi, %rbx; call; jmp *%rax
    "who knows where": (b"\x48\x89\xfb\xe8\0\0\0\0\xff\xe0", None),
}


@pytest.mark.parametrize("what", CODE)
def test_register_has_an_argument_where_every_way_says_so(what: str):
    code, expected = CODE[what]
    after = follow(code, 0x1000).after
    assert list(after.values()) == ([] if expected is None else [expected])
    assert all(code[at - 0x1000 - 5] == 0xE8 for at in after)


STACKS = {
    # push %rbp; mov %rsp, %rbp; sub $32, %rsp; mov %rdx, -0x18(%rbp); call; leave; ret
    "spilt": (b"\x55\x48\x89\xe5\x48\x83\xec\x20\x48\x89\x55\xe8\xe8\0\0\0\0\xc9\xc3", {-40: 2}),
    # sub $24, %rsp; mov %rdi, 8(%rsp); call; add $24, %rsp; ret
    "without a frame pointer": (
        b"\x48\x83\xec\x18\x48\x89\x7c\x24\x08\xe8\0\0\0\0\x48\x83\xc4\x18\xc3",
        {-24: 0},
    ),
    # the same with movl $0, 12(%rsp) before the call
    "overwritten in part": (
        b"\x48\x83\xec\x18\x48\x89\x7c\x24\x08\xc7\x44\x24\x0c\0\0\0\0\xe8\0\0\0\0\xc3",
        {},
    ),
    # the same with lea 8(%rsp), %rdi
    "given away": (
        b"\x48\x83\xec\x18\x48\x89\x7c\x24\x08\x48\x8d\x7c\x24\x08\xe8\0\0\0\0\xc3",
        {},
    ),
    # the same with lea (%rsp), %rdi: what is there may be larger
    "behind what is given away": (
        b"\x48\x83\xec\x18\x48\x89\x7c\x24\x08\x48\x8d\x3c\x24\xe8\0\0\0\0\xc3",
        {},
    ),
    # the same with lea 16(%rsp), %rsi
    "before what is given away": (
        b"\x48\x83\xec\x18\x48\x89\x7c\x24\x08\x48\x8d\x74\x24\x10\xe8\0\0\0\0\xc3",
        {-24: 0},
    ),
    # push %rdi; pop %rax; call; ret
    "free again": (b"\x57\x58\xe8\0\0\0\0\xc3", {}),
    # push %rdi; xor %edi, %edi; mov (%rsp), %rbx; call; pop %rax; ret
    "read again": (b"\x57\x31\xff\x48\x8b\x1c\x24\xe8\0\0\0\0\x58\xc3", {-16: 0, RBX: 0}),
    # push %rdi; rep stosq; call; ret
    "who knows what is written": (b"\x57\x48\x89\xe7\xf3\x48\xab\xe8\0\0\0\0\xc3", {}),
}


@pytest.mark.parametrize("what", STACKS)
def test_stack_has_an_argument_where_nobody_else_may_write(what: str):
    code, expected = STACKS[what]
    assert list(follow(code, 0x1000).after.values()) == [expected]


def test_four_bytes_behind_an_argument_that_are_passed_on():
    # mov 0x98(%rdi), %edx; mov 0x5c(%rdi), %rsi; call; ret
    code = b"\x8b\x97\x98\0\0\0\x48\x8b\x77\x5c\xe8\0\0\0\0\xc3"
    assert follow(code, 0).passes == {(15, 2): (0, 0x98)}


def test_memory_behind_arguments():
    # mov 0x70(%rdi), %rax; mov %rsi, 0xa8(%rdi); mov %rax, 8(%rdi); mov 8(%rax), %rax; ret
    code = b"\x48\x8b\x47\x70\x48\x89\xb7\xa8\0\0\0\x48\x89\x47\x08\x48\x8b\x40\x08\xc3"
    found = follow(code, 0)
    assert found.loads == {(0, 0x70)}
    assert found.stores == {(0, 0xA8, 1), (0, 8, -1)}


@given(st.binary(max_size=200))
def test_any_bytes_are_nothing_worse_than_unknown(code: bytes):
    assert isinstance(follow(code, 16), Flow)


def test_code_that_is_too_long_is_not_followed():
    assert follow(b"\x90" * (flow.LONGEST + 1), 0) == flow.NOTHING


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A program that keeps its argument while it is elsewhere, and tells where that returns."""
    folder = tmp_path_factory.mktemp("flow")
    source = folder / "calls.c"
    source.write_text(
        "int puts(const char *); int main(int n, char **v)"
        " { puts(v[0]); for (int i = 0; i < n; i++) puts(v[i]); return 0; }"
    )
    subprocess.run(
        ["gcc", "-O2", "-o", folder / "calls", source], check=True, timeout=60 * PATIENCE
    )
    yield folder / "calls"


def test_places_where_a_program_calls_a_function(compiled: Path):
    """objdump finds the same."""
    listed = subprocess.check_output(["objdump", "-d", compiled], text=True).splitlines()
    behind = [
        int(following.split(":")[0], 16)
        for line, following in itertools.pairwise(listed)
        if "call" in line and "<puts@plt>" in line
    ]
    fd = os.open(compiled, os.O_RDONLY)
    assert list(callsites.sites(fd, str(compiled), "puts")) == behind and behind
    assert callsites.sites(fd, str(compiled), "strcpy") == ()
    os.close(fd)
    fd = os.open(__file__, os.O_RDONLY)
    assert callsites.sites(fd, __file__, "puts") == ()
    os.close(fd)


def test_what_the_installed_library_keeps_where():
    fd = os.open(LIBVIRT, os.O_RDONLY)
    named = {one.name: one for one in read_elf(fd, LIBVIRT).functions}

    def code(name: str) -> bytes:
        return os.pread(fd, named[name].size, named[name].offset)

    found = waiting.places(
        named.__contains__,
        lambda name: follow(code(name), named[name].offset),
        code,
        lambda name: callsites.sites(fd, LIBVIRT, name),
    )
    assert found.keys() >= {waiting.DOMAIN_JOB, waiting.DEFINITION, waiting.HAS_JOBS}
    assert found[waiting.PATIENCE] == 30_000 and waiting.CLIENT_IDENTITY in found
    assert waiting.CLIENT_REQUESTS in found
    assert any(2 in held.values() for held in follow(code(DISPATCH), 0).after.values())
    os.close(fd)


def test_library_whose_code_proves_nothing_tells_nothing():
    known = (lambda name: flow.NOTHING, lambda name: b"", lambda name: ())
    nothing = waiting.places(lambda name: True, *known)
    assert nothing == {}
    assert waiting.places(lambda name: False, *known) == {}
