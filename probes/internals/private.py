# SPDX-License-Identifier: LGPL-2.1-or-later
"""Inner functions of libvirt that are probed besides the public ones: where errors are made, where
calls go from one process to another, and what comes of them. All are exported, by libvirt.so.0
where nothing else is said.

How libvirt raises errors (src/util/virerror.c, the same in 9.0 and 11.3): virReportErrorHelper and
virReportSystemErrorFull know domain and code and ask virErrorMsg for the format that the detail is
put into; errors that came over RPC go through virRaiseErrorFull with their message ready;
virSetError puts an earlier error back.

How a call gets into a daemon (src/rpc/, src/remote/, the same in 9.0 and 11.3): the client's thread
sends it in virNetClientProgramCall. A worker thread of the daemon handles the message in
virNetServerProgramDispatch, where virIdentitySetCurrent says for whom: an object that holds typed
parameters. Drivers ask virAccessManagerCheckDomain about the definition that they have found.

Who may do what is asked of an access driver (src/access/, the same in 9.0 and 11.3):
virAccessManagerCheck*, the first argument the manager and the last the permission, answers 1, 0 or
-1. The drivers' own functions are not exported; "polkit" asks by virPolkitCheckAuth, and so does a
daemon that lets nobody connect whom polkit doesn't know. "stack" asks several managers in turn.

Where things are in libvirt's own structs is believed because of its code, never because of a
version: see READS and placed().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from probes.internals.gobject import LOCKED, OBJECTS
from probes.kernel import abi, records


class Block(NamedTuple):
    """Copy `length` bytes at `base` + `offset`; `base` is "sp", "argN" or the name of a pointer in
    an earlier block.

    A reader finds them as one number, the first byte the lowest.
    """

    base: str
    offset: int
    length: int
    pointers: tuple[tuple[str, int], ...] = ()  # names of the pointers in it, and where
    name: str = "block"


class InnerText(NamedTuple):
    """Copy the string that the pointer `source` points to."""

    name: str
    source: str  # "argN", "value" or the name of a pointer in a block
    # if the u32 eight bytes before the pointer is that: the type of a typed parameter
    only: int = 0


class Private(NamedTuple):
    """An inner function and what to copy of it."""

    name: str
    entry: tuple[Block | InnerText, ...] = ()
    ret: tuple[InnerText, ...] | None = None  # None: no return probe
    flags: int = 0  # records.PLAN_*
    place: str = ""  # of several ways to read one function: where things are

    @property
    def key(self) -> str:
        """Tells it from all others."""
        return f"{self.name}{self.place}"


# of an error that is raised with a format of its own: "%1$s in %2$s must not be NULL"
MOST_DETAILS = 4
TYPED_STRING = 7  # VIR_TYPED_PARAM_STRING
MOST_ATTRIBUTES = 9  # of an identity: all that there are but one, the system token


def _attribute(i: int) -> tuple[Block | InnerText, ...]:
    """Of a typed parameter (96 bytes: its name, at 80 its type, at 88 its value): 16 bytes of
    the name, type and value, and the string.
    """
    at = 96 * i
    value = Block("parameters", at + 80, 16, ((f"value{i}", 8),), f"value{i}")
    return (
        Block("parameters", at, 16, (), f"name{i}"),
        value,
        InnerText(f"text{i}", f"value{i}", only=TYPED_STRING),
    )


DISPATCH, SEND, IDENTITY = (
    "virNetServerProgramDispatch",
    "virNetClientProgramCall",
    "virIdentitySetCurrent",
)
CLAIM = "virNetServerClientSetIdentity"
SENDS = "virNetClientSendWithReply"  # client, message: what SEND calls, and waits in
CHECK, LIFECYCLE, MONITOR = (
    "virAccessManagerCheckDomain",
    "virDomainEventLifecycleNew",
    "qemuMonitorSend",
)
# what a monitor tells a daemon; a domain that goes with its connection; a daemon's start
TELLS, CLOSES, STARTS = "qemuMonitorEmitEvent", "qemuProcessAutoDestroy", "virStateInitialize"
# who wants a job of a domain, and who gives it back
BEGINS_JOB = "virDomainObjBeginJobInternal"
ENDS_JOB = {
    "virDomainObjEndJob": "job",
    "virDomainObjEndAgentJob": "agent",
    "virDomainObjEndAsyncJob": "async",
}
OF_ENDINGS = frozenset({TELLS, CLOSES, STARTS})
# what access drivers are asked about, by the function that asks; and how polkit is
_CHECKS = "virAccessManagerCheck"
CHECKS = {
    CHECK: "domain",
    f"{_CHECKS}Connect": "connect",
    f"{_CHECKS}Interface": "interface",
    f"{_CHECKS}Network": "network",
    f"{_CHECKS}NetworkPort": "network-port",
    f"{_CHECKS}NodeDevice": "node-device",
    f"{_CHECKS}NWFilter": "nwfilter",
    f"{_CHECKS}NWFilterBinding": "nwfilter-binding",
    f"{_CHECKS}Secret": "secret",
    f"{_CHECKS}StoragePool": "storage-pool",
    f"{_CHECKS}StorageVol": "storage-vol",
}
POLKIT = "virPolkitCheckAuth"
OF_ACCESS = frozenset({*CHECKS, POLKIT})
MOST_WORDS = 12  # names and values that polkit is told; of a volume there are ten
# of a libvirt that keeps things elsewhere than CONNECTION_EVIDENCE says
ELSEWHERE = ", connection elsewhere"
# inner functions, one that reads the same, and at which distances it does
READS: dict[str, tuple[str, frozenset[int]]] = {
    DISPATCH: (DISPATCH, frozenset({32, 36, 40, 44, 48})),  # the message's header
    SEND: ("virNetClientProgramGetProgram", frozenset({24})),
    IDENTITY: ("virIdentityGetUserName", frozenset({24, 32})),
    CLAIM: ("virIdentityGetUserName", frozenset({24, 32})),
}
# These read a domain's definition: the first its number (4), UUID (8) and name and nothing else,
# the second its name, too. The name is at 48 up to 11.3, at 64 in 12.8.
NAMES_DEFINITION, NAMES_IT_TOO = "virDomainEventLifecycleNewFromDef", "virDomainDefGetShortName"
DEFINITION_NAMES = range(24, 136, 8)
_HEADER = Block("arg3", 32, 24)
# behind the locks: of the client object its socket, and whether it is read-only; of the socket the
# peer's address
_SOCKET, _READONLY, _ADDRESS = LOCKED + 16, LOCKED + 29, LOCKED + 336
_CONNECTION = (
    Block("arg2", _READONLY, 1, (), "readonly"),
    Block("arg2", _SOCKET, 8, (("socket", 0),), "socket"),
    Block("socket", _ADDRESS, 8, (("address", 0),), "pointer"),
    InnerText("address", "address"),
)
CONNECTION_EVIDENCE = {  # functions, and the distance at which they find it
    "virNetServerClientRemoteAddrStringURI": _SOCKET,
    "virNetSocketRemoteAddrStringURI": _ADDRESS,
    "virNetServerClientGetReadonly": _READONLY,
}
EVIDENCE = frozenset(
    {reader for reader, _ in READS.values()}
    | {*CONNECTION_EVIDENCE, NAMES_DEFINITION, NAMES_IT_TOO}
)

# functions that end in a jump to others, so that only those who call them see their return
CALLERS = {"virErrorMsg": frozenset({"virReportErrorHelper", "virReportSystemErrorFull"})}
OF_ERRORS = frozenset(
    {
        "virReportErrorHelper",
        "virReportSystemErrorFull",
        "virErrorMsg",
        "virRaiseErrorFull",
        "virSetError",
    }
)
# of libvirt_driver_qemu.so: functions that tell a guest's agent something, and what
AGENT = {
    "qemuAgentArbitraryCommand": "",  # its second argument
    "qemuAgentFSFreeze": "guest-fsfreeze-freeze",
    "qemuAgentFSThaw": "guest-fsfreeze-thaw",
    "qemuAgentFSTrim": "guest-fstrim",
    "qemuAgentGetDisks": "guest-get-disks",
    "qemuAgentGetFSInfo": "guest-get-fsinfo",
    "qemuAgentGetHostname": "guest-get-host-name",
    "qemuAgentGetInterfaces": "guest-network-get-interfaces",
    "qemuAgentGetOSInfo": "guest-get-osinfo",
    "qemuAgentGetTime": "guest-get-time",
    "qemuAgentGetTimezone": "guest-get-timezone",
    "qemuAgentGetUsers": "guest-get-users",
    "qemuAgentGetVCPUs": "guest-get-vcpus",
    "qemuAgentSSHAddAuthorizedKeys": "guest-ssh-add-authorized-keys",
    "qemuAgentSSHGetAuthorizedKeys": "guest-ssh-get-authorized-keys",
    "qemuAgentSSHRemoveAuthorizedKeys": "guest-ssh-remove-authorized-keys",
    "qemuAgentSetTime": "guest-set-time",
    "qemuAgentSetUserPassword": "guest-set-user-password",
    "qemuAgentSetVCPUs": "guest-set-vcpus",
    "qemuAgentShutdown": "guest-shutdown",
    "qemuAgentSuspend": "guest-suspend",
}


def _identity(base: str) -> tuple[Block | InnerText, ...]:
    """Of an identity: at 24 int count, at 32 the typed parameters."""
    return Block(base, 24, 16, (("parameters", 8),)), *(
        item for i in range(MOST_ATTRIBUTES) for item in _attribute(i)
    )


# the manager: behind its lock its driver's table, which begins with a number and the driver's name
_DRIVER = (
    Block("arg0", LOCKED, 8, (("driver", 0),), "manager"),
    Block("driver", 8, 8, (("called", 0),), "table"),
    InnerText("driver", "called"),
)


PRIVATE = (
    Private("virReportErrorHelper"),  # arg0 domain, arg1 code
    Private("virReportSystemErrorFull"),  # arg0 domain, arg1 errno
    # arg0 code
    Private(
        "virErrorMsg", entry=(InnerText("detail", "arg1"),), ret=(InnerText("format", "value"),)
    ),
    Private(
        # arg3 domain, arg4 code, arg6 to arg10: str1, str2, str3, int1, int2; arg11: fmt, ...
        "virRaiseErrorFull",
        entry=(
            Block(
                "sp",
                abi.HERE.stack_at + 8 * (11 - abi.HERE.registers),
                8 + 8 * MOST_DETAILS,
                (("fmt", 0), *((f"detail{i}", 8 + 8 * i) for i in range(MOST_DETAILS))),
            ),
            InnerText("format", "fmt"),
            *(InnerText(f"text{i}", f"detail{i}") for i in range(MOST_DETAILS)),
        ),
    ),
    Private(
        "virSetError",  # arg0: const virError *: int code, int domain, char *message
        entry=(Block("arg0", 0, 16, (("text", 8),)), InnerText("message", "text")),
    ),
    # program, client, serial, procedure; the program object: its number at 24
    Private(SEND, entry=(Block("arg0", 24, 4),)),
    # program, server, client, message; the message's header: u32 program, version, s32 procedure,
    # s32 type, u32 serial
    Private(DISPATCH, entry=(_HEADER, *_CONNECTION), ret=(), flags=records.PLAN_SERVES),
    Private(DISPATCH, entry=(_HEADER,), ret=(), flags=records.PLAN_SERVES, place=ELSEWHERE),
    # NULL, or the identity
    Private(IDENTITY, entry=_identity("arg0"), flags=records.PLAN_SERVED),
    # connection, the identity that its client wants to have from now on
    Private(CLAIM, entry=_identity("arg1"), flags=records.PLAN_SERVED),
    # manager, driver, definition, permission; the definition: at 8 the UUID
    *(
        Private(
            CHECK,
            entry=(
                Block("arg2", 8, 16, (), "uuid"),
                Block("arg2", at, 8, (("name", 0),)),
                InnerText("name", "name"),
                *_DRIVER,
            ),
            ret=(),
            place=f", name at {at}",
        )
        for at in DEFINITION_NAMES
    ),
    *(Private(name, entry=_DRIVER, ret=()) for name in CHECKS if name != CHECK),
    # action, pid, its start, uid, details: names and values in turn, and NULL
    Private(
        POLKIT,
        entry=(
            InnerText("action", "arg0"),
            Block("arg4", 0, 8 * MOST_WORDS, tuple((f"word{i}", 8 * i) for i in range(MOST_WORDS))),
            *(InnerText(f"word{i}", f"word{i}") for i in range(MOST_WORDS)),
        ),
        ret=(),
        flags=records.PLAN_ALWAYS,
    ),
    # id, name, UUID, what happened (virDomainEventType), in which way. In a client the UUID is that
    # in a handle, with the connection 20 and the name 12 bytes before it, and the connection's
    # driver is called "remote"
    Private(
        LIFECYCLE,
        entry=(
            InnerText("name", "arg1"),
            Block("arg2", 0, 16, (), "uuid"),
            Block("arg2", -20, 16, (("conn", 0),), "handle"),
            Block("conn", OBJECTS["connect"].fields["driver"], 8, (("driver", 0),), "connection"),
            Block("driver", 0, 8, (("called", 0),), "table"),
            InnerText("driver", "called"),
        ),
        flags=records.PLAN_ALWAYS | records.PLAN_WRITE_RING,
    ),
    # of libvirt_driver_qemu.so: monitor, message; the message's text at 8
    Private(
        MONITOR, entry=(Block("arg1", 8, 8, (("text", 0),)), InnerText("text", "text")), ret=()
    ),
    *(
        Private(name, entry=() if command else (InnerText("text", "arg1"),), ret=())
        for name, command in AGENT.items()
    ),
    # domain, its jobs, and which is wanted: a job, one with the agent, an asynchronous one
    Private(BEGINS_JOB, ret=()),
    *(Private(name) for name in ENDS_JOB),  # domain
    # of libvirt_driver_qemu.so: monitor, event, seconds, microseconds, details; it is handled in
    # the same thread after that
    Private(
        TELLS,
        entry=(InnerText("event", "arg1"), InnerText("details", "arg4")),
        flags=records.PLAN_ALWAYS | records.PLAN_WRITE_RING,
    ),
    # of libvirt_driver_qemu.so, and of libvirt.so.0: no return probes, because inside of them are
    # calls that would have none then
    Private(CLOSES, flags=records.PLAN_ALWAYS | records.PLAN_WRITE_RING),
    Private(STARTS, flags=records.PLAN_ALWAYS | records.PLAN_WRITE_RING),
)


def placed(
    found: Mapping[str, int], code: Callable[[str], bytes]
) -> tuple[dict[str, int], list[str]]:
    """Inner functions of a library by name, and its functions' machine code, come in; what can be
    copied of them, by key, goes out.

    With it: what can't be told, since the code shows that things are elsewhere.
    """
    result, notes = dict(found), []
    for name, (reader, distances) in READS.items():
        if name in result and not distances <= abi.HERE.displacements(code(reader)):
            del result[name]
            notes.append("what is done for a client can't be told from what is not")
    if DISPATCH in result and not all(
        abi.HERE.loads(code(name), at) for name, at in CONNECTION_EVIDENCE.items()
    ):
        result[DISPATCH + ELSEWHERE] = result.pop(DISPATCH)
        notes.append("clients' addresses, and which are read-only, can't be told")
    if CHECK in result:
        offset, at = result.pop(CHECK), _name_of_definition(code)
        if at is None:
            notes.append(
                "the names of domains that clients claim are not checked against the driver's"
            )
        else:
            result[f"{CHECK}, name at {at}"] = offset
    return result, list(dict.fromkeys(notes))


def _name_of_definition(code: Callable[[str], bytes]) -> int | None:
    """Where a domain's definition has its name; None: it can't be told."""
    read = abi.HERE.displacements(code(NAMES_DEFINITION))
    others = read - {4, 8}
    is_sure = (
        {4, 8} < read and len(others) == 1 and others <= abi.HERE.displacements(code(NAMES_IT_TOO))
    )
    return next((at for at in others if at in DEFINITION_NAMES), None) if is_sure else None
