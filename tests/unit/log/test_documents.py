# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a document says, looked through: also where it is cut, wrong or hostile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.documents import look_through, names_in
from tests.unit.log_samples import HOSTILE_PARTS, UUID


def test_first_content_and_attributes_are_found_by_path() -> None:
    root, found, counts = look_through(
        "<?xml version='1.0'?><!-- <name>no</name> --><domain type='kvm'><name>a</name>"
        "<devices><disk dev=\"vda\"/><disk dev='vdb'/></devices><name>b</name></domain>"
    )
    assert root == "domain"
    assert (found["@type"], found["name"], found["devices/disk@dev"]) == ("kvm", "a", "vda")
    assert (counts["devices/disk"], counts["name"]) == (2, 2)


@pytest.mark.parametrize(
    ("document", "names"),
    [
        (f"<domain><name> a&amp;b </name><uuid>{UUID}</uuid></domain>", ("a&b", UUID)),
        ("<filter name='clean'/>", ("clean",)),
        ("<domain><name>cut", ()),
        ("<domain><metadata><name>inner</name></metadata></domain>", ()),
        ("", ()),
    ],
)
def test_names_are_those_of_the_object_itself(document: str, names: tuple[str, ...]) -> None:
    assert names_in(document) == names


@pytest.mark.parametrize("part", HOSTILE_PARTS)
def test_hostile_documents_come_to_an_end(part: str) -> None:
    look_through(part * ((1 << 20) // len(part)))


@given(st.text(alphabet="<>/!-[]CDATA?='\"a &;", max_size=200))
def test_any_text_is_looked_through(text: str) -> None:
    _, _, counts = look_through(text)
    assert sum(counts.values()) <= text.count("<")
