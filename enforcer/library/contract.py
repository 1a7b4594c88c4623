# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the library and Python share: the tables, layouts and names of Python's come in; C goes out:
as definitions where the library has no word of its own, else as static asserts on its own.
"""

from __future__ import annotations

import re

from enforcer.compiled import files, layout
from enforcer.policy.sources import KINDS, TYPES
from probes.api.table import ApiTable
from probes.host.looking.maps import ENFORCER
from probes.internals import gobject
from probes.kernel import records
from probes.kernel.contract import VERDICT, Shape, asserts

# of kinds of objects, in C
NAMES = {"nwfilterbinding": "BINDING"}
_PLACES = {"pool": "IN_POOL"}
SHAPES = (
    Shape("head", layout.HEAD, " ".join(layout.Head._fields)),
    Shape("row", layout.ROW, "program sources source_count pad"),
    Shape(
        "program", layout.PROGRAM, "all all_count general general_count table table_bits lengths"
    ),
    Shape("bucket", layout.BUCKET, "hash rules count used"),
    Shape("rule", layout.RULE, "name message first count action pad"),
    Shape("counts", layout.COUNTS, "policy rules"),
    Shape("condition", layout.CONDITION, "kind argument items yes no value"),
    Shape("principal", layout.PRINCIPAL, "kind value"),
    Shape("source", layout.SOURCE, "kind argument type second"),
    VERDICT,
)
_SAME = re.compile("IS_.+|FLAGS_.+|ARG_.+|CONTAINS.*|HAS_ELEMENT|PREFIX_MAX|IN_PARAMS")
NUMBERS = {
    **{f"sizeof(struct {shape.struct})": shape.format.size for shape in SHAPES},
    **{name: value for name, value in vars(layout).items() if _SAME.fullmatch(name)},
    **{name.upper(): number for name, number in layout.ACTIONS.items()},
    **{name.upper(): number for name, number in layout.PRINCIPALS.items()},
    **{NAMES.get(name, name.upper()): number for number, name in enumerate(TYPES)},
    "OBJECT_TYPES": len(TYPES),
    **{
        _PLACES.get(name, f"BY_{name.upper().replace(' ', '_')}"): number
        for number, name in enumerate(KINDS)
        if name
    },
    "SOURCE_KINDS": len(KINDS),
    "HEAD_AUDIT": layout.AUDIT_MODE,
    "HEAD_ON_ERROR_DENY": layout.DENY_ON_ERROR,
    "HEAD_MEANS_UNKNOWN": layout.MEANS_UNKNOWN,
    "SAYS_ALLOW": records.VERDICT_ALLOW,
    "SAYS_AUDIT": records.VERDICT_AUDIT,
    "SAYS_DENY": records.VERDICT_DENY,
    "SAYS_LOOKING": records.VERDICT_LOOKING,
}


def definitions(table: ApiTable) -> list[str]:
    """Lines of what the library has from here alone."""
    lines = [
        f'#define MAGIC "{"".join(_escaped(byte) for byte in layout.MAGIC)}"',
        f"#define POLICY_BYTES_MAX {layout.SIZE_MAX}",
        "#ifndef SYSTEM_POLICY",
        f'#define SYSTEM_POLICY "{files.SYSTEM_POLICY}"',
        "#endif",
        f'#define MEMORY_FILE "{files.MEMORY_FILE}"',
        f'#define COUNTS_FILE "{files.COUNTS_FILE}"',
        f'#define LIBRARY_FILE "{ENFORCER}"',
        f"#define PARAM_BYTES {gobject.PARAMETER}",
        f"#define PARAM_TYPE {gobject.PARAMETER_TYPE}",
        f"#define PARAM_VALUE {gobject.PARAMETER_VALUE}",
        f"#define PARAM_STRING {gobject.STRING_TYPE}",
        f"#define LOCKED ({gobject.BASE} + sizeof(pthread_mutex_t))",
        *(
            f"#define CONNECT_{field.upper()} (LOCKED + {gobject.CONNECT[field]})"
            for field in ("uri", "flags")
        ),
        *(f"#define URI_{part.upper()} {offset}" for part, offset in gobject.URI.items()),
        "#define LAYOUTS \\",
    ]
    lines += [f"\t{_layout(kind, table)}, \\" for kind in TYPES]
    return [*lines, ""]


def checks() -> str:
    """Static asserts on what the library has in its own words."""
    return asserts(SHAPES, NUMBERS)


def _layout(kind: str, table: ApiTable) -> str:
    """A struct layout."""
    one = gobject.OBJECTS[kind]
    fields = {"class": f'"{one.gtype}"'}
    if one.accessor:
        fields["accessor"] = f"NUMBER_{one.accessor}"
        fields["checks_uuid"] = str(int(one.accessor.endswith("GetUUID")))
        fields |= {name: str(one.fields[name]) for name in ("conn", "uuid") if name in one.fields}
        if one.name:
            fields["name"] = str(one.fields[one.name])
        if one.parent:
            fields["parent"] = str(one.fields[one.parent[0]])
            fields["parent_type"] = NAMES.get(one.parent[1], one.parent[1].upper())
        if "conn" in one.fields:
            find = f"{one.gtype}LookupByUUID"
            if find in table.by_name:
                fields["lookup"] = f"NUMBER_{find}"
            fields["release"] = f"NUMBER_{one.gtype}Free"
    inside = ", ".join(f".{name} = {value}" for name, value in fields.items())
    return f"[{NAMES.get(kind, kind.upper())}] = {{ {inside} }}"


def _escaped(byte: int) -> str:
    return chr(byte) if chr(byte).isalnum() else f"\\{byte:03o}"
