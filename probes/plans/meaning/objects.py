# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is shown of each kind of object of libvirt."""

from __future__ import annotations

from probes.internals.gobject import OBJECTS

# what a handle shows, in order: the field, how it is read ("text", "uuid"), whether the object
# filter looks at it
FIELDS: dict[str, tuple[tuple[str, str, bool], ...]] = {
    "domain": (("name", "text", True), ("uuid", "uuid", False)),
    "network": (("name", "text", True), ("uuid", "uuid", False)),
    "pool": (("name", "text", True), ("uuid", "uuid", False)),
    "nwfilter": (("name", "text", True), ("uuid", "uuid", False)),
    "volume": (("name", "text", True), ("pool", "text", False), ("key", "text", False)),
    "interface": (("name", "text", True), ("mac", "text", False)),
    "nodedevice": (("name", "text", True), ("parentName", "text", False)),
    "secret": (("uuid", "uuid", False), ("usageID", "text", True)),
    "snapshot": (("name", "text", True),),
    "checkpoint": (("name", "text", True),),
    "nwfilterbinding": (("portdev", "text", True), ("filtername", "text", False)),
    "networkport": (("uuid", "uuid", False),),
    "stream": (),
}
SHOWN_AS = {"parentName": "parent", "usageID": "usage", "filtername": "filter"}
# of each of many
SHOWN_IN_LISTS: dict[str, tuple[tuple[str, str], ...]] = {
    kind: tuple(
        (field, how) for field, how, _ in fields if field in ("name", "uuid", "usageID", "portdev")
    )
    for kind, fields in FIELDS.items()
}
# the field with the object that it is named by
PARENT = {
    kind: one.parent[0] for kind, one in OBJECTS.items() if one.parent and "conn" not in one.fields
}
