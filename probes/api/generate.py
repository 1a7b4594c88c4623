# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes api.json, the bundled API table: libvirt's API descriptions of several releases and
api_access.tsv come in.

    python3 -m probes.api.generate --xml DIR [--xml DIR ...] --access probes/api/api_access.tsv -o
    probes/api/api.json

The bundled table is made from the libvirt-dev packages of Debian 12 (9.0.0), 13 (11.3.0) and sid
(12.8.0). It holds names, types and numbers; prose stays where it is.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from probes.api import description
from probes.api.table import Enum, Function

NAMES = Path(__file__).parents[2] / "log/redact/functions.txt"  # for what knows events only


def read_access(path: Path) -> dict[str, str]:
    """The column needs_write (always, conditional, no) of api_access.tsv by function."""
    rows = [line.split("\t") for line in path.read_text().splitlines() if not line.startswith("#")]
    return {row[0]: row[3] for row in rows[1:]}


def generate(xml_dirs: Iterable[Path], access: Path) -> str:
    """The text of api.json; ValueError if a description can't be read or there is none."""
    described = sorted(
        (description.read_xml(directory) for directory in xml_dirs), key=lambda one: one.libvirt
    )
    all_of_them = functools.reduce(description.merge, described)
    if all_of_them.warnings or not all_of_them.functions:
        raise ValueError("; ".join(all_of_them.warnings) or "no API description found")
    found = description.functions(all_of_them, read_access(access))
    parts = {
        "functions": _array(_function(function) for function in found),
        "enums": _object(
            (name, _enum(enum)) for name, enum in description.enums(all_of_them, found).items()
        ),
        "structs": _object(
            (name, json.dumps(dict(fields))) for name, fields in sorted(all_of_them.structs.items())
        ),
        "field_enums": _object(
            (place, json.dumps(enum))
            for place, enum in sorted(description.field_enums(all_of_them).items())
        ),
    }
    return _object(parts.items()) + "\n"


def _function(function: Function) -> str:
    entry: dict[str, Any] = {
        "name": function.name,
        "library": function.library,
        "since": function.since,
    }
    entry |= {"access": function.access, "failure": function.failure}
    if function.write_when:
        entry["write_when"] = _short(function.write_when)
    entry["result"] = _short(function.result)
    entry["params"] = [_short(param) for param in function.params]
    return json.dumps(entry)


def _short(values: Any) -> dict[str, Any]:
    """The fields of a NamedTuple without those that have their default value."""
    defaults = values._field_defaults
    return {
        name: value
        for name, value in values._asdict().items()
        if name not in defaults or value != defaults[name]
    }


def _enum(enum: Enum) -> str:
    constants = _object((name, str(value)) for name, value in enum.constants.items())
    return f'{{"flags": {json.dumps(enum.is_flags)}, "constants": {constants}}}'


def _array(items: Iterable[str]) -> str:
    return "[\n" + ",\n".join(items) + "\n]"


def _object(items: Iterable[tuple[str, str]]) -> str:
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {value}" for key, value in items) + "\n}"


def main() -> None:
    """Write the table, or say why not."""
    parser = argparse.ArgumentParser(description="Make the bundled API table.")
    parser.add_argument(
        "--xml",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="where libvirt-api.xml is (repeatable)",
    )
    parser.add_argument(
        "--access",
        type=Path,
        required=True,
        metavar="FILE",
        help="which functions need a writable connection",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    try:
        text = generate(options.xml, options.access)
        options.output.write_text(text)
        NAMES.write_text(
            "".join(f"{function['name']}\n" for function in json.loads(text)["functions"])
        )
    except (OSError, ValueError) as error:
        sys.exit(f"probes.api.generate: {error}")


if __name__ == "__main__":
    main()
