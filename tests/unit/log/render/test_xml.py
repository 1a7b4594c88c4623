# SPDX-License-Identifier: LGPL-2.1-or-later
"""XML lines: the old shape to the letter, and well-formed for any input."""

import ctypes
import ctypes.util
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.events import VerdictInfo
from log.moments import rfc3339
from log.render import xml
from log.values import (
    CutText,
    EnumValue,
    Flags,
    Handle,
    Pointer,
    Redacted,
    Unreadable,
    Value,
    Values,
)
from tests.unit.log.render.siem.samples import FROZEN
from tests.unit.log_samples import (
    ATTACHED,
    CONNECT,
    DESTROY,
    END,
    HOSTILE,
    LOST,
    UNATTACHED,
    WEB1,
    any_text,
    any_value,
    any_values,
    call_on,
)

SUSPEND = DESTROY._replace(function="virDomainSuspend", args=Values({"domain": WEB1}))


def test_call_line_is_the_one_that_auditors_parse():
    assert xml.line(SUSPEND) == (
        "<methodResponse><event>virDomainSuspend</event><state>0</state><param><name>web1</name></param></methodResponse>\n"
    )


@pytest.mark.parametrize(
    "ret, returns, state",
    [
        (-1, "integer", "-1"),
        (EnumValue(3, None), "integer", "3"),
        (None, "integer", ""),
        (WEB1, "pointer", "1"),
        ("web1", "pointer", "1"),
        (None, "pointer", "0"),
        (None, "void", ""),
    ],
)
def test_state_is_the_result(ret, returns, state):
    assert f"<state>{state}</state>" in xml.line(SUSPEND._replace(ret=ret, returns=returns))


def test_refused_call_names_the_permission():
    start: dict[str, Value] = {"permission": "domain.start", "answer": "denied"}
    other: dict[str, Value] = {"permission": "a.b"}
    allowed: dict[str, Value] = {"permission": "c", "answer": "allowed"}
    line = xml.line(DESTROY._replace(access=(start, other, {}, allowed)))
    assert line.endswith("<refused>domain.start</refused><refused>a.b</refused></methodResponse>\n")


def test_denied_call_names_the_rule():
    line = xml.line(SUSPEND._replace(ret=-1, verdict=VerdictInfo("deny", "keep <web>")))
    assert (
        line.endswith("<denied>keep &lt;web&gt;</denied></methodResponse>\n")
        and "<state>-1</state>" in line
    )


def test_what_is_owed_has_a_line():
    line = xml.line(FROZEN._replace(refers=("domain a&b",)))
    owed = ElementTree.fromstring(line)
    assert [(one.tag, one.text) for one in owed] == [
        ("what", "frozen"),
        ("name", "web1"),
        ("by", "4711 backup alice"),
        ("since", rfc3339(FROZEN.since)),
        ("gone", "true"),
        ("refers", "domain a&b"),
    ]
    assert line.count("\n") == 1 and line.endswith("</owed>\n")


def test_unfinished_call_says_why():
    line = xml.line(SUSPEND._replace(ret=None, unfinished="process exited"))
    assert "<state></state>" in line and "<unfinished>process exited</unfinished>" in line


def test_lost_arguments_are_told_from_none():
    assert '<param lost="true"/>' in xml.line(SUSPEND._replace(args=None))
    assert "<param></param>" in xml.line(SUSPEND._replace(args=Values({})))


def test_only_calls_and_losses_have_a_line():
    assert xml.line(ATTACHED) == xml.line(END) == ""
    expected = (
        "<unattached><path>/a b/libvirt.so.0</path><reason>it is cut short</reason></unattached>\n"
    )
    assert xml.line(UNATTACHED) == expected
    assert xml.line(LOST) == (
        "<lost><count>12</count><ring>read</ring><reason>buffer "
        "full</reason><details>0</details></lost>\n"
    )


def test_every_argument_is_an_element():
    args: dict[str, Value] = {
        "conn": CONNECT,
        "dom": WEB1,
        "xml": CutText("<a/>", 99),
        "flags": Flags(3, ("VIR_A", "VIR_B")),
        "type": EnumValue(1, "VIR_X"),
        "cb": Pointer(0x40),
        "bad": Unreadable(0x50),
        "password": Redacted(12),
        "nothing": None,
        "params": {"vcpu.0": 1, "odd key": True},
        "list": [1, "b"],
    }
    line = xml.line(SUSPEND._replace(args=Values(args), out=Values({"nparams": 2})))
    assert line[line.index("<param>") :] == (
        '<param><name>qemu:///system</name><dom>web1</dom><xml cut="true" '
        'length="99">&lt;a/&gt;</xml>'
        '<flags names="VIR_A|VIR_B">3</flags><type constant="VIR_X">1</type><cb>0x40</cb><bad '
        'unreadable="0x50"/>'
        '<password redacted="true" length="12"/><nothing null="true"/>'
        '<params><vcpu.0>1</vcpu.0><field name="odd '
        'key">true</field></params><list><item>1</item><item>b</item></list></param>'
        "<out><nparams>2</nparams></out></methodResponse>\n"
    )


def test_hostile_name_is_one_visible_line():
    line = xml.line(call_on(HOSTILE))
    assert line.count("\n") == 1 and line[:-1].isprintable()
    assert ElementTree.fromstring(line).findtext("param/name") == _held(HOSTILE)


@given(any_text)
def test_any_text_parses_back(text):
    assert (ElementTree.fromstring(f"<a>{xml.content(text)}</a>").text or "") == _held(text)
    assert ElementTree.fromstring(f'<a b="{xml.content(text)}"/>').get("b") == _held(text)


@given(st.none() | any_values, any_values, any_value, any_text)
def test_any_call_is_a_document_on_one_line(args, out, ret, word):
    line = xml.line(
        SUSPEND._replace(
            args=args, out=out, ret=ret, function=word, verdict=VerdictInfo("deny", word)
        )
    )
    assert line.endswith("\n") and line[:-1].isprintable()
    assert ElementTree.fromstring(line).findtext("denied") == _held(word)


@given(any_text)
def test_libxml2_accepts_any_text(text):
    assert _libxml2_accepts(
        xml.line(call_on(text)._replace(out=Values({text: Handle("x", {"name": text})})))
    )


def test_libxml2_accepts_every_odd_character():
    codes = (
        *range(0x300),
        *range(0x2000, 0x2070),
        0xD800,
        0xDFFF,
        *range(0xFFF0, 0x10000),
        0x1FFFE,
        0xE0001,
        0x10FFFF,
    )
    assert _libxml2_accepts(xml.line(call_on("".join(map(chr, codes)))))
    assert not _libxml2_accepts("<a>\x01</a>")  # it does look


def _libxml2_accepts(line: str) -> bool:
    libxml2 = ctypes.CDLL(ctypes.util.find_library("xml2"))  # libvirt itself needs it
    libxml2.xmlReadMemory.restype = ctypes.c_void_p
    data = line.encode()
    quiet = 32 | 64  # XML_PARSE_NOERROR | XML_PARSE_NOWARNING
    document = libxml2.xmlReadMemory(data, len(data), None, b"UTF-8", quiet)
    if document:
        libxml2.xmlFreeDoc(ctypes.c_void_p(document))
    return document is not None


def _held(text: str) -> str:
    """What XML can hold of a text, by the rule in DESIGN: other characters as bytes in
    hexadecimal, backslashes then doubled.
    """
    impossible = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
    if not impossible.search(text):
        return text

    def hexadecimal(match):
        handler = "surrogateescape" if "\udc80" <= match[0] <= "\udcff" else "surrogatepass"
        return "".join(f"\\x{byte:02x}" for byte in match[0].encode("utf-8", handler))

    return impossible.sub(hexadecimal, text.replace("\\", "\\\\"))
