# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a policy is: rules, whom and what they are about, and tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from log.errors import TraceError
from log.quote import quote
from probes.api.table import ApiTable, Function

ACTIONS = ("deny", "audit", "allow")
# arguments that are flags of what is asked for: who sets none asks for everything
ALL_IF_NONE = frozenset({"stats", "types"})


class Globs(NamedTuple):
    """A list that matches what one of `yes` matches (everything, if there are none) and none of
    `no`.
    """

    yes: tuple[str, ...]
    no: tuple[str, ...]


class Principal(NamedTuple):
    """Who a rule is about."""

    kind: str  # "uid", "gid", "sasl", "x509"
    value: int | str


class People(NamedTuple):
    """As Globs, of principals."""

    yes: tuple[Principal, ...]
    no: tuple[Principal, ...]


@dataclass(frozen=True)
class Rule:
    """A rule; None: it says nothing about that."""

    name: str
    action: str
    functions: tuple[str, ...]
    access: str | None  # "write" or "read": only calls of that class
    objects: Globs | None = None
    uuids: Globs | None = None
    people: tuple[People, ...] = ()  # all of them
    uris: Globs | None = None
    readonly: bool | None = None
    exes: Globs | None = None
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    contains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # (NAME,), or (NAME, ATTRIBUTE, VALUE): one is in the XML document
    elements: tuple[tuple[str, ...], ...] = ()
    message: str = ""
    line: int = 0
    globs: tuple[str, ...] = ()  # of functions, as given
    # it names its functions by class or glob, so that it would cover functions that no stub is for
    wide: bool = False


class Case(NamedTuple):
    """A test: a call, and what the policy is expected to say of it."""

    line: int
    fields: Mapping[str, Any]  # by the keys of tests.py


@dataclass(frozen=True)
class Policy:
    """What a file says."""

    origin: str
    mode: str
    on_error: str
    rules: tuple[Rule, ...]
    warnings: tuple[str, ...]
    cases: tuple[Case, ...] = ()


class PolicyError(TraceError):
    """Everything that is wrong with a policy, one line each."""


def nearest(word: str, words: Iterable[str]) -> str:
    """The question at the end of an error: what was probably meant."""
    import difflib  # seldom used, and long to import

    found = difflib.get_close_matches(word, list(words), 1, 0.6)
    return f"; did you mean {quote(found[0])}?" if found else ""


def flag_arguments(function: Function, table: ApiTable) -> dict[int, Mapping[str, int]]:
    """The arguments that are flags, by their places: the constants that each can have."""
    return {
        place: table.enums[param.enum].constants if param.enum else {}
        for place, param in enumerate(function.params)
        if param.flags
    }


def flag_constants(function: Function, table: ApiTable) -> dict[str, int]:
    """The flags that the function can be given, by name."""
    found: dict[str, int] = {}
    for constants in flag_arguments(function, table).values():
        found |= constants
    return found


def conditions(rule: Rule) -> dict[str, object]:
    """What the rule asks for besides its functions, by key."""
    everything = {
        "class": rule.access, "object": rule.objects, "uuid": rule.uuids,
        "people": rule.people or None, "uri": rule.uris, "readonly": rule.readonly,
        "exe": rule.exes, "flags": dict(rule.flags) or None,
        "contains": dict(rule.contains) or None,
        "element": rule.elements or None,
    }  # fmt: skip
    return {key: value for key, value in everything.items() if value is not None}
