# SPDX-License-Identifier: LGPL-2.1-or-later
"""An XML document comes in, whole or cut; the same goes out with only those values that are known
to be harmless.

It is looked through for tags, text, CDATA, comments and instructions. A value is shown if it stands
where libvirt's schemas have something that is no secret (schema.json), whatever it looks like; an
element that no schema has at that place is hidden with all that is in it. From where the text is
not well-formed, or defines entities of its own, nothing is shown.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from log.redact.marker import REDACTED, words
from log.redact.uri import has_uri, redact_uris

TABLE = Path(__file__).with_name("schema.json")
DEEPEST = 256
# in place of text and elements: an element, so that what was well-formed stays so
HIDDEN = "<redacted/>"
_NAME = r"[A-Za-z_][A-Za-z0-9_.:-]*+"
# Python 3.11.2 takes what no round of a possessive group matched for matched, so only single
# characters are repeated possessively
_TOKEN = re.compile(
    rf"(?P<text>[^<]++)|<(?P<start>{_NAME})(?P<attributes>(?:\s++{_NAME}\s*+=\s*+(?:'[^'<]*+'|\"[^\"<]*+\"))*)\s*+(?P<empty>/?)>"
    rf"|</(?P<end>{_NAME})\s*+>|<!--(?P<comment>.*?)-->|<!\[CDATA\[(?P<cdata>.*?)\]\]>|<\?(?P<instruction>.*?)\?>",
    re.S,
)
_ATTRIBUTE = re.compile(rf"(\s+)({_NAME})(\s*=\s*)(['\"])(.*?)\4", re.S)
_DECLARATION = re.compile(
    r"xml\s+version\s*=\s*(?:'1\.[01]'|\"1\.[01]\")(?:\s+encoding\s*=\s*['\"](?:utf-8|us-ascii|iso-8859-\d+)['\"])?"
    r"(?:\s+standalone\s*=\s*['\"](?:yes|no)['\"])?\s*",
    re.I,
)
_NUMBER = re.compile(r"\s*(?:[+-]?[0-9]{1,20}(?:\.[0-9]{1,9})?|0[xX][0-9a-fA-F]{1,16})\s*")
# what libvirt writes and no schema describes: the cookie of a migration, sources of pools
_MORE = {
    "/qemu-migration": "",
    "qemu-migration/name": ".", "qemu-migration/uuid": ".", "qemu-migration/hostname": ".",
    "qemu-migration/hostuuid": ".", "qemu-migration/feature": "name",
    "qemu-migration/lockstate": "driver", "qemu-migration/nbd": "port",
    "qemu-migration/graphics": "type #port #tlsPort listen",
    "qemu-migration/capabilities": "", "capabilities/cap": "name auto",
    "qemu-migration/cpu": "check match migratable mode",
    "qemu-migration/allowReboot": "value", "qemu-migration/blockDirtyBitmaps": "",
    "/sources": "", "sources/source": "",
}  # fmt: skip
# parts of a document with elements that only a hypervisor knows: what is in them is hidden, not
# that they are there
_OPAQUE = words(
    """qemu:commandline qemu:capabilities qemu:deprecation qemu:override lxc:namespace
    xen:commandline bhyve:commandline dnsmasq:options metadata"""
)
# of what a document begins with, which may be a part of another
_ABOVE = ("", "devices", "network", "dhcp", "dns", "ip")
_NAMESPACE = re.compile(r"http://libvirt\.org/schemas/[a-z]+/[a-z]+/1\.0")


# What is shown of an element: attributes, and "." for its text -> "": any value, "#": a number,
# "=": a word of the schemas
Place = Mapping[str, str]


class SchemaTable(NamedTuple):
    """The table: see generate_schema.py."""

    places: dict[str, Place]  # by "parent/element"
    words: frozenset[str]


@functools.cache
def known() -> SchemaTable:
    """Reads the table, once."""
    table = json.loads(TABLE.read_bytes())
    places: dict[str, Place] = {
        place: {name.lstrip("#="): name[: name[0] in "#="] for name in shown.split()}
        for place, shown in (table["places"] | _MORE).items()
    }
    return SchemaTable(places, frozenset(table["words"]))


def _may_show(place: Place | None, name: str, value: str) -> bool:
    """Whether the value may be shown there."""
    limit = place.get(name) if place else None
    if not limit:
        return limit is not None
    return bool(_NUMBER.fullmatch(value)) or (limit == "=" and value.strip() in known().words)


def _find(parent: str, name: str) -> Place | None:
    places = known().places
    if parent:
        return places.get(f"{parent}/{name}")
    return next(
        (places[f"{above}/{name}"] for above in _ABOVE if f"{above}/{name}" in places), None
    )


def redact_xml(document: str) -> str:
    """The document as it is but for what is hidden."""
    return "".join(_Walker(document).shown) if document.strip() else document


class _Walker:
    """Goes through a document; `shown` is what is shown of it."""

    def __init__(self, document: str) -> None:
        self.shown: list[str] = []
        self._open: list[tuple[str, Place | None]] = []  # elements, and what is shown of them
        self._hiding = 0  # as many of the open elements are not even named
        self._has_root = False
        at = 1 if document.startswith("\ufeff") else 0
        while at < len(document):
            match = _TOKEN.match(document, at)
            if match is None or len(self._open) > DEEPEST or not self._take(match):
                self.shown.append(HIDDEN)
                return
            at = match.end()

    def _take(self, match: re.Match[str]) -> bool:
        """Shows what may be shown of a token; False: it should not be there."""
        kind = match.lastgroup if match.lastgroup not in ("attributes", "empty") else "start"
        if kind == "start":
            return self._start(match)
        if kind == "end":
            return self._end(match)
        if kind == "instruction" and match["instruction"][:3].lower() == "xml":
            is_known = not self.shown and bool(_DECLARATION.fullmatch(match["instruction"]))
            self.shown += [match[0]] if is_known else []
            return is_known
        if not self._hiding:
            self.shown.append(self._text(match, kind))
        return True

    def _start(self, match: re.Match[str]) -> bool:
        name, empty = match["start"], bool(match["empty"])
        if not self._open and self._has_root:
            return False
        self._has_root = True
        above: Place | None
        parent, above = self._open[-1] if self._open else ("", {})
        place = None if above is None else _find(parent, name)
        if not self._hiding:
            if place is None and (above is None or name not in _OPAQUE):
                self.shown.append(HIDDEN)
                self._hiding = 0 if empty else 1
            else:
                self.shown.append(
                    f"<{name}{self._attributes(match['attributes'], place)}{match['empty']}>"
                )
        elif not empty:
            self._hiding += 1
        if not empty:
            self._open.append((name, place))
        return True

    def _end(self, match: re.Match[str]) -> bool:
        if not self._open or self._open[-1][0] != match["end"]:
            return False
        self._open.pop()
        if self._hiding:
            self._hiding -= 1
        else:
            self.shown.append(match[0])
        return True

    def _text(self, match: re.Match[str], kind: str | None) -> str:
        text = match[kind or 0]
        if kind == "text" and not text.strip():
            return text
        place = self._open[-1][1] if self._open else None
        return (
            match[0]
            if kind in ("text", "cdata") and _may_show(place, ".", text) and not has_uri(text)
            else HIDDEN
        )

    @staticmethod
    def _attributes(attributes: str, place: Place | None) -> str:
        return _ATTRIBUTE.sub(
            lambda match: "".join(
                (*match.groups()[:4], _value(match[2], match[5], place), match[4])
            ),
            attributes,
        )


def _value(name: str, value: str, place: Place | None) -> str:
    if not value:
        return value
    if name.partition(":")[0] == "xmlns":
        return value if _NAMESPACE.fullmatch(value) else REDACTED
    return redact_uris(value) if _may_show(place, name, value) else REDACTED
