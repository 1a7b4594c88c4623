# SPDX-License-Identifier: LGPL-2.1-or-later
"""`policy rehearse`: only what changes is listed, each call once, and what can't be told is said
with its reason.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from enforcer import commands
from enforcer.judging.judge import Judge
from enforcer.rehearsal import rehearse
from enforcer.rehearsal.facts import facts_of
from enforcer.rehearsal.made import made_alone
from enforcer.rehearsal.rehearse import DENIED, Rehearsal, strictest
from log.client import OWN
from log.errors import TraceError
from log.events import (
    Attached,
    Call,
    CallError,
    Event,
    Gap,
    Lost,
    Reads,
    Recording,
    TargetInfo,
    VerdictInfo,
)
from log.recording.format import Line
from log.render import jsonl
from log.values import CutText, Flags, Handle, Redacted, Value, Values, Xml
from tests.unit.log_samples import CALLER, HOSTILE, NS, START
from tests.unit.recording_samples import record
from tests.unit.rehearsal_samples import (
    LIBVIRTD,
    TABLE,
    client,
    domain,
    lines_file,
    on,
    policy,
    rule,
    served,
)

KEEP = rule("keep-web", function=["virDomainDestroy*"], object=["web*"])


def run(capsys, tmp_path: Path, text: str, *words: object) -> tuple[int, list[str], str]:
    """Exit status, lines, what is said besides."""
    (tmp_path / "p.toml").write_text(text)
    status = commands.run_policy(["rehearse", str(tmp_path / "p.toml"), *map(str, words)])
    printed = capsys.readouterr()
    return status, printed.out.splitlines(), printed.err


def as_json(capsys, tmp_path: Path, text: str, *words: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(capsys, tmp_path, text, *words, "--json")[1][0])
    return found


def rehearsed(text: str, *events: Event, **more: Any) -> Rehearsal:
    found = Rehearsal(policy(text), TABLE, **more)
    found.add(Line(None, jsonl.line(event).rstrip("\n").encode()) for event in events)
    return found


def test_only_what_changes_is_listed_by_rule_user_function_and_object(capsys, tmp_path):
    events = [
        *(served(number) for number in range(3)),
        served(3, client=client("ann", 1001)),
        served(4, args=on("db")),
        served(5, "virDomainDestroyFlags", args=on("web2", 0)),
        served(
            6, failed=True, ret=-1, error=CallError(55, "VIR_ERR_OPERATION_INVALID", None, None)
        ),
    ]
    status, lines, said = run(capsys, tmp_path, KEEP, lines_file(tmp_path / "calls", events))
    assert (status, said) == (1, "")
    # times are local
    shown = [line.split(", 20")[0] for line in lines if "libvirtd root" not in line]
    assert shown[:4] == [
        'newly denied by rule "keep-web" (line 1): 6 calls',
        "  ci virDomainDestroy web1: 4 calls, 1 had failed anyway",
        "  ann virDomainDestroy web1: 1 call",
        "  ci virDomainDestroyFlags web2: 1 call",
    ]
    assert shown[4].endswith(
        ": 7 calls judged (7 in daemons): 1 same, 6 newly denied (5 had not failed), 0 newly "
        "allowed, 0 can't be told"
    )
    assert (
        sum(" for 4711 virsh ci virDomainDestroy(domain=web1) = 0 <" in one for one in lines) == 1
    )


def test_exit_status_allows_so_many_new_denials(capsys, tmp_path):
    file = lines_file(tmp_path / "calls", [served(n) for n in range(3)])
    for allowed, status in ((2, 1), (3, 0)):
        words = (file, "--allow-new-denials", allowed)
        assert run(capsys, tmp_path, KEEP, *words)[0] == status
    failed = [served(0, failed=True, ret=-1)]
    assert run(capsys, tmp_path, KEEP, lines_file(tmp_path / "failed", failed))[0] == 0


def test_calls_that_were_denied_are_newly_allowed(capsys, tmp_path):
    events = [
        served(0, failed=True, ret=-1, verdict=VerdictInfo("deny", "old", "by order")),
        served(1, verdict=VerdictInfo("allow", "")),
    ]
    found = as_json(capsys, tmp_path, "", lines_file(tmp_path / "calls", events))
    (change,) = found["changes"]
    assert (change["change"], change["calls"], found["newly_allowed"]) == ("newly allowed", 1, 1)
    assert change["example"]["type"] == "verdict" and found["same"] == 1


def test_two_policies_are_compared_with_each_other(capsys, tmp_path):
    (tmp_path / "old.toml").write_text(rule("db", function=["virDomainDestroy"], object=["db"]))
    events = [served(0), served(1, args=on("db")), served(2, args=on("x"))]
    file = lines_file(tmp_path / "calls", events)
    found = as_json(capsys, tmp_path, KEEP, file, "--against", tmp_path / "old.toml")
    assert [(c["change"], c["rule"], c["object"]) for c in found["changes"]] == [
        ("newly allowed", "db", "db"),
        ("newly denied", "keep-web", "web1"),
    ]
    _, lines, _ = run(capsys, tmp_path, KEEP, file, "--against", tmp_path / "old.toml")
    assert any(
        line.startswith('newly allowed, where rule "db" (line 1) denied: 1') for line in lines
    )


def test_clients_are_judged_where_the_daemon_judges_them():
    mine = Handle("domain", {"name": "web1", "uuid": None, "driver": "remote"})
    own = Handle("domain", {"name": "web1", "uuid": None, "driver": "Test"})
    events = [
        served(0),
        served(0, caller=CALLER, client=None, args=Values({"domain": mine})),
        served(1, caller=CALLER, client=None, args=Values({"domain": own})),
        served(2, client=OWN),
        served(3, depth=1),
    ]
    found = rehearsed(KEEP, *events)
    assert found.judged == {"daemon": 1, "client": 1} and found.changed[DENIED] == 2
    assert found.elsewhere == {"client of a daemon": 1, "itself": 1}
    found = rehearsed(KEEP, *events, clients=True)
    assert found.judged == {"daemon": 1, "client": 1, "client of a daemon": 1}


def test_who_claims_to_be_somebody_else_is_judged_as_both():
    said = client("root", 0, 1)
    both = client()._replace(claims=said.alone())
    for user in ("0", "1000"):
        text = rule("both", function=["virDomainDestroy"], user=[user])
        assert rehearsed(text, served(client=both)).changed[DENIED] == 1, user
    speaks_for = client()._replace(peer=said.peer)  # one of libvirt's own daemons
    assert (
        rehearsed(
            rule("r", function=["virDomainDestroy"], user=["0"]), served(client=speaks_for)
        ).same
        == 1
    )


# what a rule asks for -> arguments, and why it can't be told
UNTOLD: dict[str, tuple[dict[str, Any], str, dict[str, Value], str]] = {
    "hidden document": (
        {"element": ["hostdev"]},
        "virDomainDefineXML",
        {"xml": Xml("<domain><title><redacted/></title></domain>", "")},
        "element",
    ),
    "hidden root": (
        {"object": ["web*"]},
        "virDomainDefineXML",
        {"xml": Xml("<?xml version='1.0'?>\n<redacted/>", "")},
        "object",
    ),
    "cut document": (
        {"object": ["web*"]},
        "virDomainDefineXML",
        {"xml": Xml(CutText("<domain><memory>", 99), "<domain><memory>")},
        "object",
    ),
    "secret": (
        {"contains": {"metadata": ["x"]}},
        "virDomainSetMetadata",
        {"domain": domain("web1"), "metadata": Redacted(3)},
        "text",
    ),
    "flags that were not written": (
        {"flags": {"any": ["VIR_DOMAIN_DESTROY_GRACEFUL"]}},
        "virDomainDestroyFlags",
        {"domain": domain("web1")},
        "flags",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNTOLD)
def test_what_the_record_does_not_have_is_said(what):
    asked, function, args, missing = UNTOLD[what]
    found = rehearsed(
        rule("r", function=[function], **asked), served(0, function, args=Values(args))
    )
    assert found.untold == {missing: 1} and found.calls == 1 and not found.changed
    # a rule above it that decides for certain
    above = rule("all", function=[function])
    assert (
        rehearsed(
            above + rule("r", function=[function], **asked), served(0, function, args=Values(args))
        ).changed[DENIED]
        == 1
    )


def test_what_is_hidden_matters_only_where_it_is_asked_for():
    args = Values({"xml": Xml("<domain><name>web1</name><title><redacted/></title></domain>", "")})
    found = rehearsed(
        rule("r", function=["virDomainDefineXML"], object=["web*"]),
        served(0, "virDomainDefineXML", args=args),
    )
    assert found.changed[DENIED] == 1


def test_lost_beginnings_and_unknown_functions_are_told_apart():
    found = rehearsed(KEEP, served(0, args=None), served(1, "virDomainOfTomorrow"))
    assert found.untold == {rehearse.LOST: 1, rehearse.UNKNOWN_FUNCTION: 1}


@pytest.mark.parametrize(
    ("uid", "uri", "denied"),
    [
        (0, "qemu:///session", {"qemu:///session", "qemu:///system"}),
        (0, "qemu:///system", {"qemu:///system"}),
        (1000, "qemu:///session", {"qemu:///session"}),
        (1000, "qemu+tcp://host/session", set()),
        (0, "qemu+tcp://host/system", set()),
    ],
)
def test_daemons_of_root_have_one_driver_for_both_paths(uid, uri, denied):
    """As is_own_driver() in connection.c has it: both spellings are matched. What can't be told is
    settled against the caller by rules that deny.
    """
    conn = Handle("connect", {"uri": uri, "driver": "QEMU"})
    made = served(function="virDomainCreateXML", args=Values({"conn": conn, "xml": None}))
    made = made._replace(caller=LIBVIRTD._replace(uid=uid))
    for glob in ("qemu:///session", "qemu:///system", "qemu+tcp://*"):
        found = rehearsed(rule("r", function=["virDomainCreateXML"], uri=[glob]), made)
        is_unknown = "tcp" in uri
        assert bool(found.changed[DENIED]) == (is_unknown or glob in denied), glob


def test_counted_reads_are_judged_by_their_object():
    def reads(function: str, about: Handle | None) -> Reads:
        return Reads(START, START + NS, LIBVIRTD, "rpc", client(), function, about, 7, 0, 9, 9)

    text = rule("r", function=["virDomainGetInfo"], object=["web*"]) + rule(
        "f", function=["virDomainGetXMLDesc"], flags={"any": ["VIR_DOMAIN_XML_INACTIVE"]}
    )
    found = rehearsed(
        text,
        reads("virDomainGetInfo", domain("web1")),
        reads("virDomainGetInfo", domain("db")),
        reads("virDomainGetXMLDesc", domain("db")),
    )
    assert (found.changed[DENIED], found.same) == (7, 7)
    assert found.untold == {rehearse.COUNTED: 7}


def test_lines_that_are_alike_end_as_each_would_alone():
    """Lines are recognised by their bytes: none that differs in what rules ask for is taken for
    another.
    """
    rand, events = random.Random(2), []
    for number in range(600):
        who = client(*rand.choice((("ci", 1000), ("ann", 1001))), pid=rand.randrange(9))
        cmdline = rand.choice((None, ("a", "],"), ('","pid":1,', HOSTILE)))
        who = who._replace(cmdline=cmdline, exe=rand.choice(("/usr/bin/virsh", "/x")))
        flags = Flags(rand.randrange(3), ())
        name = rand.choice(("web1", "db", HOSTILE, 'x","client":{"uid":0},"y":"'))
        params = {rand.choice(("a", "duration_ns", "client", "out")): rand.randrange(2)}
        args: dict[str, Value] = {"domain": domain(name), "params": params, "flags": flags}
        events.append(served(number, "virDomainSetMemoryParameters", args=Values(args), client=who))
    text = rule(
        "a", function=["virDomain*"], user=["1000"], object=["web*"], exe=["/usr/*"]
    ) + rule(
        "b", function=["virDomain*"], flags={"any": ["VIR_DOMAIN_AFFECT_CONFIG"]}, user=["!1000"]
    )
    judge = Judge(policy(text), TABLE)
    alone = Counter(
        said.rule.name
        for event in events
        if (
            said := strictest(
                map(judge.decide, facts_of(made_alone(event, TABLE.by_name[event.function])))
            )
        ).denies
        and said.rule
    )
    found = rehearsed(text, *events)
    rows: Counter[str] = Counter()
    for key, row in found.rows.items():
        rows[key.rule or ""] += row.calls
    assert rows == alone and len(alone) == 2 and found.calls == 600


FORGED: dict[str, Value] = {
    "permission": "x",
    "details": {"duration_ns": "1", "client": '"', "failed": ',"name":'},
    "answer": "denied",
}


def any_call(rand: random.Random, number: int) -> Call:
    """Of few kinds, so that much is alike but for what must not be taken for the same."""
    name = rand.choice(("web1", "db", 'x","client":{"uid":0},"y":"'))
    function = rand.choice(
        ("virDomainDestroy", "virDomainGetInfo", "virDomainSuspend", "virDomainLookupByName")
    )
    tricky: dict[str, Value] = {
        rand.choice(("out", "failed", "client", "access", "name")): {
            "out": {},
            "args": [number % 2],
        }
    }
    args: dict[str, Value] = {"domain": domain(name), "params": tricky}
    if function == "virDomainLookupByName":
        args = {
            "conn": Handle("connect", {"uri": "qemu:///system", "driver": "QEMU"}),
            "name": name,
        }
    call = served(number, function, args=Values(args), out=Values({**tricky, "info": number}))
    call = call._replace(client=client(*rand.choice((("ci", 1000), ("ann", 1001))), pid=number))
    if function == "virDomainLookupByName":
        call = call._replace(ret=domain(rand.choice(("web1", "db"))), returns="pointer")
    how = rand.randrange(8)
    if how == 0:
        call = call._replace(verdict=VerdictInfo("deny", "old"), failed=True, ret=-1)
    elif how == 1:
        error = CallError(rand.choice((42, 38)), "A", "B", f'{number},"name":"x')
        call = call._replace(failed=True, ret=None, returns="pointer", error=error)
    elif how == 2:
        call = call._replace(depth=1)
    elif how == 3:
        call = call._replace(client=None, caller=CALLER._replace(ppid=number, loginuid=number))
    elif how == 4:
        call = call._replace(failed=True, ret=-1, access=(FORGED,), client=OWN)
    elif how == 5:
        call = call._replace(unfinished="result lost", failed=False, ret=None)
    return call


@pytest.mark.parametrize("old", [None, rule("o", function=["virDomainSuspend"], object=["db"])])
def test_lines_are_recognised_by_what_tells_their_outcome_only(old):
    rand = random.Random(7)
    lines = [
        Line(None, jsonl.line(any_call(rand, number)).rstrip("\n").encode())
        for number in range(1200)
    ]
    text = rule("a", function=["virDomainDestroy"], user=["1000"], object=["web*"])
    text += rule("b", function=["virDomainLookupByName"], object=["db"])
    before = None if old is None else policy(old)
    together, alone = Rehearsal(policy(text), TABLE, before), Rehearsal(policy(text), TABLE, before)
    together.add(lines)
    for line in lines:
        alone._lines.clear()
        alone._but_arguments.clear()
        alone.add([line])
    for what in ("judged", "elsewhere", "changed", "worked", "untold"):
        assert getattr(together, what) == getattr(alone, what), what
    for found in (together, alone):
        assert sum(row.calls for row in found.rows.values()) == found.changed.total() > 100
    assert {key: row.calls for key, row in together.rows.items()} == {
        key: row.calls for key, row in alone.rows.items()
    }
    assert len(together._lines) < len(lines) * 2 // 3  # lookups tell what they found


def test_names_do_not_deceive(capsys, tmp_path):
    file = lines_file(tmp_path / "calls", [served(0, args=on(f"web{HOSTILE}"))])
    _, lines, _ = run(capsys, tmp_path, KEEP, file)
    assert len(lines) == 4 and "\x1b" not in "".join(lines) and "\u202e" not in "".join(lines)


def test_an_incomplete_record_says_so_first(capsys, tmp_path):
    events: list[Event] = [
        served(0),
        Gap(START, START + NS, "killed", 4),
        Lost(START, 12, "write", "buffer full"),
    ]
    _, lines, _ = run(capsys, tmp_path, KEEP, lines_file(tmp_path / "calls", events))
    assert lines[0].startswith("the record is not complete: nothing or not all of 20")
    assert lines[0].endswith("(killed), and 16 calls lost")


def test_a_time_that_holds_nothing_and_an_empty_record_say_so(capsys, tmp_path):
    record(tmp_path / "record", [served(0)])
    empty = tmp_path / "empty"
    empty.mkdir()
    nothing = ["nothing that a policy judges is recorded there"]
    assert run(capsys, tmp_path, KEEP, tmp_path / "record", "--since", "-1h")[:2] == (0, nothing)
    status, lines, said = run(capsys, tmp_path, KEEP, empty)
    assert (status, lines) == (0, nothing) and "there is no record in it" in said
    with pytest.raises(TraceError, match="no such file or directory"):
        run(capsys, tmp_path, KEEP, tmp_path / "nowhere")


def test_a_time_is_kept_to(capsys, tmp_path):
    file = lines_file(tmp_path / "calls", [served(number) for number in range(9)])
    words = ("--since", f"@{START // NS + 2}", "--until", f"@{START // NS + 5}")
    assert as_json(capsys, tmp_path, KEEP, file, *words)["newly_denied"] == 3


def test_records_of_another_host_and_of_an_older_libvirt_are_said(capsys, tmp_path):
    other = Recording(START, "1", "elsewhere", "0" * 32, None, "6.1", None, {}, {}, {}, None)
    old = Attached(START, "1", 9, (TargetInfo("/l", "9.0.0"),), 1.0, "uprobe_multi")
    file = lines_file(tmp_path / "calls", [other, old, served(0)])
    new = rule("new", function=["virDomainGraphicsReload", "virDomainDelThrottleGroup"])
    _, _, said = run(capsys, tmp_path, KEEP + new, file)
    assert "the record is of elsewhere: users and groups in the policy are those of this" in said
    assert (
        'p.toml:6: rule "new": virDomainDelThrottleGroup came with libvirt 11.2.0, and the record '
        "is of 9.0.0: no call of it can be there (warning)"
    ) in said


def test_a_thousand_rules(capsys, tmp_path):
    text = "".join(rule(f"r{n}", function=["virDomain*"], object=[f"vm{n}"]) for n in range(1000))
    events = [served(n, args=on(f"vm{n * 7}")) for n in range(200)]
    found = as_json(capsys, tmp_path, text, lines_file(tmp_path / "calls", events))
    assert (found["newly_denied"], found["same"]) == (143, 57)


def test_rules_that_decide_nothing_are_stale(capsys, tmp_path):
    text = (
        rule("ann", function=["virDomainDestroy"], user=["1001"])
        + rule("maybe", function=["virDomainDefineXML"], element=["hostdev"])
        + KEEP
        + rule("behind", function=["virDomainDestroy"], object=["web1"])
    )
    document = Values({"xml": Xml("<domain><title><redacted/></title></domain>", "")})
    events = [served(0), served(1), served(2, "virDomainDefineXML", args=document)]
    lines_file(tmp_path / "calls", events)
    (tmp_path / "p.toml").write_text(text)

    def stale(*words: str) -> list[str]:
        at = ["--since", f"@{START // NS - 9}", *words]
        status = commands.run_policy(["stale", f"{tmp_path}/p.toml", f"{tmp_path}/calls", *at])
        assert status == 0
        printed: str = capsys.readouterr().out
        return printed.splitlines()

    lines = stale()
    assert lines[:3] == [
        'rule "ann" (line 1), deny: no call',
        'rule "maybe" (line 6), deny: no call, perhaps 1 call: the record doesn\'t tell',
        'rule "behind" (line 16), deny: no call',
    ]
    assert lines[3].endswith(": 3 of 4 rules have decided none of 3 calls") and len(lines) == 4
    assert stale("--all")[2].startswith('rule "keep-web" (line 11), deny: 2 calls, last 20')
    assert commands.run_policy(["stale", f"{tmp_path}/p.toml", f"{tmp_path}/calls"]) == 0
    assert capsys.readouterr().out == "nothing that a policy judges is recorded there\n"
    rules = as_json(capsys, tmp_path, text, tmp_path / "calls")["rules"]
    assert [(one["rule"], one["calls"], one["perhaps"]) for one in rules] == [
        ("ann", 0, 0),
        ("maybe", 0, 1),
        ("keep-web", 2, 0),
        ("behind", 0, 0),
    ]


def test_memory_has_a_limit_that_is_said(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(rehearse, "MOST_ROWS", 5)
    monkeypatch.setattr(rehearse, "MOST_KNOWN", 3)
    events = [served(n, args=on(f"web{n}")) for n in range(20)]
    file = lines_file(tmp_path / "calls", events)
    found = as_json(capsys, tmp_path, KEEP, file)
    assert (found["newly_denied"], found["left_out"], len(found["changes"])) == (20, 15, 5)
    _, lines, _ = run(capsys, tmp_path, KEEP, file)
    assert "15 more calls change, in more ways than are told apart" in lines


def test_lines_of_others_are_counted(capsys, tmp_path):
    path = lines_file(tmp_path / "calls", [served(0)])
    path.write_text(path.read_text() + 'no event\n{"type":"call","time":1}\n[]\n')
    _, lines, _ = run(capsys, tmp_path, KEEP, path)
    assert lines[0] == "3 lines are no event; left out"


def test_number_of_new_denials_has_a_limit(capsys, tmp_path):
    file = lines_file(tmp_path / "calls", [served()])
    assert run(capsys, tmp_path, KEEP, file, "--allow-new-denials", 1 << 40)[0] == 0
    with pytest.raises(SystemExit):
        run(capsys, tmp_path, KEEP, file, "--allow-new-denials", (1 << 40) + 1)
    assert "is not a number of calls" in capsys.readouterr().err
