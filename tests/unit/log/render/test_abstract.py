# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the screen shows of XML documents, and how lists, documents and code look in each sink."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.render import jsonl, printers, xml
from log.render.abstract import abstract
from log.values import Code, CutList, CutText, Redacted, Value, Values, Xml
from tests.unit.log_samples import HOSTILE_PARTS


def shown(document: str) -> str:
    return abstract(Xml(document, document))


DOMAIN = """\
<?xml version='1.0'?><!-- <disk/> -->
<domain type='kvm'>
  <name>web1</name><uuid>1</uuid><memory unit='KiB'>65536</memory><vcpu placement='static'>1</vcpu>
  <description><![CDATA[<disk/>]]></description>
  <devices><disk type='file'><source file='/a'/></disk><disk/><interface type='user'/></devices>
</domain>
"""


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (DOMAIN, "<domain name=web1 memory=64MiB vcpu=1 disks=2 nics=1>"),
        ("<domain><name>a &amp; b</name></domain>", '<domain name="a & b">'),
        ("<domain><memory>1000</memory></domain>", "<domain memory=1000KiB>"),
        ("<domain><memory unit='GB'>2</memory></domain>", "<domain memory=1953125KiB>"),
        ("<volume><name>v</name><capacity>5</capacity></volume>", "<volume name=v capacity=5B>"),
        ("<volume><capacity unit='G'>3</capacity></volume>", "<volume capacity=3GiB>"),
        (
            "<disk type='file' device='disk'><source file='/x'/><target dev=\"vdb\"/></disk>",
            "<disk type=file device=disk source=/x target=vdb>",
        ),
        (
            "<host mac='52:54:00:00:00:01' name='a' ip='10.0.0.1'/>",
            "<host name=a ip=10.0.0.1 mac=52:54:00:00:00:01>",
        ),
        ("<metadata><a/></metadata>", "<metadata>"),
        ("<domain><name>\x1b[31m</name></domain>", '<domain name="\\x1b[31m">'),
        ("<domain><name>x\n= 0</name></domain>", '<domain name="x\\n= 0">'),
        ("no document", '"no document"'),
        ("", '""'),
        ("<\u3164>", '"<\\u3164>"'),
    ],
)
def test_a_document_in_one_line(document, expected) -> None:
    assert shown(document) == expected


def test_a_cut_document_says_so() -> None:
    cut = "<domain><name>web1</name><memory>10"
    assert abstract(Xml(CutText(cut, 99), cut)) == "<domain name=web1>..."


@given(st.text(alphabet="<>/!-[]CDAT='\"a &;\n\x1b\u202e", max_size=200))
def test_whatever_the_document_is_the_line_is_one(document) -> None:
    line = shown(document)
    assert line.isprintable()


@pytest.mark.parametrize("part", HOSTILE_PARTS)
def test_hostile_documents_come_to_an_end(part) -> None:
    # if it took the square of that, pytest would end it
    line = shown(part * ((1 << 20) // len(part)))
    assert len(line) < 200


# the sinks


@pytest.mark.parametrize(
    ("value", "in_text", "in_json", "in_xml"),
    [
        (
            CutList([1, 2], 80),
            "[1, 2, ... 80 in all]",
            {"items": [1, 2], "count": 80, "cut": True},
            '<v cut="true" count="80"><item>1</item><item>2</item></v>',
        ),
        (
            CutList({"a": 1}, None),
            "{a=1, ...}",
            {"items": {"a": 1}, "count": None, "cut": True},
            '<v cut="true"><a>1</a></v>',
        ),
        (
            CutList([], 3),
            "[... 3 in all]",
            {"items": [], "count": 3, "cut": True},
            '<v cut="true" count="3"/>',
        ),
        (Xml("<a/>", "<a/>"), "<a>", "<a/>", "<v>&lt;a/&gt;</v>"),
        (
            Code(18, "on_close+0x2"),
            "on_close+0x2",
            {"pointer": "0x12", "name": "on_close+0x2"},
            "<v>on_close+0x2</v>",
        ),
        (Code(18, "a b"), '"a b"', {"pointer": "0x12", "name": "a b"}, "<v>a b</v>"),
        (
            [Redacted(3)],
            "[<redacted, 3 bytes>]",
            [{"redacted": True, "length": 3}],
            '<v><item redacted="true" length="3"/></v>',
        ),
    ],
)
def test_a_value_in_every_sink(value: Value, in_text, in_json, in_xml) -> None:
    assert "".join(printers.value(value)[1::2]) == in_text
    assert json.loads(jsonl.value(value)) == in_json
    assert xml._arguments(Values({"v": value})) == in_xml
