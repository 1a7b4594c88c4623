# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads libvirt's API description: a directory with libvirt-api.xml comes in; signatures, enums
and structs go out.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from probes.api import amendments
from probes.api.passing import passing
from probes.api.table import (
    OBJECTS,
    SCALAR_KINDS,
    SENTINELS,
    XML_FILES,
    Enum,
    Function,
    Param,
    Result,
    WriteWhen,
)

# LP64; the callers widen a char, but the upper bits of its register are not to be relied on
_SCALARS = {
    "char": "u8",
    "unsigned char": "u8",
    "int": "i32",
    "unsigned int": "u32",
    "long": "i64",
    "unsigned long": "u64",
    "long long": "i64",
    "unsigned long long": "u64",
    "size_t": "u64",
    "ssize_t": "i64",
    "double": "double",
}

# the release of the first bundled table: a number once given keeps its meaning, as long as
# processes run with an older enforcer
FIRST = (11, 3, 0)
_READ_PERMISSIONS = re.compile(r"(getattr|read|search-[\w-]+)\Z")
_BITS = re.compile(r"\b(bitwise|binary)[- ]or\b|\bbitset\b", re.IGNORECASE)


class Described(NamedTuple):
    """What one or more directories say; constants keep their sentinels."""

    functions: dict[str, tuple[str, ElementTree.Element]]  # name -> library, <function>
    constants: dict[str, dict[str, int]]  # enum -> name -> value
    flag_enums: set[str]  # those that the headers write as 1 << n
    structs: dict[str, tuple[tuple[str, str], ...]]
    field_texts: dict[str, str]  # "virDomainInfo.state" -> its description
    typedefs: dict[str, str]
    functypes: set[str]
    # the newest release that something is marked with; () if nothing is described
    libvirt: tuple[int, ...]
    warnings: list[str]


def read_xml(directory: Path) -> Described:
    """Parse the API description of one libvirt release; files that are missing are left out,
    broken ones are warned about.
    """
    found = Described({}, {}, set(), {}, {}, {}, set(), (), [])
    macros: dict[str, str] = {}
    texts: dict[str, tuple[str, str]] = {}  # constant -> enum, value as written
    versions = []
    for name, library in XML_FILES.items():
        path = directory / name
        if not path.is_file():
            continue
        try:
            symbols = ElementTree.parse(path).findall("./symbols/*")
        except (OSError, LookupError, ValueError, ElementTree.ParseError) as error:
            found.warnings.append(f"{path}: {error}")
            continue
        for symbol in symbols:
            _add_symbol(found, symbol, library, texts, macros)
            versions.append(_version(symbol.get("version", "")))
    written = macros | {name: text for name, (_, text) in texts.items()}
    for constant, (enum, text) in texts.items():
        value = _number(text, written)
        if value is not None:
            found.constants.setdefault(enum, {})[constant] = value
    for name, fields in found.structs.items():
        found.structs[name] = tuple(
            (field, _field_type(ctype, found.typedefs, macros)) for field, ctype in fields
        )
    return found._replace(libvirt=max(versions, default=()))


def _add_symbol(
    found: Described,
    symbol: ElementTree.Element,
    library: str,
    texts: dict[str, tuple[str, str]],
    macros: dict[str, str],
) -> None:
    name, ctype = symbol.get("name", ""), symbol.get("type", "")
    if symbol.tag == "function":
        found.functions[name] = (library, symbol)
    elif symbol.tag == "enum":
        texts[name] = (ctype, symbol.get("value", ""))
        if "value_bitshift" in symbol.attrib:
            found.flag_enums.add(ctype)
    elif symbol.tag == "struct":
        fields = symbol.findall("field")
        if fields:  # handles are opaque
            found.structs[name] = tuple(
                (field.get("name", ""), field.get("type", "")) for field in fields
            )
            found.field_texts.update(
                {f"{name}.{field.get('name', '')}": field.get("info", "") for field in fields}
            )
    elif symbol.tag == "typedef":
        found.typedefs[name] = ctype
    elif symbol.tag == "functype":
        found.functypes.add(name)
    elif symbol.tag == "macro":
        macros[name] = symbol.get("raw", "")


def merge(older: Described, newer: Described) -> Described:
    """Both together; where both describe something, the newer one is right."""
    constants = {
        enum: {**older.constants.get(enum, {}), **newer.constants.get(enum, {})}
        for enum in older.constants | newer.constants
    }
    return Described(
        older.functions | newer.functions,
        constants,
        older.flag_enums | newer.flag_enums,
        older.structs | newer.structs,
        older.field_texts | newer.field_texts,
        older.typedefs | newer.typedefs,
        older.functypes | newer.functypes,
        max(older.libvirt, newer.libvirt),
        older.warnings + newer.warnings,
    )


def functions(described: Described, needs_write: Mapping[str, str]) -> list[Function]:
    """All functions, numbered by library and name, those of later releases than FIRST behind them,
    release by release.

    `needs_write` says always, conditional or no, where it is known.
    """
    values = {
        name: value
        for constants in described.constants.values()
        for name, value in constants.items()
    }
    order = list(XML_FILES.values())

    def place(
        item: tuple[str, tuple[str, ElementTree.Element]],
    ) -> tuple[tuple[int, ...], int, str]:
        name, (library, element) = item
        return max(FIRST, _version(element.get("version", ""))), order.index(library), name

    found = sorted(described.functions.items(), key=place)
    result = []
    for number, (name, (library, element)) in enumerate(found):
        returned = element.find("return")
        ctype, text = (
            ("void", "")
            if returned is None
            else (returned.get("type", "void"), returned.get("info", ""))
        )
        function = Function(
            number,
            name,
            library,
            element.get("version", ""),
            _result(described, name, ctype, text),
            tuple(_param(described, name, arg, element) for arg in element.findall("arg")),
            _access(name, needs_write.get(name), element),
            _failure(name, ctype, text),
        )
        result.append(
            function._replace(
                write_when=_write_when(name, values) if function.access == "conditional" else None
            )
        )
    return result


def enums(described: Described, used: Iterable[Function]) -> dict[str, Enum]:
    """All enums by name, and those that arguments of `used` combine or reduce; without
    sentinels, ascending.
    """
    params = [param for function in used for param in function.params if param.enum]
    as_flags = {param.enum for param in params if param.flags}
    result = {}
    for name in sorted(described.constants.keys() | {param.enum or "" for param in params}):
        constants: dict[str, int] = {}
        for part in name.split("|"):
            base, _, without = part.partition("-")
            constants |= {
                k: v
                for k, v in _without_sentinel(described.constants[base]).items()
                if k != without
            }
        is_flags = name in as_flags or name in described.flag_enums
        result[name] = Enum(
            name, dict(sorted(constants.items(), key=lambda item: (item[1], item[0]))), is_flags
        )
    return result


def field_enums(described: Described) -> dict[str, str]:
    """Which enum a struct's field holds, by "struct.field"."""
    result = {}
    for struct, fields in described.structs.items():
        for field, ctype in fields:
            place = f"{struct}.{field}"
            known = _named_enums(described, described.field_texts[place])
            name = amendments.FIELD_ENUM.get(place, known[0] if known else None)
            if name in described.constants and ctype in _SCALARS:
                result[place] = name
    return result


def _param(
    described: Described, function: str, arg: ElementTree.Element, element: ElementTree.Element
) -> Param:
    name, ctype, text = arg.get("name", ""), arg.get("type", ""), arg.get("info", "")
    kind = amendments.KIND.get((function, name)) or _kind(described, ctype, name)
    enum, flags = None, name == "flags" or bool(_BITS.search(text))
    if (function, name) in amendments.ENUM:
        enum, flags = amendments.ENUM[function, name]
    elif kind in SCALAR_KINDS or ctype.removesuffix(" *") in _SCALARS:
        known = _named_enums(described, text) or [
            name for name in [ctype] if name in described.constants
        ]
        enum = "|".join(known if flags else known[:1]) or None
    flags = flags and kind in SCALAR_KINDS
    if enum and not all(part.partition("-")[0] in described.constants for part in enum.split("|")):
        enum = None
    direction, length = "in", ""
    if kind == "pointer":
        every = [(other.get("name", ""), other.get("type", "")) for other in element.findall("arg")]
        direction, length = passing(function, name, ctype, every) or ("", "")
    return Param(
        name,
        ctype,
        kind,
        OBJECTS.get(ctype),
        enum,
        flags,
        amendments.is_secret(function, name),
        direction,
        length,
    )


def _result(described: Described, function: str, ctype: str, text: str) -> Result:
    enum = amendments.ENUM.get((function, ""), ("", False))[0]
    kind = "string" if ctype == "char *" else _kind(described, ctype, "")
    return Result(
        ctype,
        kind,
        OBJECTS.get(ctype),
        enum if enum in described.constants else None,
        amendments.is_secret(function, ""),
    )


def _kind(described: Described, ctype: str, name: str) -> str:
    if ctype == "const char *":
        return "xml" if "xml" in name.lower() or name == "srcSpec" else "string"
    for _ in range(8):  # a typedef of a typedef; a limit, because they could go round in circles
        if ctype in OBJECTS:
            return "handle"
        if ctype in described.functypes:
            return "callback"
        if ctype in _SCALARS or ctype == "void":
            return _SCALARS.get(ctype, "void")
        if ctype.endswith(("*", "* const")):
            return "pointer"
        ctype = described.typedefs.get(ctype, "")
        if ctype == "enum":
            return "i32"
    return "raw"


def _access(name: str, needs_write: str | None, element: ElementTree.Element) -> str:
    if name in amendments.ACCESS:
        return amendments.ACCESS[name]
    if amendments.is_plumbing(name):
        return "plumbing"
    if needs_write is not None:
        return {"always": "write", "conditional": "conditional", "no": "read"}[needs_write]
    # newer than api_access.tsv: only what libvirt itself always calls reading is trusted to be that
    checks = element.findall("./acls/check")
    return (
        "read"
        if checks and all(_READ_PERMISSIONS.match(check.get("perm", "")) for check in checks)
        else "write"
    )


def _failure(name: str, ctype: str, text: str) -> str:
    if name in amendments.FAILURE or ctype == "void":
        return amendments.FAILURE.get(name, "none")
    if ctype.startswith("unsigned ") and not ctype.endswith("*"):
        return "zero" if re.search(r"\b0 in case of (error|failure)", text) else "none"
    return "null" if ctype.endswith(("*", "Ptr")) else "negative"


def _write_when(name: str, values: Mapping[str, int]) -> WriteWhen | None:
    argument, how, constants = amendments.WRITE_WHEN.get(name, ("", "", ()))
    if not constants or not values.keys() >= set(constants):
        return None
    if how == "equals":
        return WriteWhen(argument, equals=values[constants[0]])
    return WriteWhen(argument, any_bits=sum(values[constant] for constant in constants))


def _named_enums(described: Described, text: str) -> list[str]:
    return [
        name for name in dict.fromkeys(re.findall(r"\bvir\w+", text)) if name in described.constants
    ]


def _without_sentinel(constants: Mapping[str, int]) -> dict[str, int]:
    """Without what counts the others (VIR_..._LAST); VIR_NETWORK_UPDATE_COMMAND_ADD_LAST is a
    real one and stays.
    """
    top = max(constants.values())
    return {
        name: value
        for name, value in constants.items()
        if value != top or not name.endswith(SENTINELS)
    }


def _number(text: str, known: Mapping[str, str]) -> int | None:
    """The value of a constant: a number, "(36+1)", or another constant's name."""
    for _ in range(8):  # names of names; a limit, because they could go round in circles
        text = text.strip().removeprefix("(").removesuffix(")")
        if text not in known:
            break
        text = known[text]
    parts = text.split("+")
    return (
        sum(int(part) for part in parts)
        if all(re.fullmatch(r"\s*-?[0-9]{1,20}\s*", part) for part in parts)
        else None
    )


def _field_type(ctype: str, typedefs: Mapping[str, str], macros: Mapping[str, str]) -> str:
    """A field's type with typedefs of numbers resolved; an array as "char[80]"."""
    array = re.fullmatch(r"(.+?)\s*\b\w+\[(.+)\]", ctype)
    if array:
        return f"{array[1]}[{_number(array[2], macros)}]"
    target = typedefs.get(ctype, "")
    return "int" if target == "enum" else target if target in _SCALARS else ctype


def _version(text: str) -> tuple[int, ...]:
    return (
        tuple(int(part) for part in text.split("."))
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})*", text)
        else ()
    )
