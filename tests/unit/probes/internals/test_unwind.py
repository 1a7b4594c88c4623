# SPDX-License-Identifier: LGPL-2.1-or-later
"""Frames of functions, as their library tells them; and what is no such library."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.errors import TraceError
from probes.internals import unwind
from probes.internals.elf import read_elf
from probes.internals.unwind import Unwinder
from probes.kernel import abi

LIBVIRT = os.path.realpath("/usr/lib/x86_64-linux-gnu/libvirt.so.0")


@pytest.fixture(scope="module")
def library():
    fd = os.open(LIBVIRT, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_frame_grows_with_what_is_pushed(library: int):
    """objdump says how much a function has pushed."""
    function = next(
        one for one in read_elf(library, LIBVIRT).functions if one.name == "virDomainSuspend"
    )
    unwinder = Unwinder(library, LIBVIRT)
    code = subprocess.check_output(
        ["objdump", "-d", f"--start-address={function.address}",
         f"--stop-address={function.address + 24}", LIBVIRT], text=True
    )  # fmt: skip
    pushed = 0
    for line in code.splitlines():
        found = re.match(r"\s+([0-9a-f]+):\t[0-9a-f ]+\t(\w+)", line)
        if not found:
            continue
        offset = int(found[1], 16) - function.address + function.offset
        frame = unwinder.frame(offset)
        assert frame and (frame.register, frame.offset) == (abi.HERE.stack_pointer, 8 + 8 * pushed)
        assert frame.saved[abi.HERE.return_address] == -8
        if found[2] == "push":
            pushed += 1
        elif found[2] != "endbr64":  # what newer compilers begin with
            break
    assert pushed > 0


def test_where_there_is_no_function_there_is_no_frame(library: int):
    unwinder = Unwinder(library, LIBVIRT)
    assert unwinder.frame(0) is None and unwinder.frame(1 << 40) is None


@given(st.data())
def test_damaged_library_is_refused_or_tells_nothing(tmp_path_factory, data):
    """Whatever is in it."""
    folder: Path = tmp_path_factory.getbasetemp()
    size = 1 << 16
    with open(LIBVIRT, "rb") as whole:
        content = bytearray(whole.read(size))
    for _ in range(data.draw(st.integers(0, 8))):
        at = data.draw(st.integers(0, 1024))
        content[at] = data.draw(st.integers(0, 255))
    path = folder / "damaged"
    path.write_bytes(content[: data.draw(st.integers(0, size))])
    fd = os.open(path, os.O_RDONLY)
    try:
        Unwinder(fd, "damaged").frame(data.draw(st.integers(0, 1 << 24)))
    except TraceError:
        pass
    finally:
        os.close(fd)


def test_frames_that_take_too_much_are_not_known(library: int, monkeypatch):
    function = next(
        one for one in read_elf(library, LIBVIRT).functions if one.name == "virDomainSuspend"
    )
    assert Unwinder(library, LIBVIRT).frame(function.offset)
    for limit in ("MOST_ENTRY", "MOST_TABLE"):
        with monkeypatch.context() as patch:
            patch.setattr(unwind, limit, 16)
            assert Unwinder(library, LIBVIRT).frame(function.offset) is None, limit
