# SPDX-License-Identifier: LGPL-2.1-or-later
"""Says which rule decides about a call and why: a policy and what is known of the call come in,
lines of text go out.

What is not said of the call can't be told, and is settled as the library does: a rule that denies
matches then, others don't.
"""

from __future__ import annotations

import grp
import pwd
import uuid
from typing import NamedTuple

from enforcer.policy.compiled import Condition, document_at, flags_at, is_of_class, variants_for
from enforcer.policy.judge import KEYS, NONE, Facts, Judge, Thing, holds
from enforcer.policy.rules import Policy, Rule, flag_constants, nearest
from enforcer.policy.sources import (
    has_whole_name,
    is_part,
    may_have_uuid,
    names_objects,
    sources_of,
)
from log.errors import TraceError
from log.quote import quote
from probes.api.table import ApiTable, Function


class Question(NamedTuple):
    """What is known of a call; None: nothing."""

    function: str
    object: str | None = None  # "NAME", or "POOL/NAME"
    uuid: str | None = None
    user: str | None = None
    uri: str | None = None
    readonly: bool | None = None
    exe: str | None = None
    flags: frozenset[str] | None = None
    xml: str | None = None  # the document


def explain(policy: Policy, table: ApiTable, question: Question) -> list[str]:
    """The verdict, then why each rule before it didn't match."""
    function = table.by_name.get(question.function)
    if function is None:
        raise TraceError(
            "unknown function "
            f"{quote(question.function)}{nearest(question.function, table.by_name)}"
        )
    if function.access == "plumbing":
        return [f"{function.name} is plumbing, which is never judged"]
    return explain_facts(policy, table, _facts(function, table, question))


def explain_facts(policy: Policy, table: ApiTable, facts: Facts) -> list[str]:
    """The same of a call that is judged."""
    decided = Judge(policy, table).decide(facts).rule
    passed: list[str] = []
    for rule in policy.rules:
        reason, unsure = _mismatch(rule, facts, table)
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


def _mismatch(rule: Rule, facts: Facts, table: ApiTable) -> tuple[str | None, list[str]]:
    """Why the rule doesn't match, or what can't be told."""
    if facts.function.name not in rule.functions:
        return "it doesn't cover the function", []
    variants = variants_for(rule, facts.function, table)
    if not variants:
        return "the function has nothing of what it asks for", []
    unsure: list[str] = []
    for condition in variants[0]:
        answer = holds(condition, facts, rule.action)
        key = "class" if is_of_class(condition, rule, facts.function) else KEYS[condition.kind]
        if answer is False:
            return _reason(key, condition), []
        if answer is not True:
            unsure.append(f"the {key}")
    return None, list(dict.fromkeys(unsure))


def _reason(key: str, condition: Condition) -> str:
    if key in ("object", "uuid", "uri", "exe"):
        yes, no = (list(map(str, globs)) for globs in (condition.yes, condition.no))
        return (f"{key} is not one of ") + ", ".join(
            [*map(quote, yes), *(quote("!" + glob) for glob in no)]
        )
    return f"the {key} differs" if key == "readonly" else f"the {key} doesn't match"


def _facts(function: Function, table: ApiTable, question: Question) -> Facts:
    numbers: dict[int, int] = {}
    if question.flags is not None:
        constants = flag_constants(function, table)
        bits = 0
        for name in sorted(question.flags):
            if name not in constants:
                raise TraceError(
                    f"{function.name} has no flag {quote(name)}{nearest(name, constants)}"
                )
            bits |= constants[name]
        if (at := flags_at(function)) is not None:
            numbers[at] = bits
    try:
        sought = None if question.uuid is None else uuid.UUID(question.uuid)
    except ValueError:
        raise TraceError(f"{quote(question.uuid or '')} is no UUID") from None
    people = None if question.user is None else frozenset(_principals(question.user))
    texts: dict[int, str] = {}
    if question.xml is not None:
        if (place := document_at(function)) is None:
            raise TraceError(f"{function.name} takes no document")
        texts[place] = question.xml
    return Facts(
        function,
        things_of(function, question.object, sought),
        people,
        uri=question.uri,
        readonly=question.readonly,
        exe=question.exe,
        numbers=numbers,
        texts=texts,
    )


def things_of(function: Function, name: str | None, known: uuid.UUID | None) -> tuple[Thing, ...]:
    """What a call of the function is about, by name (None: it can't be told) and UUID."""
    if not names_objects(function):
        return ()
    if any(source.kind == "unknown" for source in sources_of(function)):
        return (Thing(),)  # in a file, whatever is known
    has_uuid = may_have_uuid(function)
    if name is None:
        return (Thing(None, known if has_uuid else NONE),)
    parent, slash, inner = name.rpartition("/")
    whole = name if slash else None if has_whole_name(function) else NONE
    short = parent if slash and is_part(function) else inner
    return (Thing(short, known if has_uuid else NONE, whole),)


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
