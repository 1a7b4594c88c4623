# SPDX-License-Identifier: LGPL-2.1-or-later
"""The published schema of OCSF comes in (PyPI's ocsf-json-schema has it); what libvirt-trace fills
in of it goes out, as one JSON Schema a class: any attribute that is not in the excerpt is refused.

`python3 -m tests.integrations.ocsf_excerpt` prints it, for tests/unit/log/render/siem/ocsf.json.
"""

from __future__ import annotations

import json
from typing import Any

VERSION = "1.8.0"
CLASSES = {6003: "api_activity", 6002: "application_lifecycle", 6008: "application_error"}
PROFILES = ["host", "linux/linux_users", "security_control"]
OBJECTS = (
    "actor", "api", "container", "device", "file", "metadata", "network_endpoint", "object",
    "policy", "process", "product", "request", "resource_details", "response", "service", "user",
)  # fmt: skip
COMMENT = (
    "An excerpt of the Open Cybersecurity Schema Framework (https://schema.ocsf.io), "
    "licensed under the Apache License, Version 2.0"
)


def excerpt() -> dict[str, Any]:
    """Classes by their number, and the objects in them."""
    from ocsf_json_schema import OcsfJsonSchema, get_ocsf_schema

    source = OcsfJsonSchema(get_ocsf_schema(VERSION))
    return {
        "$comment": COMMENT,
        "version": VERSION,
        "$defs": {name: _kept(source.get_object_schema(name, PROFILES)) for name in OBJECTS},
        "classes": {
            str(uid): _kept(source.get_class_schema(name, PROFILES))
            for uid, name in CLASSES.items()
        },
    }


def _kept(schema: dict[str, Any]) -> dict[str, Any]:
    """Without prose, and without attributes that are objects of other kinds."""
    kept = {key: item for key, item in schema.items() if key not in ("$id", "$schema", "title")}
    kept["properties"] = {
        name: made
        for name, item in schema["properties"].items()
        if (made := _attribute(item)) is not None
    }
    missing = set(schema.get("required", ())) - set(kept["properties"])
    assert not missing, missing
    return kept


def _attribute(item: dict[str, Any]) -> dict[str, Any] | None:
    if item.get("deprecated"):
        return None
    found = {key: part for key, part in item.items() if key != "title"}
    inner = found.get("items", found)
    if "$ref" in inner:
        name = inner["$ref"].partition("?")[0].rpartition("/")[2]
        if name not in OBJECTS:
            return None
        pointer = {"$ref": f"#/$defs/{name}"}
        return {"type": "array", "items": pointer} if "items" in found else pointer
    return found


if __name__ == "__main__":
    print(json.dumps(excerpt(), sort_keys=True, separators=(",", ":")))
