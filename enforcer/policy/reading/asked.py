# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a rule asks of arguments: flags, texts and elements of documents."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence

from enforcer.policy.reading.entries import Entries, Entry
from enforcer.policy.rules import Globs, flag_constants, nearest
from enforcer.policy.sources import sources_of, takes_document
from log.quote import quote
from probes.api.table import ApiTable

FLAG_KEYS = ("any", "all", "none")
# libvirt goes by names without their prefix
_ELEMENT = re.compile(r"""([A-Za-z_][\w.-]*)(?:\[@([A-Za-z_][\w.-]*)=(?:'([^'\1]*)')\])?""")


def uuids_of(entries: Entries, entry: Entry) -> Globs | None:
    """A list of UUIDs."""
    found = entries.globs(entry, "uuid")
    for value in (*found.yes, *found.no) if found else ():
        try:
            uuid.UUID(value)
        except ValueError:
            entries.wrong(f"{quote(value)} is no UUID", "uuid", value)
    return found


def flags_of(
    entries: Entries, entry: Entry, functions: Sequence[str], table: ApiTable
) -> dict[str, tuple[str, ...]]:
    """{any|all|none = [constants]}: each a flag of a function that the rule covers.

    Where one is 0, no bit tells whether a call has it.
    """
    value = entry.get("flags")
    if value is None:
        return {}
    if not isinstance(value, dict) or not value:
        entries.wrong("flags is a table with any, all or none", "flags")
        return {}
    known: dict[str, int] = {}
    for function in functions:
        known |= flag_constants(table.by_name[function], table)
    found: dict[str, tuple[str, ...]] = {}
    for key in value:
        if key not in FLAG_KEYS:
            entries.wrong(f"flags has any, all and none, not {quote(key)}", "flags", key)
            continue
        found[key] = entries.strings(value, key, f"flags.{key}") or ()
        for name in found[key]:
            if functions and name not in known:
                entries.wrong(
                    f"no function of this rule has the flag {quote(name)}{nearest(name, known)}",
                    "flags",
                    name,
                )
            elif known.get(name) == 0:
                entries.wrong(
                    f"{quote(name)} is 0, so no call can be told by it: say none = [...], with "
                    "the flags that are not to be set",
                    "flags",
                    name,
                )
    return found


def contains_of(
    entries: Entries, entry: Entry, functions: Sequence[str], table: ApiTable
) -> dict[str, tuple[str, ...]]:
    """{ARGUMENT = [texts]}: each argument a string of a function that the rule covers."""
    value = entry.get("contains")
    if value is None:
        return {}
    if not isinstance(value, dict) or not value:
        entries.wrong("contains is a table: argument = [texts]", "contains")
        return {}
    known = {
        p.name
        for function in functions
        for p in table.by_name[function].params
        if p.kind in ("string", "xml")
    }
    known |= (
        {"xml"}
        if any(p.kind == "xml" for f in functions for p in table.by_name[f].params)
        else set()
    )
    known |= (
        {"xml"}
        if any(
            source.kind == "params" for f in functions for source in sources_of(table.by_name[f])
        )
        else set()
    )
    for name in value:
        if functions and name not in known:
            entries.wrong(
                f"no function of this rule has a text {quote(name)}{nearest(name, known)}",
                "contains",
                name,
            )
    return {name: entries.strings(value, name, f"contains.{name}") or () for name in value}


def elements_of(
    entries: Entries, entry: Entry, functions: Sequence[str], table: ApiTable
) -> tuple[tuple[str, ...], ...]:
    """A list of "NAME" or "NAME[@ATTRIBUTE='VALUE']"."""
    found = []
    for value in entries.strings(entry, "element") or ():
        parts = _ELEMENT.fullmatch(value)
        if parts is None:
            entries.wrong(
                f"{quote(value)} is no element: say hostdev, or interface[@type='hostdev']",
                "element",
                value,
            )
        else:
            found.append(tuple(part for part in parts.groups() if part is not None))
    if found and functions and not any(takes_document(table.by_name[name]) for name in functions):
        entries.wrong("no function of this rule takes an XML document", "element")
    return tuple(found)
