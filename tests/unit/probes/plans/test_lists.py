# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lists and structs of libvirt's, laid out in made-up memory as a C compiler does: ctypes lays
them out here.
"""

from __future__ import annotations

import ctypes
import struct

from hypothesis import given
from hypothesis import strategies as st

from log.values import CutList, EnumValue, Pointer, Unreadable, Value
from probes.plans.lists import by_field
from tests.unit.probes.plans.test_walks import Memory, entered, parameter, returned


class VcpuInfo(ctypes.Structure):
    _fields_ = (
        ("number", ctypes.c_uint),
        ("state", ctypes.c_int),
        ("cpuTime", ctypes.c_ulonglong),
        ("cpu", ctypes.c_int),
    )


class IOThreadInfo(ctypes.Structure):
    _fields_ = (
        ("iothread_id", ctypes.c_uint),
        ("cpumap", ctypes.c_uint64),
        ("cpumaplen", ctypes.c_int),
    )


class IPAddress(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("addr", ctypes.c_uint64), ("prefix", ctypes.c_uint))


class Interface(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_uint64),
        ("hwaddr", ctypes.c_uint64),
        ("naddrs", ctypes.c_uint),
        ("addrs", ctypes.c_uint64),
    )


class CPUStats(ctypes.Structure):
    _fields_ = (("field", ctypes.c_char * 80), ("value", ctypes.c_ulonglong))


class SecurityLabel(ctypes.Structure):
    _fields_ = (("label", ctypes.c_char * 4097), ("enforcing", ctypes.c_int))


class NodeInfo(ctypes.Structure):
    _fields_ = (
        ("model", ctypes.c_char * 32),
        ("memory", ctypes.c_ulong),
        *(
            (name, ctypes.c_uint)
            for name in ["cpus", "mhz", "nodes", "sockets", "cores", "threads"]
        ),
    )


def pointers(*addresses: int) -> bytes:
    return struct.pack(f"<{len(addresses)}Q", *addresses)


def test_structs_in_a_row_and_a_bitmap_of_each() -> None:
    memory = Memory()
    info = memory.put(
        bytes(VcpuInfo(0, 1, 1 << 40, 3))
        + bytes(VcpuInfo(1, 0, 7, -1))
        + bytes(VcpuInfo(2, 9, 7, -1))
    )
    maps = memory.put(b"\x0f\x00" + b"\x81\x01" + b"\xff\xff")
    values = returned("virDomainGetVcpus", 2, 0, info, 3, maps, 2, memory=memory)
    assert values["info"] == [
        {"number": 0, "state": EnumValue(1, "VIR_VCPU_RUNNING"), "cpuTime": 1 << 40, "cpu": 3},
        {"number": 1, "state": EnumValue(0, "VIR_VCPU_OFFLINE"), "cpuTime": 7, "cpu": -1},
    ]
    assert values["cpumaps"] == ["0-3", "0,7-8"]


def test_bitmaps_that_are_not_there() -> None:
    memory = Memory()
    # the call had NULL
    assert returned("virDomainGetVcpuPinInfo", 2, 0, 2, 0, 2, memory=memory) == {"ret": 2}
    assert returned("virDomainGetVcpuPinInfo", 2, 0, 2, 0x4141, 2, memory=memory)[
        "cpumaps"
    ] == Unreadable(0x4141)
    maps = memory.put(bytes(8))
    assert returned("virDomainGetVcpuPinInfo", 2, 0, 2, maps, 0, memory=memory)["cpumaps"] == []
    assert (
        entered("virDomainPinVcpu", 0, 1, memory.put(b"\x05"), 1, memory=memory)["cpumap"] == "0,2"
    )


def test_a_bitmap_of_so_many_bits() -> None:
    memory = Memory()
    at = memory.put(pointers(memory.put(b"\xff\x03\xff")))
    assert returned("virNodeGetCPUMap", 10, 0, at, 0, 0, memory=memory)["cpumap"] == "0-9"


def test_pointers_to_structs_and_what_hangs_on_them() -> None:
    memory = Memory()
    one = memory.put(bytes(IOThreadInfo(1, memory.put(b"\x03"), 1)))
    two = memory.put(bytes(IOThreadInfo(2, 0, 1)))
    base = memory.put(pointers(memory.put(pointers(one, 0, two))))
    assert returned("virDomainGetIOThreadInfo", 3, 0, base, 0, memory=memory)["info"] == [
        {"iothread_id": 1, "cpumap": "0-1"},
        None,
        {"iothread_id": 2, "cpumap": None},
    ]


def test_lists_of_structs_in_structs() -> None:
    memory = Memory()
    addresses = memory.put(
        bytes(IPAddress(0, memory.text("10.0.0.2"), 24))
        + bytes(IPAddress(1, memory.text("fe80::2"), 64))
        + bytes(IPAddress(0, 0, 0))
    )
    one = memory.put(
        bytes(Interface(memory.text("vnet0"), memory.text("52:54:00:00:00:01"), 2, addresses))
    )
    two = memory.put(bytes(Interface(memory.text("lo"), 0, 0, 0)))
    base = memory.put(pointers(memory.put(pointers(one, two))))
    assert returned("virDomainInterfaceAddresses", 2, 0, base, 0, 0, memory=memory)["ifaces"] == [
        {
            "name": "vnet0",
            "hwaddr": "52:54:00:00:00:01",
            "addrs": [
                {"type": EnumValue(0, "VIR_IP_ADDR_TYPE_IPV4"), "addr": "10.0.0.2", "prefix": 24},
                {"type": EnumValue(1, "VIR_IP_ADDR_TYPE_IPV6"), "addr": "fe80::2", "prefix": 64},
            ],
        },
        {"name": "lo", "hwaddr": None, "addrs": None},
    ]


def test_one_struct_small_and_large() -> None:
    memory = Memory()
    node = NodeInfo(b"x86_64", 1 << 30, 8, 2400, 1, 1, 4, 2)
    expected = {name: getattr(node, name) for name in (field[0] for field in NodeInfo._fields_)} | {
        "model": "x86_64"
    }
    assert (
        returned("virNodeGetInfo", 0, 0, memory.put(bytes(node)), memory=memory)["info"] == expected
    )
    assert returned("virNodeGetInfo", 0, 0, 0x4141, memory=memory)["info"] == Unreadable(0x4141)
    label = memory.put(bytes(SecurityLabel(b"system_u:system_r:svirt_t:s0", 1)))
    found = returned("virDomainGetSecurityLabel", 0, 0, label, memory=memory)["seclabel"]
    assert found == {"label": "system_u:system_r:svirt_t:s0", "enforcing": 1}


def test_parameters_of_one_type() -> None:
    memory = Memory()
    at = memory.put(bytes(CPUStats(b"kernel", 5)) + bytes(CPUStats(b"user", 1 << 63)))
    values = returned(
        "virNodeGetCPUStats",
        0,
        0,
        -1 & (1 << 64) - 1,
        at,
        memory.put(struct.pack("<i", 2)),
        memory=memory,
    )
    assert values["params"] == {"kernel": 5, "user": 1 << 63}


def test_parameters_of_each_cpu() -> None:
    memory = Memory()
    at = memory.put(
        b"".join(
            parameter(name, 4, "<Q", cpu) for cpu in (7, 8) for name in ("cpu_time", "vcpu_time")
        )
    )
    values = returned("virDomainGetCPUStats", 2, 0, at, 2, 0, 2, memory=memory)
    assert values["params"] == [{"cpu_time": 7, "vcpu_time": 7}, {"cpu_time": 8, "vcpu_time": 8}]


def test_numbers_in_a_row() -> None:
    memory = Memory()
    at = memory.put(struct.pack("<3Q", 1 << 63, 2, 3))
    assert returned("virNodeGetCellsFreeMemory", 2, 0, at, 0, 3, memory=memory)["freeMems"] == [
        1 << 63,
        2,
    ]
    many = memory.put(struct.pack("<600Q", *range(600)))
    cut = returned("virNodeGetCellsFreeMemory", 600, 0, many, 0, 600, memory=memory)["freeMems"]
    assert isinstance(cut, CutList)
    assert (cut.items, cut.total) == ([*range(len(cut.items))], 600)
    assert len(cut.items) > 64


# parameters by their fields


@given(
    st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.integers()) | st.just(Pointer(5)))
)
def test_fields_keep_all_their_values_in_order(items: list[tuple[str, int] | Pointer]) -> None:
    found = by_field([item if isinstance(item, Pointer) else list(item) for item in items])
    expected: dict[str, Value] = {
        f"#{at}": item for at, item in enumerate(items) if isinstance(item, Pointer)
    }
    for name in "abc":
        values: list[Value] = [
            item[1] for item in items if not isinstance(item, Pointer) and item[0] == name
        ]
        if values:
            expected[name] = values if len(values) > 1 else values[0]
    assert found == expected
