# SPDX-License-Identifier: LGPL-2.1-or-later
"""What newer, broken or missing installed XML makes of the API table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from probes.api import generate, load, merge
from probes.api import table as api
from tests import needs

ACCESS = load.API_JSON.with_name("api_access.tsv")
INSTALLED = load.XML_DIRS[0]

NEWER = """<api name='libvirt'><symbols>
<macro name='VIR_FROB_DEEP' raw='(1 + 3)' version='42.0.0'/>
<enum name='VIR_FROB_NOW' value='1' value_bitshift='0' type='virFrobFlags' version='42.0.0'/>
<enum name='VIR_FROB_LATER' value='VIR_FROB_DEEP' type='virFrobFlags' version='42.0.0'/>
<enum name='VIR_DOMAIN_FROBBED' value='8' type='virDomainState' version='42.0.0'/>
<enum name='VIR_DOMAIN_LAST' value='9' type='virDomainState' version='42.0.0'/>
<typedef name='virFrobFlags' type='enum' version='42.0.0'/>
<struct name='virFrobInfo' type='struct _virFrobInfo'>
 <field name='state' type='int' info='one of virDomainState'/>
  <field name='name' type='char name[VIR_FROB_DEEP]' info=''/>
</struct>
<function name='virDomainFrob' version='42.0.0'>
 <return type='int' info='0 on success, -1 on error'/>
 <arg name='domain' type='virDomainPtr' info='a domain object'/>
 <arg name='xml' type='const char *' info='what to frob'/>
 <arg name='flags' type='unsigned int' info='bitwise-OR of virFrobFlags'/>
</function>
<function name='virDomainGetFrob' version='42.0.0'>
 <acls><check object='domain' perm='read'/></acls>
 <return type='unsigned long long' info='the frob, or 0 in case of error'/>
  <arg name='domain' type='virDomainPtr' info=''/>
</function>
<function name='virDomainGetSecretFrob' version='42.0.0'>
 <acls><check object='domain' perm='read'/><check object='domain' perm='read-secure'/></acls>
 <return type='char *' info='the frob or NULL'/><arg name='domain' type='virDomainPtr' info=''/>
</function>
<function name='virFrobFree' version='42.0.0'><return type='void'/>
 <arg name='frob' type='virFrobPtr' info=''/></function>
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
    return load.load_api([])


@pytest.fixture
def installed() -> Path:
    if not (INSTALLED / "libvirt-api.xml").exists():
        needs.lack("unit", "libvirt-dev is not installed")
    return INSTALLED


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    (tmp_path / "libvirt-api.xml").write_text(NEWER)
    return tmp_path


def test_newer_xml_adds_behind_the_bundled_functions(table, newer):
    merged = load.load_api([newer])
    assert [f.name for f in merged.functions[: len(table.functions)]] == [
        f.name for f in table.functions
    ]
    added = merged.functions[len(table.functions) :]
    assert [(f.number, f.name, f.access, f.failure) for f in added] == [
        (535, "virDomainFrob", "write", "negative"),
        (536, "virDomainGetFrob", "read", "zero"),
        (537, "virDomainGetSecretFrob", "write", "null"),
        (538, "virFrobFree", "plumbing", "none"),
    ]
    assert [(param.kind, param.object, param.enum, param.flags) for param in added[0].params] == [
        ("handle", "domain", None, False),
        ("xml", None, None, False),
        ("u32", None, "virFrobFlags", True),
    ]
    assert merged.enums["virFrobFlags"] == api.Enum(
        "virFrobFlags", {"VIR_FROB_NOW": 1, "VIR_FROB_LATER": 4}, True
    )
    assert merged.enums["virDomainState"].constants == {
        **table.enums["virDomainState"].constants,
        "VIR_DOMAIN_FROBBED": 8,
    }
    assert merged.structs["virFrobInfo"] == (("state", "int"), ("name", "char[4]"))
    assert merged.field_enums["virFrobInfo.state"] == "virDomainState"
    # flags that got a meaning; but what has one keeps it, and a signature does not change
    assert merged.by_name["virDomainBackupGetXMLDesc"].params[-1].enum == "virFrobFlags"
    assert merged.by_name["virDomainGetHostname"].params[-1].enum == "virDomainGetHostnameFlags"
    assert merged.by_name["virNodeGetInfo"] == table.by_name["virNodeGetInfo"]
    assert not merged.warnings


def test_hash_tells_tables_apart(table, newer):
    merged = load.load_api([newer])
    assert load.load_api([]).hash == table.hash
    assert load.load_api([newer]).hash == merged.hash != table.hash
    assert load.load_api([newer, newer]).hash == merged.hash
    assert re.fullmatch(r"[0-9a-f]{64}", merged.hash)


@pytest.mark.parametrize(
    "text",
    [
        "<api><symbols>",
        "",
        "\0",
        NEWER.replace("</symbols>", ""),
        "<?xml version='1.0' encoding='nosuch'?><api/>",
    ],
)
def test_broken_xml_leaves_the_bundled_table_and_a_warning(table, tmp_path, text):
    (tmp_path / "libvirt-api.xml").write_text(text)
    loaded = load.load_api([tmp_path])
    assert loaded.functions == table.functions
    assert loaded.hash == table.hash
    assert len(loaded.warnings) == 1
    assert str(tmp_path / "libvirt-api.xml") in loaded.warnings[0]


@pytest.mark.parametrize("what", ["version='[^']*'", "value='[^']*'", "FROB_DEEP\\]"])
def test_absurd_numbers_end_nothing(table, tmp_path, what):
    absurd = re.sub(what, lambda found: re.sub("[0-9]+|FROB_DEEP", "9" * 5000, found[0]), NEWER)
    assert absurd != NEWER
    (tmp_path / "libvirt-api.xml").write_text(absurd)
    names = [function.name for function in load.load_api([tmp_path]).functions]
    assert names[: len(table.functions)] == [function.name for function in table.functions]


def test_missing_xml_is_fine(table, tmp_path):
    assert load.load_api([tmp_path, tmp_path / "nosuch"]) == table


def test_xml_without_news_is_not_parsed(table, installed, monkeypatch):
    if (
        not set(
            re.findall(
                r"<function "
                r"name='(\w+)'",
                (installed / "libvirt-api.xml").read_text(),
            )
        )
        <= table.by_name.keys()
    ):
        pytest.skip("the installed libvirt is newer than the bundled table")
    monkeypatch.setattr(merge, "merge_xml", None)
    assert load.load_api([installed]) == table


def test_order_of_releases_does_not_matter(installed, newer):
    once = generate.generate([newer, installed], ACCESS)
    assert once == generate.generate([installed, newer], ACCESS)
    assert '"virDomainFrob"' in once
