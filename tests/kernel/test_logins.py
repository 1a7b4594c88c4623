# SPDX-License-Identifier: LGPL-2.1-or-later
"""The person behind a process, with the real sshd, su and sudo; and behind libvirt-dbus."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from log.parsing.parse import parse
from log.render import text
from tests.kernel.conftest import CALLS, Steps
from tests.needs import lack
from tests.neighbours import NOBODY
from tests.tracing import Event
from tests.unpacked import LIBRARIES, PROGRAMS, free_port, unpacked

NAME = "via-ssh"
# sshd in a mount namespace of its own: it wants a user and a folder; and nobody may use sudo
PRIVATE = """
set -e
mount -t tmpfs none /run
mkdir /run/sshd
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/sudoers" /etc/sudoers
shift
exec "$@"
"""
# of OpenSSH since 9.8
PARTS = {"SshdSessionPath": "sshd-session", "SshdAuthPath": "sshd-auth"}
# names and variables are anybody's to choose
SCRIPT = """\
SSH_CONNECTION="198.51.100.6 1 198.51.100.7 22" {fake} -c 'sudo -n "$0"; :' "$1"
"""


@contextmanager
def sshd(folder: Path) -> Iterator[tuple[str, ...]]:
    """A command that runs another over ssh, as root."""
    if shutil.which("sudo") is None:
        lack("kernel", "sudo is not installed")
    program = unpacked("usr/sbin/sshd", "kernel")
    passwd = Path("/etc/passwd").read_text()
    (folder / "passwd").write_text(f"{passwd}sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")
    sudoers = folder / "sudoers"
    sudoers.write_text("nobody ALL=(root) NOPASSWD: ALL\n")
    sudoers.chmod(0o440)
    for name in ("host", "key"):
        make = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        subprocess.run(make, check=True)
    port = str(free_port())
    options = [
        *("ListenAddress=127.0.0.1", f"Port={port}", f"HostKey={folder}/host", "PidFile=none"),
        *("StrictModes=no", f"AuthorizedKeysFile={folder}/key.pub", "PermitRootLogin=yes"),
    ]
    for keyword, name in PARTS.items():
        if (part := PROGRAMS / "usr/lib/openssh" / name).exists():
            options.append(f"{keyword}={part}")
    daemon = subprocess.Popen(
        [
            *("unshare", "-m", "sh", "-c", PRIVATE, "sh", str(folder)),
            *("env", f"LD_LIBRARY_PATH={LIBRARIES}:{PROGRAMS}/lib/{LIBRARIES.name}"),
            *(program, "-D", "-e", "-f", "/dev/null"),
            *(word for option in options for word in ("-o", option)),
        ],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert daemon.stderr is not None
    try:
        said = daemon.stderr.readline()
        assert said.startswith("Server listening"), said
        yield (
            *("ssh", "-q", "-F", "none", "-i", str(folder / "key"), "-p", port),
            *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
            "root@127.0.0.1",
        )
    finally:
        daemon.terminate()
        daemon.stderr.close()  # what serves a connection has it, too, and may go on for a while
        daemon.wait()


def is_sound(call: Event, sudo_user: str) -> bool:
    """Whether the session of a call is what was gone through."""
    session = call["session"]
    ways = [{key: way[key] for key in way if key != "pid"} for way in session["ways"]]
    assert ways[:3] == [
        {"by": "sudo", "uid": NOBODY, "user": sudo_user},
        {"by": "su", "uid": 0, "user": "root"},
        {"by": "sshd", "peer": "127.0.0.1"},
    ]
    assert session["loginuid"] == call["loginuid"]
    return True


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that every user can read, whatever other runs do to where theirs are."""
    with tempfile.TemporaryDirectory(prefix="logins-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


def test_person_is_found_through_ssh_su_and_sudo(caller, trace, folder: Path) -> None:
    program, script = folder / NAME, folder / "script"
    shutil.copy(caller("steps"), program)
    fake = folder / "fake" / "sudo"
    fake.parent.mkdir()
    shutil.copy("/bin/sh", fake)
    script.write_text(SCRIPT.format(fake=fake))
    with sshd(folder) as ssh:
        through = (*ssh, "su", "nobody", "-s", "/bin/sh", "--", str(script))
        before = Steps(program, before=through)
        tracer = trace("-n", NAME, "-f", "virDomainGetName")
        tracer.wait_attached()
        after = Steps(program, before=through)
        for step in (before, after):
            step.call()
        tracer.wait_for(lambda event: event["type"] == "call", count=2 * CALLS)
        calls = tracer.stop(lost=None).calls("virDomainGetName")
        for step in (before, after):
            assert step.end() == 0
    assert len(calls) == 2 * CALLS
    # one was there before tracing, of the other all was seen
    assert len({call["pid"] for call in calls}) == 2
    assert all(is_sound(call, "nobody") for call in calls)


# what asks the bus starts what has the name
BUS = ("dbus-send", "--session", "--print-reply=literal")


@contextmanager
def bus() -> Iterator[dict[str, str]]:
    """The environment of who speaks on a private one."""
    for program in ("dbus-daemon", "dbus-send", "libvirt-dbus"):
        if shutil.which(program) is None:
            lack("kernel", f"{program} is not installed")
    daemon = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert daemon.stdout
        yield {**os.environ, "DBUS_SESSION_BUS_ADDRESS": daemon.stdout.readline().strip()}
    finally:
        daemon.terminate()  # whom it has started ends with it
        daemon.communicate()


def test_that_somebody_asked_over_dbus_is_told_and_not_who(trace) -> None:
    """libvirt-dbus, the real one, asks libvirt for others, whom it doesn't name."""
    with bus() as env:

        def ask(*what: str) -> str:
            done = subprocess.run(
                (*BUS, *what), env=env, check=True, capture_output=True, text=True
            )
            return done.stdout

        ask("--dest=org.libvirt", "/", "org.freedesktop.DBus.Peer.Ping")
        told = ask(
            *(
                "--dest=org.freedesktop.DBus",
                "/",
                "org.freedesktop.DBus.GetConnectionUnixProcessID",
            ),
            "string:org.libvirt",
        )
        servant = int(told.split()[-1])
        tracer = trace("-p", str(servant))
        tracer.wait_attached()
        domains = ask(
            *("--dest=org.libvirt", "/org/libvirt/Test", "org.libvirt.Connect.ListDomains"),
            "uint32:0",
        )
        assert "/org/libvirt/Test/domain/" in domains
        call = tracer.wait_for(lambda one: one.get("function") == "virConnectListAllDomains")
    assert call["pid"] == servant and call["exe"] == os.path.realpath("/usr/sbin/libvirt-dbus")
    assert call["session"]["ways"][0] == {"by": "libvirt-dbus", "pid": servant, "peer": None}
    event = parse(json.dumps(call).encode() + b"\n")
    assert event is not None and "D-Bus ?" in text.line(event)
