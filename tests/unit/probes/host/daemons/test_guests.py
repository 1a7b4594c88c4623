# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which process runs which guest, and what is not believed of that."""

from __future__ import annotations

from pathlib import Path

import pytest

from log.events import Caller
from probes.host.daemons.guests import Guests, name_in
from probes.host.processes.lives import Exec, Exited, Forked, OutOfMemory, Signalled

DAEMON, BETWEEN, QEMU, AGAIN = 100, 101, 102, 200
DAEMONS = {DAEMON, AGAIN}
BY = Caller(7, "/bin/kill", None, 0, "root", None, None, None)


def started(name: bytes = b"web1", pid: int = QEMU) -> Exec:
    line = b"/usr/bin/qemu\0-name\0guest=" + name + b",debug-threads=on\0-S\0"
    return Exec(3, pid, "qemu", "/usr/bin/qemu", line)


@pytest.fixture
def guests(tmp_path: Path) -> Guests:
    (tmp_path / str(DAEMON)).mkdir()
    found = Guests(lambda pid, uid, at: BY._replace(pid=pid), DAEMONS.__contains__, tmp_path)
    found.happens(Forked(1, BETWEEN, DAEMON))
    found.happens(Forked(2, QEMU, BETWEEN))
    found.happens(started())
    return found


def pid_of(guests: Guests, daemon: int, name: str) -> int | None:
    guest = guests.of(daemon, name)
    return guest.pid if guest else None


def test_guest_that_a_daemon_starts(guests: Guests):
    assert pid_of(guests, DAEMON, "web1") == QEMU
    assert pid_of(guests, DAEMON, "web2") is pid_of(guests, 99, "web1") is None


def test_what_no_daemon_has_started_is_no_guest_of_it(guests: Guests):
    """Neither what somebody runs, nor what another guest, or a hook, has executed."""
    guests.happens(started(b"web2", 500))
    guests.happens(Forked(5, 600, QEMU))
    guests.happens(started(b"web3", 600))
    hook = 700
    guests.happens(Forked(6, hook, DAEMON))
    guests.happens(Exec(7, hook, "hook", "/etc/libvirt/hooks/qemu", b"/etc/libvirt/hooks/qemu\0"))
    guests.happens(Forked(8, 701, hook))
    guests.happens(started(b"web4", 701))
    assert [pid_of(guests, DAEMON, name) for name in ("web2", "web3", "web4")] == [None] * 3


def test_signals_and_the_end_are_of_the_process(guests: Guests):
    guest = guests.of(DAEMON, "web1")
    assert guest
    guests.happens(Signalled(4, 999, 999, 9, 0, 7, 0, "kill"))
    assert guest.killed is None
    guests.happens(Signalled(5, QEMU, QEMU, 15, 0, 7, 0, "kill"))
    guests.happens(Signalled(6, QEMU, QEMU, 9, 0, 8, 0, "pkill"))
    guests.happens(Signalled(7, QEMU, QEMU, 15, 0, 9, 0, "late"))
    assert guest.killed and (guest.killed.signal, guest.killed.comm) == (9, "pkill")
    guests.happens(OutOfMemory(8, QEMU))
    guests.happens(Exited(9, QEMU, QEMU, True))
    assert (guest.is_oom, guest.ended) == (True, 9)
    guests.happens(Signalled(10, QEMU, QEMU, 9, 0, 7, 0, "x"))  # its number is another's
    assert guest.killed.comm == "pkill"


def test_daemon_that_starts_again_finds_its_guest(guests: Guests, tmp_path: Path):
    assert pid_of(guests, AGAIN, "web1") is None  # the first one goes on
    (tmp_path / str(DAEMON)).rmdir()
    assert pid_of(guests, AGAIN, "web1") == QEMU


def running(proc: Path, daemon: int, pid: int, name: str, content: str | None = None) -> Path:
    folder = proc / str(daemon) / "root/run/libvirt/qemu"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.pid").write_text(str(pid) if content is None else content)
    (proc / str(pid)).mkdir(exist_ok=True)
    (proc / str(pid) / "cmdline").write_bytes(b"qemu\0-name\0guest=web1\0")
    return folder


def test_guests_that_ran_before(tmp_path: Path):
    running(tmp_path, DAEMON, QEMU, "web1")
    running(tmp_path, DAEMON, QEMU, "other")  # which it is not
    running(tmp_path, DAEMON, QEMU, "rubbish", "x" * 64)
    guests = Guests(lambda pid, uid, at: BY, DAEMONS.__contains__, tmp_path)
    guests.look_at([DAEMON, 5])
    assert pid_of(guests, DAEMON, "web1") == QEMU
    assert pid_of(guests, DAEMON, "other") is pid_of(guests, DAEMON, "rubbish") is None


def test_files_that_others_may_have_written_are_not_believed(tmp_path: Path):
    running(tmp_path, DAEMON, QEMU, "web1").chmod(0o777)
    guests = Guests(lambda pid, uid, at: BY, DAEMONS.__contains__, tmp_path)
    guests.look_at([DAEMON])
    assert pid_of(guests, DAEMON, "web1") is None


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"qemu\0-name\0guest=web1,debug-threads=on\0", "web1"),
        (b"qemu\0-name\0guest=a,,b\0", "a,b"),
        (b"qemu\0-name\0guest=\xff\0", "\udcff"),
        (b"qemu\0-name\0guest=cu", None),
        (b"guest=web1\0", None),
        (b"", None),
    ],
)
def test_name_in_a_command_line(line: bytes, name: str | None):
    assert name_in(line) == name
