# SPDX-License-Identifier: LGPL-2.1-or-later
"""`policy learn`: what was seen more than once is allowed, and no more than the steps that are
shown; nothing else is.
"""

from __future__ import annotations

import fnmatch
import random
import re
from pathlib import Path
from typing import Any

import pytest

from enforcer import commands
from enforcer.judging.judge import Judge
from enforcer.learning import evidence, seen
from enforcer.learning.generalise import NEVER, literal, shape_of
from enforcer.policy.reading.reading import read_policy
from enforcer.rehearsal.facts import facts_of
from enforcer.rehearsal.made import made_alone
from enforcer.rehearsal.rehearse import strictest
from log.client import Client
from log.errors import TraceError
from log.events import Call, Event, VerdictInfo
from log.values import Handle, Value, Values
from tests.unit.log_samples import HOSTILE, NS, START, UUID
from tests.unit.rehearsal_samples import DAY, TABLE, client, lines_file, on, served

ROOT = client("root", 0)


def learned(tmp_path: Path, *events: Event) -> str:
    file, output = lines_file(tmp_path / "calls", events), tmp_path / "learned.toml"
    output.unlink(missing_ok=True)
    assert commands.run_policy(["learn", str(file), "-o", str(output)]) == 0
    return output.read_text()


def allows(text: str, call: Call) -> bool:
    judge = Judge(read_policy(text, "learned.toml", TABLE), TABLE)
    made = made_alone(call._replace(failed=False), TABLE.by_name[call.function])
    return strictest(map(judge.decide, facts_of(made))).denies is False


def twice(call: Call, number: int = 0) -> list[Call]:
    return [call._replace(time=START + (2 * number + n) * NS) for n in (0, 1)]


def test_what_was_seen_is_allowed_to_who_did_it_and_to_nobody_else(tmp_path, capsys):
    seen = served(0, "virDomainSuspend")
    text = learned(tmp_path, *twice(seen), *twice(served(0, "virDomainResume", client=ROOT), 1))
    assert allows(text, seen) and allows(text, served(0, "virDomainGetInfo"))
    for other in (
        seen._replace(args=on("web2")),
        seen._replace(function="virDomainResume"),
        seen._replace(client=client("ann", 1001)),
    ):
        assert not allows(text, other)
    assert 'mode = "audit"\n' in text and 'user = ["root"]' in text and 'user = ["1000"]' in text
    assert "# 2 calls on 1 day by virsh, 2023-11-15 " in text
    said = capsys.readouterr().err
    assert "learned.toml: 2 rules from 4 calls" in said


def test_each_step_is_shown_and_is_all_that_is_wider(tmp_path):
    events = [served(n, "virDomainSuspend", args=on(f"build-{n}")) for n in range(5)]
    text = learned(tmp_path, *events)
    assert "# made wider: build-0, build-1, build-2 and 2 more -> build-*\n" in text
    assert allows(text, served(0, "virDomainSuspend", args=on("build-77")))
    assert not allows(text, served(0, "virDomainSuspend", args=on("built-1")))


def test_many_functions_on_the_same_objects_become_their_class(tmp_path):
    functions = (
        "virDomainSuspend", "virDomainResume", "virDomainReboot", "virDomainShutdown",
        "virDomainSetMemory", "virDomainSetVcpus",
    )  # fmt: skip
    events = [call for n, f in enumerate(functions) for call in twice(served(0, f), n)]
    text = learned(tmp_path, *events)
    assert "# made wider: 6 functions (virDomainReboot, virDomainResume, virDomainSetMemory" in text
    assert allows(text, served(0, "virDomainSetMaxMemory"))
    for function in (
        "virDomainDestroy",
        "virDomainUndefineFlags",
        "virDomainQemuMonitorCommand",
        "virDomainSetUserPassword",
        "virDomainMigrateToURI3",
        "virDomainSnapshotDelete",
    ):
        assert not allows(text, served(0, function)), function


def test_what_destroys_stays_with_the_objects_that_it_was_done_to(tmp_path):
    for function in ("virDomainDestroy", "virDomainUndefine", "virDomainReset"):
        events = [c for n in range(5) for c in twice(served(0, function, args=on(f"vm{n}")), n)]
        text = learned(tmp_path, *events)
        assert allows(text, served(0, function, args=on("vm3")))
        is_wide = allows(text, served(0, function, args=on("vm7")))
        assert is_wide == (function == "virDomainReset")


def test_what_happened_once_failed_or_was_denied_is_listed_and_not_allowed(tmp_path):
    once, failed = served(0, "virDomainSuspend"), served(1, "virDomainReboot", failed=True, ret=-1)
    denied = served(3, "virDomainResume", verdict=VerdictInfo("deny", "r"), failed=True, ret=-1)
    text = learned(tmp_path, once, *twice(failed), *twice(denied, 2), *twice(served(0), 9))
    for call in (once, failed, denied):
        assert not allows(text, call)
    assert '# 1000: virDomainSuspend on "web1", 1 call on 1 day by virsh' in text
    assert "# 2 of ci: virDomainReboot, since it failed" in text
    assert "# 2 of ci: virDomainResume, since it was denied" in text
    # what is commented out is what one would write
    own = [line[4:] for line in text.splitlines() if line.startswith("#   ")]
    assert allows(text.replace("# all else", "\n".join(own) + "\n# all else"), once)


def test_nobody_is_believed_who_claims_to_be_another_or_is_not_known(tmp_path):
    claims = client()._replace(claims=ROOT.alone())
    nobody = Client(address="10.0.0.1:99", readonly=False)
    events = [*twice(served(0, client=claims)), *twice(served(0, client=nobody), 1)]
    events += twice(served(0, client=ROOT._replace(unproved=True)), 5)
    text = learned(tmp_path, *events, *twice(served(0, "virDomainReboot"), 3))
    assert f"since {seen.CLAIMED}" in text and f"since {seen.NOBODY}" in text
    assert f"since {seen.UNPROVED}" in text
    assert not any(allows(text, event) for event in events[::2])
    proved = client("", 0)._replace(uid=None, gid=None, x509="CN=a*[b],O=x")
    text = learned(tmp_path, *twice(served(0, client=proved)))
    assert allows(text, served(0, client=proved))
    assert not allows(text, served(0, client=proved._replace(x509="CN=ab,O=x")))


def test_names_stay_names(tmp_path):
    names = ["a*", "[x]", "?", "é'\"\\"]
    events = [c for n, name in enumerate(names) for c in twice(served(0, args=on(name)), n)]
    text = learned(tmp_path, *events, *twice(served(0, args=on(HOSTILE)), 9))
    assert all(allows(text, call) for call in events)
    assert not allows(text, served(0, args=on("ab"))) and not allows(text, served(0, args=on("x")))
    assert "\x1b" not in text and "\u202e" not in text and f"since {seen.UNSPELLED}" in text


def test_volumes_and_snapshots_go_by_what_they_belong_to(tmp_path):
    volume = Handle("volume", {"name": "a.img", "pool": "images", "key": "/x", "driver": "QEMU"})
    shot = Handle("snapshot", {"name": "before", "domain": "web1", "driver": "QEMU"})
    events = [
        served(0, "virStorageVolResize", args=Values({"vol": volume})),
        served(0, "virDomainRevertToSnapshot", args=Values({"snapshot": shot})),
    ]
    text = learned(tmp_path, *(call for n, one in enumerate(events) for call in twice(one, n)))
    assert 'object = ["images/a.img"]' in text and 'object = ["web1"]' in text
    assert all(allows(text, call) for call in events)


def test_it_is_measured_on_the_last_fifth_of_the_time(tmp_path, capsys):
    days = [served(0, time=START + n * DAY) for n in range(10)]
    late = [served(0, "virDomainReboot", time=START + n * DAY) for n in (9, 10)]
    learned(tmp_path, *days, *late)
    said = capsys.readouterr().err
    assert re.search(
        r"learned from the time before 2023-11-23 .* it would have denied 2 of 3 calls", said
    )


def test_whatever_is_learned_allows_what_it_was_learned_from(tmp_path):
    rand = random.Random(4)
    functions = [f.name for f in TABLE.functions
                 if f.access == "write" and f.name.startswith("virDomain") and len(f.params) <= 2
                 and f.params and f.params[0].object == "domain"
                 and all(p.kind in ("handle", "u32") for p in f.params)]  # fmt: skip
    people = [client("ci", 1000), client("ann", 1001), ROOT]
    events: list[Any] = []
    for number in range(300):
        who, name = rand.choice(people), rand.choice(("web", "db-", "vm")) + str(rand.randrange(9))
        function = rand.choice(functions[:40])
        args: dict[str, Value] = {TABLE.by_name[function].params[0].name: Handle(
            "domain", {"name": name, "uuid": UUID, "driver": "QEMU"})}  # fmt: skip
        events += [served(number, function, args=Values(args), client=who)] * rand.choice((1, 2))
    text = learned(tmp_path, *events)
    once = set(re.findall(r'^# (\w+): (\w+) on "([^"]+)", 1 call ', text, re.M))
    for call in events:
        (handle,) = call.args.values.values()
        user = "root" if call.client.uid == 0 else str(call.client.uid)
        is_once = (user, call.function, handle.fields["name"]) in once
        assert allows(text, call) or is_once, call
        if not any(fnmatch.fnmatchcase(call.function, glob) for glob in NEVER):
            continue
        assert allows(text, call) != is_once


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("web1", "web*"),
        ("a-6695eb01-f6a4-8304-79aa-97f2502e193f", "a-*"),
        ("x*1", "x[*]*"),
        ("db", "db"),
    ],
)
def test_shape_of_a_name(name, shape):
    assert shape_of(name) == shape and fnmatch.fnmatchcase(name, shape)
    assert fnmatch.fnmatchcase(name, literal(name))


def test_what_can_not_be_done_is_said(tmp_path):
    file = lines_file(tmp_path / "calls", [served(0, "virDomainGetInfo", write=False)])
    with pytest.raises(TraceError, match="nothing that changes something is recorded there"):
        commands.run_policy(["learn", str(file), "-o", str(tmp_path / "l.toml")])
    (tmp_path / "l.toml").write_text("mine")
    with pytest.raises(TraceError, match="is there already: remove it, or name another file"):
        commands.run_policy(["learn", str(file), "-o", str(tmp_path / "l.toml")])
    assert (tmp_path / "l.toml").read_text() == "mine"


def test_memory_has_a_limit_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(seen, "MOST_DEEDS", 3)
    text = learned(tmp_path, *(served(n, args=on(f"web{n}")) for n in range(9)))
    assert "# 6 calls were left out: there are too many different ones" in text


def test_programs_that_are_named_have_a_limit(tmp_path):
    events = [
        served(n, client=client(exe=f"/usr/bin/tool{n}", cmdline=(f"tool{n}",))) for n in range(9)
    ]
    (line,) = [one for one in learned(tmp_path, *events).splitlines() if " calls on " in one]
    assert re.findall(r"tool\d", line) == ["tool0", "tool1", "tool2", "tool3"]
    assert line.startswith("# 9 calls on 1 day by ")


def test_list_of_what_is_not_learned_has_a_limit_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "MOST_LISTED", 2)
    failed = [served(n, client=client(f"user{n}", 2000 + n), failed=True, ret=-1) for n in range(9)]
    text = learned(tmp_path, *twice(served()), *failed)
    listed = [line for line in text.splitlines() if f"since {seen.FAILED}" in line]
    assert len(listed) == 2
    assert "# ... and 7 more kinds" in text.splitlines()
