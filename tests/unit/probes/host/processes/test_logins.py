# SPDX-License-Identifier: LGPL-2.1-or-later
"""The way back from a process to a login: in a made-up /proc, and in what was remembered."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from log.login import Login, LoginStep
from probes.host.looking.proc import TICKS
from probes.host.processes import logins
from probes.host.processes.callers import Processes
from probes.host.processes.cgroups import Cgroup
from probes.host.processes.lives import Exec, Forked, Missed
from probes.host.processes.logins import Logins, find_peer

TICK = 1_000_000_000 // TICKS
USERS = {0: "root", 1000: "alice", 1001: "bob"}
PEERS = {20: "192.0.2.7"}


class Host:
    """Processes, each with its parent; files of root's and of others."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.root = proc / "root of all"
        self.who = Processes(proc, user_name=USERS.get)
        self.who._logins = self.logins = Logins(
            self.who._past,
            USERS.get,
            proc,
            lambda pid: PEERS.get(pid),
            f"{proc}/invocation:",
        )

    def file(self, path: str, mode: int = 0o755, owner: int = 0) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.chown(file, owner, owner)
        os.chmod(file.parent, mode)

    def process(self, pid: int, ppid: int, exe: str, uid: int = 0, real: int | None = None) -> None:
        folder = self.proc / str(pid)
        folder.mkdir()
        (folder / "exe").symlink_to(exe)
        (folder / "root").symlink_to(self.root)
        zeros = " ".join(["0"] * 17)
        (folder / "stat").write_text(f"{pid} (a) S 1 (b) S {ppid} {zeros} {pid * 100} 0 0\n")
        ids = f"{uid if real is None else real}\t{uid}\t{uid}\t{uid}"
        (folder / "status").write_text(f"Name:\tsshd\nUid:\t{ids}\n")
        (folder / "loginuid").write_text("1000")

    def session(self, pid: int, loginuid: int | None = 1000) -> Login | None:
        return self.logins.of(pid, pid * 100 * TICK, loginuid, None, 0)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    if os.getuid():
        pytest.skip("files of root's are made")
    made = Host(tmp_path)
    for path in ("/usr/sbin/sshd", "/usr/bin/sudo", "/usr/bin/su", "/usr/sbin/cron"):
        made.file(path)
    return made


def ssh(host: Host) -> None:
    """alice's shell, 22, on a connection."""
    host.process(10, 1, "/usr/sbin/sshd")
    host.process(20, 10, "/usr/sbin/sshd")
    host.process(21, 20, "/usr/sbin/sshd", 1000)
    host.process(22, 21, "/bin/bash", 1000)


SSH = LoginStep("sshd", 20, peer="192.0.2.7")


def test_ssh_and_sudo(host: Host):
    ssh(host)
    host.process(30, 22, "/usr/bin/sudo", 0)
    host.process(31, 30, "/usr/bin/sudo", 0)  # its monitor
    host.process(32, 31, "/usr/bin/virsh", 0)
    alice = (LoginStep("sudo", 30, 1000, "alice"), SSH)
    assert host.session(32) == Login(1000, "alice", alice)
    assert host.session(22) == Login(1000, "alice", (SSH,))
    assert host.session(32, None) == Login(None, None, alice)  # unset, and told as that
    assert host.who.lookup(32).session == Login(1000, "alice", alice)


def test_su_in_a_shell_of_su(host: Host):
    host.process(11, 1, "/bin/bash", 1000)
    host.process(12, 11, "/usr/bin/su", 0, 1000)
    host.process(13, 12, "/bin/bash", 1001)
    host.process(14, 13, "/usr/bin/su", 0, 1001)
    host.process(15, 14, "/usr/bin/virsh", 0)
    ways = (LoginStep("su", 14, 1001, "bob"), LoginStep("su", 12, 1000, "alice"))
    assert host.session(15) == Login(1000, "alice", ways)


def test_cron(host: Host):
    host.process(11, 1, "/usr/sbin/cron")
    host.process(12, 11, "/usr/sbin/cron")  # for the job
    host.process(13, 12, "/bin/sh", 1000)
    assert host.session(13, None) == Login(None, None, (LoginStep("cron", 12),))


def test_nothing_known_is_no_session(host: Host):
    host.process(11, 1, "/usr/sbin/libvirtd")
    assert host.session(11, None) is None
    assert host.session(99, None) is None  # nobody has that number
    assert host.session(11) == Login(1000, "alice", ())


ID = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("link", "is_there", "found"), [(ID, True, ID), ("/etc/passwd", True, None), (ID, False, None)]
)
def test_unit_and_its_invocation(host: Host, link: str, is_there: bool, found: str | None):
    host.process(11, 1, "/usr/sbin/cron")
    (host.proc / "invocation:cron.service").symlink_to(link)
    place = Cgroup("cron.service", None)
    login = host.logins.of(11, 0, None, None, 0, place, is_there=is_there)
    unit = LoginStep("systemd", unit="cron.service", invocation=found)
    assert login == Login(None, None, (LoginStep("cron", 11), unit))
    assert host.logins.of(99, 0, None, None, 0, Cgroup("user.slice", None)) is None
    gone = host.logins.of(99, 0, None, None, 0, Cgroup("other.service", None))
    assert gone == Login(None, None, (LoginStep("systemd", unit="other.service"),))


def test_container(host: Host):
    login = host.logins.of(99, 0, None, None, 0, Cgroup("docker.service", "ab12"))
    places = (LoginStep("container", container="ab12"), LoginStep("systemd", unit="docker.service"))
    assert login == Login(None, None, places)


def test_who_asks_libvirt_dbus_is_not_known(host: Host):
    """It has a user of its own, and its file is root's."""
    host.file("/usr/sbin/libvirt-dbus")
    host.process(11, 1, "/usr/sbin/libvirt-dbus", 1001)
    assert host.session(11, None) == Login(None, None, (LoginStep("libvirt-dbus", 11),))


@pytest.mark.parametrize(
    ("exe", "uid", "mode", "owner"),
    [
        ("/usr/sbin/sshd", 1000, 0o755, 0),  # anybody may run it
        ("/home/alice/sudo", 0, 0o777, 0),  # a link to another program of root's
        ("/home/bob/sudo", 0, 0o755, 1000),
        ("/usr/sbin/sshd (deleted)", 0, 0o755, 0),
        ("/usr/bin/virsh", 0, 0o755, 0),
    ],
)
def test_what_a_user_can_make_up_is_not_believed(host: Host, exe, uid, mode, owner):
    if not exe.endswith("(deleted)"):
        host.file(exe, mode, owner)
    host.process(20, 1, exe, uid, 1000)
    host.process(30, 20, "/usr/bin/virsh", 1000)
    assert host.session(30, None) is None


def test_number_of_another_process_is_not_the_parent(host: Host):
    host.process(40, 1, "/usr/bin/sudo", 0, 1001)  # began after its child
    host.process(30, 40, "/usr/bin/virsh", 0)
    assert host.session(30, None) is None


def test_parents_that_have_ended_are_remembered(host: Host):
    ssh(host)
    start = {pid: pid * 100 * TICK for pid in range(30, 40)}
    host.root = Path("/")  # the files of the host: they have no process any more
    sudo = "/usr/bin/env"  # a program of root's that is on every host
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(logins._PROGRAMS, "env", "sudo")
        host.who.noticed(Forked(100, 30, 22, start[30]))
        host.who.noticed(
            Exec(110, 30, "sudo", sudo, start=start[30], ppid=22, uid=0, gid=0, real_uid=1000)
        )
        host.who.noticed(Forked(120, 31, 30, start[31]))
        # its parent has gone by then
        host.who.noticed(
            Exec(130, 31, "virsh", "/usr/bin/virsh", start=start[31], ppid=1, uid=0, real_uid=0)
        )
        caller = host.who.lookup(31, start[31], at=140)
        assert caller.session is not None
        assert caller.session.ways == (LoginStep("sudo", 30, 1000, "alice"), SSH)
        host.who.noticed(Missed(1))
        assert host.who.lookup(31, start[31], at=150).session is None


def test_what_a_process_was_before_counts(host: Host):
    """pkexec becomes the program that was asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(logins._PROGRAMS, "env", "pkexec")
        host.who.noticed(
            Exec(10, 30, "e", "/usr/bin/env", start=TICK, uid=0, gid=0, real_uid=1000, ppid=1)
        )
        host.who.noticed(Exec(20, 30, "virsh", "/usr/bin/virsh", start=TICK, uid=0, ppid=1))
        caller = host.who.lookup(30, TICK, at=30)
    assert caller.session is not None
    assert caller.session.ways == (LoginStep("pkexec", 30, 1000, "alice"),)


def test_endless_row_of_parents_is_said(host: Host):
    for pid in range(100, 200):
        host.process(pid, pid - 1, "/bin/sh", 1000)
    found = host.session(199)
    assert found is not None and [way.by for way in found.ways] == ["?"]


def test_parents_are_looked_at_once(host: Host, monkeypatch: pytest.MonkeyPatch):
    ssh(host)
    host.process(30, 22, "/usr/bin/virsh", 1000)
    host.process(31, 22, "/usr/bin/virsh", 1000)
    looks: list[int] = []
    look = logins._look

    def counted(pid: int, proc: Path, *, always: bool = False) -> object:
        looks.append(pid)
        return look(pid, proc, always=always)

    monkeypatch.setattr(logins, "_look", counted)
    assert host.session(30) == host.session(31) == Login(1000, "alice", (SSH,))
    assert looks == [30, 22, 21, 20, 10, 31, 22]


WAIT = "import socket, sys; s = socket.create_connection(sys.argv[1:]); print(); sys.stdin.read()"


@pytest.mark.parametrize(
    ("family", "here"),
    [
        (socket.AF_INET, "127.0.0.1"),
        (socket.AF_INET6, "::ffff:127.0.0.1"),
    ],
)
def test_peer_of_a_connection(family: int, here: str):
    with socket.socket(family) as listening:
        listening.bind((here, 0))
        listening.listen()
        port = str(listening.getsockname()[1])
        with subprocess.Popen(
            [sys.executable, "-c", WAIT, here, port], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            found = find_peer(child.pid)
            child.communicate()
    assert found == "127.0.0.1"
    assert find_peer(child.pid) is None  # it has gone


def test_sockets_without_a_connection_have_no_peer():
    one, other = socket.socketpair()
    with one, other, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        child = subprocess.Popen(
            ["cat"], stdin=subprocess.PIPE, pass_fds=(one.fileno(), listening.fileno())
        )
        assert find_peer(child.pid) is None
        child.communicate()
