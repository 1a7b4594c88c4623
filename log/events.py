# SPDX-License-Identifier: LGPL-2.1-or-later
"""The events of the log: what the decoder builds and every sink renders.

Tuples, because a busy host makes 100,000 of them a second and a frozen dataclass costs five times
as much to build.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from log.client import Client
from log.login import Login
from log.values import Handle, Value, Values


class Caller(NamedTuple):
    """The process image behind a call; one object for all calls of it."""

    pid: int
    exe: str | None
    cmdline: tuple[str, ...] | None  # redacted; None: could not be learnt
    uid: int  # effective
    user: str | None
    loginuid: int | None
    unit: str | None  # systemd unit, from the cgroup
    container: str | None  # container id, from the cgroup
    real_uid: int | None = None  # where it is another one
    ppid: int | None = None  # who made it, or was its parent when it was first seen
    session: Login | None = None  # how its user came in, as far as more than `loginuid` tells

    def fields(self) -> dict[str, Value]:
        """As events show it: those that are always there, and those that are known."""
        shown: dict[str, Value] = self._asdict()
        if self.session is not None:
            shown["session"] = self.session.fields()
        return {
            name: value
            for name, value in shown.items()
            if value is not None or name not in ("real_uid", "ppid", "session")
        }


class CallError(NamedTuple):
    """libvirt's error of a failed call."""

    code: int
    name: str | None  # "VIR_ERR_NO_DOMAIN"
    domain: str | None  # "VIR_FROM_QEMU"
    message: str | None


class VerdictInfo(NamedTuple):
    """What the enforcer decided about a call."""

    # "deny", "audit", "allow"; "not enforced": a policy covers the function, but nobody asked it
    action: str
    rule: str  # "": none matched
    message: str | None = None
    note: str | None = None  # where a handle says something else than its driver


BEGUN = "begun"  # in Call.alike


class Call(NamedTuple):
    """A call that returned, was never seen to return (`unfinished` tells why), or was denied
    (verdict.action "deny").
    """

    time: int  # ns since the epoch, at entry
    duration_ns: int | None
    tid: int
    comm: str  # of the thread, when it made the call
    caller: Caller
    function: str
    library: str  # "libvirt.so.0"
    depth: int  # 0: made by the program itself; n: inside n other calls
    write: bool
    args: Values | None  # None: the entry record was lost
    out: Values
    ret: Value
    returns: str  # "pointer", "integer" or "void": what kind of result `ret` is
    failed: bool | None  # None: what would tell was lost
    error: CallError | None
    client: Client | None = None
    verdict: VerdictInfo | None = None
    parent: str | None = None  # id of the call that caused it, in another process
    # ids of the calls of which one caused it, where they can't be told apart
    one_of: tuple[str, ...] = ()
    # Call, Command and DomainEvent: what it caused, in order of their end
    children: tuple[Any, ...] = ()
    more_children: int = 0  # that are left out there
    # "process exited", "still running", "result lost", "no return probe" and perhaps ": " and why
    unfinished: str | None = None
    # of a call that gave up waiting for a domain's job: the call that had it, and for whom
    held_by: Mapping[str, Value] | None = None
    # of a call that failed, where libvirt's access drivers did not allow all that they were asked:
    # what they were asked, in order; permission or action, answer, and what else is known
    access: tuple[Mapping[str, Value], ...] = ()
    # one object for calls that differ in nothing but time and duration: a sink keeps its rendering
    # there, under a key of its own. Under BEGUN there may be that of others, which differ in `ret`
    # and `out` as well
    alike: dict[str, Any] | None = None


class Command(NamedTuple):
    """What a daemon told a virtual machine's monitor, or the agent in it, while it was in a
    call.
    """

    time: int  # ns since the epoch
    duration_ns: int | None  # until the answer; None: there was none
    tid: int
    comm: str
    caller: Caller
    text: Value  # JSON, secrets redacted; of what an agent is told often only the name
    parent: str | None  # id of the call
    to_agent: bool = False  # to the agent in the guest instead


# kinds of causes; NO_CALL: all of them were looked for, and there is none
BY_CALL, NO_CALL = "call", "no call"
BY_CONNECTION_END, BY_SIGNAL, BY_OOM = "connection end", "signal", "oom"
BY_GUEST, BY_IO_ERROR, BY_DAEMON, BY_HOST = "guest", "io error", "daemon", "host"
CAUSES = (
    BY_CALL,
    NO_CALL,
    BY_CONNECTION_END,
    BY_SIGNAL,
    BY_OOM,
    BY_GUEST,
    BY_IO_ERROR,
    BY_DAEMON,
    BY_HOST,
)
NO_DETAILS: Mapping[str, Value] = {}


class DomainEvent(NamedTuple):
    """A domain began or ceased to run, or otherwise changed."""

    time: int  # ns since the epoch
    tid: int
    comm: str
    caller: Caller  # the daemon, or the program with a driver in it
    domain: Handle
    event: str  # "stopped"
    detail: str  # libvirt's own reason: "crashed"
    parent: str | None  # id of the call that did it
    # ids of the calls of which one did it, where they can't be told apart
    one_of: tuple[str, ...] = ()
    cause: str | None = None  # one of CAUSES; None: it is not known what did it
    # what else is known of the cause: who sent the signal, which call it was before, ...
    known: Mapping[str, Value] = NO_DETAILS
    qemu_pid: int | None = None  # of the domain's process


class UnderWay(NamedTuple):
    """A call that has not ended: told when somebody asks, or tracing ends."""

    time: int  # ns since the epoch: now
    # None: it began before tracing did, and nothing tells since when
    age_ns: int | None
    tid: int
    comm: str
    caller: Caller
    client: Client | None  # of a daemon's call that no call seen here has caused
    function: str
    object: Handle | None
    where: str  # where the time goes: "waiting for the monitor"
    command: Value = None  # that the monitor, or the agent, has not answered
    held_by: Mapping[str, Value] | None = None  # the call that has the job which is waited for
    call: str | None = None  # its id; None: it began before tracing did
    connection: str | None = None  # its URI, where that is known
    # it began before tracing did: `age_ns` is at least so long, since it has, or waits for, a job
    before: bool = False
    # of a daemon, that is reached and keeps it waiting: `limit`, `most`, `pid`
    limit: Mapping[str, Value] | None = None


class Owed(NamedTuple):
    """What a call has begun and no other one has ended: told when the process that owes it has
    ended, when somebody asks, or as tracing ends.
    """

    time: int  # ns since the epoch: now
    since: int  # ns since the epoch
    what: str  # one of log/owing/pairs.py
    object: Handle | None
    detail: Value  # which disk of it
    by: Mapping[str, Value]  # who, as far as known: pid, exe, uid, user, ...
    gone: bool  # whether that process has ended
    call: str | None  # id of the call that began it
    sure: bool = True  # else it may have been ended by somebody who is not traced, or unseen
    refers: tuple[str, ...] = ()  # what keeps a connection open that was closed


class TargetInfo(NamedTuple):
    """A library file that probes are attached to."""

    path: str
    libvirt: str | None  # "9.0.0"
    note: str | None = None  # why its arguments can't be decoded, if so


class Attached(NamedTuple):
    """Probes were attached to `targets`, which are new."""

    time: int
    version: str  # of libvirt-trace
    functions: int
    targets: tuple[TargetInfo, ...]
    attach_ms: float
    link: str  # "uprobe_session", "uprobe_multi" or "perf_event"
    # how long the file had been mapped before: calls in that time were missed
    mapped_ms: float | None = None


class Unattached(NamedTuple):
    """A file whose calls are not seen, or not all of them."""

    time: int
    path: str
    reason: str


class Clock(NamedTuple):
    """The clock was set: times from here on are by the new one."""

    time: int  # by the new one
    step_ns: int  # forward; negative: back


class Lost(NamedTuple):
    """Calls of which nothing is left, and details of others, since the last such event."""

    time: int
    count: int  # type: ignore[assignment]  # hides tuple.count
    # "write" or "read"; "processes", "mappings": of the kernel's events about these
    ring: str
    # begins with "buffer full"; "buffer full, in a daemon": for whom is lost, so it may not have
    # been asked for; or "no memory"
    reason: str
    uid: int | None = None  # whose; None: of several users, or not known
    user: str | None = None
    details: int = 0  # records of other calls: of errors, monitor commands, long strings, threads


class End(NamedTuple):
    """The last event."""

    time: int
    calls: int
    failed: int
    denied: int
    lost: int
    seconds: float
    details_lost: int = 0
    not_exported: int = 0  # events that an exporter could not send
    # rule, action ("deny", "audit", "allow") and calls that were told of, the most first
    rules: tuple[Mapping[str, Value], ...] = ()


class Reads(NamedTuple):
    """Calls of a record that were counted and not written out: alike in all of this but time
    and duration.
    """

    time: int  # when the first of them began
    until: int  # when the last of them ended
    caller: Caller
    comm: str
    client: Client | None
    function: str
    object: Handle | None  # None: none but a connection
    calls: int
    failed: int
    total_ns: int
    max_ns: int
    caused: bool = False  # each was made for a call that is counted, too, or written
    # that made them, or that a daemon made them for; of several, `caller` or `client` tells what
    # they have in common, and the pid of the first
    processes: int = 1
    pids: tuple[int, ...] = ()  # of several: the first of them
    # one object for those that differ in nothing but time and numbers, as in Call
    alike: dict[str, Any] | None = None


class Gap(NamedTuple):
    """Nothing was recorded from `time` to `until`, or not all: `lost` calls are missing, if
    that is known.
    """

    time: int
    until: int
    reason: str  # "not running", "killed", "disk full", ...
    lost: int | None = None


class Removed(NamedTuple):
    """A segment of the record was old, or the record too long: it is gone, on purpose."""

    time: int
    segment: str  # its file's name
    reason: str
    chain: str  # of its last seal
    frame: int  # its number


class Recording(NamedTuple):
    """The first line of a segment of a record: what it is, and what it was made with."""

    time: int
    version: str  # of libvirt-trace
    host: str
    machine: str | None  # systemd's id of it
    boot: str | None  # the kernel's id of it
    kernel: str
    table: str | None  # a hash of the functions that are known
    filters: dict[str, Any]
    limits: dict[str, Any]
    clock: dict[str, Any]  # nanoseconds of the clocks at `time`
    previous: dict[str, Any] | None  # segment, frame and chain


Event = (
    Call
    | Command
    | DomainEvent
    | UnderWay
    | Owed
    | Attached
    | Unattached
    | Clock
    | Lost
    | End
    | Reads
    | Gap
    | Removed
    | Recording
)


def call_id(tid: int, time: int) -> str:
    """What a call is known by, over all processes: no thread begins two in a nanosecond."""
    return f"{tid}-{time}"


_Counted = TypeVar("_Counted", Call, Reads)
_Made = TypeVar("_Made")


def once(event: _Counted, name: str, make: Callable[[_Counted], _Made]) -> _Made:
    """What `make` has of the event, made once for all that are alike and kept by that name."""
    alike = event.alike
    if alike is None:
        return make(event)
    if name not in alike:
        alike[name] = make(event)
    made: _Made = alike[name]
    return made
