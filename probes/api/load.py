# SPDX-License-Identifier: LGPL-2.1-or-later
"""Loads the API table: api.json and what newer installed XML adds to it come in, a table goes out.

api.json is made by generate.py. Most hosts have no libvirt-dev, so the table is bundled and the XML
is optional.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path

from probes.api.table import (
    SENTINELS,
    XML_FILES,
    ApiTable,
    Enum,
    Function,
    Param,
    Result,
    WriteWhen,
)
from probes.api.undescribed import with_private

API_JSON = Path(__file__).with_name("api.json")
# `pkg-config --variable=libvirt_api libvirt` of a packaged and of a self-built libvirt, without
# running pkg-config
XML_DIRS = (Path("/usr/share/libvirt/api"), Path("/usr/local/share/libvirt/api"))


def load_api(xml_dirs: Sequence[Path] | None = None) -> ApiTable:
    """The bundled table and what newer XML in `xml_dirs` (default: where libvirt-dev puts it) adds
    behind it.

    Never fails because of that XML: what is wrong with it is in `warnings`.
    """
    table = _bundled()
    for directory in XML_DIRS if xml_dirs is None else xml_dirs:
        table = _add_installed(table, Path(directory))
    return table


def stub_table() -> ApiTable:
    """The functions that the enforcer's library has stubs for, by the numbers that it knows
    them by.
    """
    return with_private(load_api(()))


@functools.cache
def _bundled() -> ApiTable:
    data = API_JSON.read_bytes()
    document = json.loads(data)
    functions = tuple(
        Function(
            number,
            entry["name"],
            entry["library"],
            entry["since"],
            Result(**entry["result"]),
            tuple(Param(**param) for param in entry["params"]),
            entry["access"],
            entry["failure"],
            WriteWhen(**entry["write_when"]) if "write_when" in entry else None,
        )
        for number, entry in enumerate(document["functions"])
    )
    return ApiTable(
        functions=functions,
        enums={
            name: Enum(name, enum["constants"], enum["flags"])
            for name, enum in document["enums"].items()
        },
        structs={name: tuple(fields.items()) for name, fields in document["structs"].items()},
        field_enums=document["field_enums"],
        content=data,
        bundled=len(functions),
    )


def _add_installed(table: ApiTable, directory: Path) -> ApiTable:
    known = {name.encode() for name in table.by_name}
    for enum in table.enums.values():
        known.update(name.encode() for name in enum.constants)
    try:
        files = [directory / name for name in XML_FILES]
        if not any(_has_news(path.read_bytes(), known) for path in files if path.is_file()):
            return table
    except OSError as error:
        complaint = f"can't read libvirt's API description: {error}"
        return table._replace(warnings=(*table.warnings, complaint))
    # only here: the XML parser takes as long to import as the table to load
    from probes.api.merge import merge_xml

    try:
        return merge_xml(table, directory)
    except (
        ValueError,
        LookupError,
        TypeError,
        RecursionError,
    ) as error:  # of a release whose description is built in another way
        complaint = f"{directory}: {error}; what it adds to the bundled API table is not decoded"
        return table._replace(warnings=(*table.warnings, complaint))


def _has_news(xml: bytes, known: set[bytes]) -> bool:
    """Whether a libvirt-api.xml names a function or constant that isn't known, without parsing
    it (3 ms instead of 40).
    """
    names = set(re.findall(rb"<(?:function|enum) name='(\w+)'", xml))
    endings = tuple(ending.encode() for ending in SENTINELS)
    return not names or any(not name.endswith(endings) for name in names - known)
