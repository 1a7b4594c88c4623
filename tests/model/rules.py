# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a policy says, once more, from its manual alone: rules as written in TOML and the facts of a
call come in, the verdict goes out.

Written to be read, and without a look at the judges that it is held against. A fact or an answer
that can't be told is None.
"""

from __future__ import annotations

import fnmatch
import grp
import pwd
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Rule = Mapping[str, Any]  # as in TOML: key -> value
Answer = bool | None

# what is one for a host, whatever hypervisor's connection it is reached by
SHARED = ("virNetwork", "virStorage", "virSecret", "virNodeDevice", "virNWFilter", "virInterface")
HYPERVISORS = (
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


class Thing(NamedTuple):
    """An object that a call is about. `uuid` "": it has none."""

    name: str | None  # of a snapshot: its domain's
    uuid: str | None
    whole: str | None = ""  # POOL/VOLUME, DOMAIN/SNAPSHOT; "": it has only the one name


class Person(NamedTuple):
    """For whom a call is made; None: the connection doesn't tell."""

    uid: int | None = None
    gid: int | None = None
    sasl: str | None = None
    x509: str | None = None
    exe: str | None = None


class Document(NamedTuple):
    """An XML document: what is in it, by libvirt's reading; None: it is spelled so that this
    can't be told.
    """

    text: str
    elements: Mapping[str, Answer] = {}  # those that rules ask for: as in the key `element`


@dataclass(frozen=True)
class Facts:
    """A call."""

    # the name that it is made by, and any other that rules may call it by
    functions: tuple[str, ...]
    writes: bool
    people: tuple[Person, ...]  # the client, and who it says that it acts for
    uri: str
    readonly: bool
    things: tuple[Thing, ...] | None = None  # None: it is about no object
    one_by_one: bool = False  # its objects are judged each as if alone
    flags: int | None = None  # None: the function has none
    constants: Mapping[str, int] = field(default_factory=dict)  # its flags' names
    texts: Mapping[str, str | None] = field(default_factory=dict)  # arguments that are strings
    document: Document | None = None


def verdict(policy: Mapping[str, Any], facts: Facts) -> str | None:
    """The name of the rule that denies the call; None: it is not denied."""
    if policy.get("mode") == "audit":
        return None
    for person in facts.people:
        for things in (
            [(one,) for one in facts.things or ()] if facts.one_by_one else [facts.things]
        ):
            rule = first_match(policy["rule"], facts, person, things)
            if rule is not None and rule["action"] == "deny":
                return str(rule["name"])
    return None


def first_match(
    rules: Iterable[Rule], facts: Facts, person: Person, things: Sequence[Thing] | None
) -> Rule | None:
    """The rule that decides."""
    for rule in rules:
        answers = [answer(key, rule, facts, person, things) for key in rule if key in KEYS]
        # what can't be told is held against the call
        if False not in answers and (None not in answers or rule["action"] == "deny"):
            return rule
    return None


def answer(
    key: str, rule: Rule, facts: Facts, person: Person, things: Sequence[Thing] | None
) -> Answer:
    """Whether the call is what one key of the rule asks for."""
    value = rule[key]
    if key in ("object", "uuid"):
        return any_or_all(things, value, key, needs_all=rule["action"] == "allow")
    return KEYS[key](value, facts, person)


def split(values: str | Sequence[str]) -> tuple[list[str], list[str]]:
    """What must match, and what behind a "!" must not."""
    texts = [values] if isinstance(values, str) else list(values)
    return [text for text in texts if text[0] != "!"], [
        text[1:] for text in texts if text[0] == "!"
    ]


def listed(values: str | Sequence[str], is_it: Callable[[str], bool]) -> bool:
    """Whether a list of the policy matches."""
    wanted, unwanted = split(values)
    return (not wanted or any(map(is_it, wanted))) and not any(map(is_it, unwanted))


def any_or_all(things: Sequence[Thing] | None, value: Any, key: str, *, needs_all: bool) -> Answer:
    """One object is enough for a rule that denies or audits; one that allows wants all of them."""
    if not things:
        return False
    answers = [
        thing_is(thing, value) if key == "object" else uuid_is(thing, value) for thing in things
    ]
    if needs_all:
        return False if False in answers else None if None in answers else True
    return True if True in answers else None if None in answers else False


def thing_is(thing: Thing, value: Any) -> Answer:
    if thing.name is None:
        return None
    name, whole = thing.name, thing.whole

    def is_it(glob: str, unseen: bool) -> bool:
        """Only a glob with a slash is for the whole name."""
        in_whole = unseen if whole is None else whole != "" and fnmatch.fnmatchcase(whole, glob)
        return fnmatch.fnmatchcase(name, glob) or ("/" in glob and in_whole)

    wanted, unwanted = split(value)
    worst, best = (
        (not wanted or any(is_it(glob, hope) for glob in wanted))
        and not any(is_it(glob, not hope) for glob in unwanted)
        for hope in (False, True)
    )
    return best if best == worst else None


def uuid_is(thing: Thing, value: Any) -> Answer:
    if thing.uuid is None:
        return None
    return thing.uuid != "" and listed(value, lambda text: text == thing.uuid)


def function_is(value: Any, facts: Facts, _: Person) -> Answer:
    return listed(
        value, lambda glob: any(fnmatch.fnmatchcase(name, glob) for name in facts.functions)
    )


def user_is(value: Any, _: Facts, person: Person) -> Answer:
    def one(name: str) -> bool:
        kind, colon, glob = name.partition(":")
        if colon:
            proved = person.sasl if kind == "sasl" else person.x509
            return proved is not None and fnmatch.fnmatchcase(proved, glob)
        return person.uid is not None and person.uid == (
            int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
        )

    return listed(value, one)


def group_is(value: Any, _: Facts, person: Person) -> Answer:
    def one(name: str) -> bool:
        group = grp.getgrnam(name)
        members = {
            user.pw_uid
            for user in pwd.getpwall()
            if user.pw_gid == group.gr_gid or user.pw_name in group.gr_mem
        }
        return person.gid == group.gr_gid or person.uid in members

    return listed(value, one)


def uri_is(value: Any, facts: Facts, _: Person) -> Answer:
    def matched(uri: str) -> bool:
        return listed(
            value,
            lambda glob: (
                fnmatch.fnmatchcase(uri, glob) or fnmatch.fnmatchcase(uri.partition("?")[0], glob)
            ),
        )

    scheme, path = (facts.uri.partition("?")[0].partition(":///")[i] for i in (0, 2))
    said = matched(facts.uri)
    if path != "system" or scheme not in HYPERVISORS or not facts.functions[0].startswith(SHARED):
        return said
    return said if all(matched(f"{other}:///{path}") == said for other in HYPERVISORS) else None


def flags_are(value: Any, facts: Facts, _: Person) -> Answer:
    def bits(names: Iterable[str]) -> list[int]:
        return [facts.constants[name] for name in names if name in facts.constants]

    given = facts.flags or 0
    if "any" in value and not any(given & bit for bit in bits(value["any"])):
        return False
    if "all" in value and (
        len(bits(value["all"])) < len(value["all"])
        or any(given & bit != bit for bit in bits(value["all"]))
    ):
        return False
    return not any(given & bit for bit in bits(value.get("none", ())))


def contains(value: Any, facts: Facts, _: Person) -> Answer:
    answers = [contains_one(name, sought, facts) for name, sought in value.items()]
    return False if False in answers else None if None in answers else True


def contains_one(name: str, sought: Sequence[str], facts: Facts) -> Answer:
    if name in facts.texts:
        text = facts.texts[name]
        return text is not None and any(part in text for part in sought)
    if name != "xml" or facts.document is None:
        return False
    answers = [said_in(part, facts.document.text) for part in sought]
    return True if True in answers else None if None in answers else False


def said_in(sought: str, xml: str) -> Answer:
    """XML has several spellings for a text, and a prefix may be before a tag's name."""
    if sought in xml:
        return True
    odd = (f":{sought[1:]}",) if sought[0] == "<" else ("&", "<!", "<?")
    inside = re.sub(r"\A(\s*<!--.*?-->)*", "", xml, flags=re.S)  # of the root
    return None if any(mark in inside for mark in odd) else False


def element_is(value: Any, facts: Facts, _: Person) -> Answer:
    if facts.document is None:
        return False
    answers = [facts.document.elements.get(one, False) for one in split(value)[0]]
    return True if True in answers else None if None in answers else False


KEYS: dict[str, Callable[[Any, Facts, Person], Answer]] = {
    "function": function_is,
    "class": lambda value, facts, _: facts.writes == (value == "write"),
    "object": lambda value, facts, _: None,  # see answer()
    "uuid": lambda value, facts, _: None,
    "user": user_is,
    "group": group_is,
    "uri": uri_is,
    "readonly": lambda value, facts, _: facts.readonly == value,
    "exe": lambda value, _, person: (
        None
        if person.exe is None
        else listed(value, lambda glob: fnmatch.fnmatchcase(person.exe or "", glob))
    ),
    "flags": flags_are,
    "contains": contains,
    "element": element_is,
}
