# SPDX-License-Identifier: LGPL-2.1-or-later
"""One event of each kind that has a line in the forms for security programs, and calls with hostile
names.
"""

from __future__ import annotations

from hypothesis import strategies as st

from log.client import Client
from log.events import (
    Call,
    CallError,
    DomainEvent,
    Event,
    Gap,
    Lost,
    Owed,
    Reads,
    VerdictInfo,
)
from log.values import NO_VALUES, Flags, Handle, Values
from tests.unit.log_samples import CALLER, CONNECT, DESTROY, LOST, START, UNATTACHED, UUID, WEB1

HOST = "kvm1.example.org"
LIBVIRTD = CALLER._replace(
    pid=812, exe="/usr/sbin/libvirtd", cmdline=("libvirtd",), loginuid=None, unit="libvirtd.service"
)
PEER = Client(
    pid=41300,
    uid=1000,
    user="alice",
    gid=1000,
    group="alice",
    readonly=False,
    exe="/usr/bin/virsh",
    cmdline=("virsh", "destroy", "web1"),
    loginuid=1000,
)
IN_DAEMON = DESTROY._replace(
    caller=LIBVIRTD,
    comm="rpc-libvirtd",
    client=PEER._replace(peer=PEER),
    parent="41300-1700040251403000000",
)
DENIED = IN_DAEMON._replace(
    ret=-1,
    failed=True,
    duration_ns=None,
    error=CallError(88, "VIR_ERR_ACCESS_DENIED", "VIR_FROM_ACCESS", "access denied: ask"),
    verdict=VerdictInfo("deny", "keep-web", "ask"),
)
FAILED = DESTROY._replace(
    function="virDomainLookupByName",
    write=False,
    args=Values({"conn": CONNECT, "name": "nosuch"}),
    ret=None,
    returns="pointer",
    failed=True,
    error=CallError(42, "VIR_ERR_NO_DOMAIN", "VIR_FROM_QEMU", "Domain not found"),
)
FROM_AFAR = IN_DAEMON._replace(client=Client(address="192.0.2.7:40312", sasl="bob@EXAMPLE.ORG"))
CLAIMED = IN_DAEMON._replace(client=PEER._replace(peer=PEER, claims=Client(user="root")))
NOT_KNOWN = IN_DAEMON._replace(client=Client())
UNFINISHED = DESTROY._replace(
    ret=None, failed=None, duration_ns=None, unfinished="process exited", args=None
)
NOT_ENFORCED = DESTROY._replace(verdict=VerdictInfo("not enforced", "keep-web"))
STARTED = DomainEvent(
    START, 812, "rpc-libvirtd", LIBVIRTD, WEB1, "started", "booted", "41300-17", cause="call"
)
CRASHED = DomainEvent(
    START,
    812,
    "libvirtd",
    LIBVIRTD,
    WEB1,
    "stopped",
    "crashed",
    None,
    cause="signal",
    known={"signal": "SIGKILL", "pid": 4711, "exe": "/bin/kill", "user": "alice", "uid": 1000},
    qemu_pid=9000,
)
FROZEN = Owed(
    START + 41_000_000_000,
    START,
    "frozen",
    WEB1,
    None,
    {"pid": 4711, "exe": "/usr/bin/backup", "uid": 1000, "user": "alice"},
    True,
    "41300-17",
)
HELD_OPEN = Owed(
    START, START, "connection", Handle("connect", {"uri": "qemu:///system"}), None, {}, False, None
)
READS = Reads(
    START, START + 60_000_000_000, CALLER, "virsh", None, "virDomainGetInfo", WEB1, 120, 3, 10, 1
)
GAP = Gap(START, START + 1_000_000_000, "killed")
DETAILS = Lost(START, 0, "read", "buffer full", 1000, "alice", 7)
EVERY: tuple[Event, ...] = (
    DESTROY,
    IN_DAEMON,
    DENIED,
    FAILED,
    FROM_AFAR,
    CLAIMED,
    NOT_KNOWN,
    UNFINISHED,
    NOT_ENFORCED,
    STARTED,
    CRASHED,
    FROZEN,
    HELD_OPEN,
    READS,
    GAP,
    LOST,
    DETAILS,
    UNATTACHED,
)

# what breaks out of quotes, fields, lines and terminals
nasty = st.text(
    alphabet=st.sampled_from(" \"'|=\\\n\r\t\x1b\x7f\x9b\u202e\u2028\ufeff[]{}?<>&%;abx019\u00e9")
    | st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"),
    min_size=1,
    max_size=40,
)


def hostile(name: str) -> Call:
    """A denied call in which everything that others choose has that name."""
    return DENIED._replace(
        comm=name,
        args=Values(
            {"domain": Handle("domain", {"name": name, "uuid": UUID}), "flags": Flags(0, ())}
        ),
        out=NO_VALUES,
        client=PEER._replace(user=name, exe=f"/tmp/{name}", cmdline=(name,), peer=PEER),
        verdict=VerdictInfo("deny", name, name),
        error=CallError(88, "VIR_ERR_ACCESS_DENIED", None, name),
    )
