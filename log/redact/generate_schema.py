# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes schema.json, which places of libvirt's documents hold no secret: libvirt's published
schemas of several releases come in.

    python3 -m log.redact.generate_schema --schemas DIR [--schemas DIR ...] -o
    log/redact/schema.json

A place is an element in its parent, its text or one of its attributes. Where the schema has a
number, a word of a list or a pattern, the value is harmless unless HIDDEN says otherwise; where it
has any text, HARMLESS or HIDDEN must say which. Each line of the table is "parent/element" with the
attributes that are shown; "." is the text, "#" before a name: only a number is shown, "=": only one
of `words`. The bundled table is made from the schemas of libvirt 9.0, 11.3 and 12.8.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from log.redact.marker import words

_NS = "{http://relaxng.org/ns/structure/1.0}"
_NUMBERS = words(
    """int integer long short double decimal unsignedInt unsignedLong unsignedShort unsignedByte
    positiveInteger nonNegativeInteger"""
)
# a pattern in the schemas
UNITS = words(
    "b byte bytes B " + " ".join(f"{power} {power}B {power}iB {power}b" for power in "kKmMgGtTpPeE")
)
Defines = dict[str, list[ET.Element]]

# globs of "parent/element@attribute", or "parent/element" for its text
HIDDEN = words("""
    *@passwd */cookie */oemStrings* sysinfo/* oemStrings/* bios/* baseBoard/* chassis/* system/entry
    */entry launchSecurity/* sev/cpu0Id */description */title *@comment */txt@value *@query
    */bootloader_args os/cmdline os/initarg os/initenv os/initenv@* */auth@username
    devices/graphics@username */certificate lease/key
""")
# any text there, and what it is
HARMLESS = words("""
    arch/machine arch/machine@canonical domain/machine* domainCapabilities/* domain/bootloader
    inactiveDomain/bootloader audio/input@* audio/output@* devices/audio@serverName backend/source@*
    channel/source@* console/source@* parallel/source@* redirdev/source@* serial/source@*
    smartcard/source@* */source@fdgroup */source@name */source@tlsHostname */source@mode
    */source@path */source@host */source@service */source@channel */source@master */source@slave
    */source@network */source@portgroupid */target@* auth/secret@* encryption/secret@usage
    encryption/cipher@* encryption/ivgen@* capability/* cpu/* cputune/cachetune@id device/*
    devices/graphics@display devices/graphics@xauth devices/graphics@keymap
    devices/graphics@passwdValidTo dhcp/host@name */enum@name enum/value disks/disk@* dns/srv@*
    */seclabel@model seclabel/* secmodel/* domainbackup/incremental domainsnapshot/creationTime
    domainsnapshot/name driver/name filesystem/target@dir */filterref@filter filterbinding/*
    firmware/* hardware/* format/* graphics/listen@network hostdev/* initiator/iqn@name
    interface/source@* iotune/group_name */group_name ip/tftp@root lease/lockspace lease/target@path
    loader/value mode/* network/name owner/name parent/name permissions/label poolOptions/*
    volOptions/* source/adapter@* source/host@name source/name source/product@name
    source/vendor@name source/protocol@ver storagepoolCapabilities/* target/path type/name
    virtualport/parameters@profileid volume/key /filter@name /secret@usage throttlegroups/*
    throttlefilters/* blockers/feature@name members/* os/shim */iommufd@fdgroup */server@fdgroup
    */energytune@id defaults/vendor_id */driver@* */product@name */vendor@name */model*
    */reservations*
""")


def load(folder: Path) -> tuple[Defines, list[ET.Element]]:
    """The definitions of all schemas in the folder, and the elements that documents begin with."""
    defines: Defines = defaultdict(list)
    starts: list[ET.Element] = []
    for path in sorted(folder.glob("*.rng")):
        for node in ET.parse(path).getroot().iter():
            if node.tag == f"{_NS}define":
                defines[node.get("name", "")].append(node)
            elif node.tag == f"{_NS}start":
                starts.append(node)
                defines[f"start of {path.name}"].append(node)
    if not starts:
        raise ValueError(f"no schemas in {folder}")
    return defines, starts


def _direct(
    node: ET.Element, defines: Defines, seen: frozenset[str] = frozenset()
) -> Iterator[tuple[str, ET.Element]]:
    """What an element or attribute is made of, up to the next element."""
    for child in node:
        kind = child.tag.removeprefix(_NS)
        if kind in ("element", "attribute", "text", "data", "value", "list"):
            yield kind, child
        elif kind == "ref":
            name = child.get("name", "")
            for define in () if name in seen else defines[name]:
                yield from _direct(define, defines, seen | {name})
        elif kind == "include":  # of a whole document in another
            for start in defines[f"start of {child.get('href')}"]:
                yield from _direct(start, defines, seen)
        elif kind not in ("define", "start", "name", "except", "anyName"):
            yield from _direct(child, defines, seen)


def _contents(node: ET.Element, defines: Defines) -> set[str]:
    """What the text may be: "any", "number", "pattern", or a "word" of a list."""
    found = set()
    for kind, child in _direct(node, defines):
        if kind == "list":
            found |= _contents(child, defines)
        elif kind == "data":
            has_pattern = any(param.get("name") == "pattern" for param in child)
            found.add(
                "number" if child.get("type") in _NUMBERS else "pattern" if has_pattern else "any"
            )
        elif kind in ("text", "value"):
            found.add("any" if kind == "text" else "word")
    return found


def places(folder: Path) -> dict[str, set[str]]:
    """Every place of the schemas in the folder with what may be there; "parent/element" itself
    is always one, maybe with nothing.
    """
    defines, starts = load(folder)
    found: defaultdict[str, set[str]] = defaultdict(set)
    done: set[tuple[str, int]] = set()

    def walk(parent: str, node: ET.Element) -> None:
        inner = node.find(f"{_NS}name")
        name = node.get("name") or (inner.text if inner is not None else None)
        if node.get("ns") or not name or (parent, id(node)) in done:
            return
        done.add((parent, id(node)))
        place = f"{parent}/{name}"
        found[place] |= _contents(node, defines)
        for kind, child in _direct(node, defines):
            if kind == "element":
                walk(name, child)
            elif kind == "attribute" and child.get("name") and not child.get("ns"):
                found[f"{place}@{child.get('name')}"] |= _contents(child, defines) or {"any"}

    for start in starts:
        for kind, child in _direct(start, defines):
            if kind == "element":
                walk("", child)
    return found


def is_shown(place: str, contents: set[str]) -> bool:
    """Whether what is there is no secret. ValueError where nobody has decided it."""
    hidden, harmless = (
        any(fnmatch.fnmatchcase(place, glob) for glob in globs) for globs in (HIDDEN, HARMLESS)
    )
    if "any" in contents and not hidden and not harmless:
        raise ValueError(f"{place}: any text may be there; is it HARMLESS or HIDDEN?")
    return bool(contents) and not hidden


def words_of(folder: Path) -> set[str]:
    """All words of lists in the schemas."""
    return {
        (value.text or "").strip()
        for path in folder.glob("*.rng")
        for value in ET.parse(path).getroot().iter(f"{_NS}value")
        if value.text
    }


def mark(attribute: str, contents: set[str]) -> str:
    """What limits the values that are shown."""
    return (
        "#"
        if contents == {"number"}
        else "="
        if contents <= {"number", "word"} or attribute == "unit"
        else ""
    )


def generate(folders: Iterable[Path]) -> str:
    """The text of schema.json."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    known: set[str] = {*UNITS, "test"}  # a type of domains that no schema has
    for folder in folders:
        known |= words_of(folder)
        for place, contents in places(folder).items():
            found[place] |= contents
    table: defaultdict[str, list[str]] = defaultdict(list)
    for place, contents in sorted(found.items()):
        element, _, attribute = place.partition("@")
        table[element] += (
            [mark(attribute, contents) + (attribute or ".")] if is_shown(place, contents) else []
        )
    lines = ",\n".join(
        f"{json.dumps(element)}: {json.dumps(' '.join(shown))}"
        for element, shown in sorted(table.items())
    )
    return f'{{"words": {json.dumps(sorted(known))},\n"places": {{\n{lines}\n}}}}\n'


def main() -> None:
    """Write the table, or say what is undecided."""
    parser = argparse.ArgumentParser(
        description="Make the table of harmless places in libvirt's documents."
    )
    parser.add_argument(
        "--schemas",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="where domain.rng is (repeatable)",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    chosen = parser.parse_args()
    chosen.output.write_text(generate(chosen.schemas))


if __name__ == "__main__":
    main()
