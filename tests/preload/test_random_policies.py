# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random policies in force in a real client: each of its calls ends as a plain reading of the
rules says.
"""

from __future__ import annotations

import fnmatch
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enforcer.judging.explain import Supposed, explain
from enforcer.launch.library import table
from enforcer.policy.reading.reading import read_policy
from enforcer.policy.rules import flag_arguments, flag_constants
from tests.enforced import enforced_environment, put

NODE = """<node>
{domains}
{networks}
</node>
"""
DOMAIN = (
    "<domain "
    "type='test'><name>{}</name><uuid>{}</uuid><memory>8388608</memory><os><type>hvm</type></os></domain>"
)
NETWORK = (
    "<network><name>{}</name><bridge name='br{}'/><ip address='192.168.{}.1' "
    "netmask='255.255.255.0'/></network>"
)
UUIDS = {
    "web1": "6695eb01-f6a4-8304-79aa-97f2502e1931",
    "web2": "6695eb01-f6a4-8304-79aa-97f2502e1932",
}
UUIDS |= {
    "db": "6695eb01-f6a4-8304-79aa-97f2502e1933",
    "Büro-東京": "6695eb01-f6a4-8304-79aa-97f2502e1934",
}
NETWORKS = ("web1", "lan")
LIVE, CONFIG = "VIR_DOMAIN_MEM_LIVE", "VIR_DOMAIN_MEM_CONFIG"
BITS = {LIVE: 1, CONFIG: 2}
# function -> whether it writes; VIR_DOMAIN_XML_SECURE (1) makes the last one a write
FUNCTIONS = {
    "virDomainLookupByName": False,
    "virDomainSuspend": True,
    "virDomainResume": True,
    "virDomainGetInfo": False,
    "virDomainSetMemoryFlags": True,
    "virNetworkGetBridgeName": False,
    "virNetworkSetAutostart": True,
    "virDomainGetXMLDesc": None,
}

globs = st.sampled_from(
    [
        "web1",
        "web*",
        "*",
        "w?b1",
        "[dw]*",
        "[!w]*",
        "B?ro-*",
        "lan",
        "nosuch",
        "*1",
        "*e*",
        "!web1",
        "!d*",
        "web1/x",
    ]
)
flag_lists = st.lists(st.sampled_from([LIVE, CONFIG]), min_size=1, max_size=2, unique=True)
actions: dict[str, st.SearchStrategy[Any]] = {
    "action": st.sampled_from(["deny", "deny", "allow", "audit"])
}
conditions: dict[str, st.SearchStrategy[Any]] = {
    "function": st.lists(
        st.sampled_from([*FUNCTIONS, "virDomain*", "virNetwork*", "*Get*", "!virDomainResume"]),
        min_size=1,
        max_size=3,
    ).filter(lambda names: any(name[0] != "!" for name in names)),
    "class": st.sampled_from(["write", "read"]),
    "object": st.lists(globs, min_size=1, max_size=3),
    "uuid": st.lists(st.sampled_from([*UUIDS.values(), "!" + UUIDS["db"]]), min_size=1, max_size=2),
    "user": st.sampled_from([["root"], ["!root"], ["4711"], ["!4711", "root"], ["sasl:*"]]),
    "readonly": st.booleans(),
    "uri": st.sampled_from([["test:*"], ["qemu:*"], ["!qemu:*"]]),
    "exe": st.sampled_from([["*/ask-*"], ["/usr/bin/virsh"]]),
}
# few conditions each: a rule with many matches hardly ever
rules = (
    st.sets(st.sampled_from(sorted(conditions)), min_size=1, max_size=3)
    .flatmap(
        lambda keys: st.fixed_dictionaries(
            {**actions, **{key: conditions[key] for key in sorted(keys)}}
        )
    )
    .filter(lambda rule: "function" in rule or "class" in rule)
)
calls = st.lists(
    st.tuples(st.sampled_from(list(FUNCTIONS)), st.sampled_from(list(UUIDS)), st.integers(0, 3)),
    min_size=12,
    max_size=30,
)


def toml(rule: dict[str, Any], number: int) -> str:
    lines = [f'[[rule]]\nname = "r{number}"']
    for key, value in rule.items():
        text = str(value).lower() if isinstance(value, bool) else str(value).replace("'", '"')
        lines.append(f"{key} = {text}" if not isinstance(value, str) else f'{key} = "{value}"')
    return "\n".join(lines) + "\n"


def matches(rule: dict[str, Any], function: str, name: str, flags: int) -> bool:
    """A plain reading of the rule; the client is root on test://, writable, everything can be
    told.
    """
    writes = FUNCTIONS[function] if FUNCTIONS[function] is not None else bool(flags & 1)
    is_network = function.startswith("virNetwork")

    def listed(values: list[str], match: Any) -> bool:
        yes = [value for value in values if value[0] != "!"]
        no = [value[1:] for value in values if value[0] == "!"]
        return (not yes or any(map(match, yes))) and not any(map(match, no))

    checks = {
        "function": lambda value: listed(value, lambda glob: fnmatch.fnmatchcase(function, glob)),
        "class": lambda value: writes == (value == "write"),
        "object": lambda value: listed(value, lambda glob: fnmatch.fnmatchcase(name, glob)),
        # a network has its own UUID; a lookup by name is judged by what it finds
        "uuid": lambda value: listed(value, lambda text: not is_network and text == UUIDS[name]),
        "user": lambda value: listed(value, lambda user: user == "root"),
        "readonly": lambda value: value is False,
        "uri": lambda value: listed(value, lambda glob: fnmatch.fnmatchcase("test:", glob)),
        "exe": lambda value: value == ["*/ask-*"],
        "action": lambda value: True,
    }
    return all(checks[key](value) for key, value in rule.items())


def expected(chosen: list[dict[str, Any]], function: str, name: str, flags: int) -> str:
    for rule in chosen:
        if matches(rule, function, name, flags):
            return "denied" if rule["action"] == "deny" else "passed"
    return "passed"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    path = tmp_path_factory.mktemp("node") / "node.xml"
    domains = "\n".join(DOMAIN.format(name, text) for name, text in UUIDS.items())
    networks = "\n".join(NETWORK.format(name, i, i) for i, name in enumerate(NETWORKS))
    path.write_text(NODE.format(domains=domains, networks=networks))
    return path


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    chosen=st.lists(rules, min_size=1, max_size=5),
    asked=calls,
    fixed_flags=st.none() | st.tuples(st.sampled_from(["any", "all", "none"]), flag_lists),
)
def test_each_call_ends_as_the_rules_say(caller, node, tmp_path, chosen, asked, fixed_flags):
    asked = [
        (f, "web1" if f.startswith("virNetwork") and n not in NETWORKS else n, flags)
        for f, n, flags in asked
    ]
    text = "\n".join(toml(rule, number) for number, rule in enumerate(chosen))
    flag_rule = None
    if fixed_flags:
        kind, names = fixed_flags
        listed = ", ".join(f'"{name}"' for name in names)
        text += (
            f'[[rule]]\nname = "flags"\naction = "deny"\nfunction = '
            f'"virDomainSetMemoryFlags"\nflags = {{ {kind} = [{listed}] }}\n'
        )
        flag_rule = (kind, sum(BITS[name] for name in names))
    policy = put(tmp_path / "policy.bin", text)
    uri = f"test://{node}"
    process = subprocess.run(
        [caller("ask"), uri],
        input="".join(f"{function} {name} {flags}\n" for function, name, flags in asked),
        env=enforced_environment(policy),
        capture_output=True,
        text=True,
        check=False,
    )
    got = process.stdout.splitlines()
    assert (process.returncode, process.stderr, got[0]) == (0, "", "ready")
    for (function, name, flags), answer in zip(asked, got[1:], strict=True):
        wanted = expected(chosen, function, name, flags)
        if (
            flag_rule
            and function == "virDomainSetMemoryFlags"
            and not any(matches(rule, function, name, flags) for rule in chosen)
        ):
            kind, bits = flag_rule
            hit = {
                "any": bool(flags & bits),
                "all": flags & bits == bits,
                "none": not flags & bits,
            }[kind]
            wanted = "denied" if hit else "passed"
        assert answer == wanted, (function, name, flags, text)
        assert explained(text, function, name, flags, uri, caller("ask")) == answer, (
            function,
            name,
            flags,
            text,
        )


def explained(text: str, function: str, name: str, flags: int, uri: str, exe: Path) -> str:
    """What `policy explain` says of the call: it never contradicts the library."""
    known = {
        value: constant
        for constant, value in flag_constants(table().by_name[function], table()).items()
    }
    has_uuid = not function.startswith("virNetwork")
    named = (
        frozenset(known[bit] for bit in (1, 2) if flags & bit)
        if flag_arguments(table().by_name[function], table())
        else None
    )
    other = "6695eb01-f6a4-8304-79aa-000000000000"
    question = Supposed(
        function, name, UUIDS[name] if has_uuid else other, "root", uri, False, str(exe), named
    )
    verdict = explain(read_policy(text, "p.toml", table()), table(), question)[0]
    assert "can't be told" not in verdict
    return "denied" if " denies it" in verdict else "passed"
