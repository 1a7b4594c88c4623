# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names of users: at once from this host's list, and never waiting for a directory."""

from __future__ import annotations

import pwd
import threading
from pathlib import Path

import pytest

from probes.host.processes import users
from probes.host.processes.users import Users


class Directory:
    """A slow one: it answers when it is told to."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names, self.asked = names, list[int]()
        self.answers = threading.Semaphore(0)
        self.done = threading.Semaphore(0)

    def find(self, uid: int) -> str | None:
        self.asked.append(uid)
        self.answers.acquire()
        name = self.names.get(uid)
        self.done.release()
        return name

    def answer(self, count: int = 1) -> None:
        for _ in range(count):
            self.answers.release()
            self.done.acquire()


@pytest.fixture
def passwd(tmp_path: Path) -> Path:
    path = tmp_path / "passwd"
    path.write_bytes(
        b"root:x:0:0::/root:/bin/sh\n+@nis:::::\nold\nalice:x:1000:1000:::\ntwin:x:1000:0:::\nb\xe9:x:1001:0:::\nbad:x:x:0:::\n"
    )
    return path


def learned(names: Users, count: int) -> dict[int, str]:
    found: dict[int, str] = {}
    while len(found) < count:
        found |= names.learned()
    return found


def test_local_users_have_their_names_at_once(passwd: Path) -> None:
    names = Users(Directory({}).find, passwd)
    assert [names.name(uid) for uid in (0, 1000, 1001)] == ["root", "alice", "b\udce9"]


def test_this_hosts_own() -> None:
    names = Users(lambda uid: pytest.fail("asked"))
    for entry in [entry for entry in pwd.getpwall() if not entry.pw_name.startswith("_")][:5]:
        assert names.name(entry.pw_uid) == pwd.getpwuid(entry.pw_uid).pw_name


def test_nobody_waits_for_a_directory(passwd: Path) -> None:
    now = 0.0
    directory = Directory({70000: "carol"})
    names = Users(directory.find, passwd, lambda: now)
    assert [names.name(70000) for _ in range(100)] == [None] * 100
    assert names.name(0) == "root"
    assert names.learned() == {}
    directory.answer()
    assert learned(names, 1) == {70000: "carol"}
    assert names.name(70000) == "carol"
    assert directory.asked == [70000]


def test_who_was_not_found_is_asked_for_again(passwd: Path) -> None:
    now = 0.0
    directory = Directory({})
    names = Users(directory.find, passwd, lambda: now)
    assert names.name(70000) is None
    directory.answer()
    while names._waiting:
        names.learned()
    assert names.name(70000) is None
    directory.names[70000] = "carol"
    now = users.ASK_AGAIN + 1
    assert names.name(70000) is None
    directory.answer()
    assert learned(names, 1) == {70000: "carol"}
    assert directory.asked == [70000, 70000]


def test_a_user_who_is_added_is_found(passwd: Path) -> None:
    now = 0.0
    names = Users(lambda uid: None, passwd, lambda: now)
    assert names.name(1002) is None
    with passwd.open("a") as file:
        file.write("dave:x:1002:0:::\n")
    now = users.LOOK_AGAIN + 1
    assert names.name(1002) == "dave"


def test_so_many_questions_wait_and_no_more(passwd: Path) -> None:
    names = Users(Directory({}).find, passwd)
    for uid in range(10_000, 20_000):
        assert names.name(uid) is None
    assert len(names._waiting) == users.MOST_WAITING
