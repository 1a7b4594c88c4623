# SPDX-License-Identifier: LGPL-2.1-or-later
"""The history of one object: also by other names, and its documents by what has changed in them."""

from __future__ import annotations

import json
import os

import pytest

from log.events import Call, DomainEvent, Event, VerdictInfo, call_id
from log.query import history
from log.query.history import with_renames
from log.query.query import Query
from log.recording.index import Indexes
from log.render import jsonl
from log.values import Handle, Values, Xml
from log.verbs.commands import show_log, show_report
from tests.unit.log_samples import CALLER, CONNECT, DESTROY, NS, START, UUID
from tests.unit.recording_samples import record

SHOWN = ("call", "verdict", "domain")
OTHER = "99999999-f6a4-8304-79aa-97f2502e193f"


def handle(name: str, uuid: str = UUID) -> Handle:
    return Handle("domain", {"name": name, "uuid": uuid})


def on(second: int, name: str, uuid: str = UUID, **more) -> Call:
    args = Values({"domain": handle(name, uuid)})
    return DESTROY._replace(time=START + second * NS, args=args, **more)


def rename(second: int, old: str, new: str, uuid: str = UUID, **more) -> Call:
    args = Values({"dom": handle(old, uuid), "new_name": new, "flags": 0})
    return on(second, old)._replace(function="virDomainRename", args=args, **more)


def define(second: int, name: str, memory: int, uuid: str = UUID, **more) -> Call:
    document = f"<domain><name>{name}</name><memory>{memory}</memory></domain>"
    args = Values({"conn": CONNECT, "xml": Xml(document, document)})
    made = on(second, name)._replace(
        function="virDomainDefineXML", args=args, ret=handle(name, uuid), returns="pointer"
    )
    return made._replace(**more)


def shown(capsys, *words: object) -> list[str]:
    assert show_log(list(map(str, words))) == 0
    lines: list[str] = capsys.readouterr().out.splitlines()
    return lines


def seconds(capsys, *words: object) -> list[int]:
    """Which lines: when they are from."""
    lines = [json.loads(line) for line in shown(capsys, *words, "--json")]
    return [int(line["time"][17:19]) - 11 for line in lines if line["type"] in SHOWN]


@pytest.mark.parametrize("kept", ["record", "lines"])
def test_history_goes_on_across_renames(tmp_path, capsys, kept) -> None:
    events: list[Event] = [
        on(1, "web0"),
        rename(2, "web0", "web1"),
        on(3, "web1"),
        on(4, "web0", OTHER),
        rename(5, "web1", "web2"),
        on(6, "web2"),
        rename(7, "db", "web3", OTHER, failed=True, ret=-1),
        on(8, "db", OTHER),
    ]
    path = tmp_path / kept
    if kept == "record":
        record(path, *([event] for event in events))
    else:
        path.write_text("".join(map(jsonl.line, events)))

    assert seconds(capsys, path, "--object", "web1") == [1, 2, 3, 5, 6]
    assert seconds(capsys, path, "--object", "web2") == [1, 2, 3, 5, 6]
    assert seconds(capsys, path, "--object", "web0") == [1, 2, 3, 4, 5, 6], "another had that, too"
    assert seconds(capsys, path, "--object", "web[12]", "--since", f"@{START // NS + 4}") == [5, 6]
    assert seconds(capsys, path, "--uuid", UUID) == [1, 2, 3, 5, 6]
    assert seconds(capsys, path, "--object", "web3") == [7], "it was not renamed"
    assert seconds(capsys, path, "--object", "db") == [7, 8]
    assert show_report([str(path), "--object", "web1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["calls"] == 5


def test_rename_is_known_by_its_events_alone(tmp_path, capsys) -> None:
    def event(second: int, name: str, kind: str) -> DomainEvent:
        at = START + second * NS
        return DomainEvent(at, 9, "libvirtd", CALLER, handle(name), kind, "renamed", None)

    record(tmp_path / "r", [on(1, "web0"), event(2, "web0", "undefined"),
                            event(2, "web1", "defined"), on(3, "web1")])  # fmt: skip
    assert seconds(capsys, tmp_path / "r", "--object", "web1") == [1, 2, 2, 3]


def test_what_is_read_only_once_is_not_read_twice(tmp_path, capsys, monkeypatch) -> None:
    (tmp_path / "lines").write_text(
        "".join(map(jsonl.line, [on(1, "web0"), rename(2, "web0", "web1")]))
    )
    with open(tmp_path / "lines") as file:
        monkeypatch.setattr("sys.stdin", file)
        assert seconds(capsys, "-", "--object", "web1") == [2]
    reading = os.open(tmp_path / "lines", os.O_RDONLY)
    try:
        assert seconds(capsys, f"/dev/fd/{reading}", "--object", "web1") == [1, 2]
    finally:
        os.close(reading)


def documents(lines: list[str]) -> list[str]:
    return [line.partition("xml=")[2].partition(")")[0] for line in lines if "xml=" in line]


def test_definition_tells_what_has_changed(tmp_path, capsys) -> None:
    events = [
        define(1, "web1", 1024),
        define(2, "web2", 1024, OTHER),
        define(3, "web1", 2048),
        define(4, "web1", 4096, failed=True, ret=None),
        define(5, "web1", 2048),
        rename(6, "web1", "www"),
        define(7, "www", 1024),
    ]
    (tmp_path / "lines").write_text("".join(map(jsonl.line, events)))
    lines = shown(capsys, tmp_path / "lines", "--uuid", UUID)
    assert documents(lines) == [
        "<domain name=web1 memory=1MiB>",
        "<domain name=web1 memory=1MiB -> 2MiB>",
        "<domain name=web1 unchanged>",
        "<domain name=web1 -> www, memory=2MiB -> 1MiB>",
    ]
    lines = shown(capsys, tmp_path / "lines", "--object", "web1")
    assert documents(lines)[1:4] == [
        "<domain name=web1 memory=1MiB -> 2MiB>",
        "<domain name=web1 memory=2MiB -> 4MiB>",
        "<domain name=web1 unchanged>",
    ]
    every = shown(capsys, tmp_path / "lines")
    assert "<domain name=web1 memory=2MiB>" in documents(every), "without an object as when live"
    for line in shown(capsys, tmp_path / "lines", "--uuid", UUID, "--json"):
        assert "->" not in line


@pytest.mark.parametrize("view", [[], ["--tree"], ["--both"]])
def test_call_in_a_daemon_is_told_by_the_same_document(tmp_path, capsys, view) -> None:
    events = []
    for second, memory in ((1, 1024), (3, 2048)):
        mine = define(second, "web1", memory)
        served = mine._replace(tid=901, time=mine.time + 1000, duration_ns=1000,
                               parent=call_id(mine.tid, mine.time))  # fmt: skip
        events += [served, mine]
    (tmp_path / "lines").write_text("".join(map(jsonl.line, events)))
    lines = documents(shown(capsys, tmp_path / "lines", "--object", "web1", *view))
    each = 2 if view else 1
    assert lines == ["<domain name=web1 memory=1MiB>"] * each + [
        "<domain name=web1 memory=1MiB -> 2MiB>"
    ] * each  # fmt: skip


@pytest.mark.parametrize("kept", ["record", "lines"])
def test_definition_that_fails_or_is_denied_is_about_what_it_names(tmp_path, capsys, kept) -> None:
    """And about its UUID; what another call says in a document is no name."""
    document = f"<domain><name>a &amp; b</name><uuid>{UUID}</uuid></domain>"
    made = define(1, "x", 1)
    asked = Values({"conn": CONNECT, "xml": Xml(document, document)})
    denied = made._replace(args=asked, ret=None, verdict=VerdictInfo("deny", "keep"), failed=True)
    attached = on(2, "db", OTHER)._replace(
        function="virDomainAttachDevice",
        args=Values({"domain": handle("db", OTHER), "xml": Xml(document, document)}),
    )
    path = tmp_path / kept
    if kept == "record":
        record(path, [denied], [attached])
    else:
        path.write_text("".join(map(jsonl.line, [denied, attached])))
    assert seconds(capsys, path, "--object", "a & b") == [1]
    assert seconds(capsys, path, "--uuid", UUID) == [1]
    assert seconds(capsys, path, "--object", "db") == [2]


def test_renames_that_are_followed_have_a_limit_that_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(history, "MOST_RENAMED", 2)
    path, said = tmp_path / "lines", list[str]()
    asked = Query(objects=("web*",))
    renames = [rename(n, f"web{n}", f"db{n}", str(n)) for n in range(2)]
    path.write_text("".join(map(jsonl.line, renames)))
    assert with_renames(asked, [str(path)], Indexes(), said.append).renamed == ("0", "1")
    assert not said, "there is room for so many"
    renames += [rename(n, f"web{n}", f"db{n}", str(n)) for n in range(2, 9)]
    path.write_text("".join(map(jsonl.line, renames)))
    assert with_renames(asked, [str(path)], Indexes(), said.append).renamed == ("0", "1")
    assert said == ["more than 2 domains were renamed so: not all are followed"]
