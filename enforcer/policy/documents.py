# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads of an XML document what rules on its text and elements ask for, as xml_name.c does;
None: it can't be told.
"""

from __future__ import annotations

import re

BYTES_MAX = 1 << 20
_BLANKS = b" \t\n\r"
# a closing tag's slash, the name, what is between it and the bracket: quoted values may hold
# brackets
_TAG = re.compile(rb"<(/?+)([^ \t\n\r>/<]*+)((?:[^\"'<>]|\"[^\"]*+\"|'[^']*+')*+)>")
_NAME = re.compile(rb"[ \t\n\r]*+([^ \t\n\r=/]*+)[ \t\n\r]*+")
_VALUE = re.compile(rb"=[ \t\n\r]*+(?:\"([^\"]*+)\"|'([^']*+)')")
_PREFIX = re.compile(rb"<([^: \t\r\n/<>]*+):")
_PASSED = ((b"<!--", b"-->"), (b"<![CDATA[", b"]]>"), (b"<?", b"?>"))
_SPECIAL = re.compile(rb"[\x00-\x1f&<\x7f]")


def is_plain(xml: str, sought: str) -> bool:
    """Whether text that is not in the document as it is can't be in it in another spelling."""
    data, text = _bytes(xml), _bytes(sought)
    at = _root_at(data)
    if at is None:
        return False
    if not text.startswith(b"<"):
        return not any(mark in data[at:] for mark in (b"&", b"<!", b"<?"))
    return not any(data.startswith(text[1:], prefix.end()) for prefix in _PREFIX.finditer(data, at))


def has_element(xml: str, sought: tuple[str, ...]) -> bool | None:
    """Whether it has an element of that name, or one with that attribute of that value."""
    data, (name, *attribute) = _bytes(xml), map(_bytes, sought)
    at = _root_at(data) if len(data) <= BYTES_MAX else None
    if at is None or (attribute and len(attribute[0]) >= 64):
        return None
    found: bool | None = False
    while (at := data.find(b"<", at)) >= 0:
        end = next((end for begin, end in _PASSED if data.startswith(begin, at)), None)
        if end is not None:
            if (at := data.find(end, at)) < 0:
                return None
            at += len(end)
            continue
        tag = None if data.startswith(b"<!", at) else _TAG.match(data, at)
        if tag is None or not tag[2]:
            return None
        at = tag.end()
        if tag[1] or _local(tag[2]) != name:
            continue
        answer = _attribute_is(tag[3], *attribute) if attribute else True
        if answer:
            return True
        found = None if answer is None else found
    return found


def _attribute_is(attributes: bytes, name: bytes, value: bytes) -> bool | None:
    there = _attribute(attributes, name)
    if isinstance(there, bytes):
        return None if _SPECIAL.search(there) else there == value
    return there


def _attribute(attributes: bytes, name: bytes) -> bytes | bool | None:
    """Its value; False: it is not there; None: that can't be told."""
    at = 0
    while True:
        found = _NAME.match(attributes, at)
        assert found is not None
        value = _VALUE.match(attributes, found.end())
        if value is None:
            after = attributes[found.end() : found.end() + 1]
            return None if after == b"=" or (found[1] and after != b"/") else False
        at = value.end()
        if _local(found[1]) == name:
            if b":" not in found[1]:
                return value[1] if value[1] is not None else value[2]
            if not found[1].startswith(b"xmlns:"):  # which declares a prefix
                return None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape").partition(b"\0")[0]


def _local(name: bytes) -> bytes:
    """Without its prefix."""
    before, colon, after = name.partition(b":")
    return after if colon else before


def _root_at(data: bytes) -> int | None:
    """Where what may come before the root ends."""
    at = 0
    if data.startswith(b"<?xml") and data[5:6].isspace() and data[5] in _BLANKS:
        end = data.find(b"?>")
        if end < 5:
            return None
        if _attribute(data[5:end], b"encoding") not in (False, b"utf-8", b"UTF-8"):
            return None
        at = end + 2
    while True:
        while data[at : at + 1] and data[at] in _BLANKS:
            at += 1
        if not data.startswith(b"<!--", at):
            break
        end = data.find(b"-->", at + 4)
        if end < 0:
            return None
        at = end + 3
    return at if data.startswith(b"<", at) and not data.startswith((b"<!", b"<?"), at) else None
