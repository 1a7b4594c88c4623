# SPDX-License-Identifier: LGPL-2.1-or-later
"""How somebody came in: in short, as fields, and in the lines of events."""

from __future__ import annotations

import json
from types import ModuleType

import pytest

from log.client import Client
from log.login import Login, LoginStep, short
from log.parsing.parse import parse
from log.render import jsonl, text, xml
from log.render.siem import auditd, cef, ecs, ocsf
from log.render.why import person
from log.values import Value
from tests.unit.log_samples import CALLER, DESTROY

SUDO = LoginStep("sudo", 41, 1000, "alice")
SSHD = LoginStep("sshd", 40, peer="192.0.2.7")
UNIT = LoginStep("systemd", unit="backup.service", invocation="ab" * 16)
INSIDE = LoginStep("container", container="0123456789abcdef")
DBUS = LoginStep("libvirt-dbus", 44)
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
        (Login(None, None, (LoginStep("cron", 5), UNIT)), "unset via cron"),
        (Login(None, None, (UNIT,)), "unset via backup.service"),
        (Login(None, None, (DBUS, UNIT)), "unset via D-Bus ?"),
        (Login(None, None, (INSIDE, UNIT)), "unset via container 0123456789ab"),
        (Login(1000, "alice", ()), "alice"),
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


def test_daemon_that_serves_a_client_is_told_without():
    """How the client came in is what matters."""
    of_unit = CALLER._replace(session=Login(None, None, (UNIT,)))
    event = DESTROY._replace(caller=of_unit, alike=None)
    assert " root (unset via backup.service) virDomain" in text.line(event)
    served = event._replace(client=Client(pid=7, uid=0, user="root", session=ALICE))
    assert " root for 7 root (alice via sudo, ssh 192.0.2.7) virDomain" in text.line(served)
    assert parse(jsonl.line(served)) == served


def test_login_is_told_where_it_is_another():
    def shown(uid: int, login: Login) -> str:
        caller = CALLER._replace(uid=uid, user=None, session=login)
        return text.line(DESTROY._replace(caller=caller, alike=None))

    bare = Login(1000, "alice", ())
    assert " 0 (alice) virDomain" in shown(0, bare)
    assert " 1000 virDomain" in shown(1000, bare)


def test_unit_is_told_once():
    known: dict[str, Value] = {"pid": 7, "comm": "kill", "user": "root", "uid": 0}
    known |= {"unit": "backup.service", "session": Login(None, None, (UNIT,)).fields()}
    assert person(known) == "7 kill root in backup.service"


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (ecs, '"session":"alice via sudo, ssh 192.0.2.7"'),
        (ocsf, '"session":"alice via sudo, ssh 192.0.2.7"'),
        (cef, "flexString1Label=session flexString1=alice via sudo, ssh 192.0.2.7"),
        (auditd, f"session={b'alice via sudo, ssh 192.0.2.7'.hex().upper()}"),
        (xml, "<session>alice via sudo, ssh 192.0.2.7</session>"),
    ],
)
def test_other_forms_tell_it(form: ModuleType, said: str):
    own = DESTROY._replace(caller=CALLER._replace(session=ALICE), alike=None)
    client = Client(pid=7, uid=0, user="root", session=ALICE)
    for event in (own, DESTROY._replace(client=client, alike=None)):
        assert said in form.line(event)


def test_names_that_are_known_later():
    login = Login(1000, None, (LoginStep("sudo", 41, 1000), SSHD))
    assert login.named({1000: "alice"}) == ALICE
    assert login.named({7: "bob"}) is login
