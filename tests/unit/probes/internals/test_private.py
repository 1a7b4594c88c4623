# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where libvirt's own structs have things is found in its code; what is not found is said, and
nothing is read in its place.
"""

from __future__ import annotations

import os

import pytest

from probes.host.libraries.targets import host_libraries
from probes.internals import private
from probes.internals.elf import read_elf
from probes.internals.layouts import code_of

INNER = {
    private.DISPATCH: 1,
    private.SEND: 2,
    private.IDENTITY: 3,
    private.CHECK: 4,
    "virErrorMsg": 5,
}


@pytest.fixture(scope="module")
def codes() -> dict[str, bytes]:
    """The machine code that tells, of the host's libvirt."""
    (path,) = (path for path in host_libraries() if "libvirt.so.0" in path)
    fd = os.open(path, os.O_RDONLY)
    found = {
        f.name: code_of(fd, f) for f in read_elf(fd, path).functions if f.name in private.EVIDENCE
    }
    os.close(fd)
    assert found.keys() == private.EVIDENCE
    return found


def name_of_definition(placed: dict[str, int]) -> int:
    (found,) = (
        int(key.rpartition(" ")[2])
        for key in placed
        if key.startswith(f"{private.CHECK}, name at ")
    )
    return found


def test_everything_is_found_in_the_installed_library(codes):
    placed, notes = private.placed(INNER, codes.__getitem__)
    assert notes == []
    assert sorted(placed.values()) == [1, 2, 3, 4, 5]
    assert {private.DISPATCH, private.SEND, private.IDENTITY, "virErrorMsg"} < placed.keys()
    assert name_of_definition(placed) in (48, 64)
    assert placed.keys() <= {inner.key for inner in private.PRIVATE}


@pytest.mark.parametrize("at", private.DEFINITION_NAMES)
def test_name_of_a_definition_is_where_the_code_reads_it(at):
    """mov %esi,%ecx; mov %edx,%r8d; mov AT(%rdi),%rsi; lea 8(%rdi),%rdx; mov 4(%rdi),%edi. And:
    mov AT(%rbx),%rsi.
    """
    mov = b"\x48\x8b\x77" + bytes([at]) if at < 128 else b"\x48\x8b\xb7" + at.to_bytes(4, "little")
    it_too = (
        b"\x48\x8b\x73" + bytes([at]) if at < 128 else b"\x48\x8b\xb3" + at.to_bytes(4, "little")
    )
    codes = {
        private.NAMES_DEFINITION: b"\x89\xf1\x41\x89\xd0"
        + mov
        + b"\x48\x8d\x57\x08\x8b\x7f\x04\xc3",
        private.NAMES_IT_TOO: it_too,
    }
    placed, notes = private.placed({private.CHECK: 4}, codes.__getitem__)
    assert (name_of_definition(placed), notes) == (at, [])


@pytest.mark.parametrize(
    ("function", "lost", "left", "note"),
    [
        (private.NAMES_DEFINITION, {private.CHECK}, set(), "not checked"),
        (private.NAMES_IT_TOO, {private.CHECK}, set(), "not checked"),
        (
            "virNetSocketRemoteAddrStringURI",
            {private.DISPATCH},
            {private.DISPATCH + private.ELSEWHERE},
            "read-only",
        ),
        (
            "virNetServerClientGetReadonly",
            {private.DISPATCH},
            {private.DISPATCH + private.ELSEWHERE},
            "read-only",
        ),
        (private.DISPATCH, {private.DISPATCH}, set(), "for a client"),
        ("virNetClientProgramGetProgram", {private.SEND}, set(), "for a client"),
        ("virIdentityGetUserName", {private.IDENTITY}, set(), "for a client"),
    ],
)
def test_what_the_code_does_not_show_is_not_read_but_said(codes, function, lost, left, note):
    whole, _ = private.placed(INNER, codes.__getitem__)
    for code in (b"", b"\xf3\x0f\x1e\xfa\xc3"):
        placed, notes = private.placed(INNER, {**codes, function: code}.__getitem__)
        gone = {name.partition(",")[0] for name in whole.keys() - placed.keys()}
        assert gone == lost and placed.keys() - whole.keys() == left
        assert len(notes) == 1 and note in notes[0]


def test_definition_with_several_candidates_is_not_believed(codes):
    """Reading more than it should, it may be another function."""
    code = codes[private.NAMES_DEFINITION] + b"\x48\x8b\x77\x58"  # mov 88(%rdi), %rsi
    placed, notes = private.placed(INNER, {**codes, private.NAMES_DEFINITION: code}.__getitem__)
    assert len(notes) == 1 and "not checked" in notes[0]
    assert not any(key.startswith(private.CHECK) for key in placed)
