# SPDX-License-Identifier: LGPL-2.1-or-later
"""The work of four users is recorded, three policies are rehearsed on the record, then the same
work is done under each of them: what is denied is what was foretold, call by call.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from enforcer.judging.judge import Judge
from enforcer.policy.reading.reading import read_policy
from enforcer.rehearsal.facts import facts_of
from enforcer.rehearsal.made import made_alone
from enforcer.rehearsal.rehearse import strictest
from log.events import Call as Recorded
from log.parsing.parse import parse
from tests.model.calls import DOMAIN, NAMES, NETWORK, UUIDS, Call, random_call
from tests.model.places import ACCESS_DENIED, USERS, Place, User
from tests.model.policies import ASKED, Policy, compiled, toml
from tests.model.recorded import TABLE
from tests.needs import PATIENCE
from tests.recorded import TRACER, lines_of

# calls after which there is what was there before, so that a denied one changes no later one
STEADY = frozenset(
    {
        "virConnectListAllDomains",
        "virDomainGetInfo",
        "virDomainGetXMLDesc",
        "virDomainListGetStats",
        "virDomainLookupByName",
        "virDomainLookupByUUID",
        "virDomainSetAutostart",
        "virDomainSetMemoryFlags",
        "virDomainSetMetadata",
        "virNetworkLookupByName",
        "virNetworkSetAutostart",
        "virSecretGetXMLDesc",
        "virSecretSetValue",
        "virStorageVolGetInfo",
    }
)
CALLS = 240
ROOT_USER, NOBODY, MAN = USERS
WHO = ((ROOT_USER, "unix"), (NOBODY, "unix"), (MAN, "unix"), (ROOT_USER, "tls"))
LABELS = dict(zip(WHO, ("root", "nobody", "man", "O=clients,CN=alice"), strict=True))
RULES: tuple[tuple[dict[str, Any], ...], ...] = (
    (
        {"name": "root", "action": "allow", "class": "write", "user": ["root"]},
        {"name": "keep-web", "action": "deny", "class": "write", "object": ["web*"]},
    ),
    (
        {
            "name": "secrets",
            "action": "deny",
            "function": ["virDomainGetXMLDesc", "virSecret*"],
            "class": "write",
            "user": ["!root"],
        },
        {
            "name": "words",
            "action": "deny",
            "function": ["virDomainLookupByName"],
            "contains": {"name": ["eb"]},
        },
        {
            "name": "alice",
            "action": "deny",
            "function": ["virDomain*"],
            "user": ["x509:*CN=alice"],
            "object": ["!db"],
        },
    ),
    (
        {
            "name": "live",
            "action": "deny",
            "function": ["virDomainSet*"],
            "flags": {"any": ["VIR_DOMAIN_MEM_LIVE", "VIR_DOMAIN_AFFECT_LIVE"]},
        },
        {"name": "one", "action": "deny", "function": ["virDomain*"], "uuid": [UUIDS[1]]},
        {"name": "program", "action": "deny", "function": ["*Lookup*"], "exe": ["*/client"]},
        {"name": "net", "action": "deny", "function": ["virNetwork*"], "object": ["lan"]},
        {"name": "volumes", "action": "deny", "function": ["virStorage*"], "object": ["images/*"]},
    ),
)
Step = tuple[User, str, Call]


def policy_of(number: int) -> Policy:
    """The policy, with what tells that it is in force."""
    asked = {"name": "in force", "action": "deny", "function": [ASKED]}
    return {
        "mode": "enforce",
        "rule": [{**asked, "message": f"policy {number}"}, *RULES[number]],
    }


def work() -> list[Step]:
    rand = random.Random(3)
    steps: list[Step] = []
    while len(steps) < CALLS:
        call = random_call(rand)
        if call.function in STEADY:
            steps.append((*rand.choice(WHO), call))
    return steps


@pytest.fixture(scope="module")
def place():
    with Place("daemon") as place:
        for name, text in zip(NAMES, UUIDS, strict=True):
            xml = DOMAIN.format(
                title="", name=f"<name>{name}</name>", uuid=text, memory=1024, device=""
            )
            assert place.make(Call("virDomainDefineXML", (xml,)), ROOT_USER, "unix")[0] == "done"
        xml = NETWORK.format(name="<name>lan</name>", uuid=UUIDS[1], number=1)
        assert place.make(Call("virNetworkDefineXML", (xml,)), ROOT_USER, "unix")[0] == "done"
        for user, way in WHO:
            place.make(Call("virConnectListAllDomains", ()), user, way)
        yield place


@pytest.fixture(scope="module")
def record(place, tmp_path_factory):
    """The record of the work, done where nothing is denied."""
    folder = tmp_path_factory.mktemp("record")
    words = [*TRACER, "record", folder, "--show", "--reads", "full", "-p", str(place.target.pid)]
    with (folder.parent / "errors").open("w+") as errors:
        recorder = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert recorder.stdout and " attached to " in recorder.stdout.readline()
            for user, way, call in work():
                assert place.make(call, user, way)[1] != ACCESS_DENIED
        finally:
            recorder.send_signal(signal.SIGINT)
            recorder.communicate(timeout=60 * PATIENCE)
        errors.seek(0)
        assert ", 0 lost in " in errors.read()
    return folder


def calls_in(folder: Path) -> list[Recorded]:
    """The daemon's calls for the four, as they were made."""
    found = [parse(json.dumps(fields)) for fields in lines_of(folder)]
    calls = [
        event
        for event in found
        if type(event) is Recorded and not event.depth and event.function in STEADY
    ]
    return sorted((call for call in calls if not call.client.is_daemon), key=lambda c: c.time)  # type: ignore[union-attr]


@pytest.mark.parametrize("number", range(len(RULES)))
def test_what_a_policy_denies_was_foretold_call_by_call(place, record, tmp_path, number):
    policy, file = policy_of(number), tmp_path / "policy.toml"
    file.write_text(toml(policy))
    judge = Judge(read_policy(toml(policy), "policy.toml", TABLE), TABLE)
    recorded = calls_in(record)
    assert [call.function for call in recorded] == [call.function for _, _, call in work()]
    foretold = [
        strictest(map(judge.decide, facts_of(made_alone(call, TABLE.by_name[call.function]))))
        for call in recorded
    ]
    shown = subprocess.run(
        [*TRACER, "policy", "rehearse", file, record, "--json"], capture_output=True, text=True
    )
    assert shown.returncode == 1 and shown.stderr == "", shown.stderr
    rehearsed = json.loads(shown.stdout)

    place.put_in_force(compiled(policy), number)
    done = [place.make(call, user, way) for user, way, call in work()]

    by = [said.rule.name if said.denies is True and said.rule else None for said in foretold]
    assert not any(said.missing for said in foretold)
    got = [
        str(end[3]).split('"')[1] if end[0] == "failed" and end[1] == ACCESS_DENIED else None
        for end in done
    ]
    assert by == got
    denied = Counter(
        (rule, LABELS[user, way], call.function)
        for rule, (user, way, call) in zip(got, work(), strict=True)
        if rule
    )
    said: Counter[tuple[str, str, str]] = Counter()
    for row in rehearsed["changes"]:
        assert row["change"] == "newly denied"
        said[row["rule"], row["user"], row["function"]] += row["calls"]
    assert said == denied and len({rule for rule, _, _ in said}) == sum(
        rule["action"] == "deny" for rule in RULES[number]
    )
    assert rehearsed["cannot_be_told"] == 0
    assert rehearsed["newly_denied"] == denied.total() == rehearsed["judged"] - rehearsed["same"]
