# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tests that are written in a policy: each [[test]] comes in, checked cases go out."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from enforcer.policy.reading.entries import Entries, Entry
from enforcer.policy.rules import ACTIONS, Case, nearest
from log.quote import quote
from probes.api.table import ApiTable

TEXT_KEYS = (
    "name",
    "function",
    "object",
    "new_name",
    "uuid",
    "user",
    "uri",
    "exe",
    "xml",
    "expect",
    "rule",
)
CASE_KEYS = (*TEXT_KEYS, "readonly", "daemon", "flags")  # of a test


def cases_of(
    entries: Entries,
    document: Mapping[str, Any],
    rules: Set[str],
    table: ApiTable,
    functions: Set[str],
) -> tuple[Case, ...]:
    """Each [[test]]; names of the policy's rules and of functions that can be judged."""
    given = document.get("test", [])
    if not isinstance(given, list) or not all(isinstance(entry, dict) for entry in given):
        entries.begin(-1, "rule")
        entries.wrong("tests begin with [[test]]", "test")
        return ()
    found = []
    for number, entry in enumerate(given):
        entries.begin(number, "test")
        _check(entries, entry, rules, table, functions)
        found.append(Case(entries.line, entry))
    return tuple(found)


def _check(
    entries: Entries, entry: Entry, rules: Set[str], table: ApiTable, functions: Set[str]
) -> None:
    """One [[test]]."""
    for key, value in entry.items():
        if key not in CASE_KEYS:
            entries.wrong(f"unknown key {quote(key)}{nearest(key, CASE_KEYS)}", key)
        elif key in TEXT_KEYS and not isinstance(value, str):
            entries.wrong(f"{key} is a text", key)
        elif key in ("readonly", "daemon") and not isinstance(value, bool):
            entries.wrong(f"{key} is true or false", key)
    flags = entry.get("flags", [])
    if not isinstance(flags, list) or not all(isinstance(flag, str) for flag in flags):
        entries.wrong("flags is a list of constants", "flags")
    if "expect" not in entry:
        entries.wrong('a test says what to expect: expect = "deny"')
    entries.word(entry, "expect", ACTIONS, "deny")
    name, rule = entry.get("function"), entry.get("rule")
    if not isinstance(name, str):
        entries.wrong("a test has a function")
    elif name not in table.by_name:
        entries.wrong(f"unknown function {quote(name)}{nearest(name, functions)}", "function")
    if isinstance(rule, str) and rule not in rules:
        entries.wrong(f"there is no rule {quote(rule)}{nearest(rule, rules)}", "rule", rule)
