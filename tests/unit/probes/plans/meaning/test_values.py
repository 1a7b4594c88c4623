# SPDX-License-Identifier: LGPL-2.1-or-later
"""Numbers and strings get the meaning that C gives them: ctypes, the enums' own constants and
Python's decoders are the judges.
"""

from __future__ import annotations

import ctypes
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.quote import whole_characters
from log.values import CutText, EnumValue, Flags, Redacted, Unreadable
from probes.api.load import load_api
from probes.api.table import Enum
from probes.plans.meaning import values
from probes.plans.meaning.captured import Copied

TABLE = load_api()
C_TYPES = {
    "i32": ctypes.c_int32,
    "u32": ctypes.c_uint32,
    "i64": ctypes.c_int64,
    "u64": ctypes.c_uint64,
    "u8": ctypes.c_uint8,
}
REGISTERS = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.sampled_from([0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 63]),
)


@given(st.sampled_from(sorted(C_TYPES)), REGISTERS)
def test_integers_are_those_of_c(kind, raw):
    assert values.integer(kind, raw) == C_TYPES[kind](raw).value


@given(
    st.sampled_from(sorted(name for name, enum in TABLE.enums.items() if not enum.is_flags)),
    st.data(),
)
def test_an_enum_value_has_one_of_its_names(name, data):
    constants = TABLE.enums[name].constants
    number = data.draw(
        st.one_of(
            st.sampled_from(sorted(constants.values())), st.integers(-(1 << 31), (1 << 31) - 1)
        )
    )
    value = values.enum_decoder(TABLE.enums[name], "i32")(number & ((1 << 64) - 1))
    assert isinstance(value, EnumValue)
    assert value.value == number
    if value.name is None:
        assert number not in constants.values()
    else:
        assert constants[value.name] == number


@given(
    st.sampled_from(sorted(name for name, enum in TABLE.enums.items() if enum.is_flags)),
    st.integers(0, (1 << 32) - 1),
    st.data(),
)
def test_flags_are_exactly_their_names(name, number, data):
    constants = TABLE.enums[name].constants
    number = data.draw(st.sampled_from([number, number & sum(set(constants.values()))]))
    decoded = values.flags_decoder(TABLE.enums[name], "u32")(number)
    assert isinstance(decoded, Flags)
    bits = 0
    for word in decoded.names:
        bits |= int(word, 16) if word.startswith("0x") else constants[word]
    assert (decoded.value, bits) == (number, number)
    assert all(not word.startswith("0x") for word in decoded.names[:-1])


def test_flags_without_an_enum_are_a_number():
    decode = values.flags_decoder(None, "u32")
    assert decode(0) == Flags(0, ())
    assert decode(0x12) == Flags(0x12, ("0x12",))


def test_negative_flags():
    enum = Enum("E", {"ONE": 1, "TOP": 1 << 31}, True)
    assert values.flags_decoder(enum, "i32")(0xFFFFFFFF) == Flags(
        -1, ("ONE", "TOP", hex((1 << 64) - 1 - 1 - (1 << 31)))
    )


@given(st.text(min_size=1), st.integers(0, 40))
def test_a_cut_leaves_whole_characters(text, keep):
    data = text.encode("utf-8", "ignore")
    kept = whole_characters(data[:keep])
    assert data.startswith(kept)
    assert keep - len(kept) < 4 or len(data) < keep
    assert text.encode("utf-8", "ignore").decode().startswith(kept.decode())


@given(st.binary(max_size=40))
def test_whole_characters_of_anything(data):
    kept = whole_characters(data)
    assert data.startswith(kept)
    assert len(data) - len(kept) < 4


@given(st.binary(max_size=40), st.one_of(st.none(), st.integers(0, 100)), st.integers(0, 1))
def test_a_string_is_cut_where_its_length_says_so(data, longer, address):
    length = None if longer is None else len(data) + longer
    value = values.string_value(Copied(address, data, length))
    if longer == 0:
        assert isinstance(value, str)
    else:
        assert isinstance(value, CutText)
        assert value.length == length


@pytest.mark.parametrize(
    ("copied", "plain", "secret"),
    [
        (Copied(0, None, None), None, None),
        (Copied(16, None, None), Unreadable(16), Unreadable(16)),
        (Copied(16, b"", 0), "", Redacted(0)),
        (Copied(16, b"x", 1), "x", Redacted(1)),
        (Copied(16, b"", None), CutText("", None), Redacted(None)),
    ],
)
def test_strings_and_secrets(copied, plain, secret):
    assert (values.string_value(copied), values.secret_value(copied)) == (plain, secret)


@given(st.binary(min_size=16, max_size=16))
def test_uuids_have_their_usual_form(raw):
    assert values.uuid_value(raw) == str(uuid.UUID(bytes=raw))
