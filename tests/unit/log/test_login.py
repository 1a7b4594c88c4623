# SPDX-License-Identifier: LGPL-2.1-or-later
"""How somebody came in: in short, as fields, and in the lines of events."""

from __future__ import annotations

import json

import pytest

from log.client import Client
from log.login import Login, LoginStep, short
from log.recording.parse import parse
from log.render import jsonl, text
from log.why import person
from tests.unit.log_samples import CALLER, DESTROY

SUDO = LoginStep("sudo", 41, 1000, "alice")
SSHD = LoginStep("sshd", 40, peer="192.0.2.7")
ALICE = Login(1000, "alice", (SUDO, SSHD))


@pytest.mark.parametrize(
    ("login", "said"),
    [
        (ALICE, "alice via sudo, ssh 192.0.2.7"),
        (Login(None, None, (SUDO, SSHD)), "unset via sudo by alice, ssh 192.0.2.7"),
        (Login(1001, None, (SUDO,)), "1001 via sudo by alice"),
        (Login(1000, "alice", (LoginStep("su", 5, 1002),)), "alice via su by 1002"),
        (Login(1000, "alice", (LoginStep("sshd", 5),)), "alice via ssh ?"),
        (Login(None, None, (LoginStep("cron", 5),)), "unset via cron"),
        (
            Login(1000, "a) via ssh\x1b[2J", (LoginStep("su", 5, 7, "b, ssh \u202e"),)),
            '"a) via ssh\\x1b[2J" via su by "b, ssh \\u202e"',
        ),
    ],
)
def test_in_short(login: Login, said: str):
    assert short(login.fields()) == said


def test_caller_is_told_with_it():
    event = DESTROY._replace(caller=CALLER._replace(session=ALICE), alike=None)
    assert "root (alice via sudo, ssh 192.0.2.7) virDomainDestroyFlags(" in text.line(event)
    line = jsonl.line(event)
    assert json.loads(line)["session"] == {
        "loginuid": 1000,
        "login": "alice",
        "ways": [
            {"by": "sudo", "pid": 41, "uid": 1000, "user": "alice"},
            {"by": "sshd", "pid": 40, "peer": "192.0.2.7"},
        ],
    }
    assert parse(line) == event
    assert "session" not in json.loads(jsonl.line(DESTROY))


def test_client_is_told_with_it():
    client = Client(pid=7, uid=0, user="root", exe="/usr/bin/virsh", session=ALICE)
    event = DESTROY._replace(client=client, alike=None)
    assert " for 7 virsh root (alice via sudo, ssh 192.0.2.7) " in text.line(event)
    assert parse(jsonl.line(event)) == event
    assert person(client.fields()) == "7 virsh root (alice via sudo, ssh 192.0.2.7)"


def test_names_that_are_known_later():
    login = Login(1000, None, (LoginStep("sudo", 41, 1000), SSHD))
    assert login.named({1000: "alice"}) == ALICE
    assert login.named({7: "bob"}) is login
