# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose calls a filter shows, and who made them: also of processes that end at once, and whose
numbers are given to others.
"""

from __future__ import annotations

import collections
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from probes.host.daemons.before import Before
from probes.host.daemons.programs import Daemons
from tests.daemon import DOMAIN, START, Daemon
from tests.needs import PATIENCE, PYTHON

# libvirt's QEMU driver wants that user, whatever its configuration says: it is there in a mount
# namespace of the program's own
EMBEDDED = r"""
mount -t tmpfs -o mode=755 tmpfs /run
{ cat /etc/passwd; echo libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin; } >/run/passwd
{ cat /etc/group; echo libvirt-qemu:x:64055:; } >/run/group
mount --bind /run/passwd /etc/passwd
mount --bind /run/group /etc/group
exec "$@"
"""
IN_NAMESPACE = ("unshare", "--mount", "sh", "-eu", "-c", EMBEDDED, "sh")
EMBED = """
import libvirt, os, sys, threading
libvirt.registerErrorHandler(lambda *_: None, None)
libvirt.virEventRegisterDefaultImpl()
run = lambda: [libvirt.virEventRunDefaultImpl() for _ in iter(int, 1)]
threading.Thread(target=run, daemon=True).start()
connection = libvirt.open(f"qemu:///embed?root={sys.argv[1]}")
connection.getHostname()
try:
    connection.restore("/nonexistent")
except libvirt.libvirtError:
    os._exit(0)
"""


def test_every_call_of_a_program_with_drivers_that_ends_at_once(trace, tmp_path):
    for _ in range(3):
        result = trace(
            "--", *IN_NAMESPACE, PYTHON, "-c", EMBED, str(tmp_path / "root"), attached=False
        ).finish(60)
        assert result.status == 0
        assert [call["function"] for call in result.calls()] == [
            "virConnectOpen",
            "virConnectGetHostname",
            "virDomainRestore",
        ]
        # a driver in the program itself makes no daemon of it
        assert {call["client"] for call in result.calls()} == {None}
        assert {call["exe"] for call in result.calls()} == {os.path.realpath(PYTHON)}


A_DAEMON = (
    START.rpartition("exec")[0]
    + r"""
libvirtd --config "$1/libvirtd.conf" &
until [ -S "$1/libvirt-sock" ]; do sleep 0.05; done
virsh -q -c "qemu:///system?socket=$1/libvirt-sock" "define $1/domain.xml; undefine short"
kill $!
wait
"""
)
A_DAEMON_CONF = """
unix_sock_dir = "{folder}"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_filters = "1:libvirt."
log_outputs = "1:file:{folder}/log"
"""
_entered = re.compile(r" debug : (vir[A-Za-z0-9]+):\d+ : (?:conn|dom|domain|network|secret|name)=")


def configure(folder: Path) -> None:
    (folder / "libvirtd.conf").write_text(A_DAEMON_CONF.format(folder=folder))
    (folder / "qemu.conf").write_text('user = "root"\ngroup = "root"\nsecurity_driver = "none"\n')
    (folder / "domain.xml").write_text(DOMAIN.format(name="short"))


def test_every_call_of_a_daemon_that_the_command_starts_and_ends(trace, tmp_path):
    """libvirt's own log says which there were, also those that libvirt made inside others."""
    configure(tmp_path)
    tracer = trace(
        "--nested",
        "--",
        "unshare",
        "--mount",
        "sh",
        "-eu",
        "-c",
        A_DAEMON,
        "sh",
        str(tmp_path),
        attached=False,
    )
    result = tracer.finish(60)
    (daemon,) = {call["pid"] for call in result.calls() if call["client"]}
    made = collections.Counter(_entered.findall((tmp_path / "log").read_text()))
    seen = collections.Counter(call["function"] for call in result.calls(pid=daemon))
    assert {name: seen[name] for name in made} == made
    assert {"virDomainDefineXML", "virDomainUndefineFlags"} <= set(made) and seen[
        "virConnectOpenAuth"
    ] == 1
    assert "?" not in {call["comm"] for call in result.calls()}


LAST_CALLS = """
import libvirt, os, sys, signal
connection = libvirt.open(sys.argv[1])
domain = connection.lookupByName(sys.argv[2])
for _ in range(40):  # every worker has been seen
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_DESCRIPTION, "x", None, None, 0)
sys.stdin.read(1)
domain.suspend()
os.kill(int(sys.argv[3]), signal.SIGKILL)
"""


def test_last_calls_of_a_daemon_have_somebody(trace):
    with Daemon() as daemon:
        guest = daemon.create("last")
        tracer = trace("-f", "virDomainSuspend", "-f", "virDomainSetMetadata")
        client = subprocess.Popen(
            [PYTHON, "-c", LAST_CALLS, daemon.uri, guest.name, str(daemon.pid)],
            stdin=subprocess.PIPE,
        )
        tracer.wait_for(
            lambda event: (
                event.get("function") == "virDomainSetMetadata" and event["pid"] == daemon.pid
            ),
            count=40,
        )
        client.communicate(b"\n", timeout=60 * PATIENCE)
        result = tracer.stop()
        made = result.calls(pid=daemon.pid)
    assert [call["function"] for call in made] == ["virDomainSetMetadata"] * 40 + [
        "virDomainSuspend"
    ]
    who = [
        {key: call[key] for key in ("exe", "cmdline", "uid", "user", "unit", "container")}
        for call in made
    ]
    assert (
        who == who[:1] * len(who)
        and who[0]["exe"]
        and who[0]["cmdline"]
        and who[0]["user"] == "root"
    )
    assert {call["comm"] for call in made} <= {"rpc-libvirtd", "prio-rpc-libvir"}
    assert {call["client"]["pid"] for call in made} == {client.pid}


# the numbers of processes that have ended are given out again: in a pid namespace of their own, so
# that nobody else is disturbed
REUSED = r"""
import os, subprocess, sys, libvirt
uri, name = sys.argv[1:]
pid = os.fork()
if not pid:
    connection = libvirt.open(uri)
    connection.getHostname()
    os._exit(0)
os.waitpid(pid, 0)
for _ in range(1000):
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(pid - 1))
    again = os.fork()
    if not again:
        if os.getpid() == pid:
            os.execvp("virsh", ["virsh", "-q", "-c", uri, "domstate", name])
        os._exit(0)
    os.waitpid(again, 0)
    if again == pid:
        sys.exit(0)
sys.exit("the number was not given out again")
"""
BECOMES_ANOTHER = """
import os, sys, libvirt
connection = libvirt.open(sys.argv[1])
connection.getHostname()
os.execvp("virsh", ["virsh", "-q", "-c", sys.argv[1], "domstate", sys.argv[2]])
"""


@pytest.mark.parametrize("script", [REUSED, BECOMES_ANOTHER], ids=["number", "exec"])
def test_client_is_the_program_that_asked(trace, libvirtd, guest, script: str):
    before = ("unshare", "--pid", "--fork", "--mount-proc") if script is REUSED else ()
    tracer = trace(
        "-p",
        str(libvirtd.pid),
        "--cmdline",
        "full",
        "-f",
        "virConnectGetHostname",
        "-f",
        "virDomainGetState",
    )
    subprocess.run(
        [*before, PYTHON, "-c", script, libvirtd.uri, guest.name], check=True, timeout=60 * PATIENCE
    )
    result = tracer.stop()
    (first,) = result.calls("virConnectGetHostname", libvirtd.pid)
    (second,) = result.calls("virDomainGetState", libvirtd.pid)
    assert first["client"]["exe"] == os.path.realpath(PYTHON)
    asked = [PYTHON, "-c", script, libvirtd.uri, guest.name]
    assert (
        first["client"]["cmdline"] == asked
        if len("".join(asked)) < 1000
        else first["client"]["cmdline"][:2] == asked[:2]
    )
    assert os.path.basename(second["client"]["exe"]) == "virsh"
    assert second["client"]["cmdline"] == [
        "virsh",
        "-q",
        "-c",
        libvirtd.uri,
        "domstate",
        guest.name,
    ]
    if script is BECOMES_ANOTHER:
        assert first["client"]["pid"] == second["client"]["pid"]


def test_each_of_many_short_clients_is_known(trace, libvirtd):
    """Seen from the daemon's side alone: they have gone when anybody looks."""
    tracer = trace("-p", str(libvirtd.pid), "--cmdline", "full", "-f", "virDomainLookupByName")
    made = {}
    for number in range(47):
        command = ["virsh", "-q", "-c", libvirtd.uri, "domstate", f"nosuch{number}"]
        client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        client.wait(60 * PATIENCE)
        made[client.pid] = command
    calls = tracer.stop().calls("virDomainLookupByName", libvirtd.pid)
    shown = {
        call["client"]["pid"]: (call["client"]["exe"], call["client"]["cmdline"]) for call in calls
    }
    assert shown == {
        pid: (os.path.realpath("/usr/bin/virsh"), command) for pid, command in made.items()
    }
    assert [call["args"]["name"] for call in calls] == [f"nosuch{number}" for number in range(47)]


CALLERS = r"""
import os, signal, subprocess, sys
first = os.getpid() + 1
for _ in range(120):
    subprocess.run([sys.argv[1]], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
with open("/proc/sys/kernel/ns_last_pid", "w") as file:
    file.write(str(first))
daemon = subprocess.Popen(["sh", "-eu", "-c", sys.argv[2], "sh", sys.argv[3]])
ended = status = None  # as init: a QEMU that nobody waits for is one that doesn't go away
while ended != daemon.pid:
    ended, status = os.wait()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_daemon_with_numbers_of_dead_processes_is_not_taken_for_them(trace, caller, tmp_path):
    configure(tmp_path)
    program = shutil.copy(caller("steps"), tmp_path / f"dead-{os.getpid()}")
    tracer = trace("-n", program.name)
    command = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        PYTHON,
        "-c",
        CALLERS,
        str(program),
        A_DAEMON,
        str(tmp_path),
    ]
    subprocess.run(command, check=True, timeout=100 * PATIENCE)
    calls = tracer.stop().calls()
    assert {call["comm"] for call in calls} == {program.name}
    assert len({call["pid"] for call in calls}) == 120


# what daemons do for others is no more shown than their calls


def others_work(libvirtd, guest) -> None:
    libvirtd.virsh("suspend", guest.name)
    libvirtd.virsh("resume", guest.name)
    libvirtd.virsh("qemu-monitor-command", guest.name, "--hmp", "info version")
    other = libvirtd.create(f"others-{os.getpid()}")
    libvirtd.end(other)


NOBODYS = str(3_000_000_000 + os.getpid())  # a user that no other program here runs as


@pytest.mark.parametrize(
    "options",
    [
        ("-p", "1"),
        ("-u", NOBODYS),
        ("-n", "nosuch"),
        ("-f", "virDomainGetOSType"),
        ("-x",),
        ("--slower", "100000"),
        ("-n", "nosuch*"),
    ],
    ids=["-p", "-u", "-n", "-f", "-x", "--slower", "-n*"],
)
def test_filters_leave_out_what_daemons_do_for_others(trace, libvirtd, guest, options):
    tracer = trace(*options)
    others_work(libvirtd, guest)
    result = tracer.stop()
    of_daemon = [event for event in result.events if event.get("pid") == libvirtd.pid]
    ids = {event["id"] for event in result.events if "id" in event}
    assert all(
        event["parent"] is None or event["parent"] in ids
        for event in result.events
        if "parent" in event
    )
    if options[0] == "-x":
        assert all(event["type"] == "call" and event["failed"] for event in of_daemon)
    else:
        assert of_daemon == []


RENAMED = """
import pathlib, sys, libvirt
pathlib.Path("/proc/self/comm").write_text(sys.argv[3])
libvirt.open(sys.argv[1]).lookupByName(sys.argv[2]).suspend()
"""


@pytest.mark.parametrize("wild", ["", "*"], ids=["name", "glob"])
def test_name_of_a_thread_chooses_what_daemons_do_for_it(trace, libvirtd, guest, wild: str):
    """However the name is given; the program has another one."""
    name = f"other-{os.getpid()}"
    tracer = trace("-n", name + wild, "-f", "virDomainSuspend")
    subprocess.run(
        [PYTHON, "-c", RENAMED, libvirtd.uri, guest.name, name], check=True, timeout=60 * PATIENCE
    )
    result = tracer.stop()
    (asked, served) = sorted(result.calls("virDomainSuspend"), key=lambda call: call["time"])
    assert (asked["comm"], served["pid"], served["parent"]) == (name, libvirtd.pid, asked["id"])
    (told,) = (event for event in result.events if event["type"] == "domain")
    assert told["parent"] == served["id"]


def test_command_shows_nobody_elses(trace, libvirtd, guest, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    tracer = trace("-a", "--", "sh", "-c", f"read line <{gate}")
    others_work(libvirtd, guest)
    gate.write_text("go\n")
    result = tracer.finish()
    # files may be anybody's
    assert [
        event for event in result.events if event["type"] not in ("attached", "unattached", "end")
    ] == []


def test_what_a_command_does_is_shown_with_all_that_comes_of_it(trace, libvirtd, guest):
    """Its domain's event, too, which a thread of the daemon raises that works for nobody."""
    command = ("virsh", "-q", "-c", libvirtd.uri, f"suspend {guest.name}; resume {guest.name}")
    result = trace("--", *command, attached=False).finish()
    ids = {event["id"]: event for event in result.events if "id" in event}
    events = [event for event in result.events if event["type"] == "domain"]
    assert [(event["event"], ids[event["parent"]]["function"]) for event in events] == [
        ("suspended", "virDomainSuspend"),
        ("resumed", "virDomainResume"),
    ]
    assert all(event["cause"] == {"kind": "call", "id": event["parent"]} for event in events)
    told = [
        json.loads(event["text"])["execute"]
        for event in result.events
        if event["type"] == "monitor"
    ]
    assert "stop" in told and "cont" in told
    assert all(event["parent"] is None or event["parent"] in ids for event in ids.values())


# what a domain's thread tells while a call brings it up


def test_a_start_and_a_restore_do_what_comes_of_them(trace, libvirtd, tmp_path):
    """A start resumes the guest before anybody knows its UUID; a watching client tells nothing
    twice.
    """
    name = f"starts-{os.getpid()}"
    description, saved = tmp_path / "domain.xml", tmp_path / "saved"
    description.write_text(DOMAIN.format(name=name))
    watching = subprocess.Popen(
        ["virsh", "-q", "-c", libvirtd.uri, "event", "--all", "--loop"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        tracer = trace("-a", "-w")
        libvirtd.virsh("create", str(description))
        libvirtd.virsh("save", name, str(saved))
        libvirtd.virsh("restore", str(saved))
        libvirtd.virsh("destroy", name)
        assert watching.stdout
        while "Destroyed" not in watching.stdout.readline():
            pass
    finally:
        watching.kill()
        watching.communicate()
    result = tracer.stop(lost=None)
    functions = {call["id"]: call["function"] for call in result.calls(pid=libvirtd.pid)}
    told = [
        event
        for event in result.events
        if event["type"] == "domain" and event["domain"]["name"] == name
    ]
    assert {event["pid"] for event in told} == {libvirtd.pid}
    done = [
        (event["event"], event["detail"], functions.get(event["parent"], event["comm"]))
        for event in told
    ]
    assert {function[:9] for _, _, function in done} == {"virDomain"}, done
    assert all(event["cause"] == {"kind": "call", "id": event["parent"]} for event in told)
    assert len(done) == len(set(done))
    assert {
        ("resumed", "unpaused", "virDomainCreateXML"),
        ("started", "booted", "virDomainCreateXML"),
        ("stopped", "saved", "virDomainSave"),
        ("started", "restored", "virDomainRestore"),
        ("stopped", "destroyed", "virDomainDestroy"),
    } <= set(done)
    commands = [
        json.loads(event["text"])["execute"]
        for event in result.events
        if event["type"] == "monitor"
    ]
    assert "cont" in commands and not [
        command for command in commands if command.startswith(("query-", "qom-get"))
    ]


def test_cause_is_not_known_where_a_call_began_before_tracing(trace, libvirtd, guest):
    """It is under way, waiting for a guest's monitor that stands still."""
    assert not in_monitor(libvirtd.pid)
    os.kill(guest.pid, signal.SIGSTOP)
    waiting = subprocess.Popen(
        ["virsh", "-q", "-c", libvirtd.uri, "suspend", guest.name], stdout=subprocess.DEVNULL
    )
    while not in_monitor(libvirtd.pid):
        assert waiting.poll() is None
    tracer = trace("--object", guest.name)
    os.kill(guest.pid, signal.SIGCONT)
    assert waiting.wait(60 * PATIENCE) == 0
    tracer.wait_for(lambda event: event["type"] == "domain" and event["event"] == "suspended")
    events = [event for event in tracer.stop().events if event["type"] == "domain"]
    assert [(event["event"], event["cause"]) for event in events] == [("suspended", None)]


def in_monitor(pid: int) -> bool:
    """Whether a thread of the daemon is in the middle of a call, and waits."""
    before = Before(Daemons())
    before.scan([pid])
    return before.has(pid)
