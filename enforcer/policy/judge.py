# SPDX-License-Identifier: LGPL-2.1-or-later
"""Judges as the library does: what a compiled rule asks for and what is known of a call come in;
yes, no or "can't be told" goes out.

This says again what judge.c says; tests/preload/test_random_policies.py holds both to the same
answers.
"""

from __future__ import annotations

import fnmatch
import functools
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from enforcer.policy import compiled
from enforcer.policy.compiled import Condition
from enforcer.policy.documents import has_element, is_plain
from enforcer.policy.rules import Principal
from enforcer.policy.sources import (
    has_whole_name,
    is_part,
    may_have_uuid,
    names_objects,
    sources_of,
)
from probes.api.table import Function

Answer = bool | None  # None: it can't be told

_URI = re.compile(
    r"(?P<scheme>[^+:/]+)(?P<transport>\+[^:/]*)?://(?:[^/?#@]*@)?(?P<server>[^/?#]*)(?P<path>[^?#]*)",
    re.S,
)
# as uri_matches() in judge.c has them: drivers that are one for a host, and the functions that are
# theirs
_SCHEMES = (
    "qemu",
    "lxc",
    "xen",
    "ch",
    "network",
    "storage",
    "nodedev",
    "secret",
    "nwfilter",
    "interface",
)
_FAMILIES = (
    "virNetwork",
    "virStorage",
    "virNodeDevice",
    "virSecret",
    "virNWFilter",
    "virInterface",
)


class Facts(NamedTuple):
    """What is known of a call; None: nothing."""

    function: Function
    name: str | None = None  # of the object; "POOL/NAME", "DOMAIN/SNAPSHOT"
    uuid: uuid.UUID | None = None
    principals: frozenset[tuple[str, int | str]] | None = None  # who calls, as rules name them
    uri: str | None = None
    readonly: bool | None = None
    exe: str | None = None
    numbers: Mapping[int, int] = {}  # arguments: their place -> the number
    texts: Mapping[int, str] = {}  # likewise


def holds(condition: Condition, facts: Facts) -> Answer:
    """Whether the call is what the condition asks for."""
    return _KINDS[condition.kind](condition, facts)


def matches(conditions: Iterable[Condition], facts: Facts, action: str) -> bool:
    """Whether a rule with these conditions matches. What can't be told is settled against the
    caller.
    """
    answers = [holds(condition, facts) for condition in conditions]
    return False not in answers and (None not in answers or action == "deny")


def _listed(condition: Condition, one: Callable[[Any], bool]) -> bool:
    return (not condition.yes or any(map(one, condition.yes))) and not any(map(one, condition.no))


def _object(condition: Condition, facts: Facts) -> Answer:
    if not names_objects(facts.function):
        return False
    if facts.name is None or _is_hidden(facts.function):
        return None
    parent, slash, inner = facts.name.rpartition("/")
    short = parent if slash and is_part(facts.function) else inner
    whole = facts.name if slash else None

    def listed(unseen: bool) -> bool:
        """`unseen`: what a glob for PARENT/NAME makes of a name without its parent's."""
        return _listed(
            condition,
            lambda glob: (
                fnmatch.fnmatchcase(short, glob)
                or (
                    "/" in glob
                    and (fnmatch.fnmatchcase(whole, glob) if whole is not None else unseen)
                )
            ),
        )

    is_sure = whole is not None or not has_whole_name(facts.function)
    return listed(False) if is_sure or listed(False) == listed(True) else None


def _uuid(condition: Condition, facts: Facts) -> Answer:
    if not names_objects(facts.function) or not may_have_uuid(facts.function):
        return False
    if facts.uuid is None or _is_hidden(facts.function):
        return None
    return _listed(condition, lambda text: uuid.UUID(text) == facts.uuid)


def _is_hidden(function: Function) -> bool:
    """Whether it works on an object that the library can't see."""
    return any(source.kind == "unknown" for source in sources_of(function))


def _user(condition: Condition, facts: Facts) -> Answer:
    known = facts.principals
    if known is None:
        return None

    def one(person: Principal) -> bool:
        kind, value = person
        if isinstance(value, int):
            return (kind, value) in known
        return any(
            kind == theirs and fnmatch.fnmatchcase(str(name), value) for theirs, name in known
        )

    return _listed(condition, one)


def _uri(condition: Condition, facts: Facts) -> Answer:
    if facts.uri is None:
        return None
    parts = _URI.match(facts.uri)
    # a short name, or another spelling, which libvirt makes a URI of
    if parts is None or "%" in parts[0]:
        return None
    transport = parts["transport"] if parts["transport"] and parts["server"] else ""
    bare = f"{parts['scheme']}{transport}://{parts['server']}{parts['path']}"
    said = _listed(
        condition,
        lambda glob: any(fnmatch.fnmatchcase(one, glob) for one in (facts.uri or "", bare)),
    )
    is_shared = (
        facts.function.name.startswith(_FAMILIES) and parts["scheme"] in _SCHEMES and not transport
    )
    if not is_shared or parts["server"] or parts["path"] not in ("/system", "/session"):
        return said
    others = (f"{scheme}://{parts['path']}" for scheme in _SCHEMES)
    return (
        said
        if all(
            _listed(condition, functools.partial(fnmatch.fnmatchcase, uri)) == said
            for uri in others
        )
        else None
    )


def _readonly(condition: Condition, facts: Facts) -> Answer:
    return None if facts.readonly is None else facts.readonly == bool(condition.value)


def _exe(condition: Condition, facts: Facts) -> Answer:
    exe = facts.exe
    return None if exe is None else _listed(condition, lambda glob: fnmatch.fnmatchcase(exe, glob))


def _number(says: Callable[[int, int], bool]) -> Callable[[Condition, Facts], Answer]:
    def answer(condition: Condition, facts: Facts) -> Answer:
        number = facts.numbers.get(condition.argument)
        return None if number is None else says(number, condition.value)

    return answer


def _contains(condition: Condition, facts: Facts) -> Answer:
    text = facts.texts.get(condition.argument)
    if text is None:
        return None
    if any(str(sought) in text for sought in condition.yes):
        return True
    is_sure = condition.kind == compiled.CONTAINS or all(
        is_plain(text, str(sought)) for sought in condition.yes
    )
    return False if is_sure else None


def _has_element(condition: Condition, facts: Facts) -> Answer:
    text = facts.texts.get(condition.argument)
    if text is None:
        return None
    answers = [has_element(text, tuple(str(sought).split("\1"))) for sought in condition.yes]
    return True if True in answers else None if None in answers else False


_KINDS: dict[int, Callable[[Condition, Facts], Answer]] = {
    compiled.IS_OBJECT: _object,
    compiled.IS_UUID: _uuid,
    compiled.IS_USER: _user,
    compiled.IS_URI: _uri,
    compiled.IS_READONLY: _readonly,
    compiled.IS_EXE: _exe,
    compiled.FLAGS_ANY: _number(lambda number, bits: bool(number & bits)),
    compiled.FLAGS_ALL: _number(lambda number, bits: number & bits == bits),
    compiled.FLAGS_NONE: _number(lambda number, bits: not number & bits),
    compiled.ARG_EQUALS: _number(lambda number, value: number == value),
    compiled.ARG_DIFFERS: _number(lambda number, value: number != value),
    compiled.CONTAINS: _contains,
    compiled.CONTAINS_XML: _contains,
    compiled.HAS_ELEMENT: _has_element,
}
