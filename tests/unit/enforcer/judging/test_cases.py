# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tests in a policy: `policy check` runs them, `policy apply` refuses when one fails, and
`policy rollback` goes back.
"""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from enforcer import applying, commands
from enforcer.compiled import files
from enforcer.compiled.summary import read_summary
from enforcer.judging.cases import failures
from enforcer.launch.library import table
from enforcer.policy.reading.reading import read_policy
from enforcer.policy.rules import PolicyError
from log.errors import TraceError
from log.events import VerdictInfo
from tests.unit.log_samples import NS
from tests.unit.recording_samples import record
from tests.unit.rehearsal_samples import client, on, rule, served

TABLE = table()
KEEP = rule("keep-web", function=["virDomainDestroy*"], object=["web*"], user=["!root"])
DOCUMENT = "<domain><name>web7</name></domain>"


def case(**more: Any) -> str:
    """A [[test]] that expects a denial."""
    fields = {"user": "nobody", "function": "virDomainDestroy", "object": "web1", "expect": "deny"}
    lines = [f"{key} = {str(v).lower() if isinstance(v, bool) else repr(v)}"
             for key, v in {**fields, **more}.items()]  # fmt: skip
    return "\n".join(["[[test]]", *lines, ""])


PASS = {
    "by a rule": case(rule="keep-web"),
    "another object": case(object="db", expect="allow"),
    "another user": case(user="root", expect="allow"),
    "unknown object": case(object="", expect="allow"),
    "flags": case(function="virDomainDestroyFlags", flags=["VIR_DOMAIN_DESTROY_GRACEFUL"]),
}
FAIL = {
    "allowed": (case(object="db"), 'p.toml:9: test expects "deny"\n  no rule matches: it is '),
    "named": (case(name="n", object="db"), 'p.toml:9: test "n" expects "deny"\n'),
    "by another rule": (
        case(rule="keep-web", expect="allow", object="db"),
        'p.toml:9: test expects "allow" by rule "keep-web"\n  no rule matches',
    ),
    "flag of another function": (
        case(flags=["VIR_DOMAIN_UNDEFINE_NVRAM"]),
        "p.toml:9: test: virDomainDestroy has no flag",
    ),
    "no such user": (case(user="nobodi"), "p.toml:9: test: no user"),
}
MISTAKES = {
    case(expekt="deny"): 'p.toml:14: unknown key "expekt"; did you mean "expect"?',
    case(
        expect="denied"
    ): 'p.toml:13: expect is "deny" or "audit" or "allow"; did you mean "deny"?',
    case(function="virDomainDestory"): 'unknown function "virDomainDestory"; did you mean',
    case(rule="keep"): 'there is no rule "keep"; did you mean "keep-web"?',
    case(readonly="yes"): "readonly is true or false",
    case(object=["web1"]): "object is a text",
    case(flags="VIR_X"): "flags is a list of constants",
    "[[test]]\nuser = 'root'\n": "a test says what to expect",
    "test = 1\n": "tests begin with [[test]]",
}


@pytest.mark.parametrize("what", PASS)
def test_what_is_as_expected_passes(what):
    assert failures(read_policy(KEEP + PASS[what], "p.toml", TABLE), TABLE) == []


@pytest.mark.parametrize("what", FAIL)
def test_what_fails_says_why(what):
    text, said = FAIL[what]
    (lines,) = failures(read_policy(f"{KEEP}\n\n{text}", "p.toml", TABLE), TABLE)
    assert "\n".join(lines).startswith(said), lines


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_has_its_line_and_the_nearest_word(text):
    policy = text + KEEP if text.startswith("test =") else f"{KEEP}\n\n{text}"
    with pytest.raises(PolicyError) as error:
        read_policy(policy, "p.toml", TABLE)
    assert MISTAKES[text] in "\n".join(map(str, error.value.args))


def test_check_runs_them_and_fails_with_them(tmp_path, capsys):
    path = tmp_path / "p.toml"
    path.write_text(KEEP + case() + case(object="db"))
    assert commands.run_policy(["check", str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-5].endswith(': test expects "deny"') and lines[-2] == "1 of 2 tests as expected"
    path.write_text(KEEP + case())
    assert commands.run_policy(["check", str(path)]) == 0
    assert "1 of 1 test as expected" in capsys.readouterr().out


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host of its own: its policies and its record."""
    folder = tmp_path / "etc"
    monkeypatch.setattr(files, "SYSTEM_FOLDER", folder)
    monkeypatch.setattr(files, "SYSTEM_POLICY", folder / "policy.bin")
    monkeypatch.setattr(applying, "DEFAULT", str(tmp_path / "record"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


def apply(host, text: str, *words: str) -> None:
    (host / "p.toml").write_text(text)
    assert commands.run_policy(["apply", str(host / "p.toml"), *words]) == 0


def test_apply_refuses_a_policy_whose_test_fails(host):
    apply(host, KEEP)
    with pytest.raises(TraceError, match="one of its tests fails; libvirt-trace policy check"):
        apply(host, case(object="db"))
    assert (host / "etc" / "policy.toml").read_text() == KEEP


def test_apply_says_what_changes_in_the_calls_of_the_last_week(host, capsys):
    now = time.time_ns()
    was_denied: dict[str, Any] = {"verdict": VerdictInfo("deny", "db"), "failed": True, "ret": -1}
    events = [
        *(served(0, time=now - (90 - n) * NS) for n in range(12)),
        served(0, time=now - 9 * NS, client=client("ann", 1001)),
        served(0, time=now - 8 * NS, args=on("db"), **was_denied),
        served(0, time=now - 8 * 86400 * NS),
    ]
    apply(host, KEEP)
    assert "nothing is recorded to compare it on" in capsys.readouterr().err
    record(host / "record", sorted(events, key=lambda event: event.time))
    apply(host, "")
    assert "13 calls of user" not in capsys.readouterr().err
    apply(host, KEEP)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == ('libvirt-trace: 12 calls of user ci would now be denied by rule "keep-web"')
    assert said[1].endswith('1 call of user ann would now be denied by rule "keep-web"')
    assert said[2].endswith("of 14 calls of the last week, 1 end the same")
    apply(host, KEEP, "--no-rehearsal")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_rollback_goes_back_and_forth(host, capsys):
    with pytest.raises(TraceError, match="there is no earlier policy to go back to"):
        commands.run_policy(["rollback"])
    apply(host, KEEP)
    (host / "p.toml").rename(host / "first.toml")
    apply(host, 'mode = "audit"\n')
    for text, mode in ((KEEP, "enforce"), ('mode = "audit"\n', "audit")):
        assert commands.run_policy(["rollback"]) == 0
        found = read_summary((host / "etc" / "policy.bin").read_bytes())
        assert found is not None and (found.mode, found.origin) == (mode, str(host / "p.toml"))
        assert (host / "etc" / "policy.toml").read_text() == text
    assert "p.toml is in force as " in capsys.readouterr().err
