# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls that were seen come in; what would allow them goes out, as few rules as can be told to be
meant: a name for itself, names of one shape as a glob, functions on the same objects together, and
many of these as their class.

What destroys, undefines, migrates, tells monitors and agents, or sets passwords stays with the very
objects that it was done to.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

ALIKE = 3  # names of one shape that make a glob
MANY = 6  # functions on the same objects that make a class
ONCE = 1
FEWEST = 2  # characters of a name that a glob keeps
NEVER = (
    "*Destroy*", "*Undefine*", "*Delete*", "*Wipe*", "*Migrate*", "*MonitorCommand*",
    "*AgentCommand*", "*Password*", "*SSHKeys*", "virSecretSetValue", "virDomainQemuAttach",
)  # fmt: skip
_never = re.compile("|".join(glob.replace("*", ".*") for glob in NEVER))
# what differs between names that are made by the dozen: numbers, and parts of UUIDs
_VARYING = re.compile(r"[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}|[0-9]+")
_family = re.compile(r"vir(?:Domain|Network|StoragePool|StorageVol|Secret|NWFilter)(?=[A-Z])")


class Deed(NamedTuple):
    """What somebody did."""

    who: str  # as a policy names him
    function: str
    objects: tuple[str, ...]  # names, as a policy would match them; none: it is about no object


@dataclass
class Evidence:
    """How often it was seen."""

    calls: int = 0
    first: int = 0  # ns
    last: int = 0
    days: set[int] = field(default_factory=set)
    programs: set[str] = field(default_factory=set)

    def add(self, other: Evidence) -> None:
        """Count what was seen of something else, too."""
        self.calls += other.calls
        self.first = min(self.first or other.first, other.first)
        self.last = max(self.last, other.last)
        self.days |= other.days
        self.programs |= other.programs


@dataclass
class Learned:
    """What a rule is to allow, and why."""

    who: str
    functions: tuple[str, ...]
    globs: tuple[str, ...]  # of objects; none: whatever it is about
    evidence: Evidence
    steps: tuple[str, ...] = ()  # how it was made wider than what was seen
    by_class: bool = False  # `functions` are globs, of which only what changes something is meant


class Lesson(NamedTuple):
    """All that was learned."""

    rules: list[Learned]
    once: dict[Deed, Evidence]  # what happened too seldom to be learned


def is_never(function: str) -> bool:
    """Whether it is allowed for the very objects only that it was done to."""
    return _never.fullmatch(function) is not None


def generalise(deeds: Mapping[Deed, Evidence], never: Callable[[str], bool] = is_never) -> Lesson:
    """Rules in the order of who and how often. `never`: what is not made wider."""
    by_function: dict[tuple[str, str], dict[Deed, Evidence]] = defaultdict(dict)
    for deed, evidence in deeds.items():
        by_function[deed.who, deed.function][deed] = evidence
    rules: list[Learned] = []
    once: dict[Deed, Evidence] = {}
    for (who, function), seen in sorted(by_function.items()):
        rules += _of_function(who, function, seen, once, is_narrow=never(function))
    rules = _by_class(_together(rules, never))
    return Lesson(sorted(rules, key=lambda one: (one.who, -one.evidence.calls)), once)


def shape_of(name: str) -> str:
    """The glob of names that differ in numbers only; the name itself, if there are none in it."""
    shape = "*".join(map(literal, _VARYING.split(name)))
    return re.sub(r"\*+", "*", shape) if _VARYING.search(name) else literal(name)


def literal(name: str) -> str:
    """A glob that only the name matches."""
    return re.sub(r"([*?\[])", r"[\1]", name)


def _of_function(
    who: str,
    function: str,
    seen: Mapping[Deed, Evidence],
    once: dict[Deed, Evidence],
    *,
    is_narrow: bool,
) -> list[Learned]:
    """The objects that one function was called on."""
    names = {name for deed in seen for name in deed.objects}
    shapes: dict[str, set[str]] = defaultdict(set)
    for name in names:
        shapes[shape_of(name)].add(name)
    wide = {
        shape: members
        for shape, members in shapes.items()
        if len(members) >= ALIKE and not is_narrow and _says_something(shape)
    }
    covered = {name for members in wide.values() for name in members}
    globs: set[str] = set()
    evidence = Evidence()
    for deed, one in seen.items():
        if one.calls <= ONCE and not (deed.objects and covered.issuperset(deed.objects)):
            once[deed] = one
            continue
        evidence.add(one)
        globs |= {shape_of(name) if name in covered else literal(name) for name in deed.objects}
    if not evidence.calls:
        return []
    steps = tuple(
        f"{_some(members)} -> {shape}" for shape, members in sorted(wide.items()) if shape in globs
    )
    return [Learned(who, (function,), tuple(sorted(globs)), evidence, steps)]


def _says_something(shape: str) -> bool:
    """Whether enough of the name is left to tell it from others."""
    return len(shape.replace("*", "")) >= FEWEST


def _some(names: Iterable[str]) -> str:
    few = sorted(names)
    more = f" and {len(few) - ALIKE} more" if len(few) > ALIKE else ""
    return ", ".join(few[:ALIKE]) + more


def _together(rules: Iterable[Learned], never: Callable[[str], bool]) -> list[Learned]:
    """Functions of one user on the same objects in one rule."""
    found: dict[tuple[object, ...], Learned] = {}
    for one in rules:
        alone = one.functions if never(one.functions[0]) else ()
        key = one.who, one.globs, alone
        if key in found:
            other = found[key]
            other.evidence.add(one.evidence)
            other.functions += one.functions
            other.steps = tuple(dict.fromkeys((*other.steps, *one.steps)))
        else:
            found[key] = one
    return list(found.values())


def _by_class(rules: Iterable[Learned]) -> list[Learned]:
    """Many functions on the same objects are whatever changes such an object."""
    found = []
    for one in rules:
        families = {match[0] for f in one.functions if (match := _family.match(f))}
        if len(one.functions) >= MANY and len(families) == 1 and one.globs:
            (family,) = families
            step = f"{len(one.functions)} functions ({_some(one.functions)}) -> class write"
            one.functions = (f"{family}*", *(f"!{glob}" for glob in NEVER))
            one.by_class, one.steps = True, (*one.steps, step)
        found.append(one)
    return found
