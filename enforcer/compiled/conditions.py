# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a rule asks of a call: the rule and a function come in; the conditions that the library and
the judge look at go out.

A rule whose meaning differs between its functions (a flag has another bit, an argument another
place) has conditions of its own for each.
"""

from __future__ import annotations

import fnmatch
import functools
import itertools
import operator
from typing import NamedTuple

from enforcer.compiled.layout import (
    ARG_DIFFERS,
    ARG_EQUALS,
    CONTAINS,
    CONTAINS_XML,
    FLAGS_ALL,
    FLAGS_ANY,
    FLAGS_NONE,
    HAS_ELEMENT,
    IN_PARAMS,
    IS_EXE,
    IS_OBJECT,
    IS_READONLY,
    IS_URI,
    IS_USER,
    IS_UUID,
    ROWS_MAX,
)
from enforcer.policy.arrivals import INCOMING, only_where_it_stays
from enforcer.policy.rules import ALL_IF_NONE, Rule, flag_arguments
from enforcer.policy.sources import names_objects, sources_of
from log.recent import by_identity
from probes.api.table import ApiTable, Function


class Condition(NamedTuple):
    """One thing that a rule asks for, as the library asks it."""

    kind: int
    argument: int = 0
    yes: tuple[object, ...] = ()
    no: tuple[object, ...] = ()
    value: int = 0


def asked(rule: Rule, table: ApiTable) -> list[tuple[list[Function], tuple[Condition, ...]]]:
    """Functions of the rule, and what it asks of calls of these; without those that it can't
    match.
    """
    alike: dict[object, list[Function]] = {}
    for name in rule.functions:
        function = table.by_name[name]
        with_flags, without = _likeness(function)
        key: object = (
            name if rule.contains or rule.elements else with_flags if rule.flags else without
        )
        alike.setdefault(key, []).append(function)
    return [
        (functions, conditions)
        for functions in alike.values()
        for conditions in variants_for(rule, functions[0], table)
    ]


@by_identity(ROWS_MAX)
def _likeness(function: Function) -> tuple[object, object]:
    """What tells functions apart for a rule that asks for flags, and for one that doesn't;
    neither for texts or elements.
    """
    when = _is_class("write", function) if function.access == "conditional" else None
    others = names_objects(function), when, function.name if function.name in INCOMING else None
    flags = tuple((i, p.name, p.enum) for i, p in enumerate(function.params) if p.flags)
    return (flags, *others), others


def variants_for(rule: Rule, function: Function, table: ApiTable) -> list[tuple[Condition, ...]]:
    """What the rule asks of calls of that function; none: it can't match them."""
    found = [Condition(IS_USER, yes=people.yes, no=people.no) for people in rule.people]
    if rule.access and function.access == "conditional":
        found.append(_is_class(rule.access, function))
    if rule.readonly is not None:
        found.append(Condition(IS_READONLY, value=int(rule.readonly)))
    if (rule.objects or rule.uuids) and not names_objects(function):
        return []
    texts = _texts(rule, function)
    if texts is None:
        return []
    if _is_about_defining(rule, function):
        found += [
            Condition(FLAGS_ANY, place, value=constants["VIR_MIGRATE_PERSIST_DEST"])
            for place, constants in flag_arguments(function, table).items()
        ]
    for kind, globs in (
        (IS_OBJECT, rule.objects),
        (IS_UUID, rule.uuids),
        (IS_URI, rule.uris),
        (IS_EXE, rule.exes),
    ):
        if globs is not None:
            found.append(Condition(kind, yes=globs.yes, no=globs.no))
    return [(*found, *flags, *texts) for flags in _flags(rule, function, table)]


def _is_about_defining(rule: Rule, function: Function) -> bool:
    """Whether the function is an incoming migration that the rule covers only where it leaves a
    definition.
    """
    is_named = not rule.globs or any(
        fnmatch.fnmatchcase(function.name, glob) for glob in rule.globs
    )
    return not is_named and only_where_it_stays(function.name, rule.functions)


def _flags(rule: Rule, function: Function, table: ApiTable) -> list[tuple[Condition, ...]]:
    """What it asks of the flags, in one way or another; none: they can't be so."""
    if not rule.flags:
        return [()]
    arguments = flag_arguments(function, table)
    keys = []  # for each key of the rule, the ways to have what it asks for
    for key, kind in (("any", FLAGS_ANY), ("all", FLAGS_ALL), ("none", FLAGS_NONE)):
        names = rule.flags.get(key, ())
        asked = {
            place: functools.reduce(
                operator.or_, (constants[name] for name in names if name in constants), 0
            )
            for place, constants in arguments.items()
        }
        known = {name for constants in arguments.values() for name in constants}
        if key == "all" and not known.issuperset(names):
            return []
        of_each = [
            _of_argument(kind, place, bits, function.params[place].name in ALL_IF_NONE)
            for place, bits in asked.items()
            if bits
        ]
        if key == "any" and names:
            keys.append([way for ways in of_each for way in ways])
        else:
            keys += of_each
    return [tuple(itertools.chain(*ways)) for ways in itertools.product(*keys)]


def _of_argument(
    kind: int, place: int, bits: int, all_if_none: bool
) -> list[tuple[Condition, ...]]:
    """The ways in which one argument has what is asked for."""
    asked = Condition(kind, place, value=bits)
    if not all_if_none:
        return [(asked,)]
    if kind == FLAGS_NONE:
        return [(asked, Condition(ARG_DIFFERS, place, value=0))]
    return [(asked,), (Condition(ARG_EQUALS, place, value=0),)]


def _texts(rule: Rule, function: Function) -> list[Condition] | None:
    """What its texts must contain; None: the function has no such text."""
    found = []
    for name, texts in rule.contains.items():
        params = [
            (i, param)
            for i, param in enumerate(function.params)
            if param.kind in ("string", "xml") and "cookie" not in param.name
        ]
        # "xml" is the document, whatever its argument is called
        chosen = [p for p in params if p[1].name == name] or [
            p for p in params if name == "xml" and p[1].kind == "xml"
        ]
        if chosen:
            at, param = chosen[0]
            found.append(
                Condition(CONTAINS_XML if param.kind == "xml" else CONTAINS, at, yes=texts)
            )
        elif name == "xml" and (place := document_in_params(function)) is not None:
            found.append(Condition(CONTAINS_XML, place, yes=texts))
        else:
            return None
    if rule.elements:
        document = document_at(function)
        if document is None:
            return None
        found.append(
            Condition(
                HAS_ELEMENT, document, yes=tuple("\1".join(element) for element in rule.elements)
            )
        )
    return found


def document_at(function: Function) -> int | None:
    """Where its XML document is, as a condition has it; None: it takes none."""
    documents = [
        i
        for i, param in enumerate(function.params)
        if param.kind == "xml" and "cookie" not in param.name
    ]
    return documents[0] if documents else document_in_params(function)


def document_in_params(function: Function) -> int | None:
    """Where a document among typed parameters is, as a condition has it; None: the function has
    none.
    """
    return next(
        (IN_PARAMS | source.argument for source in sources_of(function) if source.kind == "params"),
        None,
    )


def is_of_class(condition: Condition, rule: Rule, function: Function) -> bool:
    """Whether the condition is what makes a call of the function one of the rule's class."""
    return (
        rule.access is not None
        and function.access == "conditional"
        and condition == _is_class(rule.access, function)
    )


def _is_class(access: str, function: Function) -> Condition:
    when = function.write_when
    assert when is not None
    argument = next(i for i, param in enumerate(function.params) if param.name == when.argument)
    if when.equals is None:
        return Condition(
            FLAGS_ANY if access == "write" else FLAGS_NONE, argument, value=when.any_bits
        )
    return Condition(ARG_EQUALS if access == "write" else ARG_DIFFERS, argument, value=when.equals)


def covered_names(rule: Rule, table: ApiTable) -> list[str]:
    """The functions that the rule can match calls of."""
    names = {function.name for functions, _ in asked(rule, table) for function in functions}
    return [name for name in rule.functions if name in names]
