# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who a process is: /proc trees made up for the occasion, what the kernel captured, and what
the watch noticed.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from pathlib import Path

import pytest

from log.recent import Recent
from probes.host.processes import callers, cgroups
from probes.host.processes.callers import Captured, Processes, split_cmdline
from probes.host.processes.cgroups import Cgroup
from probes.host.processes.lives import NO_ID, Exec, Forked, Missed

TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
ID = "0123456789abcdef" * 4
NAMELESS = 3_999_999_999


class Numbers(cgroups.Numbers):
    """Cgroups that are known by number here."""

    def __init__(self, paths: dict[int, str]) -> None:
        self.paths = paths

    def path(self, number: int) -> str | None:
        return self.paths.get(number)

    def vouched(self, controllers: str, path: str) -> str:
        return path


def make(
    proc: Path,
    pid: int,
    *,
    start: int = 500,
    exe: str = "/usr/bin/virsh",
    cmdline: bytes = b"virsh\0list\0",
    **files: str,
) -> None:
    """A process that began `start` ticks after boot."""
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "exe").symlink_to(exe)
    (folder / "cmdline").write_bytes(cmdline)
    # the name may hold anything, brackets included
    before = " ".join(["0"] * 18)
    (folder / "stat").write_text(f"{pid} (a) b (c) S {before} {start} 0 0\n")
    (folder / "status").write_text("Name:\tvirsh\nUid:\t1000\t0\t1000\t1000\nGid:\t0\t0\t0\t0\n")
    (folder / "loginuid").write_text(files.get("loginuid", "1000"))
    (folder / "cgroup").write_text(files.get("cgroup", "0::/system.slice/libvirtd.service\n"))


def captured(pid: int = 7, **changes) -> Captured:
    values = Captured(pid, 1, 0, 0, 1000, 0, 500 * TICK + 3, b"virsh\0list\0", "virsh", None)
    return values._replace(**changes)


def program(when: int, pid: int, path: str, cmdline: bytes | None = None, **more) -> Exec:
    return Exec(when, pid, os.path.basename(path)[:15], path, cmdline, **more)


@pytest.fixture
def who(tmp_path) -> Processes:
    return Processes(tmp_path, Numbers({}))


def test_ended_processes_are_forgotten_and_not_who_has_their_number_now(tmp_path: Path) -> None:
    """A host starts thousands an hour, and a tracer is there for weeks."""
    found = Processes(tmp_path)
    for pid in range(100, 200):
        found.noticed(Forked(1000, pid, 1, 5000))
        found.noticed(program(2000, pid, "/bin/a"))
        asked = Captured(pid, 1, 0, 0, None, 0, 5000, b"a\0", "a", "/bin/a")
        assert found.caller(asked, 3000).exe == "/bin/a"
        found.ended(pid, 4000)
    found.noticed(Forked(6000, 107, 1, 9000))
    found.forget_ended(4000)
    assert found.lookup(100, at=3000).exe == "/bin/a"
    found.forget_ended(4001)
    assert found.lookup(100, at=3000).exe is None
    assert list(found._images) == [107]
    assert not found._captured and not found._callers and not found._ended


def test_an_ended_parent_is_known_as_long_as_its_child(tmp_path: Path) -> None:
    """By it is told how the child came in, which may make its first call much later."""
    found = Processes(tmp_path)
    found.noticed(Forked(1000, 50, 1, 4000))
    found.noticed(program(1100, 50, "/usr/sbin/sshd"))
    found.noticed(Forked(2000, 51, 50, 5000))
    found.noticed(program(2100, 51, "/bin/client"))
    found.ended(50, 3000)
    found.forget_ended(10**9)
    assert found.lookup(50, at=2500).exe == "/usr/sbin/sshd"
    found.ended(51, 4000)
    for _ in range(2):
        found.forget_ended(10**9)
    assert not found._images and not found._ended


def test_living_process(tmp_path):
    who = Processes(tmp_path, Numbers({}), {0: "root", 1000: "alice"}.get)
    make(tmp_path, 7)
    caller = who.lookup(7, 500 * TICK, captured())
    assert caller.session is not None
    assert caller.session.login == "alice"
    assert [way.unit for way in caller.session.ways] == ["libvirtd.service"]
    assert caller._replace(session=None) == (
        7,
        "/usr/bin/virsh",
        ("virsh", "list"),
        0,
        "root",
        1000,
        "libvirtd.service",
        None,
        None,
        1,
        None,
    )


def test_living_process_without_a_capture_has_its_effective_uid(tmp_path, who):
    make(tmp_path, 7, loginuid="4294967295")
    caller = who.lookup(7)
    assert (caller.uid, caller.user, caller.loginuid) == (0, "root", None)


def test_process_that_has_gone_is_known_by_what_was_captured(who):
    caller = who.lookup(7, 500 * TICK, captured(exe="/usr/bin/virsh", uid=NAMELESS, loginuid=None))
    assert caller == (
        7,
        "/usr/bin/virsh",
        ("virsh", "list"),
        NAMELESS,
        None,
        None,
        None,
        None,
        None,
        1,
        None,
    )


def test_process_of_which_nothing_is_left(who):
    assert who.lookup(7) == (7, None, None, NO_ID, None, None, None, None, None, None, None)


def test_number_of_another_process_is_noticed(tmp_path, who):
    make(tmp_path, 7, start=502, exe="/usr/bin/other", cmdline=b"other\0")
    caller = who.lookup(7, None, captured())
    assert (caller.exe, caller.cmdline, caller.unit) == (None, ("virsh", "list"), None)


def test_start_times_differ_by_rounding(tmp_path, who):
    make(tmp_path, 7)
    for start in (499 * TICK, 500 * TICK, 501 * TICK - 1):
        assert who.lookup(7, start, captured(start_ns=start)).unit == "libvirtd.service"


def test_program_that_came_after_the_call_is_not_taken_for_the_caller(tmp_path, who):
    who.noticed(program(101, 7, "/usr/bin/virsh"))
    who.noticed(program(201, 7, "/usr/bin/sleep"))
    make(tmp_path, 7, exe="/usr/bin/sleep", cmdline=b"sleep\0" + b"1\0")
    caller = who.lookup(7, None, captured(), at=150)
    assert (caller.exe, caller.cmdline) == ("/usr/bin/virsh", ("virsh", "list"))
    assert caller.unit == "libvirtd.service"  # the process is the same
    assert (
        who.lookup(7, None, captured(cmdline=b"sleep\0" + b"1\0"), at=250).exe == "/usr/bin/sleep"
    )


def test_changed_title_is_the_same_program(tmp_path):
    who = Processes(tmp_path, full_cmdlines=True)
    make(tmp_path, 7, exe="/usr/bin/daemon", cmdline=b"daemon: idle")
    caller = who.lookup(7, None, captured(cmdline=b"daemon: busy"))
    assert (caller.exe, caller.cmdline) == ("/usr/bin/daemon", ("daemon: busy",))


def test_program_of_a_process_that_has_gone_is_remembered(who):
    who.noticed(program(101, 7, "/usr/bin/virsh"))
    assert who.lookup(7, None, captured()).exe == "/usr/bin/virsh"


def test_child_runs_what_its_parent_runs(tmp_path, who):
    make(tmp_path, 5, exe="/usr/bin/python3")
    who.look_around()
    later = time.monotonic_ns()
    who.noticed(Forked(later, 7, 5))
    who.noticed(Forked(later + 10, 8, 7))
    assert who.lookup(8, None, captured(8)).exe == "/usr/bin/python3"


def test_number_that_is_used_again_starts_anew(who):
    who.noticed(program(101, 7, "/usr/bin/old"))
    who.noticed(Forked(200, 7, 1))
    assert who.lookup(7, None, captured()).exe is None


def test_after_lost_records_nothing_is_remembered(who):
    who.noticed(program(101, 7, "/usr/bin/virsh"))
    who.noticed(Missed(3))
    assert who.lookup(7, None, captured()).exe is None


def test_client_that_has_gone_is_what_it_became_by_its_last_exec_before(who):
    """By number and start: the number is used again, and each that had it became another
    program.
    """
    first, second = (
        {"start": 500 * TICK + 3, "loginuid": 1000},
        {"start": 900 * TICK + 5, "loginuid": None},
    )
    who.noticed(Forked(90, 7, 1, 500 * TICK + 3))
    who.noticed(program(100, 7, "/usr/bin/virsh", b"virsh\0list\0", **first))
    who.noticed(program(200, 7, "/usr/bin/virt-xml", b"virt-xml\0web1\0", **first))
    who.noticed(Forked(300, 7, 1, 900 * TICK + 5))
    who.noticed(program(310, 7, "/usr/bin/virt-top", b"virt-top\0", **second))

    def at(when: int, start: int) -> tuple[object, ...]:
        caller = who.lookup(7, start * TICK, at=when)
        return caller.exe, caller.cmdline, caller.uid, caller.loginuid

    assert at(150, 500) == ("/usr/bin/virsh", ("virsh", "list"), NO_ID, 1000)
    assert at(250, 500) == ("/usr/bin/virt-xml", ("virt-xml", "web1"), NO_ID, 1000)
    assert at(400, 500) == at(250, 500)  # the daemon was at it when the client had gone
    assert at(400, 900) == ("/usr/bin/virt-top", ("virt-top",), NO_ID, None)
    assert at(305, 900) == (None, None, NO_ID, None)
    assert at(400, 700) == (None, None, NO_ID, None)  # it is not known


def test_what_there_was_before_is_known_by_its_exec_since(tmp_path, who):
    make(tmp_path, 7)
    before = time.monotonic_ns()
    who.look_around()
    now = time.monotonic_ns()
    who.noticed(program(before - 1, 7, "/usr/bin/old"))  # it had become this by then
    who.noticed(program(now + 50, 7, "/usr/bin/sleep", b"sleep\0"))
    assert who.lookup(7, 500 * TICK, at=now)[1:3] == ("/usr/bin/virsh", ("virsh", "list"))
    assert who.lookup(7, 500 * TICK, at=now + 60)[1:3] == ("/usr/bin/sleep", ("sleep",))


def test_long_command_line_of_a_client_is_whole_while_it_lives(tmp_path):
    who = Processes(tmp_path, full_cmdlines=True)
    whole = b"virsh\0" + b"x" * 2000 + b"\0"
    make(tmp_path, 7, cmdline=whole)
    who.noticed(program(100, 7, "/usr/bin/virsh", whole[:1024], start=500 * TICK))
    assert who.lookup(7, 500 * TICK, at=150).cmdline == ("virsh", "x" * 2000)
    (tmp_path / "7" / "cmdline").write_bytes(b"another title\0")
    assert who.lookup(7, 500 * TICK, at=150).cmdline == ("virsh", "...")


def test_deleted_program_is_kept_as_it_is_named(tmp_path, who):
    make(tmp_path, 7, exe="/usr/bin/virsh (deleted)")
    assert who.lookup(7).exe == "/usr/bin/virsh (deleted)"


def test_secrets_are_redacted(tmp_path, who):
    make(tmp_path, 7, cmdline=b"virsh\0set-user-password\0web1\0root\0s3cret\0")
    assert who.lookup(7).cmdline == (
        "virsh",
        "set-user-password",
        "web1",
        "<redacted>",
        "<redacted>",
    )
    assert (
        who.lookup(8, None, captured(8, cmdline=b"virsh\0-c\0qemu+tcp://u:s3cret@h/\0")).cmdline[2]
        == "qemu+tcp://u:<redacted>@h/"
    )
    full = Processes(tmp_path, full_cmdlines=True)
    assert full.lookup(7).cmdline == ("virsh", "set-user-password", "web1", "root", "s3cret")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ()),
        (b"virsh\0", ("virsh",)),
        (b"virsh\0\0x\0", ("virsh", "", "x")),
        (b"daemon: idle", ("daemon: idle",)),
        (b"a\xff\0", ("a\udcff",)),
        (b"virsh\0-c\0qemu://u:sec".ljust(1024, b"r"), ("virsh", "-c", "...")),
        (b"x" * 1023 + b"\0", ("x" * 1023,)),
        (b"x\0" * 8192, (*["x"] * 8191, "...")),
    ],
    ids=range(8),
)
def test_command_line(data, words):
    assert split_cmdline(data) == words


def test_half_of_a_long_command_line_matches_the_whole(tmp_path):
    who = Processes(tmp_path, full_cmdlines=True)
    whole = b"virsh\0" + b"x" * 2000 + b"\0"
    make(tmp_path, 7, cmdline=whole)
    assert who.lookup(7, None, captured(cmdline=whole[:1024])).cmdline == ("virsh", "x" * 2000)


def test_cgroup_of_a_process_that_has_gone(tmp_path):
    numbers = Numbers({44: f"/machine.slice/libpod-{ID}.scope/container"})
    who = Processes(tmp_path, numbers)
    assert who.lookup(7, None, captured(cgroup_id=44))[6:8] == (None, ID)
    numbers.paths.clear()  # it has gone too
    assert who.lookup(8, None, captured(8, cgroup_id=44))[6:8] == (None, ID)
    assert who.lookup(9, None, captured(9, cgroup_id=45))[6:8] == (None, None)


def test_memory_is_bounded(monkeypatch, who):
    monkeypatch.setattr(who, "_images", Recent(10))
    monkeypatch.setattr(who, "_users", Recent(10))
    for pid in range(1, 100):
        for when in range(10):
            who.noticed(program(when, pid, "/usr/bin/virsh"))
        who.user(pid)
    assert list(who._images) == list(range(90, 100))
    assert {len(who._images.get(pid, ())) for pid in range(90, 100)} == {callers.MOST_IMAGES}
    assert len(who._users) == 10


def test_user_names_are_those_of_this_host(who):
    for entry in pwd.getpwall()[:5]:
        assert who.user(entry.pw_uid) == pwd.getpwuid(entry.pw_uid).pw_name
    assert who.user(NAMELESS) is None


def test_real_process():
    who = Processes()
    child = subprocess.Popen(["cat", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin and child.stdout
    child.stdin.write(b"x\n")
    child.stdin.flush()
    child.stdout.readline()  # from here on it is cat, not yet so when Popen returns
    caller = who.lookup(child.pid)
    assert (caller.exe, caller.cmdline) == (os.path.realpath("/usr/bin/cat"), ("cat", "-"))
    assert (caller.uid, caller.user) == (os.geteuid(), pwd.getpwuid(os.geteuid()).pw_name)
    child.stdin.close()
    child.stdout.close()
    child.wait()
    assert who.lookup(child.pid).cmdline is None


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/", Cgroup(None, None)),
        ("/system.slice/libvirtd.service", Cgroup("libvirtd.service", None)),
        ("/system.slice/libvirtd.service (deleted)", Cgroup("libvirtd.service", None)),
        ("/system.slice/system-getty.slice/getty@tty1.service", Cgroup("getty@tty1.service", None)),
        ("/user.slice/user-1000.slice/session-3.scope", Cgroup("session-3.scope", None)),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-virt.service",
            Cgroup("app-virt.service", None),
        ),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", Cgroup("init.scope", None)),
        (
            r"/machine.slice/machine-qemu\x2d1\x2dweb1.scope/libvirt/emulator",
            Cgroup(r"machine-qemu\x2d1\x2dweb1.scope", None),
        ),
        (f"/system.slice/docker-{ID}.scope", Cgroup(None, ID)),
        (f"/docker/{ID}", Cgroup(None, ID)),
        (f"/docker/{ID}/system.slice/libvirtd.service", Cgroup("libvirtd.service", ID)),
        (f"/machine.slice/libpod-{ID}.scope/container", Cgroup(None, ID)),
        (f"/machine.slice/libpod-conmon-{ID}.scope", Cgroup(f"libpod-conmon-{ID}.scope", None)),
        (
            f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope",
            Cgroup(None, ID),
        ),
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12.slice/cri-containerd-{ID}.scope",
            Cgroup(None, ID),
        ),
        (f"/kubepods/besteffort/pod1234/{ID}", Cgroup(None, ID)),
        (f"/kubepods.slice/crio-{ID}.scope/container", Cgroup(None, ID)),
        # podman with cgroupfs; a guest of KubeVirt, in the pod whose libvirtd has no systemd
        (f"/libpod_parent/libpod-{ID}", Cgroup(None, ID)),
        (f"/machine.slice/machine-libpod_pod_{ID[::-1]}.slice/libpod-{ID}.scope", Cgroup(None, ID)),
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12.slice/cri-containerd-{ID}.scope"
            "/machine/qemu-1-default_web1.libvirt-qemu/libvirt/emulator",
            Cgroup(None, ID),
        ),
        (f"/kubepods/burstable/pod1234/crio-{ID}", Cgroup(None, ID)),
        (f"/kubepods.slice/crio-conmon-{ID}.scope", Cgroup(f"crio-conmon-{ID}.scope", None)),
        # snap and flatpak are in no container: their units say what they are
        (
            "/system.slice/snap.multipass.multipassd.service",
            Cgroup("snap.multipass.multipassd.service", None),
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/snap.virt.virsh-1234.scope",
            Cgroup("snap.virt.virsh-1234.scope", None),
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice"
            "/app-flatpak-org.virt_manager.virt-manager-4711.scope",
            Cgroup("app-flatpak-org.virt_manager.virt-manager-4711.scope", None),
        ),
        ("/lxc.payload.web", Cgroup(None, "web")),
        ("/lxc.payload/web", Cgroup(None, "web")),
        ("/lxc.payload.project_web/init.scope", Cgroup("init.scope", "project_web")),
        ("/lxc.monitor.web", Cgroup(None, None)),
        ("/lxc/web/system.slice/cron.service", Cgroup("cron.service", "web")),
        ("/machine.slice/machine-debian.scope", Cgroup(None, "debian")),
        (r"/machine.slice/machine-my\x2ddebian.scope/payload", Cgroup(None, "my-debian")),
        ("/machine.slice/systemd-nspawn@debian.service/payload", Cgroup(None, "debian")),
        (r"/machine.slice/machine-lxc\x2d4711\x2dweb.scope", Cgroup(None, "web")),
        ("/machine/web.libvirt-lxc", Cgroup(None, "web")),
        (f"/docker/{ID}/kubelet.slice/cri-containerd-{ID[::-1]}.scope", Cgroup(None, ID[::-1])),
    ],
)
def test_place_in_cgroups(path, place):
    assert cgroups.place_of(path) == place


def test_cgroup_versions():
    assert cgroups.parse("0::/system.slice/cron.service\n") == Cgroup("cron.service", None)
    hybrid = (
        "9:name=systemd:/system.slice/cron.service\n8:pids:/\n4:memory:/other.service\n"
        "0::/system.slice/cron.service\n"
    )
    assert cgroups.parse(hybrid) == Cgroup("cron.service", None)
    old = f"12:cpu,cpuacct:/docker/{ID}\n1:name=systemd:/docker/{ID}\n"
    assert cgroups.parse(old) == Cgroup(None, ID)
    only_memory = f"4:memory:/docker/{ID}\n1:name=systemd:/system.slice/a:b.service\n"
    assert cgroups.parse(only_memory) == Cgroup("a:b.service", ID)
    assert cgroups.parse("") == Cgroup(None, None)
    assert cgroups.parse("garbage\n::\n") == Cgroup(None, None)


def test_no_cgroup_mount(tmp_path):
    (tmp_path / "mountinfo").write_text("1 2 0:5 / /sys rw - sysfs sysfs rw\n")
    numbers = cgroups.Numbers(tmp_path / "mountinfo")
    assert numbers.path(1) is None
    numbers.close()


MOUNTS = """\
30 20 0:5 / /sys rw - sysfs sysfs rw
31 30 0:26 / {0}/v2 rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
32 30 0:27 / {0}/systemd rw,nosuid - cgroup cgroup rw,xattr,name=systemd
33 30 0:28 / {0}/cpu rw,nosuid - cgroup cgroup rw,cpu,cpuacct
"""
USERS = "/user.slice/user-1000.slice/user@1000.service"


@pytest.fixture
def tree(tmp_path: Path) -> cgroups.Numbers:
    """User 1000 owns what systemd gives to users."""
    for at in ("v2", "systemd"):
        for path in (
            f"{USERS}/app.slice/libvirtd.service",
            f"{USERS}/docker-{ID}.scope",
            "/system.slice/open.service/libvirtd.service",
        ):
            (tmp_path / at).joinpath(path[1:]).mkdir(parents=True, exist_ok=True)
        os.chown(tmp_path / at / USERS[1:], 1000, 1000)
        (tmp_path / at / "system.slice/open.service").chmod(0o775)
    (tmp_path / "cpu/system.slice/libvirtd.service").mkdir(parents=True)
    (tmp_path / "mountinfo").write_text(MOUNTS.format(tmp_path))
    return cgroups.Numbers(tmp_path / "mountinfo")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
@pytest.mark.parametrize("line", ["0::{}\n", "1:name=systemd:{}\n"], ids=["v2", "v1"])
@pytest.mark.parametrize(
    ("path", "place"),
    [
        (f"{USERS}/app.slice/libvirtd.service", Cgroup("user@1000.service", None)),
        (f"{USERS}/docker-{ID}.scope", Cgroup("user@1000.service", None)),
        (USERS, Cgroup("user@1000.service", None)),
        (f"{USERS} (deleted)", Cgroup("user@1000.service", None)),
        # none but root could have made it
        ("/system.slice/gone.service", Cgroup("gone.service", None)),
        ("/system.slice/gone.service/libvirtd.service", Cgroup("gone.service", None)),
        # a group may write there
        ("/system.slice/open.service/libvirtd.service", Cgroup("open.service", None)),
        (f"/{ID}/x/libvirtd.service", Cgroup(None, ID)),
        ("/../../system.slice/libvirtd.service", Cgroup(None, None)),  # of another cgroup namespace
        ("", Cgroup(None, None)),
    ],
)
def test_names_that_users_give_to_cgroups_are_not_told(tree, line, path, place):
    assert cgroups.parse(line.format(path), tree.vouched) == place


def test_names_in_hierarchies_that_are_not_mounted_are_not_told(tree, tmp_path):
    assert cgroups.parse("4:cpu:/system.slice/libvirtd.service\n", tree.vouched) == Cgroup(
        "libvirtd.service", None
    )
    assert cgroups.parse("4:cpuacct,cpu:/system.slice/libvirtd.service\n", tree.vouched) == Cgroup(
        "libvirtd.service", None
    )
    assert cgroups.parse("5:memory:/system.slice/libvirtd.service\n", tree.vouched) == Cgroup(
        None, None
    )
    (tmp_path / "none").write_text("garbage\n1 2 - cgroup\n")
    assert cgroups.Numbers(tmp_path / "none").vouched("", "/system.slice/libvirtd.service") == ""


def test_what_may_be_shown_of_command_lines_is_remembered_within_a_limit(tmp_path, monkeypatch):
    redacted: list[tuple[str, ...]] = []

    def redact(words: tuple[str, ...]) -> tuple[str, ...]:
        redacted.append(words)
        return words

    monkeypatch.setattr(callers, "redact_cmdline", redact)
    monkeypatch.setattr(callers, "MOST_CMDLINES", 2)
    who = Processes(tmp_path)
    for word in "aabba":
        assert who._show_cmdline((word,)) == (word,)
    assert len(redacted) == 2
    for word in "cda":
        who._show_cmdline((word,))
    assert len(redacted) == 5, "a was forgotten"
    Processes(tmp_path)._show_cmdline(("a",))
    assert len(redacted) == 6, "another session knows nothing of it"
