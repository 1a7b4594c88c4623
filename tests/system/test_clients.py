# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whom a daemon's calls are made for, and what caused them, checked against what each client
knows of itself.
"""

from __future__ import annotations

import collections
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon import CLIENT_NAME, Daemon
from tests.kernel.conftest import Steps
from tests.needs import PATIENCE, PYTHON, ROOT
from tests.tracing import Event, Result, Tracer

CALLS = 23
NOBODY = 65534
CLIENTS, MANY = 16, 2000
FILLS = 20011  # calls whose records a buffer of 1 MiB has no room for

# looks up domains that are called after the process that asks: "PID NUMBER"
ASKER = """
import os, sys, libvirt
libvirt.registerErrorHandler(lambda *_: None, None)
connection = libvirt.open(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    for number in range(int(line)):
        try:
            connection.lookupByName(f"{os.getpid()} {number}")
        except libvirt.libvirtError:
            pass
    print("done", flush=True)
"""


class Asker:
    """A client that stays connected."""

    def __init__(self, uri: str, before: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [*before, PYTHON, "-c", ASKER, uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.expect("ready")

    @property
    def pid(self) -> int:
        return self.process.pid

    def expect(self, word: str) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == f"{word}\n"

    def begin(self, count: int) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()

    def ask(self, count: int = CALLS) -> None:
        self.begin(count)
        self.expect("done")

    def end(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()
        self.process.wait(20 * PATIENCE)


@pytest.fixture
def asker(libvirtd) -> Iterator[Callable[..., Asker]]:
    """asker(BEFORE...): a client of the daemon, run by the command BEFORE."""
    running: list[Asker] = []

    def start(*before: str) -> Asker:
        running.append(Asker(libvirtd.uri, before))
        return running[-1]

    yield start
    for one in running:
        one.end()


def lookups(result: Result, pid: int) -> list[Event]:
    return result.calls("virDomainLookupByName", pid)


def object_of(call: Event) -> str:
    args = call["args"]
    return str(args["name"] if "name" in args else args["domain"]["name"])


def check_pairs(theirs: list[Event], served: list[Event]) -> None:
    """Each call of the clients caused just the one of the daemon that asks for the same name,
    within its time.
    """
    by_id = {call["id"]: call for call in theirs}
    assert len(by_id) == len(theirs) == len(served)
    assert {call["parent"] for call in served} == set(by_id)
    for call in served:
        origin = by_id[call["parent"]]
        assert object_of(call) == object_of(origin)
        assert origin["time"] <= call["time"]
        assert call["duration_ns"] <= origin["duration_ns"]
        assert call["error"] == origin["error"]


def test_what_a_daemon_lost_for_others_is_told_apart(trace, asker, caller):
    """The tracer is stopped until its buffers are full of what was not asked for: of the
    process that was, each call is seen or lost.
    """
    other, own = asker(), Steps(caller("steps"))
    tracer = trace("-p", str(own.pid), "--buffer-size", "1")
    tracer.process.send_signal(signal.SIGSTOP)
    other.ask(MANY)
    own.call(FILLS)
    tracer.process.send_signal(signal.SIGCONT)
    result = tracer.stop(lost=None)
    own.end()
    lost: collections.Counter[str] = collections.Counter()
    for event in result.events:
        if event["type"] == "lost":
            lost[event["reason"]] += event["count"]
    assert {call["pid"] for call in result.calls()} == {own.pid}
    assert len(result.calls()) + lost["buffer full"] == FILLS
    assert 0 < lost["buffer full"] < FILLS
    assert 0 < lost["buffer full, in a daemon"] <= result.end["lost"] - lost["buffer full"]


def test_clients_of_two_users_that_were_there_before(trace: Callable[..., Tracer], libvirtd, asker):
    root, nobody = (
        asker(),
        asker("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    )
    tracer = trace("-f", "virDomainLookupByName")
    root.ask()
    nobody.ask()
    result = tracer.stop()
    served = lookups(result, libvirtd.pid)
    assert len(served) == 2 * CALLS
    for client, uid, user in ((root, 0, "root"), (nobody, NOBODY, "nobody")):
        mine = [call for call in served if call["args"]["name"].startswith(f"{client.pid} ")]
        known = {
            key: mine[0]["client"][key]
            for key in ("pid", "uid", "user", "gid", "sasl", "x509", "exe", "loginuid")
        }
        exe = os.readlink(f"/proc/{client.pid}/exe")
        login = int(Path(f"/proc/{client.pid}/loginuid").read_text())
        expected = {
            "pid": client.pid,
            "uid": uid,
            "user": user,
            "gid": uid,
            "sasl": None,
            "x509": None,
            "exe": exe,
        }
        assert known == {**expected, "loginuid": None if login == 2**32 - 1 else login}
        assert mine[0]["client"]["cmdline"][:2] == [PYTHON, "-c"]
        assert all(call["client"] == mine[0]["client"] for call in mine)
        check_pairs(lookups(result, client.pid), mine)
        assert {call["client"] for call in lookups(result, client.pid)} == {None}


def test_filters_match_the_client(trace: Callable[..., Tracer], libvirtd, asker):
    root, nobody = (
        asker(),
        asker("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    )
    tracers = {
        options: trace(*options)
        for options in (
            ("-u", "nobody"),
            ("-p", str(nobody.pid)),
            ("-n", "rpc-libvirtd", "-n", "prio-rpc-libvir"),
        )
    }
    root.ask()
    nobody.ask()
    for options, tracer in tracers.items():
        result = tracer.stop()
        clients = collections.Counter(
            call["client"]["pid"] for call in lookups(result, libvirtd.pid)
        )
        theirs = collections.Counter(
            call["pid"] for call in lookups(result, nobody.pid) + lookups(result, root.pid)
        )
        if options[0] == "-n":
            assert (clients, theirs) == ({root.pid: CALLS, nobody.pid: CALLS}, {})
        else:
            assert (clients, theirs) == ({nobody.pid: CALLS}, {nobody.pid: CALLS})


def test_what_a_daemon_does_for_a_command_is_shown(trace: Callable[..., Tracer], libvirtd, asker):
    other = asker()
    tracer = trace("--", "virsh", "-c", libvirtd.uri, "domstate nosuch", attached=False)
    other.ask()
    result = tracer.finish()
    assert not lookups(result, other.pid)
    virsh = {call["pid"] for call in result.calls() if call["client"] is None}
    served = lookups(result, libvirtd.pid)
    assert [call["args"]["name"] for call in served] == ["nosuch"]
    assert {call["client"]["pid"] for call in served} == virsh


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_clients_over_the_network(trace: Callable[..., Tracer], libvirtd, transport: str):
    """The transport knows no process: a certificate's name, if there is one, and an address; so
    no call is taken for the origin.
    """
    client = Asker(libvirtd.tcp_uri if transport == "tcp" else libvirtd.tls_uri)
    try:
        tracer = trace("-f", "virDomainLookupByName")
        client.ask()
        (address,) = connections(client.pid)
        result = tracer.stop()
    finally:
        client.end()
    served = lookups(result, libvirtd.pid)
    assert [call["args"]["name"] for call in served] == [
        (f"{client.pid} {number}") for number in range(CALLS)
    ]
    known = {
        key: served[0]["client"][key]
        for key in ("pid", "uid", "user", "sasl", "x509", "readonly", "address")
    }
    nobody = {
        "pid": None,
        "uid": None,
        "user": None,
        "sasl": None,
        "readonly": False,
        "address": address,
    }
    assert known == {**nobody, "x509": CLIENT_NAME if transport == "tls" else None}
    assert all(call["client"] == served[0]["client"] and call["parent"] is None for call in served)


def connections(pid: int) -> list[str]:
    """Local ends of the process's TCP connections, as address:port."""
    inodes = {
        os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()
    }
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if f"socket:[{fields[9]}]" in inodes:
            address, port = fields[1].split(":")
            found.append(f"{socket.inet_ntoa(bytes.fromhex(address)[::-1])}:{int(port, 16)}")
    return found


def test_read_only_client(trace: Callable[..., Tracer], libvirtd):
    tracer = trace()
    libvirtd.virsh(
        "--readonly", "-c", libvirtd.uri.replace("libvirt-sock", "libvirt-sock-ro"), "list"
    )
    served = tracer.stop().calls("virConnectListAllDomains", libvirtd.pid)
    assert [(call["client"]["readonly"], call["client"]["address"]) for call in served] == [
        (True, None)
    ]


def test_16_clients_at_once(trace: Callable[..., Tracer], libvirtd, asker):
    clients = [asker() for _ in range(CLIENTS)]
    tracer = trace("--buffer-size", "256", "-f", "virDomainLookupByName")
    for client in clients:
        client.begin(MANY)
    for client in clients:
        client.expect("done")
    result = tracer.stop()
    served = lookups(result, libvirtd.pid)
    assert collections.Counter(call["client"]["pid"] for call in served) == {
        client.pid: MANY for client in clients
    }
    assert all(call["args"]["name"].split()[0] == str(call["client"]["pid"]) for call in served)
    theirs = [call for client in clients for call in lookups(result, client.pid)]
    check_pairs(theirs, served)


def test_connections_that_come_and_go(trace: Callable[..., Tracer], libvirtd):
    """Addresses, worker threads and file descriptors are used again; who asks is always right."""
    tracer = trace("-f", "virDomainLookupByName")
    script = ASKER.replace("for line in sys.stdin:", 'for line in ["1"]:')
    for _ in range(5):
        subprocess.run(
            [PYTHON, "-c", CHURN, script, libvirtd.uri],
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=60 * PATIENCE,
        )
    result = tracer.stop()
    served = lookups(result, libvirtd.pid)
    assert len(served) == 5 * 20
    assert all(call["args"]["name"] == f"{call['client']['pid']} 0" for call in served)
    assert len({call["client"]["pid"] for call in served}) == 5 * 20


CHURN = """
import subprocess, sys
running = [subprocess.Popen([sys.executable, "-c", *sys.argv[1:]]) for _ in range(20)]
sys.exit(any(one.wait() for one in running))
"""


# the tree

TWO_CONNECTIONS = """
import os, sys, threading, libvirt
libvirt.registerErrorHandler(lambda *_: None, None)
def ask(connection, which):
    for number in range(300):
        try:
            connection.lookupByName(f"{which} {number}")
        except libvirt.libvirtError:
            pass
connections = [libvirt.open(sys.argv[1]) for _ in "ab"]
threads = [threading.Thread(target=ask, args=pair) for pair in zip(connections, "ab")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_two_connections_of_a_process(trace: Callable[..., Tracer], libvirtd):
    """They send the same serials at the same time: the origin is right, or one of those that
    are named.
    """
    tracer = trace("-f", "virDomainLookupByName")
    subprocess.run([PYTHON, "-c", TWO_CONNECTIONS, libvirtd.uri], check=True, timeout=60 * PATIENCE)
    result = tracer.stop()
    served = lookups(result, libvirtd.pid)
    names = {call["id"]: call["args"]["name"] for call in result.calls() if call["client"] is None}
    assert len(served) == 2 * 300
    for call in served:
        origins = [call["parent"]] if call["parent"] else call["one_of"]
        assert len(origins) == (1 if call["parent"] else 2)
        assert call["args"]["name"] in [names[origin] for origin in origins]


def test_suspend_as_a_tree(trace: Callable[..., Tracer], libvirtd, guest):
    tracer = trace("-w", "--object", guest.name)
    libvirtd.virsh("suspend", guest.name)
    libvirtd.virsh("resume", guest.name)
    result = tracer.stop()
    for function, command, event in (
        ("virDomainSuspend", "stop", "suspended"),
        ("virDomainResume", "cont", "resumed"),
    ):
        (origin,) = (call for call in result.calls(function) if call["pid"] != libvirtd.pid)
        (served,) = result.calls(function, libvirtd.pid)
        check_pairs([origin], [served])
        told = [
            json.loads(one["text"])["execute"]
            for one in result.events
            if one["type"] == "monitor" and one["parent"] == served["id"]
        ]
        assert command in told
        (changed,) = (
            one for one in result.events if one["type"] == "domain" and one["event"] == event
        )
        assert changed["parent"] == served["id"]
        assert changed["domain"] == {"type": "domain", "name": guest.name, "uuid": guest.uuid}


@pytest.mark.parametrize(
    "options", [("--",), ("-n", "virsh", "--all-processes", "--")], ids=" ".join
)
def test_a_domains_event_is_shown_with_the_call_that_caused_it(
    trace: Callable[..., Tracer], libvirtd, guest, options: tuple[str, ...]
):
    """The daemon tells of it in a thread that serves nobody, and is no descendant of the
    command.
    """
    tracer = trace(
        *options, "virsh", "-q", "-c", libvirtd.uri, "suspend", guest.name, attached=False
    )
    result = tracer.finish(60)
    (served,) = result.calls("virDomainSuspend", libvirtd.pid)
    (changed,) = (
        event
        for event in result.events
        if event["type"] == "domain" and event["domain"]["uuid"] == guest.uuid
    )
    assert (changed["event"], changed["parent"]) == ("suspended", served["id"])


# hostile and unusual clients

FORGER = """
import ctypes, libvirt, sys
domain = libvirt.open(sys.argv[1]).lookupByName(sys.argv[2])
innocent = ctypes.create_string_buffer(b"innocent")
address = domain.c_pointer() + 32
real = ctypes.c_void_p.from_address(address).value
ctypes.c_void_p.from_address(address).value = ctypes.addressof(innocent)
domain.suspend()
ctypes.c_void_p.from_address(address).value = real
domain.resume()
"""


def test_forged_handle_is_shown_with_the_drivers_name(
    trace: Callable[..., Tracer], libvirtd, guest
):
    tracer = trace("-w")
    subprocess.run(
        [PYTHON, "-c", FORGER, libvirtd.uri, guest.name], check=True, timeout=60 * PATIENCE
    )
    result = tracer.stop()
    served = [
        result.calls(function, libvirtd.pid)[0]
        for function in ("virDomainSuspend", "virDomainResume")
    ]
    suspend, resume = (call["args"]["domain"] for call in served)
    assert suspend == {
        "type": "domain",
        "name": guest.name,
        "uuid": guest.uuid,
        "driver": "QEMU",
        "claimed": "innocent",
    }
    assert resume == {"type": "domain", "name": guest.name, "uuid": guest.uuid, "driver": "QEMU"}
    (origin,) = (
        call for call in result.calls("virDomainSuspend") if call["id"] == served[0]["parent"]
    )
    assert (origin["args"]["domain"]["name"], origin["args"]["domain"]["claimed"]) == (
        guest.name,
        "innocent",
    )


PROGRAM, VERSION, OPEN, GET_VERSION = 0x20008086, 1, 1, 4


def rpc(connection: socket.socket, procedure: int, serial: int, payload: bytes = b"") -> bytes:
    """A call in libvirt's protocol (src/rpc/virnetprotocol.x): length, header, XDR; the reply's
    payload.
    """
    body = struct.pack(">IIiiIi", PROGRAM, VERSION, procedure, 0, serial, 0) + payload
    connection.sendall(struct.pack(">I", len(body) + 4) + body)
    length = struct.unpack(">I", connection.recv(4, socket.MSG_WAITALL))[0] - 4
    reply = connection.recv(length, socket.MSG_WAITALL)
    assert struct.unpack(">IIiiIi", reply[:24]) == (PROGRAM, VERSION, procedure, 1, serial, 0)
    return reply[24:]


def ask_version(libvirtd: Daemon) -> int:
    """Without libvirt."""
    name = b"qemu:///system"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(libvirtd.uri.partition("socket=")[2])
        rpc(
            connection,
            OPEN,
            0,
            struct.pack(">II", 1, len(name))
            + name.ljust(-len(name) % 4 + len(name), b"\0")
            + struct.pack(">I", 0),
        )
        (version,) = struct.unpack(">Q", rpc(connection, GET_VERSION, 1))
    return int(version)


def test_client_that_speaks_the_protocol_itself(trace: Callable[..., Tracer], libvirtd):
    tracer = trace("-p", str(os.getpid()), "--both")
    assert ask_version(libvirtd) > 0
    result = tracer.stop()
    served = result.calls("virConnectGetVersion")
    assert [(call["pid"], call["client"]["pid"], call["parent"]) for call in served] == [
        (libvirtd.pid, os.getpid(), None)
    ]
    assert served[0]["client"]["exe"] == os.readlink("/proc/self/exe")
    assert {call["pid"] for call in result.calls()} == {libvirtd.pid}


def test_a_daemon_that_anybody_can_have_made_chooses_no_client_for_itself(
    trace: Callable[..., Tracer], tmp_path: Path
):
    """What it says is shown with its own calls, and does not make them the client's."""
    made = shutil.copy(shutil.which("libvirtd") or "", tmp_path)
    os.chown(made, 65534, 65534)
    with Daemon({"PATH": f"{tmp_path}:{os.environ['PATH']}"}) as daemon:
        assert os.readlink(f"/proc/{daemon.pid}/exe") == made
        tracers = [
            trace("-p", str(pid), "-f", "virConnectGetVersion") for pid in (os.getpid(), daemon.pid)
        ]
        assert ask_version(daemon) > 0
        of_client, of_daemon = [tracer.stop().calls("virConnectGetVersion") for tracer in tracers]
    assert of_client == []
    assert [(call["pid"], call["client"]["pid"]) for call in of_daemon] == [
        (daemon.pid, os.getpid())
    ]


# ps


def ps(*options: str) -> str:
    command = [PYTHON, "-E", "-s", str(ROOT / "tracer.py"), "ps", *options]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60 * PATIENCE
    ).stdout


def test_ps_lists_the_clients_of_a_daemon(libvirtd, asker):
    began = int(time.time())
    local, remote = asker(), Asker(libvirtd.tls_uri)
    try:
        (address,) = connections(remote.pid)
        rows = [json.loads(line) for line in ps("--json").splitlines()]
        table = ps().splitlines()
        command = [PYTHON, "-E", "-s", str(ROOT / "tracer.py"), "ps", "--json", "-d", "5"]
        counting = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert counting.stderr and counting.stderr.readline() == (
            "libvirt-trace: counting calls for 5 s\n"
        )
        local.ask(CALLS)
        remote.ask(2 * CALLS)
        counted, _ = counting.communicate(timeout=60 * PATIENCE)
    finally:
        remote.end()
    (row,) = (row for row in rows if row["pid"] == libvirtd.pid)
    found = {client.pop("id"): client for client in row["clients"]}
    (then,) = (
        row for line in counted.splitlines() if (row := json.loads(line))["pid"] == libvirtd.pid
    )
    assert [client["calls"] for client in then["clients"]] == [CALLS, 2 * CALLS]
    assert {client.pop("calls") for client in found.values()} == {None}
    since = [client.pop("since") for client in found.values()]
    assert all(began <= when <= time.time() for when in since)
    nobody = {
        "server": "libvirtd",
        "pid": None,
        "uid": None,
        "user": None,
        "sasl": None,
        "x509": None,
        "address": None,
        "readonly": False,
    }
    assert list(found.values()) == [
        {**nobody, "transport": "unix", "pid": local.pid, "uid": 0, "user": "root"},
        {**nobody, "transport": "tls", "address": address, "x509": CLIENT_NAME},
    ]
    (at,) = (at for at, line in enumerate(table) if line.startswith(f"{libvirtd.pid} "))
    stamps = [time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when)) for when in since]
    assert table[at + 1 : at + 3] == [
        f"  client of libvirtd: process {local.pid}, root, unix, since {stamps[0]}",
        f"  client of libvirtd: {address}, {CLIENT_NAME}, tls, since {stamps[1]}",
    ]
    (asking,) = (row for row in rows if row["pid"] == local.pid)
    assert asking["clients"] is None
