# SPDX-License-Identifier: LGPL-2.1-or-later
"""`policy explain` and the library are asked about the same facts, known ones and such as can't
be told: they name the same rule.
"""

from __future__ import annotations

import ctypes
import json
import random
import subprocess
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from enforcer.compiled.conditions import document_at
from enforcer.compiled.layout import IN_PARAMS
from enforcer.compiled.writer import compile_policy
from enforcer.judging.explain import Called, Supposed, explain_facts, objects_of
from enforcer.judging.judge import NONE, UNRECORDED, Facts, Judge, Thing
from enforcer.launch.library import table
from enforcer.policy.reading.reading import read_policy
from enforcer.policy.rules import PolicyError, flag_arguments, flag_constants
from enforcer.policy.sources import is_part, names_objects
from probes.api.table import Function
from tests.enforced import library
from tests.needs import ROOT

TABLE = table()
NO, YES, UNKNOWN = 0, 1, 2
FUNCTIONS = (
    "virDomainDestroyFlags", "virDomainGetXMLDesc", "virDomainDefineXML",
    "virDomainAttachDeviceFlags", "virDomainRestore", "virDomainSnapshotGetXMLDesc",
    "virDomainSnapshotDelete", "virStorageVolDelete", "virStoragePoolUndefine",
    "virNetworkDefineXML", "virNetworkUndefine", "virConnectListAllDomains", "virInterfaceDestroy",
    "virSecretGetXMLDesc", "virDomainSetMetadata",
    "virDomainRename", "virDomainMigrateToURI3", "virConnectGetAllDomainStats",
    "virDomainGetGuestInfo",
)  # fmt: skip
UUIDS = tuple(f"6695eb01-f6a4-8304-79aa-97f2502e193{i}" for i in range(3))
NAMES = ("web1", "web", "Bü", "a[b", "web1/x", "x", "]", "")
GLOBS = (
    "web1",
    "we*",
    "*",
    "w?b1",
    "[vw]*",
    "[!w]*",
    "?ü",
    "a[[]b",
    "[]x]",
    "[a-",
    "web1/*",
    "*/x",
    "web1/web1",
    "[w-a]*",
    "**1",
    "\\*",
)
URIS = (
    "qemu:///system",
    "qemu+ssh://u@h/system?x=1",
    "qemu+unix:///system",
    "network:///system",
    "qemu:///session",
    "secret:///session?name=qemu",
    "test:///default#f",
    "xen",
    "qemu:///x%41",
)
URI_GLOBS = (
    "qemu:///system",
    "*:///session",
    "qemu:*",
    "*system",
    "network:*",
    "qemu+ssh://h/*",
    "*://u@*",
    "*x=1",
    "test:///default",
    "xen*",
)
EXES = ("/usr/bin/virsh", "/usr/bin/python3.11", "/x")
PIECES = (
    "<a>", "</a>", "<hostdev/>", "<hostdev", ">", "/>", "<x:hostdev>", "<interface type='hostdev'>",
    '<interface x:type="hostdev"/>', "&", "&#104;", "<interface type='&#104;'>", "<!--", "-->",
    "<![CDATA[", "]]>", "<?xml", "?>", "<?xml encoding='utf-8'?>", '<?xml version="1.0"?>',
    "<!DOCTYPE x>", "web1", " ", "=", "'", '"', "<", "xmlns:type='x'", " type = 'hostdev'", "/",
    "interface", "é", "\t", "<interface xmlns:type='hostdev'>",
)  # fmt: skip
ELEMENTS = ("hostdev", "interface[@type='hostdev']", "a", "interface[@encoding='']")
TEXTS = ("<hostdev", "web1", "<interface", "type", "<", "h")
KINDS: dict[str, tuple[Any, ...]] = {
    "uid": (0, 4711),
    "gid": (0, 65534),
    "sasl": ("alice", "bob"),
    "x509": ("CN=x", ""),
}
POLICIES, QUESTIONS = 200, 50


def listed(rand: random.Random, values: tuple[str, ...]) -> list[str]:
    return [
        f"!{value}" if rand.random() < 0.3 else value
        for value in rand.sample(values, rand.choice((1, 1, 2, 3)))
    ]


def flags(rand: random.Random) -> dict[str, list[str]]:
    constants = sorted(flag_constants(TABLE.by_name[rand.choice(FUNCTIONS)], TABLE)) or [
        "VIR_DOMAIN_XML_SECURE"
    ]
    return {
        key: rand.sample(constants, rand.choice((1, min(2, len(constants)))))
        for key in rand.sample(("any", "all", "none"), rand.choice((1, 1, 2)))
    }


CONDITIONS: dict[str, Callable[[random.Random], Any]] = {
    "class": lambda rand: rand.choice(("write", "read")),
    "object": lambda rand: listed(rand, GLOBS),
    "uuid": lambda rand: listed(rand, UUIDS),
    "user": lambda rand: listed(rand, ("root", "4711", "sasl:al*", "x509:*")),
    "group": lambda rand: listed(rand, ("root", "nogroup", "daemon")),
    "uri": lambda rand: listed(rand, URI_GLOBS),
    "readonly": lambda rand: rand.random() < 0.5,
    "exe": lambda rand: listed(rand, ("/usr/bin/*", "/x", "*")),
    "flags": flags,
    "contains": lambda rand: {"xml": rand.sample(TEXTS, rand.choice((1, 1, 2)))},
    "element": lambda rand: rand.sample(ELEMENTS, rand.choice((1, 1, 2))),
}


def random_rule(rand: random.Random) -> dict[str, Any]:
    """One that may be written so."""
    while True:
        rule = {
            "action": rand.choice(("deny", "deny", "allow", "audit")),
            "function": rand.sample(FUNCTIONS, rand.randint(4, len(FUNCTIONS))),
        }
        rule |= {
            key: CONDITIONS[key](rand)
            for key in rand.sample(list(CONDITIONS), rand.choice((1, 1, 2, 3)))
        }
        try:
            read_policy(toml(rule, 0), "p.toml", TABLE)
        except PolicyError:
            continue
        return rule


def partly_recorded(rand: random.Random, facts: Facts) -> Facts:
    """The same call, of which a record doesn't tell everything."""

    def kept(value: Any) -> Any:
        return UNRECORDED if rand.random() < 0.3 else value

    assert isinstance(facts.things, tuple)
    things = tuple(Thing(*map(kept, thing)) for thing in facts.things)
    known, has_group = facts.principals, rand.random() < 0.7
    if not has_group:
        assert isinstance(known, frozenset)
        known = frozenset(one for one in known if one[0] != "gid")
    return facts._replace(
        things=kept(things),
        principals=kept(known),
        has_group=has_group,
        uri=kept(facts.uri),
        readonly=kept(facts.readonly),
        exe=kept(facts.exe),
        numbers={at: kept(number) for at, number in facts.numbers.items()},
        texts={at: kept(text) for at, text in facts.texts.items()},
        hidden=frozenset(at for at in facts.texts if rand.random() < 0.3),
    )


def random_thing(rand: random.Random, function: Function) -> Thing:
    """What is known of it may differ from what is known of others."""
    name, known = rand.choice((*NAMES, None)), rand.choice((*map(uuid.UUID, UUIDS), None))
    question = Supposed(function.name, name, str(known) if known else None)
    (_, thing), *_ = objects_of(function, question) or [Called("", Thing())]
    has_none = rand.random()
    return thing._replace(name=NONE, whole=NONE) if has_none < 0.1 else thing


def random_facts(rand: random.Random) -> Facts:
    """Of everything but who calls, some can't be told."""
    function = TABLE.by_name[rand.choice(FUNCTIONS)]
    place = document_at(function)

    def known(values: tuple[Any, ...]) -> Any:
        return None if rand.random() < 0.3 else rand.choice(values)

    count = rand.choice((0, 1, 1, 1, 2, 3)) if names_objects(function) else 0
    text = None if rand.random() < 0.1 else "".join(rand.choices(PIECES, k=rand.randint(0, 10)))
    return Facts(
        function=function,
        things=tuple(random_thing(rand, function) for _ in range(count)),
        principals=frozenset(
            (kind, rand.choice(values)) for kind, values in KINDS.items() if rand.random() < 0.5
        ),
        uri=known(URIS),
        readonly=known((True, False)),
        exe=known(EXES),
        numbers={at: rand.randrange(16) for at in flag_arguments(function, TABLE)},
        texts={} if place is None else {place: text},
        in_daemon=rand.random() < 0.5,
    )


class CThing(ctypes.Structure):
    """As struct thing in tests/fuzz/facts.c."""

    _fields_ = [
        *((name, ctypes.c_char_p) for name in ("name", "parent")),
        *((name, ctypes.c_uint32) for name in ("has_name", "has_uuid", "is_part")),
        ("uuid", ctypes.c_uint8 * 16),
    ]


class CFacts(ctypes.Structure):
    """As struct facts in tests/fuzz/facts.c."""

    _fields_ = [
        ("policy", ctypes.c_void_p),
        ("things", CThing * 3),
        *((name, ctypes.c_char_p) for name in ("sasl", "x509", "exe", "uri")),
        ("args", ctypes.c_uint64 * 6),
        ("texts", ctypes.c_char_p * 6),
        *(
            (name, ctypes.c_uint32)
            for name in ("number", "uid", "gid", "thing_count", "is_readonly", "in_daemon")
        ),
    ]


@pytest.fixture(scope="module")
def deciding(tmp_path_factory) -> Any:
    """deciding(POINTER): the rule that the library's judge decides by."""
    library()  # makes table.h
    path = tmp_path_factory.mktemp("facts") / "facts.so"
    subprocess.run([ROOT / "tests" / "fuzz" / "build.sh", "facts", path, "gcc"], check=True)
    function = ctypes.CDLL(str(path)).deciding
    function.restype = ctypes.c_char_p
    return function


def given_to_library(facts: Facts, policy: ctypes.Array[ctypes.c_char]) -> CFacts:
    """The facts, in the library's words."""
    assert isinstance(facts.principals, frozenset)
    who: dict[str, Any] = dict(facts.principals)
    assert isinstance(facts.things, tuple)
    found = CFacts(
        policy=ctypes.addressof(policy),
        number=facts.function.number,
        uid=who.get("uid", 2**32 - 1),
        gid=who.get("gid", 2**32 - 1),
        thing_count=len(facts.things),
        in_daemon=bool(facts.in_daemon),
    )
    for place, thing in enumerate(facts.things):
        found.things[place] = thing_for_library(thing, is_part(facts.function))
    found.sasl, found.x509 = (
        who[kind].encode() if kind in who else None for kind in ("sasl", "x509")
    )
    found.exe, found.uri = (
        text.encode() if isinstance(text, str) else None for text in (facts.exe, facts.uri)
    )
    found.is_readonly = UNKNOWN if facts.readonly is None else int(facts.readonly is True)
    for at, number in facts.numbers.items():
        assert isinstance(number, int)
        found.args[at] = number
    for place, text in facts.texts.items():
        found.texts[place & ~IN_PARAMS] = text.encode() if isinstance(text, str) else None
    return found


def thing_for_library(thing: Thing, part: bool) -> CThing:
    """An object."""
    found = CThing(is_part=part)
    found.has_name, found.has_uuid = (
        UNKNOWN if value is None else NO if value is NONE else YES
        for value in (thing.name, thing.uuid)
    )
    if isinstance(thing.uuid, uuid.UUID):
        found.uuid[:] = thing.uuid.bytes
    found.parent = b"" if thing.whole is NONE else None
    if isinstance(thing.name, str):
        name = thing.name
        if isinstance(thing.whole, str):
            parent, _, inner = thing.whole.rpartition("/")
            found.parent, name = parent.encode(), inner if part else name
        found.name = name.encode()
    return found


def toml(rule: dict[str, Any], number: int) -> str:
    def value(of: Any) -> str:
        if isinstance(of, dict):
            return "{ " + ", ".join(f"{key} = {value(item)}" for key, item in of.items()) + " }"
        return json.dumps(of, ensure_ascii=False)

    return (f'[[rule]]\nname = "r{number}"\n') + "".join(
        f"{key} = {value(each)}\n" for key, each in rule.items()
    )


def test_both_decide_by_the_same_rule(deciding):
    rand, compared = random.Random(1), Counter[str]()
    for _ in range(POLICIES):
        chosen = [random_rule(rand) for _ in range(rand.randint(1, 6))]
        text = "\n".join(toml(rule, number) for number, rule in enumerate(chosen))
        policy = read_policy(text, "p.toml", TABLE)
        judge = Judge(policy, TABLE)
        data = ctypes.create_string_buffer(compile_policy(policy, TABLE, 1))
        for _ in range(QUESTIONS):
            facts = random_facts(rand)
            said = explain_facts(policy, TABLE, facts)
            by = said[0].split('"')[1] if said[0].startswith("rule ") else None
            partly = judge.decide(partly_recorded(rand, facts))
            compared["partly recorded, told"] += partly.denies is not UNRECORDED
            assert partly.denies in (UNRECORDED, judge.decide(facts).denies), (facts, text)
            rule = deciding(ctypes.byref(given_to_library(facts, data)))
            assert (rule.decode() if rule else None) == by, (
                f"{facts.function.name} {facts[1:]}: {said}\n{text}"
            )
            compared["calls"] += 1
            compared["can't be told"] += "can't be told" in said[0]
            compared.update(
                key for key in CONDITIONS if by is not None and key in chosen[int(by[1:])]
            )
    print(dict(compared))
    assert compared["calls"] == POLICIES * QUESTIONS and compared["can't be told"]
    assert all(compared[key] for key in CONDITIONS)


def test_pool_that_cant_be_told_may_be_the_one_that_is_meant(deciding):
    """`!other/*` leaves out volumes of other pools, not those of which the pool is not known."""
    rule = {"action": "deny", "function": ["virStorageVolDelete"]}
    text = toml({**rule, "object": ["pool/*", "!other/*"]}, 0)
    data = ctypes.create_string_buffer(compile_policy(read_policy(text, "p.toml", TABLE), TABLE, 1))
    function = TABLE.by_name["virStorageVolDelete"]
    for whole, denied in (("pool/x", True), ("other/x", False), (None, True)):
        facts = Facts(function, (Thing("x", NONE, whole),), frozenset({("uid", 0)}))
        by = deciding(ctypes.byref(given_to_library(facts, data)))
        assert (by == b"r0") is denied, whole
