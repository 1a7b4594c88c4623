# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads policies: the text of a TOML file comes in; rules come out, or errors that say where
and what was probably meant.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from enforcer.policy.never import never_matching
from enforcer.policy.reading.asked import contains_of, elements_of, flags_of, uuids_of
from enforcer.policy.reading.covered import Covered
from enforcer.policy.reading.entries import Entries, Entry
from enforcer.policy.reading.lines import Lines
from enforcer.policy.reading.people import people_of
from enforcer.policy.reading.tests import cases_of
from enforcer.policy.rules import ACTIONS, Policy, PolicyError, Rule, nearest
from log.quote import quote
from probes.api.table import ApiTable

MODES = ("enforce", "audit")
ON_ERROR = ("allow", "deny")
TOP = ("mode", "on_error", "rule", "test")
KEYS = (
    "name", "action", "function", "class", "object", "uuid", "user", "group", "uri", "readonly",
    "exe", "flags", "contains", "element", "message",
)  # fmt: skip
MESSAGE_MAX, NAME_MAX = 400, 200  # bytes; the library cuts an error's text at 511


def read_policy(text: str, origin: str, table: ApiTable) -> Policy:
    """The policy; PolicyError with every mistake in it."""
    try:
        document = tomllib.loads(text)
    except RecursionError as error:
        raise PolicyError(f"{origin}:1: what is in it is nested too deeply") from error
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(where[1]) if where else text.count("\n") + 1
        message = re.sub(r" \(at (?:line \d+, column \d+|end of document)\)", "", str(error))
        raise PolicyError(f"{origin}:{line}: {message[:1].lower()}{message[1:]}") from error
    except ValueError as error:  # of Python's int()
        raise PolicyError(f"{origin}:1: a number in it is too long") from error
    return _Reader(document, Lines(text), origin, table).read()


class _Reader:
    """Reads one document and collects what is wrong with it."""

    def __init__(
        self, document: Mapping[str, Any], lines: Lines, origin: str, table: ApiTable
    ) -> None:
        self._document, self._origin, self._table = document, origin, table
        self._entries = Entries(lines)
        self._covered = Covered(self._entries, table)

    def read(self) -> Policy:
        """The policy."""
        entries = self._entries
        for key in self._document:
            if key not in TOP:
                entries.wrong(f"unknown key {quote(key)}{nearest(key, TOP)}", key)
        mode = entries.word(self._document, "mode", MODES, "enforce")
        on_error = entries.word(self._document, "on_error", ON_ERROR, "allow")
        rules = self._rules()
        names: set[str] = set()
        for rule in rules:
            if rule.name in names:
                entries.errors.append((rule.line, f"there is another rule {quote(rule.name)}"))
            names.add(rule.name)
        cases = cases_of(entries, self._document, names, self._table, self._covered.names)
        if entries.errors:
            raise PolicyError(
                *(f"{self._origin}:{line}: {message}" for line, message in sorted(entries.errors))
            )
        warnings = tuple(
            f"{self._origin}:{line}: {message}"
            for line, message in never_matching(rules, self._table)
        )
        return Policy(self._origin, mode, on_error, tuple(rules), warnings, cases)

    def _rules(self) -> list[Rule]:
        """Those without a mistake."""
        given = self._document.get("rule", [])
        if not isinstance(given, list) or not all(isinstance(entry, dict) for entry in given):
            self._entries.wrong("rules begin with [[rule]]", "rule")
            return []
        rules = []
        for number, entry in enumerate(given):
            self._entries.begin(number, "rule")
            before = len(self._entries.errors)
            rule = self._rule(entry)
            if len(self._entries.errors) == before:
                rules.append(rule)
        return rules

    def _rule(self, entry: Entry) -> Rule:
        """One [[rule]]."""
        entries = self._entries
        for key in entry:
            if key not in KEYS:
                entries.wrong(f"unknown key {quote(key)}{nearest(key, KEYS)}", key)
        name, message = entry.get("name"), entry.get("message", "")
        if not isinstance(name, str) or not name:
            entries.wrong("a rule has a name", "name")
            name = ""
        elif not _is_line(name, NAME_MAX):
            entries.wrong(f"name is a line of at most {NAME_MAX} bytes", "name")
        if not isinstance(message, str) or not _is_line(message, MESSAGE_MAX):
            entries.wrong(f"message is a line of at most {MESSAGE_MAX} bytes", "message")
            message = ""
        if "action" not in entry:
            entries.wrong(f"rule {quote(name)} has no action")
        action = entries.word(entry, "action", ACTIONS, "deny")
        functions, access, wide = self._covered.of(entry, name, action)
        readonly = entry.get("readonly")
        if readonly is not None and not isinstance(readonly, bool):
            entries.wrong("readonly is true or false", "readonly")
        return Rule(
            name=name,
            action=action,
            functions=functions,
            access=access,
            objects=entries.globs(entry, "object"),
            uuids=uuids_of(entries, entry),
            people=people_of(entries, entry),
            uris=entries.globs(entry, "uri"),
            readonly=readonly,
            exes=entries.globs(entry, "exe"),
            flags=flags_of(entries, entry, functions, self._table),
            contains=contains_of(entries, entry, functions, self._table),
            elements=elements_of(entries, entry, functions, self._table),
            message=message,
            line=entries.line,
            globs=tuple(
                glob
                for glob in entries.strings(entry, "function") or ()
                if not glob.startswith("!")
            ),
            wide=wide,
        )


def _is_line(text: str, most: int) -> bool:
    """Whether it can be shown as it is: of so many bytes, without what moves or hides text."""
    return len(text.encode()) <= most and text.isprintable()
