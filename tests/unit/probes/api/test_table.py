# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bundled API table: what is in it, and how it is generated."""

from __future__ import annotations

import fnmatch
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from probes.api import amendments, generate, load, passing, undescribed
from probes.api import table as api
from tests import needs

ACCESS = load.API_JSON.with_name("api_access.tsv")
INSTALLED = load.XML_DIRS[0]


@pytest.fixture(scope="module")
def table() -> api.ApiTable:
    return load.load_api([])


@pytest.fixture
def installed() -> Path:
    if not (INSTALLED / "libvirt-api.xml").exists():
        needs.lack("unit", "libvirt-dev is not installed")
    return INSTALLED


def _release(function: api.Function) -> tuple[int, ...]:
    return tuple(int(part) for part in function.since.split("."))


def test_table_has_what_was_counted_in_libvirt_9(table):
    functions = [
        f for f in table.functions if f.library == "libvirt.so.0" and _release(f) <= (9, 0, 0)
    ]
    params = [param for function in functions for param in function.params]
    assert len(functions) == 516
    assert len(params) == 1354
    assert sum(param.kind == "handle" for param in params) == 480
    assert sum(param.kind in api.SCALAR_KINDS for param in params) == 423
    assert sum(param.kind == "callback" for param in params) == 37
    assert sum(param.ctype == "const char *" for param in params) == 166
    # 41 have "xml" in their name, and there is srcSpec of virConnectFindStoragePoolSources
    assert sum(param.kind == "xml" for param in params) == 42
    assert sum(param.ctype == "virTypedParameterPtr" for param in params) == 38
    assert sum(param.ctype == "virTypedParameterPtr *" for param in params) == 16
    assert sum(param.ctype == "void *" for param in params) == 18
    assert sum(param.ctype == "char ** const" for param in params) == 11
    assert sum(function.result.kind == "void" for function in functions) == 17
    assert sum(len(function.params) > 6 for function in functions) == 6
    assert [f.name for f in functions if "double" in (param.kind for param in f.params)] == [
        "virTypedParamsAddDouble"
    ]
    flags = [param for param in params if param.name == "flags"]
    assert len(flags) == 238
    assert all(param.flags for param in flags)
    # 144 named in the text, one by hand, and two that were unused until a later release
    assert sum(param.enum is not None for param in flags) == 147


def test_table_has_what_libvirt_11_3_adds(table):
    assert {f.name for f in table.functions if (9, 0, 0) < _release(f) <= (11, 3, 0)} == {
        "virDomainDelThrottleGroup",
        "virDomainGetAutostartOnce",
        "virDomainGraphicsReload",
        "virDomainSetAutostartOnce",
        "virDomainSetThrottleGroup",
        "virNetworkGetMetadata",
        "virNetworkSetMetadata",
        "virNodeDeviceUpdate",
    }
    by_library = [sum(f.library == library for f in table.functions) for library in api.LIBRARIES]
    assert by_library == [525, 6, 4]
    assert table.enums["virErrorNumber"].constants["VIR_ERR_AGENT_COMMAND_FAILED"] == 113


def test_what_later_releases_add_is_behind_what_had_a_number(table):
    """So that a tracer understands enforcers that are older than itself."""
    assert [f.name for f in table.functions[534:]] == ["virDomainAnnounceInterface"]
    assert [(f.name, f.number) for f in table.functions if f.number in (0, 523, 524, 533)] == [
        ("virConnCopyLastError", 0),
        ("virTypedParamsGetULLong", 523),
        ("virConnectDomainQemuMonitorEventDeregister", 524),
        ("virDomainLxcOpenNamespace", 533),
    ]


def test_every_function_is_complete_and_consistent(table):
    assert not table.warnings
    for number, function in enumerate(table.functions):
        assert function.number == number
        assert function.library in api.LIBRARIES
        assert function.access in ("write", "conditional", "read", "plumbing")
        assert function.failure in (
            "negative",
            "null",
            "zero",
            "minus_one",
            "minus_one_if_error",
            "null_if_error",
            "none",
        )
        assert (function.write_when is not None) == (function.access == "conditional"), (
            function.name
        )
        for what in (*function.params, function.result):
            assert what.kind in api.KINDS - {"raw"}, function
            assert (what.kind == "handle") == (what.object is not None), function
            assert what.enum is None or what.enum in table.enums, function
        assert all(param.kind in api.SCALAR_KINDS for param in function.params if param.flags), (
            function
        )
        assert "void" not in [param.kind for param in function.params]
    assert len(table.by_name) == len(table.functions)


def test_constants_ascend_and_sentinels_are_left_out(table):
    for enum in table.enums.values():
        assert list(enum.constants.values()) == sorted(enum.constants.values()), enum.name
    assert "VIR_DOMAIN_LAST" not in table.enums["virDomainState"].constants
    assert (
        table.enums["virNetworkUpdateCommand"].constants["VIR_NETWORK_UPDATE_COMMAND_ADD_LAST"] == 3
    )
    assert table.enums["virDomainCreateFlags"].is_flags
    assert not table.enums["virDomainState"].is_flags
    assert (
        table.enums["virConnectGetAllDomainStatsFlags"].constants[
            "VIR_CONNECT_GET_ALL_DOMAINS_STATS_ENFORCE_STATS"
        ]
        == 1 << 31
    )


def test_flags_of_two_enums_and_of_constants_with_one_value_have_their_own(table):
    both = table.by_name["virDomainGetMemoryParameters"].params[-1]
    assert set(table.enums[both.enum].constants) >= {
        "VIR_DOMAIN_AFFECT_LIVE",
        "VIR_TYPED_PARAM_STRING_OKAY",
    }
    for function, shown in (
        ("virDomainSnapshotNum", "ROOTS"),
        ("virDomainSnapshotNumChildren", "DESCENDANTS"),
    ):
        constants = table.enums[table.by_name[function].params[-1].enum].constants
        assert [name for name, value in constants.items() if value == 1] == [
            f"VIR_DOMAIN_SNAPSHOT_LIST_{shown}"
        ]


def test_struct_is_found_behind_its_pointers(table):
    assert table.struct_behind("virDomainInfoPtr") == "virDomainInfo"
    assert table.struct_behind("virDomainFSInfoPtr **") == "virDomainFSInfo"
    assert table.struct_behind("virDomainBlockStatsPtr") == "virDomainBlockStatsStruct"
    assert table.struct_behind("virDomainPtr") is None
    assert table.struct_behind("int *") is None
    assert table.structs["virNodeCPUStats"] == (
        ("field", "char[80]"),
        ("value", "unsigned long long"),
    )
    assert table.field_enums["virDomainInfo.state"] == "virDomainState"
    assert all(enum in table.enums for enum in table.field_enums.values())


def test_failure_is_what_the_return_texts_say(table, installed):
    # no such number in their text: they do return it (its meaning is a constant, or goes without
    # saying)
    silent = {
        *(
            f"virEvent{what}"
            for what in ("AddHandle", "AddTimeout", "RemoveHandle", "RemoveTimeout")
        )
    }
    silent |= {
        "virConnectCompareCPU",
        "virConnectCompareHypervisorCPU",
        "virConnectNumOfSecrets",
        "virConnectFindStoragePoolSources",
    }
    said = {
        "negative": r"-1",
        "minus_one": r"-1 upon error.*-2",
        "minus_one_if_error": r"\(unsigned int\) -1",
        "null": r"NULL",
        "null_if_error": r"NULL .* or when",
        "zero": r"\b0 in case of error",
        "none": r"^$|if none|NULL if it does not exist",
    }
    seen = 0
    for name in api.XML_FILES:
        for element in ElementTree.parse(installed / name).iter("function"):
            function = table.by_name[element.get("name", "")]
            returned = element.find("return")
            text = " ".join(returned.get("info", "").split()) if returned is not None else ""
            assert function.name in silent or re.search(said[function.failure], text), (
                function.name,
                function.failure,
                text,
            )
            seen += 1
    assert seen >= 526


def test_reading_functions_need_reading_permissions_only(table):
    for line in ACCESS.read_text().splitlines()[4:]:
        name, *_, permissions = line.split("\t")
        if (
            name in table.by_name
            and table.by_name[name].access == "read"
            and amendments.ACCESS.get(name) != "read"
        ):
            assert all(
                re.fullmatch(r"[\w-]+:(read|getattr|search-[\w-]+)", one)
                for one in permissions.split(",")
                if one
            ), line


def test_secrets_and_plumbing(table):
    assert table.by_name["virSecretGetValue"].result.secret
    assert [
        param.name for param in table.by_name["virDomainSetUserPassword"].params if param.secret
    ] == ["password"]
    assert [param.name for param in table.by_name["virSecretSetValue"].params if param.secret] == [
        "value"
    ]
    for name in ("virConnectOpen", "virConnectClose", "virDomainGetName", "virStreamNew"):
        assert table.by_name[name].access == "read"
    for name in (
        "virDomainFree",
        "virGetLastError",
        "virEventRunDefaultImpl",
        "virTypedParamsAddInt",
        "virInitialize",
        "virConnectRef",
    ):
        assert table.by_name[name].access == "plumbing"
    assert not any(
        f.access == "plumbing" and re.search("Open|Lookup|Create|Define", f.name)
        for f in table.functions
    )


def test_exceptions_name_what_exists(table):
    arguments = {(f.name, param.name) for f in table.functions for param in f.params} | {
        (f.name, "") for f in table.functions
    }
    constants = {name for enum in table.enums.values() for name in enum.constants}
    assert {*amendments.ACCESS, *amendments.FAILURE, *amendments.WRITE_WHEN} <= table.by_name.keys()
    assert {*amendments.ENUM, *amendments.KIND} <= arguments
    assert {enum for enum, _ in amendments.ENUM.values()} <= table.enums.keys()
    assert all(
        place.split(".")[1] in dict(table.structs[place.split(".")[0]])
        for place in amendments.FIELD_ENUM
    )
    for glob in amendments.PLUMBING:
        assert fnmatch.filter(table.by_name, glob), glob
    for glob, argument in amendments.SECRET:
        assert fnmatch.filter([name for name, one in arguments if one == argument], glob), (
            glob,
            argument,
        )
    for function, (argument, _, names) in amendments.WRITE_WHEN.items():
        assert (function, argument) in arguments
        assert set(names) <= constants


@pytest.mark.parametrize(
    ("function", "args", "write"),
    [
        ("virDomainDestroy", {}, True),
        ("virDomainGetInfo", {}, False),
        ("virDomainFree", {}, False),
        ("virDomainGetXMLDesc", {"flags": 0}, False),
        ("virDomainGetXMLDesc", {"flags": 2}, False),
        ("virDomainGetXMLDesc", {"flags": 1}, True),
        ("virDomainGetXMLDesc", {"flags": 10}, True),
        ("virDomainGetXMLDesc", {}, True),
        ("virDomainGetVcpusFlags", {"flags": 1}, False),
        ("virDomainGetVcpusFlags", {"flags": 9}, True),
        ("virDomainInterfaceAddresses", {"source": 0, "flags": 0}, False),
        ("virDomainInterfaceAddresses", {"source": 1, "flags": 0}, True),
        ("virDomainInterfaceAddresses", {"source": 2, "flags": 0}, False),
        ("virDomainManagedSaveGetXMLDesc", {"flags": 1}, True),
    ],
)
def test_arguments_decide_whether_a_conditional_call_writes(table, function, args, write):
    assert api.is_write_call(table.by_name[function], args) is write


def test_unknown_functions_may_write():
    unknown, counts = (
        undescribed.unknown_function(9, name, "x") for name in ("virZap", "virZapRef")
    )
    assert (unknown.params, unknown.result.kind, unknown.access) == ((), "raw", "write")
    assert counts.access == "plumbing"


def test_generated_table_is_the_same_each_time(installed):
    assert generate.generate([installed], ACCESS) == generate.generate([installed], ACCESS)


def test_bundled_table_is_made_with_the_present_exceptions(table, installed, tmp_path, monkeypatch):
    (tmp_path / "api.json").write_text(generate.generate([installed], ACCESS))
    monkeypatch.setattr(load, "API_JSON", tmp_path / "api.json")
    fresh = load.load_api([])
    for name in fresh.by_name.keys() & table.by_name.keys():
        ours, theirs = table.by_name[name], fresh.by_name[name]
        same = [
            (
                f.library,
                f.result,
                f.access,
                f.failure,
                f.write_when,
                [param._replace(enum=None) for param in f.params],
            )
            for f in (ours, theirs)
        ]
        assert same[0] == same[1], "make api.json anew: see probes/api/generate.py"
        assert all(
            mine.enum == other.enum
            for mine, other in zip(ours.params, theirs.params, strict=True)
            if other.enum
        ), name


def test_generator_refuses_what_it_cannot_read(tmp_path):
    with pytest.raises(ValueError, match="no API description"):
        generate.generate([tmp_path], ACCESS)
    (tmp_path / "libvirt-api.xml").write_text("<api>")
    with pytest.raises(ValueError, match=r"libvirt-api\.xml: no element found"):
        generate.generate([tmp_path], ACCESS)


# how what is behind pointers is passed


def test_every_pointer_has_a_direction_and_a_length_that_means_something(table):
    for function in table.functions:
        names = {param.name: param for param in function.params}
        for param in function.params:
            where = (function.name, param.name, param.length)
            if param.kind != "pointer":
                assert (param.direction, param.length) == ("in", ""), where
                continue
            assert param.direction in (passing.IN, passing.OUT, passing.IN_OUT), (
                f"nobody classified {where}"
            )
            if param.length.startswith("*"):
                assert names[param.length[1:]].kind == "pointer", where
                continue
            for part in param.length.split("*"):
                if part in names:
                    assert names[part].kind in api.SCALAR_KINDS, where
                elif part in ("return", "return bits"):
                    assert function.result.kind == "i32", where
                else:
                    assert part in ("", "null", "16"), where


def test_const_is_for_reading(table):
    for function in table.functions:
        for param in function.params:
            if param.ctype.startswith("const ") and (function.name, param.name) != (
                "virTypedParamsGetString",
                "value",
            ):
                assert param.direction == "in", (function.name, param)


def test_every_rule_of_passing_is_used(table):
    unused = {*passing.RULES, *passing.EXCEPTIONS}
    for function in table.functions:
        arguments = [(param.name, param.ctype) for param in function.params]
        for param in function.params:
            if param.kind == "pointer":
                unused.discard(passing.find_rule(function.name, param.name, param.ctype, arguments))
    assert not unused


@pytest.mark.parametrize(
    ("name", "ctype", "other", "expected"),
    [
        ("params", "virTypedParameterPtr", ("nparams", "int *"), ("out", "*nparams")),
        ("params", "virTypedParameterPtr", ("nparams", "int"), ("in", "nparams")),
        ("params", "virTypedParameterPtr", ("count", "int"), None),
        ("things", "virThingPtr **", ("flags", "unsigned int"), ("out", "return")),
        ("thing", "virThing *", ("flags", "unsigned int"), None),
        ("names", "char **", ("maxnames", "int"), ("out", "return")),
        ("names", "const char **", ("n", "int"), None),
    ],
)
def test_general_rules_hold_for_functions_yet_to_come(name, ctype, other, expected):
    assert passing.passing("virDomainNew", name, ctype, [(name, ctype), other]) == expected
