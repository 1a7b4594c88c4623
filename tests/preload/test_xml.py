# SPDX-License-Identifier: LGPL-2.1-or-later
"""The reader of names in XML, against libxml2: where it is sure, it has found what libvirt will
find.
"""

from __future__ import annotations

import ctypes
import subprocess
import uuid

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lxml import etree

from enforcer.judging.documents import identity
from tests.enforced import library
from tests.needs import ROOT

NO, YES, UNKNOWN = range(3)
NAME_CHILD, NAME_ATTRIBUTE, PORTDEV_ATTRIBUTE, USAGE, POOL_NAME = range(5)


class Identity(ctypes.Structure):
    """struct xml_identity"""

    _fields_ = (
        ("has_name", ctypes.c_int),
        ("has_uuid", ctypes.c_int),
        ("name", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("uuid", ctypes.c_uint8 * 16),
    )


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> ctypes.CDLL:
    library()  # makes table.h
    shared = tmp_path_factory.mktemp("xml") / "xml_name.so"
    flags = [
        "-std=gnu11",
        "-O1",
        "-g",
        "-fPIC",
        "-shared",
        f"-I{ROOT}/enforcer/library",
        f"-I{ROOT}/enforcer/build",
    ]
    documents = ROOT / "enforcer/library/documents"
    sources = [documents / name for name in ("xml.c", "xml_name.c", "xml_has.c")]
    subprocess.run(["gcc", *flags, "-o", shared, *sources], check=True)
    return ctypes.CDLL(str(shared))


@pytest.fixture(scope="module")
def has(reader):
    """has(XML, NAME, ATTRIBUTE, VALUE): whether there is such an element."""
    reader.has_element.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    return lambda xml, *sought: reader.has_element(xml, "\1".join(sought).encode())


@pytest.fixture(scope="module")
def read(reader):
    """read(XML, SHAPE=NAME_CHILD): (certainty, name), (certainty, UUID)."""
    function = reader.read_xml_identity
    function.restype, function.argtypes = Identity, (ctypes.c_char_p, ctypes.c_int)

    def call(xml: bytes, shape: int = NAME_CHILD):
        buffer = ctypes.create_string_buffer(xml)
        found = function(ctypes.cast(buffer, ctypes.c_char_p), shape)
        name = ctypes.string_at(found.name, found.length) if found.has_name == YES else None
        known = bytes(found.uuid) if found.has_uuid == YES else None
        said = (found.has_name, name), (found.has_uuid, known)
        assert in_python(xml, shape) == said, xml
        return said

    return call


def in_python(xml: bytes, shape: int):
    """The same of the reader that rehearsals use."""
    kinds = ("domain", "nwfilter", "nwfilterbinding", "secret", "pool")
    found = identity(xml.decode("utf-8", "surrogateescape"), kinds[shape])

    def known(value, plain):
        return (NO, None) if value is False else (UNKNOWN, None) if value is None else (YES, plain)

    name = found.name.encode("utf-8", "surrogateescape") if found.name else b""
    return known(found.name, name), known(found.uuid, found.uuid and found.uuid.bytes)


def by_libxml2(xml: bytes, shape: int = NAME_CHILD):
    """What virXPathString() makes of it: name and UUID, None where there is none; an exception
    where libvirt refuses the document.
    """
    root = etree.fromstring(xml, etree.XMLParser(no_network=True, resolve_entities=False))
    text = root.get("name") if shape == NAME_ATTRIBUTE else root.xpath("string(./name[1])")
    if shape == POOL_NAME and not text:  # as virStoragePoolDefParseXML does
        text = root.xpath("string(./source[1]/name[1])")
    return text, root.xpath("string(./uuid[1])")


CASES = {
    b"<domain><name>web1</name></domain>": (YES, b"web1"),
    b"<domain/>": (NO, None),
    b"<domain type='kvm'><memory>1</memory></domain>": (NO, None),
    (
        b"<?xml version='1.0' encoding='UTF-8'?>\n<!-- kept -->\n<domain "
        b"id='a>b'><x><name>no</name></x><name>web1</name></domain>"
    ): (
        YES,
        b"web1",
    ),
    b"<domain><!-- <name>no</name> --><name>web1</name></domain>": (YES, b"web1"),
    b"<domain><name>web1</name><name>web2</name></domain>": (YES, b"web1"),
    b"<domain><name/></domain>": (YES, b""),
    b"<domain><namespace>no</namespace><name >web1</name ></domain>": (YES, b"web1"),
    b"<domain><name>we&#98;1</name></domain>": (UNKNOWN, None),
    b"<domain><name>we<!-- -->b1</name></domain>": (UNKNOWN, None),
    b"<domain><name><![CDATA[web1]]></name></domain>": (UNKNOWN, None),
    b"<domain><![CDATA[<name>no</name>]]><name>web1</name></domain>": (UNKNOWN, None),
    b"<domain><name>we<b>b</b>1</name></domain>": (UNKNOWN, None),
    b"<domain><name>web1\n</name></domain>": (UNKNOWN, None),
    b"<!DOCTYPE domain [<!ENTITY e 'web1'>]><domain><name>&e;</name></domain>": (UNKNOWN, None),
    b"<?xml version='1.0' encoding='UTF-7'?><domain><name>web1</name></domain>": (UNKNOWN, None),
    b"<?xml version='1.0' encoding='latin1'?><domain><name>web1</name></domain>": (UNKNOWN, None),
    b"<domain xmlns='urn:x'><name>web1</name></domain>": (UNKNOWN, None),
    b"<domain><name xmlns='urn:x'>web1</name></domain>": (UNKNOWN, None),
    b"<domain xmlns:q='urn:x'><name>web1</name><q:commandline/></domain>": (YES, b"web1"),
    (b"<domain xmlns:q = 'urn:x' a='xmlns='><q:name>no</q:name><name>web1</name></domain>"): (
        YES,
        b"web1",
    ),
    b"<q:domain xmlns:q='urn:x'><name>web1</name></q:domain>": (UNKNOWN, None),
    b"<domain xmlns:q='urn:x'  xmlns ='urn:y'><name>web1</name></domain>": (UNKNOWN, None),
    b"<domain><?x <name>no</name>?><name>web1</name></domain>": (UNKNOWN, None),
    b"<domain><name>web1": (UNKNOWN, None),
    b"": (UNKNOWN, None),
    b"\xef\xbb\xbf<domain><name>web1</name></domain>": (UNKNOWN, None),
}


@pytest.mark.parametrize("xml", CASES)
def test_name_of_a_document(read, xml):
    assert read(xml)[0] == CASES[xml]


PIECES = (
    "<domain>", "</domain>", "<name>", "</name>", "<name/>", "web1", "<uuid>", "</uuid>",
    "<source>", "</source>", "<x>", "</x>", "6695eb01-f6a4-8304-79aa-97f2502e1931",
    "<portdev name='a'/>", "<portdev name='b'>", "</portdev>", "<usage/>", "<x:name>",
    "<name xmlns='u'>", "<domain name='a' xmlns:x='u'>", "<x a='>'/>", "<!--", "-->", "<![CDATA[",
    "]]>", "<?xml version='1.0'?>", "&lt;", " ", "\n", "'", "<", ">", "/", "name='", "<name a>",
    "-", "é",
)  # fmt: skip


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12), st.integers(0, 4), st.booleans())
def test_both_readers_see_the_same(read, pieces, shape, is_closed):
    text = "".join(pieces)
    read((f"<domain>{text}</domain>" if is_closed else text).encode(), shape)


def test_long_document_is_not_read(read):
    assert read(b"<domain><x>" + b"y" * (1 << 20) + b"</x><name>web1</name></domain>")[0] == (
        UNKNOWN,
        None,
    )


def test_uuid_and_attribute(read):
    text = b"6695eb01-f6a4-8304-79aa-97f2502e193f"
    assert read(b"<domain><uuid> " + text + (b" </uuid></domain>")) == (
        (NO, None),
        (YES, uuid.UUID(text.decode()).bytes),
    )
    assert read(b"<domain><uuid>66</uuid></domain>")[1] == (UNKNOWN, None)
    assert read(b"<interface type='x' name=\"eth0\"/>", NAME_ATTRIBUTE)[0] == (YES, b"eth0")
    assert read(b"<interface name='a&amp;b'/>", NAME_ATTRIBUTE)[0] == (UNKNOWN, None)
    assert read(b"<interface type='x'/>", NAME_ATTRIBUTE)[0] == (NO, None)
    # libvirt takes the first one, whatever its prefix
    assert read(b"<filter xml:name='evil' name='good'/>", NAME_ATTRIBUTE)[0] == (UNKNOWN, None)
    assert read(b"<filter xmlns:name='u' name='good'/>", NAME_ATTRIBUTE)[0] == (YES, b"good")


def test_pool_without_a_name_has_its_sources(read):
    for xml, name in (
        (b"<pool type='logical'><source><name>vg</name></source></pool>", b"vg"),
        (
            b"<pool><source><device "
            b"path='x'/><name>vg</name><name>no</name></source><source><name>no</name></source></pool>",
            b"vg",
        ),
        (b"<pool><source><host><name>no</name></host></source></pool>", None),
        (b"<pool><source><name>vg</name></source><name>p</name></pool>", b"p"),
        (b"<pool><name/><source><name>vg</name></source></pool>", b"vg"),
        (b"<pool><target><name>no</name></target></pool>", None),
    ):
        assert read(xml, POOL_NAME)[0] == ((YES, name) if name else (NO, None)), xml
        assert (by_libxml2(xml, POOL_NAME)[0] or None) == (name and name.decode())
    assert read(b"<pool><source><name>v<!-- -->g</name></source></pool>", POOL_NAME)[0] == (
        UNKNOWN,
        None,
    )


HOSTDEVS = {
    b"<hostdev/>": YES,
    b"<domain><devices><hostdev mode='x'/></devices></domain>": YES,
    b"<x:hostdev xmlns:x='u' mode='subsystem'></x:hostdev>": YES,
    b"<xml:hostdev/>": YES,
    (
        b"<domain><!-- <hostdev/> "
        b"--><description><![CDATA[<hostdev/>]]>&lt;hostdev/></description><?p "
        b"<hostdev/>?></domain>"
    ): NO,
    b"<domain><hostdevs/><x hostdev='hostdev'/></domain>": NO,
    b"<!DOCTYPE d [<!ENTITY e '&#60;hostdev/>'>]><domain>&e;</domain>": UNKNOWN,
    b"<domain><hostdev": UNKNOWN,
}


@pytest.mark.parametrize("xml", HOSTDEVS)
def test_element_of_a_document(has, xml):
    assert has(xml, "hostdev") == HOSTDEVS[xml]


def test_element_with_an_attribute(has):
    def interface(attributes):
        return has(
            (b"<domain xmlns:x='u'><interface ") + attributes + b"><source/></interface></domain>",
            "interface",
            "type",
            "hostdev",
        )

    assert (
        interface(b"type='hostdev' managed='yes'")
        == interface(b'managed="yes"\n type = "hostdev"')
        == YES
    )
    assert (
        interface(b"type='network'")
        == interface(b"")
        == interface(b"a='type=&quot;hostdev&quot;'")
        == NO
    )
    assert interface(b"type='host&#100;ev'") == interface(b"x:type='hostdev'") == UNKNOWN
    assert (
        has(
            b"<d><interface/><interface type='&#1;'/><interface type='hostdev'/></d>",
            "interface",
            "type",
            "hostdev",
        )
        == YES
    )


@settings(max_examples=1500, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            b"<domain> </domain> <hostdev> </hostdev> <hostdev/> <x:hostdev/> <xml:hostdev> "
            b"</xml:hostdev> <a>hostdev</a> "
            b"<!--<hostdev/>--> "
            b"<![CDATA[<hostdev/>]]> &lt; <?hostdev ?> <hostdev\ttype='b'/> <a\ttype='b'> </a> "
            b"'hostdev' > <a\tx='<hostdev/>'/>".split(b" ")
        ),
        max_size=8,
    ).map(lambda parts: b"<r xmlns:x='u'>" + b"".join(parts) + b"</r>")
)
def test_elements_are_those_that_libxml2_finds(has, xml):
    try:
        root = etree.fromstring(xml, etree.XMLParser(no_network=True, resolve_entities=False))
    except etree.XMLSyntaxError:
        return
    found = root.xpath("boolean(//*[local-name()='hostdev'])")
    assert has(xml, "hostdev") in ((YES, UNKNOWN) if found else (NO, UNKNOWN))
    typed = root.xpath("boolean(//*[local-name()='hostdev' and @*[local-name()='type']='b'])")
    assert has(xml, "hostdev", "type", "b") in ((YES, UNKNOWN) if typed else (NO, UNKNOWN))


_TAGS = (
    b"<domain> </domain> <name> </name> <name/> <uuid> </uuid> <x> </x> <x/> <!-- --> "
    b"<p:name> </p:name> <?p ?> <![CDATA[ ]]>"
).split()
_TAGS += [b"<source>", b"</source>"]
_PARTS = (
    b"&lt; &#97; &e; > < / ' web \xff \xc3\xa9 xmlns='u' xmlns:p='u' name='a' "
    b"6695eb01-f6a4-8304-79aa-97f2502e193f"
).split()
_BEGINNINGS = [
    b"<?xml version='1.0'?>",
    b"<?xml version='1.0' encoding='utf-16'?>",
    b"<!DOCTYPE d [<!ENTITY e 'x'>]>",
    b"<x a='>'>",
]
_pieces = st.sampled_from([*_TAGS, *_PARTS, *_BEGINNINGS, b" ", b"\n", b"\r", b'"'])
_documents = st.lists(_pieces, max_size=14).map(b"".join)
_inside = _documents.map(lambda body: b"<domain>" + body + b"</domain>")
_named = _inside.map(lambda text: text.replace(b"<domain>", b"<domain><name>we</name>", 1))


@settings(max_examples=3000, deadline=None)
@given(
    _documents
    | _inside
    | _inside.map(lambda body: body.replace(b"<domain>", b"<domain><name>we</name>", 1)),
    st.sampled_from([NAME_CHILD, NAME_ATTRIBUTE, POOL_NAME]),
)
@example(b"<domain name='x' name='y'/>", NAME_ATTRIBUTE)
def test_what_it_is_sure_of_is_what_libxml2_finds(read, xml, shape):
    (has_name, name), (has_uuid, found) = read(xml, shape)
    try:
        text, uuid_text = by_libxml2(xml, shape)
    except (etree.XMLSyntaxError, ValueError):
        return  # libvirt refuses it
    if has_name == YES:
        assert (text or "").encode() == name
    elif has_name == NO:
        assert not text
    if has_uuid == YES:
        assert uuid.UUID(uuid_text.strip()).bytes == found
    elif has_uuid == NO:
        assert not uuid_text
