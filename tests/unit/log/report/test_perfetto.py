# SPDX-License-Identifier: LGPL-2.1-or-later
"""The trace for Perfetto: its form is the documented one, what lies in time lies there, arrows go
from a slice to one. The schema and the slices are read here by other code than made them.
"""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from log.events import Command, Event, Gap, Lost, call_id
from log.query.linking import Found
from log.render import jsonl
from log.report import perfetto
from log.report.perfetto import Trace
from log.values import Handle
from log.verbs.commands import show_report
from tests.unit.log.report.test_page import hostile_events
from tests.unit.log.report.test_story import LIBVIRTD, change
from tests.unit.log_samples import CALLER, DESTROY, NS, START, WEB1, call_on
from tests.unit.recording_samples import READ

NUMBER = {"type": "number", "minimum": 0}
WHOLE = {"type": "integer", "minimum": 1}
TEXT = {"type": "string"}
COMMON = {"pid": WHOLE, "tid": WHOLE, "name": TEXT}


def phase(letter: str, needed: str, **more: Any) -> dict[str, Any]:
    """An event of that phase, as the Trace Event Format describes it; and no other field."""
    properties = {"ph": {"const": letter}, **COMMON, **more}
    required = ["ph", "pid", "tid", "name", *needed.split()]
    return {"properties": properties, "required": required, "additionalProperties": False}


ARGS = {"type": "object"}
SCHEMA = {
    "type": "object",
    "required": ["traceEvents"],
    "properties": {
        "displayTimeUnit": {"enum": ["ms", "ns"]},
        "otherData": ARGS,
        "traceEvents": {
            "type": "array",
            "items": {
                "type": "object",
                "oneOf": [
                    phase("X", "ts dur", ts=NUMBER, dur=NUMBER, cat=TEXT, args=ARGS),
                    phase("i", "ts s", ts=NUMBER, s={"enum": ["g", "p", "t"]}, cat=TEXT, args=ARGS),
                    phase("C", "ts args", ts=NUMBER,
                          args={"type": "object", "additionalProperties": {"type": "number"}}),
                    phase("s", "ts id cat", ts=NUMBER, id=WHOLE, cat=TEXT),
                    phase("f", "ts id cat bp", ts=NUMBER, id=WHOLE, cat=TEXT, bp={"const": "e"}),
                    {"properties": {"ph": {"const": "M"}, "pid": WHOLE, "tid": WHOLE,
                                    "name": {"enum": ["process_name", "thread_name"]},
                                    "args": {"properties": {"name": TEXT}, "required": ["name"]}},
                     "required": ["ph", "pid", "name", "args"], "additionalProperties": False},
                ],
            },
        },
    },
}  # fmt: skip


def trace_of(*events: Event, hosts: tuple[str | None, ...] = (None,)) -> dict[str, Any]:
    said: list[str] = []
    found = (Found(host, event) for event in events for host in hosts)
    text = "".join(Trace(said.append).parts(found))
    assert text.isascii()
    made: dict[str, Any] = json.loads(text)
    jsonschema.Draft7Validator(SCHEMA).validate(made)
    made["said"] = said
    return made


def named(made: dict[str, Any]) -> dict[tuple[int, int], tuple[str, str]]:
    """Tracks by number: process and thread."""
    of = {kind: {(one["pid"], one["tid"]): one["args"]["name"] for one in made["traceEvents"]
                 if one["name"] == kind} for kind in ("process_name", "thread_name")}  # fmt: skip
    processes = {pid: title for (pid, _), title in of["process_name"].items()}
    return {track: (processes[track[0]], title) for track, title in of["thread_name"].items()}


def arrows(made: dict[str, Any]) -> list[tuple[str, str]]:
    """From what to what: the innermost slice of the track at that time."""
    ends: dict[int, dict[str, str]] = {}
    for one in made["traceEvents"]:
        if one["ph"] in "sf":
            around = [
                other for other in made["traceEvents"] if other["ph"] == "X"
                and (other["pid"], other["tid"]) == (one["pid"], one["tid"])
                and other["ts"] <= one["ts"] <= other["ts"] + other["dur"]
            ]  # fmt: skip
            assert around, one
            inner = max(around, key=lambda other: other["ts"])
            ends.setdefault(one["id"], {})[one["ph"]] = inner["name"]
    return [(end["s"], end["f"]) for end in ends.values()]


def destroyed() -> list[Event]:
    """virsh destroys web1 through libvirtd, which tells QEMU to quit."""
    mine = call_id(DESTROY.tid, START)
    ours = call_id(901, START + 1000)
    command = Command(START + 2000, 500, 901, "rpc-libvirtd", LIBVIRTD, '{"execute":"quit"}', ours)
    ended = change(0, "stopped", "destroyed")._replace(time=START + 5000, parent=ours, cause="call")
    served = DESTROY._replace(time=START + 1000, duration_ns=9000, tid=901, comm="rpc-libvirtd",
                              caller=LIBVIRTD, parent=mine, children=(command, ended))  # fmt: skip
    return [
        change(-60, "started", "booted"), command, ended, served,
        DESTROY._replace(children=(served,)), change(7, "started", "booted"),
    ]  # fmt: skip


def test_client_daemon_monitor_and_domain_are_joined_by_arrows() -> None:
    made = trace_of(*destroyed())
    function = DESTROY.function
    assert sorted(arrows(made)) == [(function, "off"), (function, "quit"), (function, function)]
    tracks = named(made)
    slices = [(*tracks[one["pid"], one["tid"]], one["name"], one["dur"])
              for one in made["traceEvents"] if one["ph"] == "X"]  # fmt: skip
    assert sorted(slices) == [
        ("domain web1", "monitor", "quit", 0.5),
        ("domain web1", "state", "off", 7 * 1e6 - 5),
        ("domain web1", "state", "running", 0),
        ("domain web1", "state", "running", 60 * 1e6 + 5),
        ("libvirtd", "rpc-libvirtd", function, 9.0),
        ("virsh", "virsh", function, 4100.0),
    ]
    (call,) = (one for one in made["traceEvents"] if one["pid"] == 41207 and one["ph"] == "X")
    assert call["args"]["line"].endswith("= 0 <4.1ms, libvirtd 9.0us>")
    assert call["args"]["id"] == call_id(41207, START)


def test_times_are_exact_to_a_nanosecond() -> None:
    calls = [DESTROY._replace(time=START + number * 86400 * NS + number, duration_ns=1)
             for number in range(30)]  # fmt: skip
    times = [one["ts"] for one in trace_of(*calls)["traceEvents"] if one["ph"] == "X"]
    assert [round(ts * 1000) - round(times[0] * 1000) for ts in times] == [
        call.time - START for call in calls
    ]


def test_numbers_that_are_used_again_are_other_tracks() -> None:
    again = DESTROY._replace(caller=CALLER._replace(exe="/usr/bin/python3"))
    made = trace_of(DESTROY, again, hosts=("a", "b"))
    titles = {title for title, _ in named(made).values()}
    assert titles == {"a: virsh", "b: virsh", "a: python3", "b: python3"}
    assert len(named(made)) == 4 == len({tid for _, tid in named(made)})


def test_what_has_no_end_is_a_moment_and_counted_reads_a_line() -> None:
    unfinished = DESTROY._replace(unfinished="process exited", duration_ns=None)
    reads = [event for second in (1, 30, 70) for event in counted(second)]
    made = trace_of(
        unfinished, *reads, Gap(START, START + NS, "killed"), Lost(START, 2, "read", "x")
    )
    moments = [one["name"] for one in made["traceEvents"] if one["ph"] == "i"]
    assert moments == [f"{DESTROY.function} (process exited)"]
    rates = [one["args"]["calls a minute"] for one in made["traceEvents"] if one["ph"] == "C"]
    assert sum(rates) == 3 * 46 and rates[-1] == 0
    assert ("the record", "gaps and losses") in named(made).values()


def counted(second: int) -> list[Event]:
    from log.events import Reads

    return [
        Reads(START, START + second * NS, CALLER, "virsh", None, READ.function,
              Handle("domain", {"name": name}), 23, 0, 99, 9)
        for name in ("web1", "web2")
    ]  # fmt: skip


def test_hostile_names_keep_the_form() -> None:
    made = trace_of(*hostile_events())
    for one in made["traceEvents"]:
        texts = [one["name"], *(item for item in one.get("args", {}).values()
                                if isinstance(item, str))]  # fmt: skip
        assert all(text.isprintable() and len(text) < 4000 for text in texts)


def test_trace_has_a_limit_that_is_said(monkeypatch) -> None:
    monkeypatch.setattr(perfetto, "MOST", 20)
    calls = [call_on("web1")._replace(time=START + number) for number in range(50)]
    made = trace_of(*calls)
    assert made["otherData"]["events left out"] == 50 - (20 - 2)
    assert made["said"] == ["the trace is full: 32 events are left out; name a shorter time"]


@pytest.mark.parametrize("both", [True, False])
def test_command_writes_the_trace(tmp_path, capsys, both) -> None:
    """The events as the record has them: each by itself."""
    (tmp_path / "lines").write_text("".join(map(jsonl.line, destroyed())))
    words = [str(tmp_path / "lines"), "--perfetto", str(tmp_path / "trace.json")]
    words += ["--html", str(tmp_path / "page.html")] if both else []
    assert show_report(words) == 0 and "1 calls" in capsys.readouterr().out
    made = json.loads((tmp_path / "trace.json").read_text())
    jsonschema.Draft7Validator(SCHEMA).validate(made)
    assert len(arrows(made)) == 3 and WEB1.fields["name"] == "web1"
    assert (tmp_path / "page.html").exists() == both
