# SPDX-License-Identifier: LGPL-2.1-or-later
"""The API table: what is bundled, how it is generated, and what newer installed XML adds to it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from probes import api, api_exceptions, api_merge, generate_api
from tests import needs

ACCESS = api.API_JSON.with_name("api_access.tsv")
INSTALLED = api.XML_DIRS[0]

NEWER = """<api name='libvirt'><symbols>
<macro name='VIR_FROB_DEEP' raw='(1 + 3)' version='42.0.0'/>
<enum name='VIR_FROB_NOW' value='1' value_bitshift='0' type='virFrobFlags' version='42.0.0'/>
<enum name='VIR_FROB_LATER' value='VIR_FROB_DEEP' type='virFrobFlags' version='42.0.0'/>
<enum name='VIR_DOMAIN_FROBBED' value='8' type='virDomainState' version='42.0.0'/>
<enum name='VIR_DOMAIN_LAST' value='9' type='virDomainState' version='42.0.0'/>
<typedef name='virFrobFlags' type='enum' version='42.0.0'/>
<struct name='virFrobInfo' type='struct _virFrobInfo'>
 <field name='state' type='int' info='one of virDomainState'/><field name='name' type='char name[VIR_FROB_DEEP]' info=''/>
</struct>
<function name='virDomainFrob' version='42.0.0'>
 <return type='int' info='0 on success, -1 on error'/>
 <arg name='domain' type='virDomainPtr' info='a domain object'/>
 <arg name='xml' type='const char *' info='what to frob'/>
 <arg name='flags' type='unsigned int' info='bitwise-OR of virFrobFlags'/>
</function>
<function name='virDomainGetFrob' version='42.0.0'>
 <acls><check object='domain' perm='read'/></acls>
 <return type='unsigned long long' info='the frob, or 0 in case of error'/><arg name='domain' type='virDomainPtr' info=''/>
</function>
<function name='virDomainGetSecretFrob' version='42.0.0'>
 <acls><check object='domain' perm='read'/><check object='domain' perm='read-secure'/></acls>
 <return type='char *' info='the frob or NULL'/><arg name='domain' type='virDomainPtr' info=''/>
</function>
<function name='virFrobFree' version='42.0.0'><return type='void'/><arg name='frob' type='virFrobPtr' info=''/></function>
<function name='virDomainGetHostname' version='0.10.0'>
 <return type='char *' info=''/><arg name='domain' type='virDomainPtr' info=''/>
 <arg name='flags' type='unsigned int' info='bitwise-OR of virFrobFlags'/>
</function>
<function name='virNodeGetInfo' version='0.1.0'><return type='void'/></function>
<function name='virDomainBackupGetXMLDesc' version='6.0.0'>
 <return type='char *' info=''/><arg name='domain' type='virDomainPtr' info=''/>
 <arg name='flags' type='unsigned int' info='bitwise-OR of virFrobFlags'/>
</function>
</symbols></api>"""


@pytest.fixture(scope="module")
def table() -> api.ApiTable:
    return api.load_api([])


@pytest.fixture
def installed() -> Path:
    if not (INSTALLED / "libvirt-api.xml").exists():
        needs.lack("unit", "libvirt-dev is not installed")
    return INSTALLED


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    (tmp_path / "libvirt-api.xml").write_text(NEWER)
    return tmp_path


def _release(function: api.Function) -> tuple[int, ...]:
    return tuple(int(part) for part in function.since.split("."))


def test_table_has_what_was_counted_in_libvirt_9(table):
    functions = [f for f in table.functions if f.library == "libvirt.so.0" and _release(f) <= (9, 0, 0)]
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
    assert [f.name for f in functions if "double" in (param.kind for param in f.params)] == ["virTypedParamsAddDouble"]
    flags = [param for param in params if param.name == "flags"]
    assert len(flags) == 238
    assert all(param.flags for param in flags)
    # 144 named in the text, one by hand, and two that were unused until a later release
    assert sum(param.enum is not None for param in flags) == 147


def test_table_has_what_libvirt_11_3_adds(table):
    assert {f.name for f in table.functions if _release(f) > (9, 0, 0)} == {
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
    assert by_library == [524, 6, 4]
    assert table.enums["virErrorNumber"].constants["VIR_ERR_AGENT_COMMAND_FAILED"] == 113


def test_every_function_is_complete_and_consistent(table):
    assert not table.warnings
    for number, function in enumerate(table.functions):
        assert function.number == number
        assert function.library in api.LIBRARIES
        assert function.access in ("write", "conditional", "read", "plumbing")
        assert function.failure in ("negative", "null", "zero", "minus_one", "minus_one_if_error", "null_if_error", "none")
        assert (function.write_when is not None) == (function.access == "conditional"), function.name
        for what in (*function.params, function.result):
            assert what.kind in api.KINDS - {"raw"}, function
            assert (what.kind == "handle") == (what.object is not None), function
            assert what.enum is None or what.enum in table.enums, function
        assert all(param.kind in api.SCALAR_KINDS for param in function.params if param.flags), function
        assert "void" not in [param.kind for param in function.params]
    assert len(table.by_name) == len(table.functions)


def test_constants_ascend_and_sentinels_are_left_out(table):
    for enum in table.enums.values():
        assert list(enum.constants.values()) == sorted(enum.constants.values()), enum.name
    assert "VIR_DOMAIN_LAST" not in table.enums["virDomainState"].constants
    assert table.enums["virNetworkUpdateCommand"].constants["VIR_NETWORK_UPDATE_COMMAND_ADD_LAST"] == 3
    assert table.enums["virDomainCreateFlags"].is_flags
    assert not table.enums["virDomainState"].is_flags
    assert table.enums["virConnectGetAllDomainStatsFlags"].constants["VIR_CONNECT_GET_ALL_DOMAINS_STATS_ENFORCE_STATS"] == 1 << 31


def test_flags_of_two_enums_and_of_constants_with_one_value_have_their_own(table):
    both = table.by_name["virDomainGetMemoryParameters"].params[-1]
    assert set(table.enums[both.enum].constants) >= {"VIR_DOMAIN_AFFECT_LIVE", "VIR_TYPED_PARAM_STRING_OKAY"}
    for function, shown in (("virDomainSnapshotNum", "ROOTS"), ("virDomainSnapshotNumChildren", "DESCENDANTS")):
        constants = table.enums[table.by_name[function].params[-1].enum].constants
        assert [name for name, value in constants.items() if value == 1] == [f"VIR_DOMAIN_SNAPSHOT_LIST_{shown}"]


def test_struct_is_found_behind_its_pointers(table):
    assert table.struct_behind("virDomainInfoPtr") == "virDomainInfo"
    assert table.struct_behind("virDomainFSInfoPtr **") == "virDomainFSInfo"
    assert table.struct_behind("virDomainBlockStatsPtr") == "virDomainBlockStatsStruct"
    assert table.struct_behind("virDomainPtr") is None
    assert table.struct_behind("int *") is None
    assert table.structs["virNodeCPUStats"] == (("field", "char[80]"), ("value", "unsigned long long"))
    assert table.field_enums["virDomainInfo.state"] == "virDomainState"
    assert all(enum in table.enums for enum in table.field_enums.values())


def test_failure_is_what_the_return_texts_say(table, installed):
    # no such number in their text: they do return it (its meaning is a constant, or goes without saying)
    silent = {"virConnectCompareCPU", "virConnectCompareHypervisorCPU", "virConnectNumOfSecrets", "virConnectFindStoragePoolSources"}
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
            text = " ".join(element.find("return").get("info", "").split())
            assert function.name in silent or re.search(said[function.failure], text), (function.name, function.failure, text)
            seen += 1
    assert seen >= 526


def test_reading_functions_need_reading_permissions_only(table):
    for line in ACCESS.read_text().splitlines():
        name, *_, permissions = line.split("\t") if "\t" in line and not line.startswith("#") else ("", "")
        if name in table.by_name and table.by_name[name].access == "read" and api_exceptions.ACCESS.get(name) != "read":
            assert all(re.fullmatch(r"[\w-]+:(read|getattr|search-[\w-]+)", one) for one in permissions.split(",") if one), line


def test_secrets_and_plumbing(table):
    assert table.by_name["virSecretGetValue"].result.secret
    assert [param.name for param in table.by_name["virDomainSetUserPassword"].params if param.secret] == ["password"]
    assert [param.name for param in table.by_name["virSecretSetValue"].params if param.secret] == ["value"]
    for name in ("virConnectOpen", "virConnectClose", "virDomainGetName", "virStreamNew"):
        assert table.by_name[name].access == "read"
    for name in ("virDomainFree", "virGetLastError", "virEventRunDefaultImpl", "virTypedParamsAddInt", "virInitialize", "virConnectRef"):
        assert table.by_name[name].access == "plumbing"
    assert not any(f.access == "plumbing" and re.search("Open|Lookup|Create|Define", f.name) for f in table.functions)


def test_exceptions_name_what_exists(table):
    arguments = {(f.name, param.name) for f in table.functions for param in f.params} | {(f.name, "") for f in table.functions}
    constants = {name for enum in table.enums.values() for name in enum.constants}
    assert {*api_exceptions.ACCESS, *api_exceptions.FAILURE, *api_exceptions.WRITE_WHEN} <= table.by_name.keys()
    assert {*api_exceptions.ENUM, *api_exceptions.KIND} <= arguments
    assert {name for enum, _ in api_exceptions.ENUM.values() for name in [enum]} <= table.enums.keys()
    assert all(place.split(".")[1] in dict(table.structs[place.split(".")[0]]) for place in api_exceptions.FIELD_ENUM)
    assert all(any(api_exceptions.fnmatch.fnmatchcase(name, glob) for name in table.by_name) for glob in api_exceptions.PLUMBING)
    assert all(any(api_exceptions.fnmatch.fnmatchcase(name, glob) for name in table.by_name) for glob in api_exceptions.CALLS_BACK)
    for glob, argument in api_exceptions.SECRET:
        assert any(api_exceptions.fnmatch.fnmatchcase(name, glob) and argument == one for name, one in arguments), (glob, argument)
    for function, (argument, _, names) in api_exceptions.WRITE_WHEN.items():
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


def test_newer_xml_adds_behind_the_bundled_functions(table, newer):
    merged = api.load_api([newer])
    assert [f.name for f in merged.functions[: len(table.functions)]] == [f.name for f in table.functions]
    added = merged.functions[len(table.functions) :]
    assert [(f.number, f.name, f.access, f.failure) for f in added] == [
        (534, "virDomainFrob", "write", "negative"),
        (535, "virDomainGetFrob", "read", "zero"),
        (536, "virDomainGetSecretFrob", "write", "null"),
        (537, "virFrobFree", "plumbing", "none"),
    ]
    assert [(param.kind, param.object, param.enum, param.flags) for param in added[0].params] == [
        ("handle", "domain", None, False),
        ("xml", None, None, False),
        ("u32", None, "virFrobFlags", True),
    ]
    assert merged.enums["virFrobFlags"] == api.Enum("virFrobFlags", {"VIR_FROB_NOW": 1, "VIR_FROB_LATER": 4}, True)
    assert merged.enums["virDomainState"].constants == {**table.enums["virDomainState"].constants, "VIR_DOMAIN_FROBBED": 8}
    assert merged.structs["virFrobInfo"] == (("state", "int"), ("name", "char[4]"))
    assert merged.field_enums["virFrobInfo.state"] == "virDomainState"
    # flags that got a meaning; but what has one keeps it, and a signature does not change
    assert merged.by_name["virDomainBackupGetXMLDesc"].params[-1].enum == "virFrobFlags"
    assert merged.by_name["virDomainGetHostname"].params[-1].enum == "virDomainGetHostnameFlags"
    assert merged.by_name["virNodeGetInfo"] == table.by_name["virNodeGetInfo"]
    assert not merged.warnings


def test_hash_tells_tables_apart(table, newer):
    merged = api.load_api([newer])
    assert api.load_api([]).hash == table.hash
    assert api.load_api([newer]).hash == merged.hash != table.hash
    assert api.load_api([newer, newer]).hash == merged.hash
    assert re.fullmatch(r"[0-9a-f]{64}", merged.hash)


@pytest.mark.parametrize("text", ["<api><symbols>", "", "\0", NEWER.replace("</symbols>", ""), "<?xml version='1.0' encoding='nosuch'?><api/>"])
def test_broken_xml_leaves_the_bundled_table_and_a_warning(table, tmp_path, text):
    (tmp_path / "libvirt-api.xml").write_text(text)
    loaded = api.load_api([tmp_path])
    assert loaded.functions == table.functions
    assert loaded.hash == table.hash
    assert len(loaded.warnings) == 1
    assert str(tmp_path / "libvirt-api.xml") in loaded.warnings[0]


def test_missing_xml_is_fine(table, tmp_path):
    assert api.load_api([tmp_path, tmp_path / "nosuch"]) == table


def test_xml_without_news_is_not_parsed(table, installed, monkeypatch):
    if not set(re.findall(r"<function name='(\w+)'", (installed / "libvirt-api.xml").read_text())) <= table.by_name.keys():
        pytest.skip("the installed libvirt is newer than the bundled table")
    monkeypatch.setattr(api_merge, "merge_xml", None)
    assert api.load_api([installed]) == table


def test_unknown_functions_are_appended_as_writes(table):
    more = table.with_unknown({"libvirt.so.0": ["virDomainGetName", "virZapRef", "virZap"], "libvirt-lxc.so.0": ["virZapLxc"]})
    assert more.functions[: len(table.functions)] == table.functions
    assert [(f.number, f.name, f.library, f.access) for f in more.functions[len(table.functions) :]] == [
        (534, "virZapLxc", "libvirt-lxc.so.0", "write"),
        (535, "virZap", "libvirt.so.0", "write"),
        (536, "virZapRef", "libvirt.so.0", "plumbing"),
    ]
    unknown = more.by_name["virZap"]
    assert (unknown.params, unknown.result.kind, unknown.is_write) == ((), "raw", True)
    assert more.hash != table.hash
    assert more.with_unknown({"libvirt.so.0": ["virZap"]}) is more
    assert table.with_unknown({}) is table


def test_generated_table_is_the_same_each_time_and_in_any_order(installed, newer):
    once = generate_api.generate([installed], ACCESS)
    assert generate_api.generate([installed], ACCESS) == once
    assert generate_api.generate([newer, installed], ACCESS) == generate_api.generate([installed, newer], ACCESS) != once


def test_bundled_table_is_made_with_the_present_exceptions(table, installed, tmp_path, monkeypatch):
    (tmp_path / "api.json").write_text(generate_api.generate([installed], ACCESS))
    monkeypatch.setattr(api, "API_JSON", tmp_path / "api.json")
    fresh = api.load_api([])
    for name in fresh.by_name.keys() & table.by_name.keys():
        ours, theirs = table.by_name[name], fresh.by_name[name]
        same = [
            (f.library, f.result, f.access, f.failure, f.calls_back, f.write_when, [param._replace(enum=None) for param in f.params])
            for f in (ours, theirs)
        ]
        assert same[0] == same[1], "make api.json anew: see probes/generate_api.py"
        assert all(mine.enum == other.enum for mine, other in zip(ours.params, theirs.params, strict=True) if other.enum), name


def test_generator_refuses_what_it_cannot_read(tmp_path):
    with pytest.raises(ValueError, match="no API description"):
        generate_api.generate([tmp_path], ACCESS)
    (tmp_path / "libvirt-api.xml").write_text("<api>")
    with pytest.raises(ValueError, match=r"libvirt-api\.xml: no element found"):
        generate_api.generate([tmp_path], ACCESS)
