# SPDX-License-Identifier: LGPL-2.1-or-later
"""An XML document comes in; one line that says what it describes goes out: `<domain name=web1
memory=64MiB vcpu=1 disks=2 nics=1>`.

The document may be cut, wrong or hostile: it is looked through for tags, not parsed.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from log.documents import look_through, unescaped
from log.quote import name, quote
from log.values import CutText, Xml

LONGEST = 100  # characters of a value
_POWERS = "kmgtpe"


class Part(NamedTuple):
    """What of a document is shown: where it is ("/" between tags, "@" before an attribute), and
    how it is called.
    """

    path: str
    label: str
    # "text", "count" of such elements, or a size's unit where the document has none
    kind: str = "text"


_COMMON = (
    Part("@type", "type"),
    Part("name", "name"),
    Part("@name", "name"),
    Part("uuid", "uuid"),
)
# the first label that is found is shown; a document of another kind is shown by _COMMON and _DEVICE
_DOCUMENTS: dict[str, tuple[Part, ...]] = {
    "domain": (
        Part("name", "name"),
        Part("memory", "memory", "KiB"),
        Part("vcpu", "vcpu"),
        Part("devices/disk", "disks", "count"),
        Part("devices/interface", "nics", "count"),
        Part("devices/hostdev", "hostdevs", "count"),
    ),
    "network": (
        Part("name", "name"),
        Part("forward@mode", "forward"),
        Part("bridge@name", "bridge"),
        Part("ip@address", "ip"),
    ),
    "pool": (Part("@type", "type"), Part("name", "name"), Part("target/path", "path")),
    "volume": (
        Part("name", "name"),
        Part("capacity", "capacity", "bytes"),
        Part("target/format@type", "format"),
    ),
    "domainsnapshot": (
        Part("name", "name"),
        Part("state", "state"),
        Part("parent/name", "parent"),
        Part("disks/disk", "disks", "count"),
    ),
    "domaincheckpoint": (
        Part("name", "name"),
        Part("parent/name", "parent"),
        Part("disks/disk", "disks", "count"),
    ),
    "domainbackup": (
        Part("@mode", "mode"),
        Part("incremental", "incremental"),
        Part("disks/disk", "disks", "count"),
    ),
    "secret": (
        Part("usage@type", "usage"),
        Part("uuid", "uuid"),
        Part("usage/volume", "of"),
        Part("usage/name", "of"),
    ),
    "device": (
        Part("name", "name"),
        Part("parent", "parent"),
        Part("capability@type", "capability"),
    ),
    "filter": (Part("@name", "name"), Part("@chain", "chain"), Part("rule", "rules", "count")),
    "filterbinding": (Part("portdev@name", "port"), Part("filterref@filter", "filter")),
    "capabilities": (
        Part("host/uuid", "host"),
        Part("host/cpu/arch", "arch"),
        Part("guest", "guests", "count"),
    ),
    "domainCapabilities": (
        Part("domain", "domain"),
        Part("machine", "machine"),
        Part("arch", "arch"),
    ),
    "cpu": (
        Part("@mode", "mode"),
        Part("model", "model"),
        Part("arch", "arch"),
        Part("feature", "features", "count"),
    ),
}
_DEVICE = (
    Part("@device", "device"),
    Part("@mode", "mode"),
    Part("@model", "model"),
    Part("source@file", "source"),
    Part("source@dev", "source"),
    Part("source@name", "source"),
    Part("source@network", "source"),
    Part("source@bridge", "source"),
    Part("target@dev", "target"),
    Part("mac@address", "mac"),
    Part("ip@address", "ip"),
    Part("@ip", "ip"),
    Part("@mac", "mac"),
)


def abstract(document: Xml) -> str:
    """The line; a document that has no tag is shown as it is, cut short."""
    root, found, counts = look_through(document.captured)
    if root is None:
        return quote(document.captured[:LONGEST]) + (
            "..." if len(document.captured) > LONGEST else ""
        )
    parts, labels = [root], set()
    for shown in _DOCUMENTS.get(root, _COMMON + _DEVICE):
        if shown.kind == "count":
            value = str(counts[shown.path] or "")
        elif shown.kind == "text":
            value = plain(found.get(shown.path, ""))
        else:
            value = size(found.get(shown.path, ""), found.get(f"{shown.path}@unit") or shown.kind)
        if value and shown.label not in labels:
            labels.add(shown.label)
            parts.append(f"{shown.label}={value}")
    return f"<{' '.join(parts)}>" + (
        "..."
        if isinstance(document.shown, CutText) and document.captured.rstrip()[-1:] != ">"
        else ""
    )


def plain(value: str) -> str:
    """A value as it is shown, in quotes where it is no plain word; "" for what holds elements."""
    value = value.strip()
    if not value or "<" in value:
        return ""
    value = unescaped(value)
    value = value if len(value) <= LONGEST else value[:LONGEST] + "..."
    return value if value.isascii() and value.isdigit() else name(value)


def size(value: str, unit: str) -> str:
    """As libvirt reads it: k is 1024 and kB is 1000 bytes."""
    if not re.fullmatch(r"\s*[0-9]{1,20}\s*", value):
        return plain(value)
    first, rest = unit[:1].lower(), unit[1:].lower()
    base = 1000 if rest == "b" and first in _POWERS else 1024
    number = int(value) * (base ** (_POWERS.find(first) + 1) if first in _POWERS and first else 1)
    for power, letter in reversed(list(enumerate(_POWERS, 1))):
        if number >= 1024**power and number % 1024**power == 0:
            return f"{number // 1024**power}{letter.upper()}iB"
    return f"{number}B"
