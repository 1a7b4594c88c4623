# SPDX-License-Identifier: LGPL-2.1-or-later
"""Adds what an installed libvirt-api.xml knows beyond the bundled API table: a table and a
directory come in, a table goes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from probes.api import description
from probes.api.structs import is_known
from probes.api.table import ApiTable, Enum, Function, Param


def merge_xml(table: ApiTable, directory: Path) -> ApiTable:
    """The table with new functions behind the known ones, new enums, constants and structs; nothing
    known changes its meaning.

    Broken XML adds nothing but a warning.
    """
    described = description.read_xml(directory)
    warnings = (
        *table.warnings,
        *(
            f"{problem}; what it adds to the bundled API table is not decoded"
            for problem in described.warnings
        ),
    )
    found = description.functions(described, {})
    enums = _merge_enums(table.enums, description.enums(described, found))
    theirs = {function.name: function for function in found}
    functions = [
        _name_enums(function, theirs.get(function.name), enums) for function in table.functions
    ]
    for function in found:
        if function.name not in table.by_name:
            functions.append(function._replace(number=len(functions)))
    news = [
        repr(function)
        for function in functions
        if function not in table.functions[function.number : function.number + 1]
    ]
    news += [
        repr((name, *enum.constants.items()))
        for name, enum in enums.items()
        if table.enums.get(name) != enum
    ]
    return table._replace(
        functions=tuple(functions),
        enums=enums,
        structs={
            **{name: fields for name, fields in described.structs.items() if is_known(fields)},
            **table.structs,
        },
        field_enums={**description.field_enums(described), **table.field_enums},
        added=(*table.added, news) if news else table.added,
        warnings=warnings,
    )


def _merge_enums(ours: Mapping[str, Enum], theirs: Mapping[str, Enum]) -> dict[str, Enum]:
    result = dict(ours)
    for name, enum in theirs.items():
        known = ours.get(name, Enum(name, {}, False))
        constants = {**enum.constants, **known.constants}
        in_order = dict(sorted(constants.items(), key=lambda item: (item[1], item[0])))
        result[name] = Enum(name, in_order, enum.is_flags or known.is_flags)
    return result


def _name_enums(ours: Function, theirs: Function | None, enums: Mapping[str, Enum]) -> Function:
    """Our function with the enums of arguments for which a newer release defines some."""
    if theirs is None or len(ours.params) != len(theirs.params):
        return ours
    return ours._replace(
        params=tuple(
            _name_enum(*pair, enums) for pair in zip(ours.params, theirs.params, strict=True)
        )
    )


def _name_enum(ours: Param, theirs: Param, enums: Mapping[str, Enum]) -> Param:
    if ours.enum or theirs.enum not in enums or ours.ctype != theirs.ctype:
        return ours
    return ours._replace(enum=theirs.enum, flags=theirs.flags)
