# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads of an XML document what rules ask for, and which object it is about, as xml_has.c and
xml_name.c do; None: it can't be told.
"""

from __future__ import annotations

import re
import uuid
from typing import Literal, NamedTuple

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


_SHAPES = {  # of a type's document: where its name is; else in <name> below the root
    "interface": "attribute",
    "nwfilter": "attribute",
    "nwfilterbinding": "portdev",
    "secret": "usage",
    "pool": "pool",
}
_UUID = re.compile(rb"[ \t\n\r]*+((?:-*+[0-9a-fA-F]{2}){16})[ \t\n\r]*+")


class Subject(NamedTuple):
    """Which object a document is about. None: it can't be told; False: it doesn't say."""

    name: str | Literal[False] | None
    uuid: uuid.UUID | Literal[False] | None


class _Unclear(Exception):
    """libvirt may see another name than is seen here."""


class _Tag(NamedTuple):
    closes: bool
    name: bytes
    attributes: bytes
    end: int  # where what is behind it begins

    @property
    def is_empty(self) -> bool:
        return self.attributes.endswith(b"/")


def identity(xml: str, type: str) -> Subject:
    """The object of that type that the document describes."""
    data = _bytes(xml)
    try:
        return _Document(data, _SHAPES.get(type, "child")).identity()
    except _Unclear:
        return Subject(None, None)


class _Document:
    """Goes through the tags of a plain document, as read_xml_identity() in xml_name.c does."""

    def __init__(self, data: bytes, shape: str) -> None:
        self.data, self.shape = data, shape
        self.name: bytes | Literal[False] | None = False
        self.is_usage = False
        self.uuid: uuid.UUID | Literal[False] = False
        self.source: bytes | None = None  # the name in a pool's source
        self.has_source = False

    def identity(self) -> Subject:
        """What the document says of itself."""
        at = _root_at(self.data) if len(self.data) <= BYTES_MAX else None
        if at is None:
            raise _Unclear
        root = self.tag(at)
        if root.closes or _has_namespace(root):
            raise _Unclear
        if self.shape == "attribute":
            self.name = _name_in(root)
        if not root.is_empty:
            self.read(root.end)
        if self.source is not None and not self.name:  # which a pool without one has
            self.name = self.source
        if self.is_usage or self.name is None:
            return Subject(None, self.uuid)
        name = self.name if self.name is False else self.name.decode("utf-8", "surrogateescape")
        return Subject(name, self.uuid)

    def read(self, at: int) -> None:
        """What is below the root, to its end: what would end the first name early must be seen."""
        depth, in_source = 1, False
        while depth:
            at = self.data.find(b"<", at)
            if at < 0:
                raise _Unclear
            if self.data.startswith(b"<!--", at):
                at = self.data.find(b"-->", at + 4) + 3
                if at < 3:
                    raise _Unclear
                continue
            tag = self.tag(at)
            at = tag.end
            if tag.closes:
                depth -= 1
            elif depth > 1:
                if depth == 2 and in_source and self.source is None and tag.name == b"name":
                    self.source, at = self.text(tag)
                else:
                    depth += not tag.is_empty
            else:
                in_source = self.shape == "pool" and not self.has_source and tag.name == b"source"
                self.has_source |= in_source
                told = self.tell(tag)
                at, depth = (at, depth + (not tag.is_empty)) if told is None else (told, depth)

    def tell(self, tag: _Tag) -> int | None:
        """What an element below the root tells; where it ends, if all of it was read."""
        if self.shape in ("child", "pool") and tag.name == b"name" and self.name is False:
            self.name, end = self.text(tag)
            return end
        if tag.name == b"uuid" and self.uuid is False:
            text, end = self.text(tag)
            found = _UUID.fullmatch(text)
            if not found:
                raise _Unclear
            self.uuid = uuid.UUID(found[1].replace(b"-", b"").decode())
            return end
        if self.shape == "portdev" and tag.name == b"portdev" and self.name is False:
            if _has_namespace(tag):
                raise _Unclear
            self.name = _name_in(tag)
        self.is_usage |= self.shape == "usage" and tag.name == b"usage"
        return None

    def tag(self, at: int) -> _Tag:
        """The tag there."""
        found = None if self.data.startswith((b"<!", b"<?"), at) else _TAG.match(self.data, at)
        if found is None or not found[2]:
            raise _Unclear
        return _Tag(bool(found[1]), found[2], found[3], found.end())

    def text(self, tag: _Tag) -> tuple[bytes, int]:
        """What is in the element, and where it ends."""
        if _has_namespace(tag):
            raise _Unclear
        if tag.is_empty:
            return b"", tag.end
        end = self.data.find(b"<", tag.end)
        if end < 0:
            raise _Unclear
        close, text = self.tag(end), self.data[tag.end : end]
        if not close.closes or close.name != tag.name:
            raise _Unclear
        return _plain(text), close.end


def _plain(text: bytes) -> bytes:
    """The text, if libxml2 passes it on as it is."""
    if _SPECIAL.search(text):
        raise _Unclear
    return text


def _name_in(tag: _Tag) -> bytes | Literal[False] | None:
    """Its attribute `name`; False: it has none."""
    found = _attribute(tag.attributes, b"name")
    if isinstance(found, bytes):
        return _plain(found)
    return None if found is None else False


def _has_namespace(tag: _Tag) -> bool:
    """Whether elements without a prefix are in a namespace from there on: then libvirt doesn't
    find them.
    """
    return b":" in tag.name or _attribute(tag.attributes, b"xmlns") is not False
