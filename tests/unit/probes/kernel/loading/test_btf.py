# SPDX-License-Identifier: LGPL-2.1-or-later
"""Offsets from type information: those that a C compiler writes, and what its own offsetof says
of the same structs.
"""

from __future__ import annotations

import functools
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.errors import TraceError
from probes.kernel.loading import btf, kept, offsets

# as the kernel's are: what is inside without a name, bit fields, arrays, a struct and a variable of
# the same name
TYPES = """
typedef int (*callback)(const char *, ...);
enum colour { RED, GREEN = 1 << 20 };
struct inner { char c; long first, second; };
typedef struct inner inner_t;
union either { double number; struct inner *pointer; };
struct plain { char a; int b; volatile const struct inner *next; struct inner held; callback call;
	enum colour colour; };
struct nested {
    char before;
    union { struct { short deep; union { long deeper; char same; }; }; double wide; };
    struct { int not_ours; } named[3];
    char after;
};
struct bits { unsigned one : 1, two : 3; unsigned long wide : 62; int last; };
struct embeds { short before; struct inner; char after; };
struct embeds_type { int before; inner_t; char after; };
extern callback function;
int plain(struct plain *p, struct nested *n, struct bits *b, union either *u, struct embeds *e,
	struct embeds_type *t) { return 0; }
"""
MEMBERS = {
    "plain": ("a", "b", "next", "held", "call", "colour"),
    "nested": ("before", "deep", "deeper", "same", "wide", "named", "after"),
    "bits": ("last",),
    "inner": ("c", "first", "second"),
    "embeds": ("before", "c", "first", "second", "after"),
    "embeds_type": ("before", "c", "first", "second", "after"),
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The type information alone."""
    folder = tmp_path_factory.mktemp("btf")
    (folder / "types.c").write_text(TYPES)
    subprocess.run(["gcc", "-fms-extensions", "-gbtf", "-c", "types.c"], cwd=folder, check=True)
    subprocess.run(
        ["objcopy", "--dump-section", ".BTF=types.btf", "types.o"], cwd=folder, check=True
    )
    return folder / "types.btf"


def test_offsets_are_those_of_the_compiler(compiled: Path) -> None:
    places = [(name, member) for name, members in MEMBERS.items() for member in members]
    lines = "".join(
        (f'printf("%zu ", offsetof(struct {name}, {member}));') for name, member in places
    )
    (compiled.parent / "print.c").write_text(
        f"#include <stddef.h>\n#include <stdio.h>\n{TYPES}int main(void) {{ {lines} }}\n"
    )
    subprocess.run(
        ["gcc", "-fms-extensions", "-o", "print", "print.c"], cwd=compiled.parent, check=True
    )
    said = subprocess.run(
        compiled.parent / "print", stdout=subprocess.PIPE, text=True
    ).stdout.split()
    assert btf.member_offsets(MEMBERS, compiled) == dict(zip(places, map(int, said), strict=True))


def test_bit_fields_are_in_their_first_byte(compiled: Path) -> None:
    """There is no offsetof of them; the ABI says that none crosses a border of its type."""
    found = btf.member_offsets({"bits": ("one", "two", "wide")}, compiled)
    assert found == {("bits", "one"): 0, ("bits", "two"): 0, ("bits", "wide"): 8}


def test_what_is_not_there_is_left_out(compiled: Path) -> None:
    wanted = {
        "plain": ("b", "not_there"),
        "nested": ("not_ours",),
        "either": ("number",),
        "nowhere": ("a",),
        "": ("a",),
    }
    assert btf.member_offsets(wanted, compiled) == {("plain", "b"): 4}


@pytest.mark.parametrize(
    "content", [None, b"", b"\x9f\xeb", bytes(24), b"\x7fELF".ljust(64, b"\0")]
)
def test_other_files_are_said_to_be_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "vmlinux"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TraceError, match="CONFIG_DEBUG_INFO_BTF"):
        btf.member_offsets({"task_struct": ("pid",)}, path)


def test_kinds_that_nobody_knows_are_no_guess(tmp_path: Path) -> None:
    """What is behind such a type can't be found."""
    types = struct.pack("<3I", 1, 31 << 24, 0) + struct.pack("<6I", 1, 4 << 24 | 1, 4, 3, 0, 8)
    path = tmp_path / "vmlinux"
    path.write_bytes(
        struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), 5)
        + types
        + b"\0a\0b\0"
    )
    with pytest.raises(TraceError, match="kind 31"):
        btf.member_offsets({"a": ("b",)}, path)


@given(data=st.data())
def test_broken_information_is_said_to_be_broken(compiled: Path, data: st.DataObject) -> None:
    blob = bytearray(compiled.read_bytes())
    for at, byte in data.draw(
        st.lists(st.tuples(st.integers(8, len(blob) - 1), st.integers(0, 255)), max_size=4)
    ):
        blob[at] = byte
    broken = compiled.with_name("broken.btf")
    broken.write_bytes(blob[: data.draw(st.integers(0, len(blob)) | st.just(len(blob)))])
    try:
        found = btf.member_offsets(MEMBERS, broken)
    except TraceError:
        return
    assert all(member in MEMBERS[name] and offset >= 0 for (name, member), offset in found.items())


def test_struct_that_holds_itself_is_broken(tmp_path: Path) -> None:
    types = struct.pack("<6I", 1, 4 << 24 | 1, 4, 0, 1, 0)
    path = tmp_path / "vmlinux"
    path.write_bytes(
        struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), 3) + types + b"\0a\0"
    )
    with pytest.raises(TraceError, match="broken"):
        btf.member_offsets({"a": ("b",)}, path)


# sums of them


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[tuple[str, str], int]]:
    """Every member that is asked for, each with a power of two: a sum tells what it is of."""
    paths = {
        place
        for members in (offsets.MEMBERS, offsets.ARMED)
        for path in members.values()
        for place in path
    }
    has = {place: 1 << number for number, place in enumerate(sorted(paths))}

    def found(wanted: dict[str, tuple[str, ...]]) -> dict[tuple[str, str], int]:
        return {
            place: has[place]
            for name, members in wanted.items()
            for member in members
            if (place := (name, member)) in has
        }

    monkeypatch.setattr(btf, "member_offsets", found)
    monkeypatch.setattr(kept, "key_of_kernel", lambda question: None)
    offsets.of_this_kernel.cache_clear()
    yield has
    offsets.of_this_kernel.cache_clear()


def test_defines_are_sums(kernel: dict[tuple[str, str], int]) -> None:
    defines = offsets.defines()
    assert list(defines) == list(offsets.MEMBERS)
    assert defines["TASK_PID"] == kernel["task_struct", "pid"]
    assert defines["MOUNT_ROOT"] == kernel["mount", "mnt"] + kernel["vfsmount", "mnt_root"]
    assert offsets.has(offsets.ARMED)


def test_kernels_without_auditing_have_no_login_uid(kernel: dict[tuple[str, str], int]) -> None:
    del kernel["task_struct", "loginuid"]
    assert set(offsets.MEMBERS) - set(offsets.defines()) == {"TASK_LOGINUID"}


def test_what_a_kernel_lacks_is_named(kernel: dict[tuple[str, str], int]) -> None:
    del kernel["qstr", "name"], kernel["uprobe_task", "return_instances"]
    with pytest.raises(TraceError, match=r"^this kernel's qstr has no name: "):
        offsets.defines()
    assert not offsets.has(offsets.ARMED)


def test_the_kernel_is_looked_through_once(kernel, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(kept, "key_of_kernel", lambda question: "this one")
    monkeypatch.setattr(kept, "read", functools.partial(kept.read, folder=tmp_path / "kept"))
    monkeypatch.setattr(kept, "write", functools.partial(kept.write, folder=tmp_path / "kept"))
    del kernel["task_struct", "loginuid"]
    found = offsets.of_this_kernel()
    assert found == kernel
    offsets.of_this_kernel.cache_clear()
    monkeypatch.delattr(btf, "member_offsets")
    assert offsets.of_this_kernel() == found
