# SPDX-License-Identifier: LGPL-2.1-or-later
"""Decoded once for all that have the same bytes, and no more of them kept than there is room
for.
"""

from __future__ import annotations

import struct

import pytest

from probes.calls.parts import decode
from probes.calls.parts.decode import Decoder
from probes.calls.parts.open import Open
from probes.kernel import records
from tests.unit.probes.calls.test_calls import MASK, row

REMOVE, GET_INT = row("virEventRemoveTimeout"), row("virTypedParamsGetInt")


def entry(number: int, pid: int = 1) -> bytes:
    head = records.HEAD.pack(records.REC_ENTRY, 0, 0, 0, 1, 0, 1, 1, 0, pid)
    return (head + struct.pack("<7Q", 0, number, 0, 0, 0, 0, 0)).ljust(REMOVE.entry.fixed, b"\0")


def end(value: int) -> bytes:
    return records.HEAD.pack(records.REC_RETURN, 0, 0, 0, 1, 0, 1, 1, 0, 1) + struct.pack(
        "<QQ", 1, value & MASK
    )


def test_equal_bytes_are_decoded_once_and_others_anew():
    decoder = Decoder([REMOVE])
    first, again, other = [
        decoder.decode(REMOVE.entry, entry(number), None, 0, 1, False)[0] for number in (7, 7, 8)
    ]
    assert first is again and (first.values, other.values) == ({"timer": 7}, {"timer": 8})
    decoder.forget_rows()
    assert decoder.decode(REMOVE.entry, entry(7), None, 0, 1, False)[0] is not first


def test_so_many_are_kept(monkeypatch):
    monkeypatch.setattr(decode, "CACHED", 10)
    decoder = Decoder([REMOVE])
    for number in range(35):
        decoder.decode(REMOVE.entry, entry(number), None, 0, 1, False)
        assert len(decoder._cache) <= 10


@pytest.mark.parametrize(("value", "fails"), [(0, False), (-1, True), (7, False)])
def test_result_tells_whether_it_is_a_failures(value, fails):
    assert REMOVE.ret is not None
    decoded, failed, out = Decoder([REMOVE]).decode(REMOVE.ret, end(value), None, 0, 1, True)
    assert (decoded.values, failed, out.values) == ({"ret": value}, fails, {})


@pytest.mark.parametrize("result", [-1, 0, 1])
def test_output_that_was_not_written_is_not_shown(result):
    """virTypedParamsGet*: 0 means that there is no such parameter."""
    assert GET_INT.ret is not None
    raw = (end(result) + struct.pack("<6Q", *(0x1000,) * 6)).ljust(GET_INT.ret.fixed, b"\0")
    _, _, out = Decoder([GET_INT]).decode(GET_INT.ret, raw, None, 0, 1, True)
    assert bool(out.values) is (result == 1)


def test_processes_that_have_gone_are_forgotten_the_second_time():
    decoder, gone = Decoder([REMOVE]), 1 << 22  # never given to a process
    constants = decoder.constants_of(gone)
    decoder.forget_gone()
    assert decoder.constants_of(gone) is constants
    decoder.forget_gone()
    assert decoder.constants_of(gone) is not constants


@pytest.mark.parametrize(
    ("function", "flags", "changes"),
    [
        ("virDomainSetMetadata", 0, True),
        ("virDomainGetState", 0, False),
        ("virDomainGetXMLDesc", 0, False),
        ("virDomainGetXMLDesc", 1, True),
    ],
)
def test_whether_a_call_changes_something_may_depend_on_its_flags(function, flags, changes):
    """A description with its secrets is not for who may only read."""
    raw = records.HEAD.pack(records.REC_ENTRY, 0, 0, 0, 1, 0, 1, 1, 0, 1) + struct.pack(
        "<7Q", 0, 0x1000, flags, 0, 0, 0, 0
    )
    decoder = Decoder([row(function)])
    assert decoder.is_write(Open(raw, 0, 1, 0, 0, 1, 0)) is changes
    lost = Open(None, 0, 1, 0, 0, 1, 0)
    assert decoder.is_write(lost) is (function != "virDomainGetState")  # it may have been
