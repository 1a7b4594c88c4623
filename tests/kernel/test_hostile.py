# SPDX-License-Identifier: LGPL-2.1-or-later
"""Callers that are broken or mean harm: the log is right or says what it could not read, and
the caller gets what it would have got.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from probes.kernel.loading.features import TWO_LINKS, has_session
from tests.kernel.conftest import CALLS, TO_FILE, TRACER, Run, bare, logged, read_facts
from tests.needs import PATIENCE, PYTHON

Traced = Callable[..., Run]
IN_ANOTHER, SWITCHED, LEFT = (
    f"no return probe: {why}"
    for why in ("inside another call", "stack switched", "another call was left")
)


def to_bytes(fact: str) -> bytes:
    """What a caller printed with print_bytes()."""
    return fact.encode("latin-1")


def as_logged(data: bytes) -> str:
    """UTF-8 as it is; else its bad bytes as \\xNN and backslashes doubled."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def filled(length: int) -> str:
    """What fill() in callers/caller.h makes."""
    return "".join(chr(ord("a") + (i % 23 + i // 23) % 26) for i in range(length))


# names


@pytest.mark.other_kernels
def test_hostile_names_are_exact_in_json(caller, traced: Traced) -> None:
    run = traced(caller("names"), options=("--no-redact",))  # one looks like a URI
    names = [as_logged(to_bytes(fact["name"])) for fact in run.facts]
    assert len(names) >= 13
    got = [
        (call["args"]["domain"]["name"], call["ret"]) for call in run.calls("virDomainGetName")[1:]
    ]
    assert got == [(name, name) for name in names]
    assert [call["args"]["name"] for call in run.calls("virDomainLookupByName")] == names


def test_hostile_names_are_escaped_in_text(caller, traced_text) -> None:
    lines, facts = traced_text(
        caller("names"),
        options=("--no-redact", "-f", "virDomainGetName", "-f", "virDomainLookupByName"),
    )
    expected = []
    for fact in facts:
        text = to_bytes(fact["text"]).decode()
        expected += [
            f"virDomainGetName(domain={text}) = {text}",
            f"virDomainLookupByName(conn=test:///default, name={text}) = NULL",
        ]
    assert [bare(line).partition(" VIR_ERR_NO_DOMAIN")[0] for line in lines[1:]] == expected
    assert all(line.isprintable() for line in lines)


def test_a_terminal_sees_the_same_characters(caller, tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    main, other = pty.openpty()
    argv = [
        *TRACER,
        "--no-redact",
        "-f",
        "virDomainGetName",
        "--",
        *TO_FILE,
        str(facts),
        str(caller("names")),
    ]
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}
    child = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=other, stderr=subprocess.DEVNULL, env=env
    )
    os.close(other)
    shown = read_all(main)
    assert child.wait(20 * PATIENCE) == 0
    assert b"\x1b[" in shown, "no colour"
    text = re.sub(rb"\x1b\[[0-9;]*[mK]|\r", b"", shown).decode()
    lines = [bare(line) for line in text.split("\n") if "virDomainGetName" in line]
    assert all(line.isprintable() for line in lines)
    texts = [to_bytes(fact["text"]).decode() for fact in read_facts(facts)]
    assert lines[1:] == [f"virDomainGetName(domain={name}) = {name}" for name in texts]


def read_all(terminal: int) -> bytes:
    """What was written to the other side until it was closed."""
    data = b""
    while True:
        try:
            some = os.read(terminal, 65536)
        except OSError:  # EIO: closed
            some = b""
        if not some:
            os.close(terminal)
            return data
        data += some


# lengths

AROUND = [
    0,
    1,
    2,
    7,
    8,
    9,
    255,
    256,
    257,
    1022,
    1023,
    1024,
    1025,
    1026,
    4094,
    4095,
    4096,
    4097,
    5119,
    5120,
    8190,
    8191,
    65535,
    65536,
    65537,
]
MIB = 1 << 20


@pytest.mark.parametrize("keep", [0, 1, 255, 256, 1024, 4096, 65536])
def test_strings_are_cut_where_asked_and_keep_their_length(
    caller, traced: Traced, keep: int
) -> None:
    run = traced(caller("lengths"), *AROUND, options=("-s", str(keep)))
    assert run.facts == AROUND
    expected = [logged_text(filled(length), keep) for length in AROUND]
    assert [call["args"]["name"] for call in run.calls("virDomainLookupByName")[1:]] == expected
    assert [call["args"]["domain"]["name"] for call in run.calls("virDomainGetName")] == expected
    assert [call["ret"] for call in run.calls("virDomainGetName")] == expected


def logged_text(text: str, keep: int) -> object:
    """How the log shows a text of which `keep` bytes were kept."""
    if len(text) <= keep:
        return text
    return {"text": text[:keep], "length": len(text) if len(text) <= MIB else None, "cut": True}


@pytest.mark.other_kernels
def test_lengths_are_exact_to_a_mebibyte(caller, traced: Traced) -> None:
    lengths = [MIB - 1, MIB, MIB + 8192, 5 * MIB]
    run = traced(caller("lengths"), *lengths, options=("-s", "65536"))
    expected = [logged_text(filled(length), 65536) for length in lengths]
    assert [call["args"]["name"] for call in run.calls("virDomainLookupByName")[1:]] == expected
    assert [call["ret"] for call in run.calls("virDomainGetName")] == expected


BIG_XML = """
import libvirt, sys
text = "".join(chr(ord("a") + (i % 23 + i // 23) % 26) for i in range(5 << 20))
xml = ("<domain type='test'><name>big</name><description>%s</description><memory>1024</memory>"
       "<os><type>hvm</type></os></domain>") % text
domain = libvirt.open("test:///default").defineXML(xml)
assert text in domain.XMLDesc()
print(len(xml))
"""


def test_an_xml_of_5_megabytes(traced: Traced) -> None:
    run = traced(PYTHON, "-c", BIG_XML, options=("--no-redact", "-s", "65536"))
    start = "<domain type='test'><name>big</name><description>"
    assert run.facts[0] > 5 << 20
    expected = {"text": start + filled(65536 - len(start)), "length": None, "cut": True}
    assert run.call("virDomainDefineXML")["args"]["xml"] == expected
    shown = run.call("virDomainGetXMLDesc")["ret"]
    assert (len(shown["text"]), shown["length"], shown["cut"]) == (65536, None, True)
    assert filled(60000) in shown["text"]


# pointers


@pytest.mark.other_kernels
def test_garbage_pointers_are_shown_as_such(caller, traced: Traced, untraced) -> None:
    run = traced(caller("garbage"), options=("--no-redact",))  # what is no document would be hidden
    status, facts = untraced(caller("garbage"))
    assert status == 0
    assert run.facts == facts, "the program gets the same results as without the tracer"
    assert len(facts) == 55
    names = {
        "virDomainLookupByName": "name",
        "virDomainDefineXML": "xml",
        "virDomainGetName": "domain",
        "virConnectIsAlive": "conn",
        "virDomainGetOSType": "domain",
    }
    for function, arg in names.items():
        calls = run.calls(function)
        expected = [fact for fact in facts if fact["function"] == function]
        assert [call["type"] for call in calls] == [
            "unfinished" if fact["status"] & 127 else "call" for fact in expected
        ], function
        for call, fact in zip(calls, expected, strict=True):
            is_text = arg in ("name", "xml") and fact["text"] is not None
            assert call["args"][arg] == (
                fact["text"] if is_text else {"unreadable": fact["pointer"]}
            ), (function, fact)
            if call["type"] == "unfinished":
                assert call["reason"] == "process exited"
    wrong_object = run.call("virDomainGetMaxVcpus")
    assert (wrong_object["ret"], wrong_object["error"]["name"]) == (-1, "VIR_ERR_INVALID_DOMAIN")


@pytest.mark.parametrize(("size", "count"), [(4096, 100 * CALLS), (3 * 65536, 10 * CALLS)])
def test_a_string_that_changes_while_it_is_read(
    caller, traced: Traced, size: int, count: int, tmp_path: Path
) -> None:
    log = tmp_path / "log.json"  # 15 MiB: more than waits for a reader of a pipe
    traced(
        caller("changing"),
        size,
        count,
        options=("-s", "65536", "--buffer-size", "32", "-o", str(log)),
        lost=None,
    )
    result = logged(log)
    assert result.end["lost"] == 0
    calls = result.calls("virDomainLookupByName")
    assert len(calls) == count
    for call in calls:
        assert (call["ret"], call["error"]["name"], call["args"]["conn"]) == (
            None,
            "VIR_ERR_INVALID_CONN",
            None,
        )
        name = call["args"]["name"]
        if "unreadable" not in name:
            text = name if isinstance(name, str) else name["text"]
            assert set(text) <= set("abc")
            assert len(text) <= 65536


# threads, processes, and calls that do not return


def test_200_threads(caller, traced: Traced) -> None:
    run = traced(caller("threads"), 200)
    assert len(run.facts) == 200
    calls = run.calls("virDomainLookupByName")
    got = sorted(
        (call["tid"], call["args"]["name"], call["depth"], call["error"]["name"]) for call in calls
    )
    assert got == sorted(
        (tid, name, 0, "VIR_ERR_NO_DOMAIN") for tid, name in run.facts for _ in range(CALLS)
    )


def inside(
    caller, traced: Traced, what: str, uri: str, *command: object, options: tuple[str, ...] = ()
) -> Run:
    run = traced(caller("inside"), what, uri, *command, options=options)
    assert {call["depth"] for call in run.calls() if call["library"] == "libvirt.so.0"} == {0}
    return run


@pytest.fixture(params=["two links", *(["session"] if has_session() else [])])
def in_callback(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, traced: Traced
) -> tuple[Traced, str | None]:
    """`traced` by the links of older kernels, or by those of this one; and why calls in a
    callback have no return probe, if so.
    """
    if request.param == "session":
        return traced, IN_ANOTHER
    monkeypatch.setenv(TWO_LINKS, "1")

    def run(*command: object, options: tuple[str, ...] = ()) -> Run:
        return traced(*command, options=("--returns", *options))  # whatever else runs here

    return run, None


def counts(run: Run, function: str, reason: str | None = None) -> dict[int, int]:
    """Calls of the function by process, all of which returned, or were not seen to for that
    reason.
    """
    result: dict[int, int] = {}
    for call in run.calls(function):
        assert (call["type"], call.get("reason")) == ("unfinished" if reason else "call", reason)
        result[call["pid"]] = result.get(call["pid"], 0) + 1
    return result


@pytest.mark.parametrize("what", ["call", "signal"])
def test_calls_from_a_callback_are_the_programs(
    caller, in_callback, auth_uri: str, what: str
) -> None:
    """Also from a signal handler on a stack of its own."""
    traced, reason = in_callback
    run = inside(
        caller,
        traced,
        what,
        auth_uri,
        options=("--nested", "-f", "virConnectOpenAuth", "-f", "virDomainGet*"),
    )
    (fact,) = run.facts
    if reason and what == "signal":
        reason = SWITCHED
    assert (
        counts(run, "virDomainGetName", reason)
        == counts(run, "virDomainGetID")
        == {fact["pid"]: CALLS}
    )
    opened = run.call("virConnectOpenAuth")
    assert (opened["type"], opened["ret"]["uri"]) == ("call", auth_uri)
    order = [call["function"] for call in run.calls()]
    assert (
        order == ["virDomainGetName"] * CALLS + ["virConnectOpenAuth"] + ["virDomainGetID"] * CALLS
    )


def test_a_connection_opened_in_a_callback(caller, in_callback, auth_uri: str) -> None:
    traced, reason = in_callback
    run = inside(caller, traced, "open", auth_uri)
    opened = [call for call in run.calls() if call["function"].startswith("virConnectOpen")]
    assert [(call["args"]["name"], call.get("reason")) for call in opened] == [
        ("test:///default", None),
        ("test:///default", reason),
        (auth_uri, None),
    ]
    assert [call["ret"]["uri"] for call in opened if "ret" in call] == ["test:///default"] * (
        1 if reason else 2
    ) + [auth_uri]
    assert run.call("virConnectClose")["args"]["conn"]["uri"] == "test:///default"


def test_a_callback_that_ends_in_a_call(caller, in_callback, auth_uri: str) -> None:
    """It returns into libvirt, as if libvirt had made the call."""
    assert jumps_to(caller("inside"), "ask") >= {"virDomainSuspend"}
    traced, reason = in_callback
    run = inside(caller, traced, "tail", auth_uri)
    suspended = run.call("virDomainSuspend")
    assert (suspended["depth"], suspended.get("reason"), suspended.get("ret")) == (
        0,
        reason,
        None if reason else 0,
    )
    assert run.call("virConnectOpenAuth")["ret"]["uri"] == auth_uri


@pytest.mark.parametrize("options", [(), ("-a",)], ids=["", "all"])
def test_an_event_callback_that_ends_in_a_call(
    caller, in_callback, options: tuple[str, ...]
) -> None:
    """It runs in the event loop, which has no return probe, so that what it calls has."""
    traced, _ = in_callback
    assert jumps_to(caller("event_tail"), "on_event") == {"virDomainSuspend", "virDomainResume"}
    run = traced(caller("event_tail"), options=options)
    calls = [
        call for call in run.calls() if call["function"] in ("virDomainSuspend", "virDomainResume")
    ]
    assert [call["function"] for call in calls] == run.facts
    assert {(call["type"], call["depth"], call["ret"]) for call in calls} == {("call", 0, 0)}
    if options:
        assert {call["reason"] for call in run.calls("virEventRunDefaultImpl")} == {
            "no return probe"
        }


def jumps_to(program: Path, function: str) -> set[str]:
    """The functions of other libraries that the function ends in."""
    code = subprocess.check_output(
        ["objdump", "-d", f"--disassemble={function}", program], text=True
    )
    return set(re.findall(r"\tjmp +[0-9a-f]+ <(\w+)@plt>", code))


@pytest.mark.other_kernels
def test_functions_that_end_in_another(caller, in_callback) -> None:
    traced, _ = in_callback
    run = traced(
        caller("tail_inside"),
        options=(
            "-a",
            "--nested",
            "-f",
            "virDomainCreate*",
            "-f",
            "virReset*",
            "-f",
            "virDomainDestroy",
        ),
    )
    made = [
        call
        for call in run.calls()
        if call["function"] in ("virDomainCreateLinux", "virDomainCreateXML")
    ]
    assert [(call["function"], call["depth"], call["ret"]["name"]) for call in made] == [
        ("virDomainCreateXML", 1, "web1"),
        ("virDomainCreateLinux", 0, "web1"),
    ] * CALLS
    outer = [call for call in run.calls("virResetLastError") if call["depth"] == 0]
    assert [call["type"] for call in outer] == ["call"] * CALLS
    assert {call["type"] for call in run.calls()} == {"call"}


@pytest.mark.other_kernels
def test_a_fork_inside_a_call(caller, in_callback, auth_uri: str) -> None:
    traced, reason = in_callback
    run = inside(caller, traced, "fork", auth_uri)
    parent, child = (
        fact["pid"]
        for fact in sorted(
            run.facts, key=lambda fact: fact["pid"] != run.calls("virConnectOpenAuth")[0]["pid"]
        )
    )
    opened = run.call("virConnectOpenAuth")  # the parent's: it began before there was a child
    assert (opened["type"], opened["pid"], opened["ret"]["uri"]) == ("call", parent, auth_uri)
    assert counts(run, "virDomainGetName", reason) == {child: CALLS}
    assert counts(run, "virDomainGetID") == {parent: CALLS, child: CALLS}


def test_a_fork_in_another_thread_during_a_call(caller, traced: Traced, auth_uri: str) -> None:
    run = inside(caller, traced, "fork-elsewhere", auth_uri)
    (fact,) = run.facts
    assert run.call("virConnectOpenAuth")["ret"]["uri"] == auth_uri
    assert list(counts(run, "virDomainGetName").values()) == [CALLS]
    assert counts(run, "virDomainGetID") == {fact["pid"]: CALLS}


def test_a_program_started_inside_a_call(caller, traced: Traced, auth_uri: str) -> None:
    """posix_spawn shares the stack until the exec."""
    run = inside(caller, traced, "spawn", auth_uri, caller("inside"), "nothing", auth_uri)
    assert len(run.facts) == 2
    assert counts(run, "virConnectOpenAuth") == {fact["pid"]: 1 for fact in run.facts}
    assert counts(run, "virDomainGetID") == {fact["pid"]: CALLS for fact in run.facts}


@pytest.mark.parametrize("what", ["exec", "exec-in-thread"])
def test_a_program_replaced_inside_a_call(caller, traced: Traced, auth_uri: str, what: str) -> None:
    run = inside(
        caller,
        traced,
        what,
        auth_uri,
        caller("inside"),
        "nothing",
        auth_uri,
        options=("--cmdline", "full"),
    )
    (fact,) = run.facts
    first, second = run.calls("virConnectOpenAuth")
    assert (first["type"], first["reason"], first["cmdline"][1]) == (
        "unfinished",
        "process exited",
        what,
    )
    assert (second["type"], second["ret"]["uri"], second["cmdline"][1]) == (
        "call",
        auth_uri,
        "nothing",
    )
    assert counts(run, "virDomainGetID") == {fact["pid"]: CALLS}


@pytest.mark.parametrize(("what", "status"), [("kill", 137), ("exit", 0), ("end-thread", 0)])
def test_a_call_that_ends_with_its_process(
    caller, traced: Traced, auth_uri: str, what: str, status: int
) -> None:
    run = inside(caller, traced, what, auth_uri)
    call = run.call("virConnectOpenAuth")
    assert (call["type"], call["reason"], call["args"]["name"]) == (
        "unfinished",
        "process exited",
        auth_uri,
    )
    assert run.result.status == status
    assert len(run.calls("virDomainGetID")) == (CALLS if what == "end-thread" else 0)


@pytest.mark.other_kernels
def test_a_jump_out_of_a_call(caller, in_callback, auth_uri: str) -> None:
    """With a session link the reader is asked whether it was one, and calls have no results
    until it has answered (test_stacks.py).
    """
    traced, reason = in_callback
    run = inside(caller, traced, "longjmp", auth_uri)
    (fact,) = run.facts
    assert fact["opened"] is False
    after = [call.get("reason") for call in run.calls("virDomainGetID")]
    unknown = after.count(LEFT) if reason else 0
    assert after == [LEFT] * unknown + [None] * (CALLS - unknown)
    call = run.call("virConnectOpenAuth")
    assert (call["type"], call["reason"]) == (
        "unfinished",
        ("process exited") if unknown == CALLS else "result lost",
    )
