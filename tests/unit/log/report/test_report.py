# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace report: its numbers are those that counting the lines gives, its names can't
deceive, its memory has a limit.
"""

from __future__ import annotations

import collections
import json
import math
from typing import Any

import pytest

from log.client import Client
from log.events import BY_CALL, NO_CALL, Caller, Command, DomainEvent, Event, VerdictInfo, call_id
from log.render import jsonl
from log.report import report as reporting
from log.values import Handle
from log.verbs.commands import show_report
from tests.unit.log_samples import CALLER, DESTROY, END, HOSTILE, NS, START, call_on
from tests.unit.recording_samples import READ, destroy, record

LIBVIRTD = Caller(901, "/usr/sbin/libvirtd", ("libvirtd",), 0, "root", None, None, None)
MS = 1_000_000


def asked(capsys, *words: object) -> dict[str, Any]:
    assert show_report([*map(str, words), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def lines_file(folder, name: str, *events: Event) -> str:
    (folder / name).write_text("".join(map(jsonl.line, events)))
    return str(folder / name)


def calls() -> list[Event]:
    """Of 23 clients' calls on 5 domains, some failed and some denied; each took another time."""
    made: list[Event] = []
    for number in range(230):
        caller = CALLER._replace(
            pid=number % 23 + 1, uid=number % 3, user=None, exe=f"/usr/bin/tool{number % 2}"
        )
        call = destroy(number, f"web{number % 5}")._replace(
            caller=caller, duration_ns=(number * 37 % 230 + 1) * MS, write=number % 2 == 0
        )
        call = call._replace(function="virDomainGetInfo") if number % 2 else call
        if number % 7 == 0:
            call = call._replace(failed=True, ret=-1)
        if number % 14 == 0:
            call = call._replace(verdict=VerdictInfo("deny", "keep"))
        made.append(call)
    return made


def test_numbers_are_those_of_the_lines(tmp_path, capsys):
    record(tmp_path / "record", calls())
    lines = [json.loads(jsonl.line(call)) for call in calls()]
    found = asked(capsys, tmp_path / "record")

    def counted(key) -> dict[Any, tuple[int, int, int]]:
        sums: dict[Any, list[int]] = collections.defaultdict(lambda: [0, 0, 0])
        for line in lines:
            denied = (line["verdict"] or {}).get("action") == "deny"
            for column, one in enumerate((1, line["failed"] and not denied, denied)):
                sums[key(line)][column] += one
        return {name: (sum_[0], sum_[1], sum_[2]) for name, sum_ in sums.items()}

    def said(rows, key) -> dict[Any, tuple[int, int, int]]:
        return {key(row): (row["calls"], row["failed"], row["denied"]) for row in rows}

    assert said(found["functions"], lambda row: row["function"]) == counted(
        lambda line: line["function"]
    )
    assert said(found["objects"], lambda row: row["object"]["name"]) == counted(
        lambda line: line["args"]["domain"]["name"]
    )
    client = counted(lambda line: (line["exe"].rpartition("/")[2], str(line["uid"])))
    assert (
        said(found["clients"], lambda row: (row["client"]["program"], row["client"]["user"]))
        == client
    )
    assert (found["calls"], found["failed"], found["denied"], found["lost"]) == (230, 16, 17, 0)
    durations = sorted(line["duration_ns"] for line in lines)
    assert (found["total_ns"], found["max_ns"]) == (sum(durations), durations[-1])
    for percent in (50, 95, 99):
        exact = durations[math.ceil(230 * percent / 100) - 1]
        assert exact <= found[f"p{percent}_ns"] <= exact * 1.016


@pytest.mark.parametrize("reads", ["full", "counted"])
def test_counted_reads_count(tmp_path, capsys, reads):
    events = [
        READ._replace(time=START + number * MS, duration_ns=MS, failed=number == 3)
        for number in range(23)
    ]
    record(tmp_path / "record", [*events, DESTROY], reads=reads)
    (row,) = [
        row
        for row in asked(capsys, tmp_path / "record")["functions"]
        if row["function"] == "virDomainGetInfo"
    ]

    assert (row["calls"], row["failed"], row["total_ns"], row["max_ns"]) == (23, 1, 23 * MS, MS)
    (row,) = asked(capsys, tmp_path / "record", "-f", "virDomainGet*")["objects"]
    assert row["object"] == {"type": "domain", "name": "web1"} and row["calls"] == 23


def test_filters_of_log_hold(tmp_path, capsys):
    file = lines_file(tmp_path, "calls", *calls())

    assert asked(capsys, file, "--object", "web1")["calls"] == 46
    assert asked(capsys, file, "-x")["calls"] == 33
    assert asked(capsys, file, "--since", f"@{(START + 200 * MS) / NS:.9f}")["calls"] < 230
    assert show_report([file, "--object", "nosuch"]) == 0
    assert capsys.readouterr().out == "no calls\n"


def test_what_a_programs_word_alone_says_of_its_clients_is_counted_as_its_own(tmp_path, capsys):
    says = Client(5, 0, "root", exe="/usr/bin/virsh", unproved=True)
    own = LIBVIRTD._replace(exe="/tmp/own", uid=65534, user="nobody")
    call = call_on("web1")._replace(comm="rpc", caller=own, client=says)
    (row,) = asked(capsys, lines_file(tmp_path, "calls", call))["clients"]
    assert row["client"] == {"program": "own", "user": "nobody"}


def test_ending_of_a_domain_has_its_cause(tmp_path, capsys):
    client = Client(pid=5, user="alice", exe="/usr/bin/virsh")
    destroyed = call_on("web1")._replace(tid=77, function="virDomainDestroy")
    served = destroyed._replace(
        tid=901,
        time=START + MS,
        caller=LIBVIRTD,
        comm="rpc-libvirtd",
        client=client,
        parent=call_id(77, destroyed.time),
    )

    def ended(number: int, name: str, detail: str, **more: Any) -> DomainEvent:
        about = Handle("domain", {"name": name, "uuid": "u"})
        return DomainEvent(
            START + number * MS,
            901,
            "libvirtd",
            LIBVIRTD,
            about,
            more.pop("event", "stopped"),
            detail,
            None,
            **more,
        )

    file = lines_file(
        tmp_path,
        "ended",
        ended(2, "web1", "destroyed")._replace(parent=call_id(901, served.time), cause=BY_CALL),
        served,
        destroyed,
        ended(3, "web2", "crashed", cause=NO_CALL),
        ended(4, "web3", "shutdown"),
        ended(5, "web4", "booted", event="started"),
        END,
    )
    found = asked(capsys, file)
    assert [
        (one["domain"]["name"], one["event"], one["detail"], one["cause"], one["client"])
        for one in found["endings"]
    ] == [
        ("web1", "stopped", "destroyed", "virDomainDestroy", {"program": "virsh", "user": "alice"}),
        ("web2", "stopped", "crashed", "no call", None),
        ("web3", "stopped", "shutdown", "not known", None),
    ]
    assert found["calls"] == 1, "what a daemon does for a call is no other call"
    assert asked(capsys, file, "--both")["calls"] == 2
    assert show_report([file]) == 0
    assert (
        "  web1    stopped: destroyed  virDomainDestroy, virsh alice\n"
    ) in capsys.readouterr().out


def in_daemon(call, *, after: int, took: int, monitor: int) -> list[Event]:
    """What a daemon did for a call, with two questions to a monitor."""
    begun = call.time + after
    child = call._replace(
        time=begun, duration_ns=took, tid=901, caller=LIBVIRTD, parent=call_id(call.tid, call.time)
    )
    asked = Command(begun, monitor // 2, 901, "rpc", LIBVIRTD, "{}", call_id(901, begun))
    return [asked, asked._replace(time=begun + 1), child, call]


def test_time_is_told_by_where_it_went(tmp_path, capsys):
    events: list[Event] = []
    for number in range(20):
        call = destroy(number * 100)._replace(duration_ns=20 * MS)
        events += in_daemon(call, after=(number + 1) * MS // 2, took=8 * MS, monitor=6 * MS)
    slow = destroy(5000)._replace(duration_ns=2 * MS)  # the client did not wait for the answer
    events += [*in_daemon(slow, after=MS, took=50 * MS, monitor=40 * MS), destroy(6000)]
    path = lines_file(tmp_path, "calls", *events)
    (row,) = asked(capsys, path)["functions"]
    assert row["calls"] == 22 and asked(capsys, path, "--both")["functions"][0]["calls"] == 43
    places = row["spent"]
    assert [places[place]["calls"] for place in places] == [21] * 4
    assert (
        places["monitor"]["total_ns"] == 20 * 6 * MS + MS and places["monitor"]["p50_ns"] >= 6 * MS
    )
    assert places["daemon"]["total_ns"] == 20 * 2 * MS
    assert places["daemon_queue"]["total_ns"] == sum(n * MS // 2 for n in range(1, 21)) + MS
    assert places["daemon_queue"]["max_ns"] == 10 * MS
    assert sum(places[place]["total_ns"] for place in places) == 20 * 20 * MS + 2 * MS
    assert show_report([path]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["virDomainDestroyFlags", "monitor", "21", "121ms"] in [line[:4] for line in lines]
    assert ["virDomainDestroyFlags", "daemon", "queue", "21"] in [line[:4] for line in lines]
    assert "spent" not in asked(capsys, lines_file(tmp_path, "alone", destroy(1)))


def test_call_that_a_daemon_denies_is_denied(tmp_path, capsys):
    failed = DESTROY._replace(failed=True, ret=-1)
    served = failed._replace(
        tid=901,
        time=START + 1,
        caller=LIBVIRTD,
        verdict=VerdictInfo("deny", "keep"),
        parent=call_id(failed.tid, START),
    )

    found = asked(capsys, lines_file(tmp_path, "denied", served, failed))
    assert (found["calls"], found["failed"], found["denied"]) == (1, 0, 1)


def test_hostile_names_are_no_commands(tmp_path, capsys):
    caller = CALLER._replace(exe=f"/tmp/{HOSTILE.replace('/', '')}", user=HOSTILE)
    evil = call_on(HOSTILE)._replace(caller=caller, comm=HOSTILE[:15], function=HOSTILE)
    ending = DomainEvent(
        START, 5, "libvirtd", caller, Handle("domain", {"name": HOSTILE}), "stopped", HOSTILE, None
    )
    file, other = lines_file(tmp_path, "evil", evil, ending), lines_file(tmp_path, "other", DESTROY)
    for words in (
        [file],
        [file, "--diff", other],
        [file, "--json"],
        [file, "--diff", other, "--json"],
    ):
        assert show_report(words) == 0
        out = capsys.readouterr().out
        assert out.replace("\n", "").isprintable() and "evil" in out
        if "--json" in words:
            assert out.isascii() and json.loads(out)
        else:
            assert "\n[red]" not in out


def test_records_are_compared_by_what_differs(tmp_path, capsys):
    one, other = (
        lines_file(tmp_path, "one", *calls()),
        lines_file(tmp_path, "other", *calls(), call_on("new"), READ),
    )
    assert show_report([one, "--diff", one]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == ["nothing differs"]
    found = asked(capsys, other, "--diff", one)
    assert [
        (row["object"]["name"], (row["before"] or {}).get("calls"), row["after"]["calls"])
        for row in found["objects"]
    ] == [
        ("new", None, 1),
        ("web1", 46, 47),
    ]
    assert show_report([other, "--diff", one]) == 0
    assert "\ndomain web1  46 -> 47 " in capsys.readouterr().out


def test_slower_function_differs(tmp_path, capsys):
    one = lines_file(tmp_path, "one", DESTROY, READ)
    other = lines_file(tmp_path, "other", DESTROY._replace(duration_ns=9 * MS), READ)
    assert [row["function"] for row in asked(capsys, other, "--diff", one)["functions"]] == [
        DESTROY.function
    ]


def test_rows_have_a_limit_and_nothing_is_left_uncounted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reporting, "MOST_ROWS", 3)
    file = lines_file(tmp_path, "many", *(destroy(number, f"web{number}") for number in range(9)))
    rows = asked(capsys, file)["objects"]
    assert [(row["object"], row["calls"]) for row in rows if row["object"] == {"others": True}] == [
        ({"others": True}, 6)
    ]
    assert sum(row["calls"] for row in rows) == 9
    assert show_report([file, "--top", "2"]) == 0
    assert "\n(2 more) " in capsys.readouterr().out


def test_endings_have_a_limit_and_the_rest_is_counted(monkeypatch):
    monkeypatch.setattr(reporting, "MOST_ENDINGS", 3)
    report = reporting.Report()
    web = Handle("domain", {"name": "web1"})
    for number in range(8):
        time = START + number
        report.add(DomainEvent(time, 7, "x", CALLER, web, "stopped", "crashed", None))
    assert len(report.endings) == 3 and report.endings_left_out == 5
