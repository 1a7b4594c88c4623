# SPDX-License-Identifier: LGPL-2.1-or-later
"""Says which rule decides about a call and why: a policy and what is known of the call come in, lines of text go out.

What is not said of the call can't be told, and is settled as the library does: a rule that denies matches then, others don't.
"""

from __future__ import annotations

import fnmatch
import grp
import pwd
import uuid
from collections.abc import Callable, Mapping
from typing import NamedTuple

from enforcer.rules import Globs, People, Policy, Rule, flag_constants, nearest
from enforcer.sources import names_objects, sources_of, takes_document
from log.errors import TraceError
from log.quote import quote
from probes.api import ApiTable, Function

Answer = bool | None  # None: it can't be told


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
    texts: Mapping[str, str] | None = None


def explain(policy: Policy, table: ApiTable, question: Question) -> list[str]:
    """The verdict, then why each rule before it didn't match."""
    function = table.by_name.get(question.function)
    if function is None:
        raise TraceError(f"unknown function {quote(question.function)}{nearest(question.function, table.by_name)}")
    if function.access == "plumbing":
        return [f"{function.name} is plumbing, which is never judged"]
    passed: list[str] = []
    for rule in policy.rules:
        reason, unsure = _mismatch(rule, function, table, question)
        if reason is None and (not unsure or rule.action == "deny"):
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


def _mismatch(rule: Rule, function: Function, table: ApiTable, question: Question) -> tuple[str | None, list[str]]:
    """Why the rule doesn't match, or what can't be told."""
    if function.name not in rule.functions:
        return "it doesn't cover the function", []
    unsure = []
    for key, ask in _CHECKS.items():
        said, answer = ask(rule, function, table, question)
        if not said:
            continue
        if answer is False:
            return _reason(key, rule), []
        if answer is None:
            unsure.append(f"the {key}")
    return None, unsure


def _reason(key: str, rule: Rule) -> str:
    wanted: dict[str, object] = {"object": rule.objects, "uuid": rule.uuids, "uri": rule.uris, "exe": rule.exes}
    globs = wanted.get(key)
    if isinstance(globs, Globs):
        return f"{key} is not one of " + ", ".join([*map(quote, globs.yes), *(quote("!" + glob) for glob in globs.no)])
    return f"the {key} differs" if key not in ("class", "flags", "user") else f"the {key} doesn't match"


def _list(globs: Globs, matches: Callable[[str], bool]) -> bool:
    return (not globs.yes or any(map(matches, globs.yes))) and not any(map(matches, globs.no))


def _class(rule: Rule, function: Function, table: ApiTable, question: Question) -> tuple[bool, Answer]:
    if rule.access is None or function.access != "conditional" or function.write_when is None:
        return rule.access is not None, True
    if question.flags is None or function.write_when.equals is not None:
        return True, None
    constants = flag_constants(function, table)
    bits = sum(constants.get(name, 0) for name in question.flags)
    return True, bool(bits & function.write_when.any_bits) == (rule.access == "write")


def _object(rule: Rule, function: Function, table: ApiTable, question: Question) -> tuple[bool, Answer]:
    if rule.objects is None or not names_objects(function):
        return rule.objects is not None, False
    if question.object is None or any(source.kind == "unknown" for source in sources_of(function)):
        return True, None
    name = question.object
    short = name.rpartition("/")[2]
    return True, _list(rule.objects, lambda glob: fnmatch.fnmatchcase(name if "/" in glob else short, glob))


def _uuid(rule: Rule, function: Function, table: ApiTable, question: Question) -> tuple[bool, Answer]:
    if rule.uuids is None or not names_objects(function):
        return rule.uuids is not None, False
    if question.uuid is None or any(source.kind == "unknown" for source in sources_of(function)):
        return True, None
    try:
        sought = uuid.UUID(question.uuid)
    except ValueError:
        raise TraceError(f"{quote(question.uuid)} is no UUID") from None
    return True, _list(rule.uuids, lambda text: uuid.UUID(text) == sought)


def _user(rule: Rule, function: Function, table: ApiTable, question: Question) -> tuple[bool, Answer]:
    if not rule.people:
        return False, True
    if question.user is None:
        return True, None
    kinds = _principals(question.user)

    def matches(people: People) -> bool:
        def one(person: tuple[str, int | str]) -> bool:
            kind, value = person
            return any(
                kind == known and (value == what if isinstance(value, int) else fnmatch.fnmatchcase(str(what), value))
                for known, what in kinds
            )

        return (not people.yes or any(map(one, people.yes))) and not any(map(one, people.no))

    return True, all(map(matches, rule.people))


def _principals(user: str) -> list[tuple[str, int | str]]:
    kind, colon, name = user.partition(":")
    if colon and kind in ("sasl", "x509"):
        return [(kind, name)]
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        if user.isdecimal():
            return [("uid", int(user))]
        raise TraceError(f"no user {quote(user)} on this host{nearest(user, (e.pw_name for e in pwd.getpwall()))}") from None
    groups = {entry.pw_gid, *(group.gr_gid for group in grp.getgrall() if entry.pw_name in group.gr_mem)}
    return [("uid", entry.pw_uid), *(("gid", gid) for gid in sorted(groups))]


def _uri(rule: Rule, function: Function, table: ApiTable, question: Question) -> tuple[bool, Answer]:
    return _text(rule.uris, question.uri)


def _exe(rule: Rule, function: Function, table: ApiTable, question: Question) -> tuple[bool, Answer]:
    return _text(rule.exes, question.exe)


def _text(globs: Globs | None, text: str | None) -> tuple[bool, Answer]:
    if globs is None or text is None:
        return globs is not None, None
    return True, _list(globs, lambda glob: fnmatch.fnmatchcase(text, glob))


def _readonly(rule: Rule, function: Function, table: ApiTable, question: Question) -> tuple[bool, Answer]:
    return rule.readonly is not None, None if question.readonly is None else question.readonly == rule.readonly


def _flags(rule: Rule, function: Function, table: ApiTable, question: Question) -> tuple[bool, Answer]:
    if not rule.flags:
        return False, True
    known = set(flag_constants(function, table))
    wanted = {key: set(names) & known for key, names in rule.flags.items()}
    if ("any" in wanted and not wanted["any"]) or ("all" in wanted and wanted["all"] != set(rule.flags["all"])):
        return True, False
    if question.flags is None:
        return True, None
    has = question.flags
    return True, (
        ("any" not in wanted or bool(wanted["any"] & has)) and wanted.get("all", set()) <= has and not wanted.get("none", set()) & has
    )


def _contains(rule: Rule, function: Function, table: ApiTable, question: Question) -> tuple[bool, Answer]:
    if not rule.contains:
        return False, True
    if question.texts is None:
        return True, None
    return True, all(any(text in question.texts.get(name, "") for text in texts) for name, texts in rule.contains.items())


def _element(rule: Rule, function: Function, table: ApiTable, question: Question) -> tuple[bool, Answer]:
    return bool(rule.elements), None if takes_document(function) else False


_CHECKS = {
    "class": _class, "object": _object, "uuid": _uuid, "user": _user, "uri": _uri, "readonly": _readonly, "exe": _exe, "flags": _flags,
    "contains": _contains, "element": _element,
}  # fmt: skip
