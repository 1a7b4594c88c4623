# SPDX-License-Identifier: LGPL-2.1-or-later
"""Judges as the library does: a policy and what is known of a call come in; the rule that decides
goes out, or that it can't be told which.

This says again what judge.c and conditions.c say, and nothing else does: `policy explain`,
rehearsal and tests in policies all ask it. tests/preload/test_judges.py and
tests/system/test_rehearsal.py hold both to the same answers.

Two things are not known. What the library itself can't tell it settles against the caller; that is
None. What a record has not kept the library would have known; that is UNRECORDED.
"""

from __future__ import annotations

import enum
import fnmatch
import functools
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from enforcer.compiled import layout
from enforcer.compiled.conditions import Condition, variants_for
from enforcer.judging.documents import has_element, is_plain
from enforcer.policy.rules import Policy, Principal, Rule
from probes.api.table import ApiTable, Function


class NotKnown(enum.Enum):
    """What is said in place of a fact."""

    UNRECORDED = "not recorded"
    NONE = "there is none"


UNRECORDED: Final = NotKnown.UNRECORDED
NONE: Final = NotKnown.NONE
Unrecorded = Literal[NotKnown.UNRECORDED]
Answer = bool | None | Unrecorded  # None: the library can't tell

_URI = re.compile(
    r"(?P<scheme>[^+:/]+)(?P<transport>\+[^:/]*)?://(?:[^/?#@]*@)?(?P<server>[^/?#]*)(?P<path>[^?#]*)",
    re.S,
)
# as uri_matches() in conditions.c has them: drivers that are one for a host, and the functions that
# are theirs
SCHEMES = (
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


class Thing(NamedTuple):
    """An object that a call is about. None: the library can't tell; NONE: it has none."""

    name: str | NotKnown | None = None  # of a snapshot: its domain's
    uuid: uuid.UUID | NotKnown | None = None
    whole: str | NotKnown | None = NONE  # POOL/VOLUME, DOMAIN/SNAPSHOT


class Facts(NamedTuple):
    """What is known of a call, for one of those that it is made for. None: the library can't
    tell.
    """

    function: Function
    things: tuple[Thing, ...] | Unrecorded = ()
    # who calls, as rules name them
    principals: frozenset[tuple[str, int | str]] | Unrecorded | None = None
    has_group: bool = True  # if there is one, it is among these
    uri: str | Unrecorded | None = None
    readonly: bool | Unrecorded | None = None
    exe: str | Unrecorded | None = None
    # arguments: their place -> the number, the text (None: NULL). What is not there can't be told.
    numbers: Mapping[int, int | Unrecorded] = {}
    texts: Mapping[int, str | Unrecorded | None] = {}
    # of documents with hidden parts: what is not seen there may be in these
    hidden: frozenset[int] = frozenset()
    in_daemon: bool | None = False  # whether a daemon of root's judges it


class Decision(NamedTuple):
    """What a policy says of a call."""

    rule: Rule | None  # that decides; None: none does
    # rules before it of which the record doesn't tell whether they match, and what it misses
    perhaps: tuple[tuple[Rule, str], ...] = ()

    @property
    def denies(self) -> bool | Unrecorded:
        """Whether the call is denied, whatever the policy's mode."""
        answers = {rule.action == "deny" for rule, _ in self.perhaps}
        answers.add(self.rule is not None and self.rule.action == "deny")
        return UNRECORDED if len(answers) > 1 else answers.pop()

    @property
    def by(self) -> Rule | None:
        """The rule that the decision is ascribed to."""
        return self.perhaps[0][0] if self.perhaps else self.rule


class Judge:
    """A policy, ready to decide."""

    def __init__(self, policy: Policy, table: ApiTable) -> None:
        self.policy, self._table = policy, table
        self._asked: dict[str, tuple[tuple[Rule, tuple[Condition, ...]], ...]] = {}

    def asked(self, function: Function) -> tuple[tuple[Rule, tuple[Condition, ...]], ...]:
        """The rules that can match its calls, in their order, and what each asks of one."""
        found = self._asked.get(function.name)
        if found is None:
            found = self._asked[function.name] = tuple(
                (rule, conditions)
                for rule in self.policy.rules
                if function.name in rule.functions
                for conditions in variants_for(rule, function, self._table)
            )
        return found

    def decide(self, facts: Facts) -> Decision:
        """The first rule that matches."""
        perhaps: list[tuple[Rule, str]] = []
        for rule, conditions in self.asked(facts.function):
            answer, missing = matches(conditions, facts, rule.action)
            if answer is True:
                return Decision(rule, tuple(perhaps))
            if answer is UNRECORDED:
                perhaps.append((rule, missing))
        return Decision(None, tuple(perhaps))


def holds(condition: Condition, facts: Facts, action: str) -> Answer:
    """Whether the call is what the condition of a rule with that action asks for."""
    return _KINDS[condition.kind](condition, facts, action)


def matches(
    conditions: Iterable[Condition], facts: Facts, action: str
) -> tuple[bool | Unrecorded, str]:
    """Whether a rule with these conditions matches, and what else a record should have told.

    What the library can't tell is settled against the caller.
    """
    is_unsure, missing = False, ""
    for condition in conditions:
        answer = holds(condition, facts, action)
        if answer is False:
            return False, ""
        is_unsure |= answer is None
        if answer is UNRECORDED and not missing:
            missing = KEYS[condition.kind]
    if is_unsure and action != "deny":
        return False, ""
    return (UNRECORDED, missing) if missing else (True, "")


def _any(answers: Iterable[Answer]) -> Answer:
    """Whether one of them is a yes."""
    found: Answer = False
    for answer in answers:
        if answer is True:
            return True
        if answer is UNRECORDED or (answer is None and found is False):
            found = answer
    return found


def _all(answers: Iterable[Answer]) -> Answer:
    """Whether each of them is a yes."""
    found: Answer = True
    for answer in answers:
        if answer is False:
            return False
        if answer is UNRECORDED or (answer is None and found is True):
            found = answer
    return found


def _listed(condition: Condition, one: Callable[[Any], bool]) -> bool:
    return (not condition.yes or any(map(one, condition.yes))) and not any(map(one, condition.no))


def _listed_if(
    condition: Condition, one: Callable[[Any, bool], bool], unseen: Unrecorded | None
) -> Answer:
    """The answer, where it is the same at worst and at best: `one` is told what to make of an item
    that can't be seen to match; else `unseen`.
    """
    worst, best = (
        (not condition.yes or any(one(item, hope) for item in condition.yes))
        and not any(one(item, not hope) for item in condition.no)
        for hope in (False, True)
    )
    return best if best == worst else unseen


def _things(
    one: Callable[[Condition, Thing], Answer],
) -> Callable[[Condition, Facts, str], Answer]:
    """One object is enough for a rule that denies or audits; one that allows wants all of them."""

    def answer(condition: Condition, facts: Facts, action: str) -> Answer:
        if facts.things is UNRECORDED:
            return UNRECORDED
        if not facts.things:
            return False
        answers = (one(condition, thing) for thing in facts.things)
        return _all(answers) if action == "allow" else _any(answers)

    return answer


def _object(condition: Condition, thing: Thing) -> Answer:
    name, whole = thing.name, thing.whole
    if name is None or name is UNRECORDED:
        return name
    if name is NONE:
        return False

    def one(glob: str, unseen: bool = False) -> bool:
        """`unseen`: what a glob for PARENT/NAME makes of a name without its parent's."""
        return fnmatch.fnmatchcase(name, glob) or (
            "/" in glob and (fnmatch.fnmatchcase(whole, glob) if isinstance(whole, str) else unseen)
        )

    if whole is None or whole is UNRECORDED:
        return _listed_if(condition, one, whole)
    return _listed(condition, one)


def _uuid(condition: Condition, thing: Thing) -> Answer:
    found = thing.uuid
    if found is NONE:
        return False
    if not isinstance(found, uuid.UUID):
        return found
    return _listed(condition, lambda text: uuid.UUID(text) == found)


def _user(condition: Condition, facts: Facts, action: str) -> Answer:
    known = facts.principals
    if known is None or known is UNRECORDED:
        return known

    def one(person: Principal, unseen: bool) -> bool:
        """`unseen`: whether he is of a group, where that can't be told."""
        kind, value = person
        if kind == "gid" and not facts.has_group:
            return unseen
        if isinstance(value, int):
            return (kind, value) in known
        return any(
            kind == theirs and fnmatch.fnmatchcase(str(name), value) for theirs, name in known
        )

    return _listed_if(condition, one, UNRECORDED)


def _uri(condition: Condition, facts: Facts, action: str) -> Answer:
    if facts.uri is None or facts.uri is UNRECORDED:
        return facts.uri
    parts = _URI.match(facts.uri)
    # a short name, or another spelling, which libvirt makes a URI of
    if parts is None or "%" in parts[0]:
        return None
    places = (True, False) if facts.in_daemon is None else (facts.in_daemon,)
    answers = {
        _uri_is(condition, facts.function, facts.uri, parts, in_daemon) for in_daemon in places
    }
    return answers.pop() if len(answers) == 1 else None


def _uri_is(
    condition: Condition, function: Function, uri: str, parts: re.Match[str], in_daemon: bool
) -> bool | None:
    """A daemon's client says by which URI this is to connect."""
    scheme, server, path = parts["scheme"], parts["server"], parts["path"]
    if in_daemon and server:
        return None  # whose driver is there can't be told
    if in_daemon and path == "/session":
        path = "/system"  # root's has no other
    transport = parts["transport"] if parts["transport"] and server else ""
    bare = f"{scheme}{transport}://{server}{path}"
    said = _listed(
        condition, lambda glob: any(fnmatch.fnmatchcase(one, glob) for one in (uri, bare))
    )
    is_shared = function.name.startswith(_FAMILIES) and scheme in SCHEMES and not transport
    if not is_shared or server or path not in ("/system", "/session"):
        return said
    others = (f"{other}://{path}" for other in SCHEMES)
    is_alike = all(
        _listed(condition, functools.partial(fnmatch.fnmatchcase, other)) == said
        for other in others
    )
    return said if is_alike else None


def _readonly(condition: Condition, facts: Facts, action: str) -> Answer:
    said = facts.readonly
    return said == bool(condition.value) if isinstance(said, bool) else said


def _exe(condition: Condition, facts: Facts, action: str) -> Answer:
    exe = facts.exe
    if not isinstance(exe, str):
        return exe
    return _listed(condition, lambda glob: fnmatch.fnmatchcase(exe, glob))


def _number(says: Callable[[int, int], bool]) -> Callable[[Condition, Facts, str], Answer]:
    def answer(condition: Condition, facts: Facts, action: str) -> Answer:
        number = facts.numbers.get(condition.argument)
        return says(number & _32_BITS, condition.value) if isinstance(number, int) else number

    return answer


def _in_text(
    says: Callable[[Condition, str], bool | None],
) -> Callable[[Condition, Facts, str], Answer]:
    def answer(condition: Condition, facts: Facts, action: str) -> Answer:
        place = condition.argument
        if place not in facts.texts:
            return None
        text = facts.texts[place]
        if text is None:
            return False  # libvirt refuses the call, or there is none that could have it
        if text is UNRECORDED:
            return text
        said = says(condition, text)
        return UNRECORDED if said is not True and place in facts.hidden else said

    return answer


def _contains(condition: Condition, text: str) -> bool | None:
    if any(str(sought) in text for sought in condition.yes):
        return True
    is_sure = condition.kind == layout.CONTAINS or all(
        is_plain(text, str(sought)) for sought in condition.yes
    )
    return False if is_sure else None


def _has_element(condition: Condition, text: str) -> bool | None:
    answers = [has_element(text, tuple(str(sought).split("\1"))) for sought in condition.yes]
    return True if True in answers else None if None in answers else False


_32_BITS = (1 << 32) - 1  # the library compares no more
_KINDS: dict[int, Callable[[Condition, Facts, str], Answer]] = {
    layout.IS_OBJECT: _things(_object),
    layout.IS_UUID: _things(_uuid),
    layout.IS_USER: _user,
    layout.IS_URI: _uri,
    layout.IS_READONLY: _readonly,
    layout.IS_EXE: _exe,
    layout.FLAGS_ANY: _number(lambda number, bits: bool(number & bits)),
    layout.FLAGS_ALL: _number(lambda number, bits: number & bits == bits),
    layout.FLAGS_NONE: _number(lambda number, bits: not number & bits),
    layout.ARG_EQUALS: _number(lambda number, value: number == value),
    layout.ARG_DIFFERS: _number(lambda number, value: number != value),
    layout.CONTAINS: _in_text(_contains),
    layout.CONTAINS_XML: _in_text(_contains),
    layout.HAS_ELEMENT: _in_text(_has_element),
}
KEYS = {  # what a condition is about, in the words of policies
    layout.IS_OBJECT: "object",
    layout.IS_UUID: "uuid",
    layout.IS_USER: "user",
    layout.IS_URI: "uri",
    layout.IS_READONLY: "readonly",
    layout.IS_EXE: "exe",
    **dict.fromkeys((layout.FLAGS_ANY, layout.FLAGS_ALL, layout.FLAGS_NONE), "flags"),
    **dict.fromkeys((layout.ARG_EQUALS, layout.ARG_DIFFERS), "flags"),
    **dict.fromkeys((layout.CONTAINS, layout.CONTAINS_XML), "text"),
    layout.HAS_ELEMENT: "element",
}
