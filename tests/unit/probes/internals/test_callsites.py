# SPDX-License-Identifier: LGPL-2.1-or-later
"""A function that is called from too many places is not looked for; that calls are found where a
disassembler sees them is tested with libvirtd.
"""

from __future__ import annotations

import struct

import pytest

from probes.internals import callsites
from probes.internals.elf import Elf
from probes.kernel.machines.steps import POINTER_CALL

START, POINTER = 0x1000, 0x9000  # offsets


@pytest.mark.parametrize(("number", "found"), [(1, 1), (64, 64), (65, 0)])
def test_places_that_call_have_a_limit(
    monkeypatch: pytest.MonkeyPatch, number: int, found: int
) -> None:
    ends = [START + 6 * (one + 1) for one in range(number)]
    code = b"".join(POINTER_CALL + struct.pack("<i", POINTER - end) for end in ends)
    elf = Elf(64, "x86-64", None, (START, len(code)), (), (), (), frozenset())
    monkeypatch.setattr(callsites, "read_elf", lambda fd, path: elf)
    monkeypatch.setattr(callsites, "slots", lambda *_: {POINTER})
    monkeypatch.setattr(callsites, "bytes_at", lambda fd, at, length: code[:length])
    assert callsites.sites(-1, "/x", "poll") == tuple(ends[:found])
