# SPDX-License-Identifier: LGPL-2.1-or-later
"""Callers that are broken or mean harm: the log is right or says what it could not read, and the caller gets what it would have got."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.conftest import TO_FILE, TRACER, Run, bare, read_facts
from tests.needs import PATIENCE
from tests.tracing import Event

Traced = Callable[..., Run]
CALLS = 23


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


def test_hostile_names_are_exact_in_json(caller, traced: Traced) -> None:
    run = traced(caller("names"))
    names = [as_logged(to_bytes(fact["name"])) for fact in run.facts]
    assert len(names) >= 13
    got = [(call["args"]["domain"]["name"], call["ret"]) for call in run.calls("virDomainGetName")[1:]]
    assert got == [(name, name) for name in names]
    assert [call["args"]["name"] for call in run.calls("virDomainLookupByName")] == names


def test_hostile_names_are_escaped_in_text(caller, traced_text) -> None:
    lines, facts = traced_text(caller("names"), options=("-f", "virDomainGetName", "-f", "virDomainLookupByName"))
    expected = []
    for fact in facts:
        text = to_bytes(fact["text"]).decode()
        expected += [f"virDomainGetName(domain={text}) = {text}", f"virDomainLookupByName(conn=test:///default, name={text}) = NULL"]
    assert [bare(line).partition(" VIR_ERR_NO_DOMAIN")[0] for line in lines[1:]] == expected
    assert all(line.isprintable() for line in lines)


def test_a_terminal_sees_the_same_characters(caller, tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    main, other = pty.openpty()
    argv = [*TRACER, "-f", "virDomainGetName", "--", *TO_FILE, str(facts), str(caller("names"))]
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=other, stderr=subprocess.DEVNULL, env=env)
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


@pytest.mark.parametrize("keep", [0, 1, 255, 256, 1023, 1024, 1025, 4096, 65535, 65536])
def test_strings_are_cut_where_asked_and_keep_their_length(caller, traced: Traced, keep: int) -> None:
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


def test_lengths_are_exact_to_a_mebibyte(caller, traced: Traced) -> None:
    lengths = [MIB - 1, MIB, MIB + 8192, 5 * MIB]
    run = traced(caller("lengths"), *lengths, options=("-s", "65536"))
    expected = [logged_text(filled(length), 65536) for length in lengths]
    assert [call["args"]["name"] for call in run.calls("virDomainLookupByName")[1:]] == expected
    assert [call["ret"] for call in run.calls("virDomainGetName")] == expected


# pointers


def test_garbage_pointers_are_shown_as_such(caller, traced: Traced, untraced) -> None:
    run = traced(caller("garbage"))
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
        assert [call["type"] for call in calls] == ["unfinished" if fact["status"] & 127 else "call" for fact in expected], function
        for call, fact in zip(calls, expected, strict=True):
            is_text = arg in ("name", "xml") and fact["text"] is not None
            assert call["args"][arg] == (fact["text"] if is_text else {"unreadable": fact["pointer"]}), (function, fact)
            if call["type"] == "unfinished":
                assert call["reason"] == "process exited"
    wrong_object = run.call("virDomainGetMaxVcpus")
    assert (wrong_object["ret"], wrong_object["error"]["name"]) == (-1, "VIR_ERR_INVALID_DOMAIN")
