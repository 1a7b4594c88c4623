# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is told of a document by the one before it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.render import jsonl, printers
from log.render.abstract import abstract
from log.render.difference import difference
from log.values import CutText, Xml
from tests.unit.log_samples import HOSTILE_PARTS

DOMAIN = """\
<domain type='kvm'>
  <name>web1</name><uuid>1</uuid><memory unit='KiB'>65536</memory><vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type><boot dev='hd'/><boot dev='network'/></os>
  <devices>
    <disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/></disk>
    <controller type='usb' index='0' model='ehci'/><controller type='usb' index='1'/>
    <interface type='network'><mac address='52:54:00:00:00:01'/><source network='x'/></interface>
    <graphics type='vnc' port='-1'/>
  </devices>
</domain>
"""


def told(document: str, before: str = DOMAIN) -> str:
    return difference(Xml(document, document, before))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", "unchanged"),
        ("65536", "131072", "memory=64MiB -> 128MiB"),
        ("<memory unit='KiB'>65536", "<memory unit='MiB'>64", "unchanged"),
        ("<memory unit='KiB'>65536", "<memory>65536", "unchanged"),
        ("\n  ", "\n", "unchanged"),
        ("type='vnc' port='-1'", 'port="-1" type="vnc"', "unchanged"),
        (
            "</devices>",
            "<disk><source file='/b'/><target dev='vdb'/></disk></devices>",
            "+disk vdb",
        ),
        ("<controller type='usb' index='1'/>", "", "-controller usb 1"),
        ("model='ehci'", "model='xhci'", "controller usb 0@model=ehci -> xhci"),
        ("model='ehci'", "", "-controller usb 0@model"),
        ("index='1'/>", "index='1' ports='8'/>", "+controller usb 1@ports=8"),
        ("'/a'", "'/c d'", 'disk vda source@file=/a -> "/c d"'),
        (">1</vcpu>", ">4</vcpu>", "vcpu=1 -> 4"),
        ("type='vnc'", "type='spice'", "graphics@type=vnc -> spice"),
        ("'hd'/><boot dev='network'", "'network'/><boot dev='hd'", "os in another order"),
        ("<boot dev='hd'/>", "", "-os/boot hd"),
        (">hvm<", ">xen<", "os/type=hvm -> xen"),
        ("</uuid>", "</uuid><title>a\u202eb</title>", '+title="a\\u202eb"'),
        ("</uuid>", "</uuid><title/>", "+title"),
        ("00:01", "00:02", "+interface 52:54:00:00:00:02, -interface 52:54:00:00:00:01"),
        ("'/a'", "'<redacted>'", "disk vda source@file=/a -> <redacted>"),
        ("<vcpu>1", "<vcpu>1, +disk vdb", 'vcpu=1 -> "1, +disk vdb"'),
        ("<vcpu>1", "<vcpu>", 'vcpu=1 -> ""'),
    ],
)
def test_change_is_told_in_words(old, new, expected) -> None:
    assert told(DOMAIN.replace(old, new)) == f"<domain name=web1 {expected}>"


@pytest.mark.parametrize(
    ("document", "before", "expected"),
    [
        (DOMAIN.replace("web1", "web2"), DOMAIN, "<domain name=web1 -> web2>"),
        ("<secret><uuid>5</uuid></secret>", "<secret><uuid>5</uuid><usage/></secret>",
         "<secret uuid=5 -usage>"),
        ("<filter name='f'><rule/></filter>", "<filter name='f'/>", "<filter name=f +rule>"),
        ("<network/>", DOMAIN, "<network>"),
        (DOMAIN, "no document", abstract(Xml(DOMAIN, DOMAIN))),
        ("nothing", DOMAIN, '"nothing"'),
        ("<a><redacted/></a>", "<a><redacted/></a>", "<a unchanged, but some is redacted>"),
    ],
)  # fmt: skip
def test_documents_that_are_unlike(document, before, expected) -> None:
    assert told(document, before) == expected


def test_what_is_cut_off_is_neither_added_nor_removed() -> None:
    cut = DOMAIN.replace("65536", "1024")[:230]
    assert told(cut) == "<domain name=web1 memory=64MiB -> 1MiB>..."
    assert told(DOMAIN, cut) == "<domain name=web1 memory=1MiB -> 64MiB>..."
    assert told(DOMAIN[:230]) == "<domain name=web1 no change seen>..."
    # a value that may go on is not compared
    assert told(DOMAIN[: DOMAIN.index("536<")]) == "<domain name=web1 no change seen>..."


def test_of_many_changes_the_first_are_told() -> None:
    many = "".join(f"<p{number}/>" for number in range(100))
    line = told(DOMAIN.replace("<vcpu>", f"{many}<vcpu>"))
    assert line.startswith("<domain name=web1 +p0, +p1, ") and line.endswith(", 84 more changes>")


TEXT = st.text(alphabet="<>/!-[]CDAT='\"a &;\n\x1b\u202e", max_size=120)


@given(st.one_of(TEXT, st.integers(0, len(DOMAIN)).map(lambda length: DOMAIN[:length])), TEXT)
def test_whatever_the_documents_are_the_line_is_one(document, before) -> None:
    for line in (told(document, before), told(document), told(DOMAIN, document)):
        assert line.isprintable()


names = st.sampled_from(["a", "b", "disk", "memory"])
trees = st.recursive(
    st.tuples(names, st.dictionaries(names, st.sampled_from("xyz")), st.just(())),
    lambda inner: st.tuples(
        names, st.dictionaries(names, st.sampled_from("xyz")), st.lists(inner, max_size=3)
    ),
    max_leaves=12,
)


def written(tree, quote: str = "'") -> str:
    tag, attributes, inside = tree
    words = "".join(f" {key}={quote}{value}{quote}" for key, value in attributes.items())
    return f"<{tag}{words}>{''.join(written(one, quote) for one in inside)}</{tag}>"


@given(trees, trees)
def test_difference_of_equal_documents_is_empty_and_of_others_is_not(one, other) -> None:
    document = f"<domain>{written(one)}</domain>"
    again = f"<domain >\n{written(one, chr(34))}</domain>"
    assert told(again, document) == "<domain unchanged>"
    changed = f"<domain>{written(other)}</domain>"
    assert (told(changed, document) == "<domain unchanged>") == (_alike(one) == _alike(other))


def _alike(tree) -> object:
    return tree[0], sorted(tree[1].items()), [_alike(one) for one in tree[2]]


@pytest.mark.parametrize("part", HOSTILE_PARTS)
def test_hostile_documents_come_to_an_end(part) -> None:
    # if it took the square of that, pytest would end it
    many = "<domain>" + part * ((1 << 20) // len(part))
    for document, before in ((many, many + "<b/>"), (many, DOMAIN), (DOMAIN, many)):
        assert len(told(document, before)) < 8000


def test_json_has_the_document_and_text_what_has_changed() -> None:
    document = DOMAIN.replace("65536", "1024")
    value = Xml(CutText(document[:9], len(document)), document, DOMAIN)
    assert printers.value(value)[1::2] == ["<domain name=web1 memory=64MiB -> 1MiB>"]
    assert json.loads(jsonl.value(value))["text"] == document[:9]


def test_so_many_elements_are_compared(monkeypatch) -> None:
    monkeypatch.setattr("log.render.difference.MOST_ELEMENTS", 10)
    for number, shown in ((9, "<a memory=1MiB -> 2MiB>"), (10, "<a no change seen>...")):
        rest = f"{'<b/>' * (number - 1)}<memory>{{}}</memory></a>"
        old, new = (f"<a>{rest.format(kib)}" for kib in (1024, 2048))
        assert told(new, old) == shown
