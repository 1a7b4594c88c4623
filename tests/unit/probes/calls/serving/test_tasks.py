# SPDX-License-Identifier: LGPL-2.1-or-later
"""Threads by the numbers in records: what the kernel says of them is looked up in /proc once
for a process, whatever they are called.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from log.client import UNKNOWN, Client
from log.events import Caller
from probes.calls.parts.open import Message
from probes.calls.serving.clients import Connection, Served
from probes.calls.serving.tasks import Task, Tasks
from probes.host.daemons.programs import Daemons
from probes.host.processes.callers import Captured, Processes
from probes.host.processes.lives import Exec, Missed
from probes.kernel import records

CMDLINE = b"virsh\0list\0"


class Counting(Processes):
    """Counts what is looked up."""

    looked_up = 0

    def lookup(
        self,
        pid: int,
        start_time: int | None = None,
        captured: Captured | None = None,
        at: int | None = None,
    ):
        self.looked_up += 1
        return super().lookup(pid, start_time, captured, at)


class Threads:
    """The kernel's side: each description has a number of its own, and is later than the one
    before.
    """

    def __init__(self, proc: Path, users: dict[int, str]) -> None:
        self.processes = Counting(proc, user_name=users.get)
        self.tasks = Tasks(self.processes, Daemons(proc), None)
        self.time = 0

    def described(
        self,
        comm: str = "virsh",
        *,
        pid: int = 7,
        uid: int = 0,
        cgroup: int = 3,
        cmdline: bytes = CMDLINE,
        start: int = 1,
    ) -> Task:
        self.time += 1
        head = records.HEAD.pack(
            records.REC_TASK, 0, records.REC_WANTED, 0, self.time, self.time, pid, 0, 0, pid
        )
        fields = records.TASK.pack(
            start, cgroup, 1, uid, uid, 1000, pid, len(cmdline), uid, 0, comm.encode()
        )
        self.tasks.learn((head + fields).ljust(records.TASK_TEXT, b"\0") + cmdline, None, None)
        return self.tasks.find(self.time, pid, pid)

    def runs(self, path: str, pid: int = 7) -> None:
        self.time += 1
        self.processes.noticed(Exec(self.time, pid, "x", path))


ALICE = 1000


@pytest.mark.parametrize(
    ("uid", "is_roots", "says", "really", "believed"),
    [
        (0, True, ALICE, None, True),  # of anybody, also who comes over a network
        (0, False, ALICE, ALICE, False),  # anybody's program, which root runs
        (ALICE, True, ALICE, ALICE, True),  # alice's session
        (ALICE, True, 0, ALICE, False),
        (ALICE, True, ALICE, 0, False),
        (ALICE, True, ALICE, None, False),
        (ALICE, True, None, None, False),
        (ALICE, False, ALICE, ALICE, False),
    ],
)
def test_daemon_is_believed_if_it_is_roots_or_speaks_of_its_own_user(
    uid, is_roots, says, really, believed
):
    client = Client(pid=1, uid=says)
    served = Served(Message(1, 2, 3), Connection(False, None), client, 0, None, really)
    task = Task(
        Caller(7, "/usr/sbin/libvirtd", None, uid, None, None, None, None),
        "rpc",
        served,
        True,
        is_roots,
    )
    assert task.believed == (client if believed else UNKNOWN)
    assert (
        task._replace(served=None).believed
        == task._replace(served=served._replace(client=None)).believed
        == UNKNOWN
    )


@pytest.fixture
def threads(tmp_path: Path) -> Threads:
    made = Threads(tmp_path, {0: "root"})
    made.runs("/usr/bin/virsh")
    return made


def test_thread_that_renames_itself_before_each_call_is_looked_up_once(threads):
    seen = [threads.described(f"t{number}") for number in range(5000)]
    assert [task.comm for task in seen] == [f"t{number}" for number in range(5000)]
    assert {id(task.caller) for task in seen} == {id(seen[0].caller)}
    assert threads.processes.looked_up == 1


@pytest.mark.parametrize(
    "change",
    [{"uid": 7}, {"cgroup": 4}, {"cmdline": b"virsh\0"}, {"start": 2 * 10**9}, {"pid": 8}],
    ids=str,
)
def test_who_is_another_is_looked_up(threads, change):
    threads.runs("/usr/bin/virsh", 8)
    before = threads.described()
    assert threads.described(**change).caller is not before.caller
    assert threads.processes.looked_up == 2
    assert threads.described().caller is before.caller


def test_another_program_is_looked_up(threads):
    before = threads.described()
    threads.runs("/usr/bin/other")
    assert (before.caller.exe, threads.described().caller.exe) == (
        "/usr/bin/virsh",
        "/usr/bin/other",
    )
    threads.processes.noticed(Missed(1))  # it may have become another one unseen
    assert threads.described().caller.exe is None


def test_what_is_not_known_yet_is_looked_up_again(threads):
    nothing = threads.described(pid=9)
    assert nothing.caller.exe is None
    threads.runs("/usr/bin/virsh", 9)
    assert threads.described(pid=9).caller.exe == "/usr/bin/virsh"


def test_name_of_a_user_that_is_learnt_later_is_everybodys(threads):
    before = [threads.described(f"t{number}", uid=5) for number in range(3)]
    assert {task.caller.user for task in before} == {None}
    threads.tasks.name({5: "alice"})
    after = [
        threads.tasks.find(number, 7, 7) for number in range(threads.time - 2, threads.time + 1)
    ] + [threads.described("new", uid=5)]
    assert [(task.comm, task.caller.user) for task in after] == [
        (name, "alice") for name in ("t0", "t1", "t2", "new")
    ]
    assert len({id(task.caller) for task in after}) == 1 and threads.processes.looked_up == 1
