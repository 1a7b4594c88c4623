# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random policies: mostly about what a program is going to do, so that rules match often and
just miss often.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from enforcer.compiled.writer import compile_policy
from enforcer.launch.library import table
from enforcer.policy.reading.reading import read_policy
from enforcer.policy.rules import PolicyError
from tests.model.calls import FLAGS, FUNCTIONS, KINDS, NAMES, POOLS, UUIDS, VOLUMES, Call

Policy = Mapping[str, Any]

ACTIONS = ("deny", "deny", "deny", "allow", "audit")
ASKED = "virConnectGetHostname"  # denied with what tells the policy
OPENING = ("virConnectOpen*", "virConnectClose", "virConnectGetURI", "virConnect*CloseCallback")
ALL_NAMES = tuple(
    dict.fromkeys((*NAMES, *(name for names in KINDS.values() for name in names), "other", "web1x"))
)
USERS = (
    "root",
    "nobody",
    "man",
    "0",
    "65534",
    "sasl:alice*",
    "sasl:mallory",
    "sasl:*@*",
    "x509:*CN=alice",
    "x509:CN=bob",
)
GROUPS = ("root", "nogroup", "man", "games")
URIS = (
    "qemu:///system",
    "qemu:*",
    "network:///*",
    "qemu+tcp://*",
    "qemu+tls:*",
    "*system",
    "test:*",
    "secret:*",
)
ELEMENTS = ("hostdev", "interface[@type='hostdev']", "title", "interface")
TEXTS = ("<hostdev", "<title", "web1", "first", "<interface", "2048", "nothing of the kind")


def random_policy(
    rand: random.Random,
    program: list[Call],
    exes: tuple[str, ...],
    generation: int,
    *,
    may_audit: bool,
) -> Policy:
    """`generation`: what the denial of ASKED says. `may_audit`: it may deny nothing."""
    rules: list[dict[str, Any]] = [
        {
            "name": "in force",
            "action": "deny",
            "function": [ASKED],
            "message": f"policy {generation}",
        },
        {"name": "opening", "action": "allow", "function": list(OPENING)},
    ]
    for number in range(rand.randint(3, 9)):
        while True:
            rule = {
                "name": f"r{number}",
                "action": rand.choice(ACTIONS),
                **_conditions(rand, rand.choice(program), exes),
            }
            if rand.random() < 0.2:
                rule["message"] = f"so says r{number}"
            if _is_good(rule):
                break
        rules.append(rule)
    return {"mode": "audit" if may_audit and rand.random() < 0.1 else "enforce", "rule": rules}


def toml(policy: Policy) -> str:
    """As its author would write it."""
    lines = [f"mode = {json.dumps(policy['mode'])}"]
    for rule in policy["rule"]:
        lines += ["", "[[rule]]", *(f"{key} = {_value(value)}" for key, value in rule.items())]
    return "\n".join(lines) + "\n"


def compiled(policy: Policy) -> bytes:
    """The file that is put in force."""
    return compile_policy(read_policy(toml(policy), "model.toml", table()), table())


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def _is_good(rule: Mapping[str, Any]) -> bool:
    """Whether such a rule may be written: it asks nothing that no function of it has."""
    try:
        read_policy(toml({"mode": "enforce", "rule": [rule]}), "model.toml", table())
    except PolicyError:
        return False
    return True


def _conditions(rand: random.Random, call: Call, exes: tuple[str, ...]) -> dict[str, Any]:
    """What a rule asks for, with that call in mind; few things, or it would hardly ever match."""
    found: dict[str, Any] = {}
    if rand.random() < 0.75:
        found["function"] = _functions(rand, call)
    if not found or rand.random() < 0.2:
        found["class"] = rand.choice(("write", "write", "read"))
    possible = [key for key in MAKERS if key != "exe" or exes]
    few = (0, 1, 1, 1, 2, 2, 3) if "function" in found else (1, 1, 2, 2, 3)
    for key in rand.sample(possible, rand.choice(few)):
        found[key] = _listed(rand, exes) if key == "exe" else MAKERS[key](rand, call)
    return found


def _functions(rand: random.Random, call: Call) -> list[str]:
    name = call.function if rand.random() < 0.8 else rand.choice(FUNCTIONS)
    globs = [
        rand.choice(
            (
                name,
                name,
                f"{name[:9]}*",
                f"{name[:12]}*",
                "virConnect*" if "Connect" in name else f"*{name[9:15]}*",
            )
        )
    ]
    if rand.random() < 0.3:
        globs.append(rand.choice(FUNCTIONS))
    if rand.random() < 0.15:
        globs.append(f"!{rand.choice(FUNCTIONS)}")
    return [glob for glob in globs if glob[0] == "!"] + [glob for glob in globs if glob[0] != "!"]


def _listed(rand: random.Random, values: tuple[str, ...]) -> list[str]:
    """One or two of them, now and then as what must not match."""
    chosen = rand.sample(values, min(len(values), rand.choice((1, 1, 2))))
    return [f"!{value}" if rand.random() < 0.25 else value for value in chosen]


def _objects(rand: random.Random, call: Call) -> list[str]:
    names = [one.name for one in call.about or () if one.name] or list(ALL_NAMES)
    name = rand.choice(names)
    wholes = (
        f"{name}/*",
        f"*/{name}",
        f"{rand.choice(POOLS)}/{rand.choice(VOLUMES)}",
        f"{name}/before",
        "*/web1",
    )
    globs = (
        name,
        name,
        f"{name[:2]}*",
        "*",
        f"[{name[0] if name[0].isascii() else 'B'}x]*",
        f"?{name[1:]}",
        rand.choice(wholes),
    )
    return _listed(rand, (rand.choice(globs), rand.choice((*ALL_NAMES, *wholes))))


def _uuids(rand: random.Random, call: Call) -> list[str]:
    mine = [one.uuid for one in call.about or () if one.uuid]
    return _listed(rand, (rand.choice(mine or UUIDS), rand.choice(UUIDS)))


def _flags(rand: random.Random, call: Call) -> dict[str, list[str]]:
    names = tuple(FLAGS.get(call.function) or FLAGS["virDomainGetXMLDesc"])
    keys = rand.sample(("any", "all", "none"), rand.choice((1, 1, 2)))
    return {key: rand.sample(names, rand.randint(1, len(names))) for key in keys}


def _contains(rand: random.Random, call: Call) -> dict[str, list[str]]:
    if call.document and rand.random() < 0.9:
        return {"xml": rand.sample(TEXTS, rand.choice((1, 1, 2)))}
    name = rand.choice(list(call.texts) or ["name"])
    text = call.texts.get(name) or "web1"
    return {name: [rand.choice((text, text[1:3], "nothing of the kind"))]}


MAKERS: Mapping[str, Callable[[random.Random, Call], Any]] = {
    "object": _objects,
    "uuid": _uuids,
    "user": lambda rand, _: _listed(rand, USERS),
    "group": lambda rand, _: _listed(rand, GROUPS),
    "uri": lambda rand, _: _listed(rand, URIS),
    "readonly": lambda rand, _: rand.random() < 0.5,
    "exe": lambda rand, _: [],
    "flags": _flags,
    "contains": _contains,
    "element": lambda rand, _: rand.sample(ELEMENTS, rand.choice((1, 1, 2))),
}
KEYS = ("function", "class", *MAKERS)
