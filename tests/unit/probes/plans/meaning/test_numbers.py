# SPDX-License-Identifier: LGPL-2.1-or-later
"""Numbers in memory: ctypes, and a bit at a time, are the judges."""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.values import EnumValue, Flags, Value
from probes.api.amendments import REASON_ENUM
from probes.api.load import load_api
from probes.plans.meaning import numbers
from probes.plans.meaning.numbers import ParameterNames

TABLE = load_api()
C_TYPES: dict[str, Any] = {
    "int": ctypes.c_int,
    "unsigned int": ctypes.c_uint,
    "long": ctypes.c_long,
    "unsigned long": ctypes.c_ulong,
    "long long": ctypes.c_longlong,
    "unsigned long long": ctypes.c_ulonglong,
    "size_t": ctypes.c_size_t,
    "unsigned char": ctypes.c_ubyte,
    "char": ctypes.c_byte,
    "short": ctypes.c_short,
    "unsigned short": ctypes.c_ushort,
    "double": ctypes.c_double,
}


def test_every_number_has_a_judge() -> None:
    assert set(numbers.KINDS) == set(C_TYPES)


@given(st.sampled_from(sorted(C_TYPES)), st.binary(min_size=8, max_size=40))
def test_numbers_are_those_of_c(ctype: str, data: bytes) -> None:
    size, read = numbers.reader(ctype, None, TABLE)
    kind = C_TYPES[ctype]
    assert size == ctypes.sizeof(kind)
    expected = kind.from_buffer_copy(data).value
    assert repr(read(data)) == repr(expected)  # NaN is not itself
    each, read_all = numbers.several(ctype, TABLE)
    assert each == size
    array = (kind * (len(data) // size)).from_buffer_copy(data)
    assert repr(read_all(data)) == repr(list(array))


@pytest.mark.parametrize(
    ("ctype", "enum", "data", "value"),
    [
        ("int", "virDomainState", b"\1\0\0\0", EnumValue(1, "VIR_DOMAIN_RUNNING")),
        ("int", "virDomainState", b"\xff\xff\xff\xff", EnumValue(-1, None)),
        ("unsigned char", "virDomainState", b"\5", EnumValue(5, "VIR_DOMAIN_SHUTOFF")),
        ("unsigned int", "virDomainUndefineFlagsValues", b"\3\0\0\0", None),
        ("int", "virNoSuchEnum", b"\1\0\0\0", 1),
    ],
)
def test_numbers_with_names(ctype: str, enum: str, data: bytes, value: Value) -> None:
    _, read = numbers.reader(ctype, enum, TABLE)
    if value is None:
        value = Flags(
            3, ("VIR_DOMAIN_UNDEFINE_MANAGED_SAVE", "VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA")
        )
    assert read(data) == value


# parameters


def test_parameters_have_the_names_of_their_enum() -> None:
    names = ParameterNames(TABLE)
    assert names.value("state.state", 1) == EnumValue(1, "VIR_DOMAIN_RUNNING")
    assert names.value("vcpu.17.state", 1) == EnumValue(1, "VIR_VCPU_RUNNING")
    assert names.value("vcpu.17.time", 1) == 1
    assert names.value("STATE.STATE", 1) == 1


@pytest.mark.parametrize("state", sorted(REASON_ENUM))
def test_a_reason_is_that_of_its_state(state: int) -> None:
    names, constants = ParameterNames(TABLE), TABLE.enums[REASON_ENUM[state]].constants
    for name, reason in constants.items():
        found = names.with_reason(
            {"state.state": names.value("state.state", state), "state.reason": reason}
        )
        assert found["state.reason"] == EnumValue(reason, name)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"state.state": EnumValue(1, "VIR_DOMAIN_RUNNING")},
        {"state.reason": 1},
        {"state.state": 1, "state.reason": 1},  # of another type
        {"state.state": EnumValue(1, "VIR_DOMAIN_RUNNING"), "state.reason": True},
        {"state.state": EnumValue(99, None), "state.reason": 1},
    ],
)
def test_without_both_no_reason_is_named(parameters: dict[str, Value]) -> None:
    assert ParameterNames(TABLE).with_reason(dict(parameters)) == parameters


def test_names_of_parameters_are_kept_within_a_limit() -> None:
    names = ParameterNames(TABLE)
    for number in range(numbers.MOST_FIELDS + 2):
        assert names.value(f"vcpu.{number}.state", 0) == EnumValue(0, "VIR_VCPU_OFFLINE")
    assert len(names._known) == 2


# bitmaps


@given(st.binary(max_size=12))
def test_cpus_are_the_bits(data: bytes) -> None:
    text = numbers.cpus(data)
    parts = [tuple(map(int, part.split("-"))) for part in text.split(",") if part]
    found = [cpu for part in parts for cpu in range(part[0], part[-1] + 1)]
    assert found == [cpu for cpu in range(8 * len(data)) if data[cpu // 8] >> cpu % 8 & 1]
    # as short as can be: neighbours are one part, and one CPU is no range
    assert all(before[-1] + 1 < after[0] for before, after in itertools.pairwise(parts))
    assert all(len(part) == 1 or part[0] < part[1] for part in parts)


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"", ""), (b"\0\0", ""), (b"\x0f\x01", "0-3,8"), (b"\x80\x01", "7-8"), (b"\xff" * 9, "0-71")],
)
def test_cpus_as_libvirt_writes_them(data: bytes, text: str) -> None:
    assert numbers.cpus(data) == text
