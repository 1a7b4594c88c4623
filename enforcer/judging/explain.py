# SPDX-License-Identifier: LGPL-2.1-or-later
"""Says which rule decides about a call and why: a policy and what is known of the call come in,
lines of text go out.

What is not said of the call can't be told, and is settled as the library does: a rule that denies
matches then, others don't.
"""

from __future__ import annotations

import functools
import grp
import operator
import pwd
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from enforcer.compiled.conditions import Condition, document_at, is_of_class, variants_for
from enforcer.compiled.layout import IN_PARAMS, IS_OBJECT, IS_UUID
from enforcer.judging.documents import identity
from enforcer.judging.judge import KEYS, NONE, Facts, Judge, Thing, holds
from enforcer.policy.rules import Policy, Rule, flag_arguments, flag_constants, nearest
from enforcer.policy.sources import NAMING, PARTS, Source, may_have_uuid, role_of, sources_of
from log.errors import TraceError
from log.quote import quote
from probes.api.table import ApiTable, Function


class Supposed(NamedTuple):
    """What is known of a call; None: nothing."""

    function: str
    object: str | None = None  # "NAME", or "POOL/NAME"
    uuid: str | None = None
    user: str | None = None
    uri: str | None = None
    readonly: bool | None = None
    exe: str | None = None
    flags: frozenset[str] | None = None
    xml: str | None = None  # the document; "": the call has none
    new_name: str | None = None  # what the object is to be called; "": the call doesn't say
    in_daemon: bool | None = None  # whether a daemon of root's judges it


class Called(NamedTuple):
    """An object of a call."""

    role: str  # "object", "new name", "document"
    thing: Thing


def explain(policy: Policy, table: ApiTable, question: Supposed) -> list[str]:
    """The verdict, then why each rule before it didn't match."""
    function = table.by_name.get(question.function)
    if function is None:
        raise TraceError(
            "unknown function "
            f"{quote(question.function)}{nearest(question.function, table.by_name)}"
        )
    if function.access == "plumbing":
        return [f"{function.name} is plumbing, which is never judged"]
    called = objects_of(function, question)
    _check(function, question, called)
    return explain_facts(policy, table, facts_of(function, table, question, called), called)


def decide(policy: Policy, table: ApiTable, question: Supposed) -> Rule | None:
    """The rule that decides about a call of a function that is known; None: none does."""
    function = table.by_name[question.function]
    called = objects_of(function, question)
    _check(function, question, called)
    return Judge(policy, table).decide(facts_of(function, table, question, called)).rule


def explain_facts(
    policy: Policy, table: ApiTable, facts: Facts, called: Sequence[Called] = ()
) -> list[str]:
    """The same of a call that is judged; `called`: what its objects are in it."""
    decided = Judge(policy, table).decide(facts).rule
    passed: list[str] = []
    for rule in policy.rules:
        reason, unsure = _mismatch(rule, facts, table, called)
        if rule is decided:
            does = {"deny": "denies", "audit": "audits", "allow": "allows"}[rule.action]
            if rule.action == "deny" and policy.mode == "audit":
                does = "would deny (mode is audit)"
            why = f", since {' and '.join(unsure)} can't be told" if unsure else ""
            message = f": {rule.message}" if rule.message else ""
            return [f"rule {quote(rule.name)} (line {rule.line}) {does} it{why}{message}", *passed]
        if reason is None:
            reason = f"{' and '.join(unsure)} can't be told"
        passed.append(f"  rule {quote(rule.name)} (line {rule.line}) doesn't match: {reason}")
    return ["no rule matches: it is allowed", *passed]


def _mismatch(
    rule: Rule, facts: Facts, table: ApiTable, called: Sequence[Called]
) -> tuple[str | None, list[str]]:
    """Why the rule doesn't match, or what can't be told."""
    if facts.function.name not in rule.functions:
        return "it doesn't cover the function", []
    reasons, doubts = [], []
    for conditions in variants_for(rule, facts.function, table):
        reason, unsure = _variant_mismatch(conditions, rule, facts, called)
        if reason is None and not unsure:
            return None, []
        if reason is None:
            doubts.append(unsure)
        else:
            reasons.append(reason)
    if doubts:
        return None, doubts[0]
    return next(iter(reasons), "the function has nothing of what it asks for"), []


def _variant_mismatch(
    conditions: Sequence[Condition], rule: Rule, facts: Facts, called: Sequence[Called]
) -> tuple[str | None, list[str]]:
    unsure: list[str] = []
    for condition in conditions:
        answer = holds(condition, facts, rule.action)
        key = "class" if is_of_class(condition, rule, facts.function) else KEYS[condition.kind]
        if answer is False:
            return _reason(key, condition), []
        if answer is not True:
            roles = _unsure_of(condition, rule, facts, called)
            unsure += [f"the {_PLACES[role].format(key)}" for role in roles] or [f"the {key}"]
    return None, list(dict.fromkeys(unsure))


def _unsure_of(
    condition: Condition, rule: Rule, facts: Facts, called: Sequence[Called]
) -> list[str]:
    """Which objects, besides the one that the call is about, it can't be told of."""
    if condition.kind not in (IS_OBJECT, IS_UUID):
        return []
    answers = (
        (role, holds(condition, facts._replace(things=(thing,)), rule.action))
        for role, thing in called
        if role in _PLACES
    )
    return [role for role, answer in answers if not isinstance(answer, bool)]


def _reason(key: str, condition: Condition) -> str:
    if key in ("object", "uuid", "uri", "exe"):
        yes, no = (list(map(str, globs)) for globs in (condition.yes, condition.no))
        return (f"{key} is not one of ") + ", ".join(
            [*map(quote, yes), *(quote("!" + glob) for glob in no)]
        )
    return f"the {key} differs" if key == "readonly" else f"the {key} doesn't match"


def facts_of(
    function: Function, table: ApiTable, question: Supposed, called: Sequence[Called]
) -> Facts:
    """What is known of the call that is about these objects."""
    numbers: dict[int, int] = {}
    if question.flags is not None:
        known = flag_constants(function, table)
        for name in sorted(question.flags):
            if name not in known:
                raise TraceError(f"{function.name} has no flag {quote(name)}{nearest(name, known)}")
        for place, constants in flag_arguments(function, table).items():
            numbers[place] = functools.reduce(
                operator.or_, (constants.get(name, 0) for name in question.flags), 0
            )
    people = None if question.user is None else frozenset(_principals(question.user))
    texts: dict[int, str | None] = {}
    if question.xml is not None:
        if (document := document_at(function)) is None:
            raise TraceError(f"{function.name} takes no document")
        texts[document] = question.xml or None
    return Facts(
        function,
        tuple(thing for _, thing in called),
        people,
        uri=question.uri,
        readonly=question.readonly,
        exe=question.exe,
        numbers=numbers,
        texts=texts,
        in_daemon=question.in_daemon,
    )


def objects_of(function: Function, question: Supposed) -> list[Called]:
    """The objects that the call is about, as find_objects() in objects.c finds them."""
    found = []
    for source in sources_of(function, by_uuid=True):
        if source.kind not in NAMING:
            continue
        role = role_of(function, source)
        if question.new_name != "" and (role == "new name" or source.kind == "params"):
            found.append(Called("new name", Thing(question.new_name, NONE)))
        if role in ("object", "document"):
            found += _named(function, question, source, role)
        elif role != "new name":
            found.append(Called("object", Thing()))  # in a file, whatever is known
    return found


def _named(function: Function, question: Supposed, source: Source, role: str) -> list[Called]:
    """The object that a handle is for, or a document says."""
    name = question.object if role == "object" else None
    sought = _uuid(question) if role == "object" else None
    parent, slash, inner = (name or "").rpartition("/")
    place = source.argument | (IN_PARAMS if source.kind == "params" else 0)
    is_volume = source.type == "volume"
    if question.xml is not None and place == document_at(function):
        if not question.xml:
            return []
        said = identity(question.xml, source.type)
        whole = f"{parent}/{said.name}" if slash and isinstance(said.name, str) else None
        its_name = NONE if said.name is False else said.name
        its_uuid = NONE if said.uuid is False else said.uuid
        return [Called(role, Thing(its_name, its_uuid, whole if is_volume else NONE))]
    known = sought if may_have_uuid(source) else NONE
    if is_volume:
        return [Called(role, Thing(name and inner, known, name if slash else None))]
    if source.type in PARTS:
        whole = name if slash else None
        its_own = NONE if source.type == "networkport" else whole
        return [Called(role, Thing(parent if slash else name, known, its_own))]
    return [Called(role, Thing(name, known))]


def _check(function: Function, question: Supposed, called: Sequence[Called]) -> None:
    """What is said of the objects is so."""
    if question.new_name and not any(role == "new name" for role, _ in called):
        raise TraceError(f"{function.name} gives no new name")
    sought, said = _uuid(question), question.object
    if not question.xml:
        return
    for role, thing in called:
        if role != "object":
            continue
        if said and thing.name is NONE:
            raise TraceError("the document names nothing")
        if said and isinstance(thing.name, str) and thing.name not in (said, *said.split("/")):
            raise TraceError(f"the document names {quote(thing.name)}")
        if sought and isinstance(thing.uuid, uuid.UUID) and thing.uuid != sought:
            raise TraceError(f"the document has the UUID {thing.uuid}")


def _uuid(question: Supposed) -> uuid.UUID | None:
    try:
        return None if question.uuid is None else uuid.UUID(question.uuid)
    except ValueError:
        raise TraceError(f"{quote(question.uuid or '')} is no UUID") from None


def _principals(user: str) -> list[tuple[str, int | str]]:
    kind, colon, name = user.partition(":")
    if colon and kind in ("sasl", "x509"):
        return [(kind, name)]
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        if user.isdecimal():
            return [("uid", int(user))]
        raise TraceError(
            f"no user {quote(user)} on this "
            f"host{nearest(user, (e.pw_name for e in pwd.getpwall()))}"
        ) from None
    groups = {
        entry.pw_gid,
        *(group.gr_gid for group in grp.getgrall() if entry.pw_name in group.gr_mem),
    }
    return [("uid", entry.pw_uid), *(("gid", gid) for gid in sorted(groups))]


# objects of a call besides the one that it is about, as they are told
_PLACES = {"new name": "new name", "document": "{} in the document"}
