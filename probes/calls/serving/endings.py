# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why a domain ended, or stood still, where no call under way did it: what its monitor told the
daemon, who asked it before, and how its process ended come in; causes go out.

What libvirt is told by a monitor it tells on, in the same thread: what comes next there is because
of it. That a guest has stopped is told later, by another thread, which has the reason no more.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from log.client import UNKNOWN
from log.events import (
    BY_CALL,
    BY_CONNECTION_END,
    BY_DAEMON,
    BY_GUEST,
    BY_HOST,
    BY_IO_ERROR,
    BY_OOM,
    BY_SIGNAL,
    Call,
    DomainEvent,
    call_id,
)
from log.recent import Recent
from log.values import CutText, Flags, Handle, Value
from probes.calls.serving.tasks import Task
from probes.host.daemons.guests import Guest, Guests
from probes.internals.private import CLOSES, TELLS

MOST = 4096
MOST_TEXT = 256  # of a reason that QEMU gives
_PANICKED = "GUEST_PANICKED"
# what a monitor tells, and which events of a domain come of it
_FOLLOWS = {
    "SHUTDOWN": ("shutdown", "stopped"),
    "BLOCK_IO_ERROR": ("suspended",),
    _PANICKED: ("crashed", "stopped", "suspended"),
    "WATCHDOG": ("suspended", "stopped"),
    "SUSPEND": ("pmsuspended",),
    "SUSPEND_DISK": ("pmsuspended", "stopped"),
    "WAKEUP": ("started", "resumed"),
}
PANIC = "guest-panic"
# libvirt's own reasons that leave no doubt
_DETAILS: dict[tuple[str, str], tuple[str, str]] = {
    ("suspended", "ioerror"): (BY_IO_ERROR, "io error"),
    ("suspended", "watchdog"): (BY_GUEST, "watchdog"),
    ("crashed", "panicked"): (BY_GUEST, PANIC),
}
ENDINGS = ("stopped", "shutdown", "crashed")
_AUTODESTROY = "VIR_DOMAIN_START_AUTODESTROY"
# what monitors and agents are told that ends a guest, or asks it to end
_asks_guest = re.compile(
    r'guest-shutdown|.*"(?:system_powerdown|guest-shutdown)".*', re.S
).fullmatch
_is_quit = re.compile(
    r'q(?:uit)?\s*|.*"execute"\s*:\s*"(?:quit"|human-monitor-command".*"q(?:uit)?\s*").*', re.S
).fullmatch


class Cause(NamedTuple):
    """Why a domain changed: one of the kinds, and what else is known."""

    kind: str
    details: Mapping[str, Value] = {}


class MonitorEvent(NamedTuple):
    """What a monitor has told the daemon."""

    event: str  # "SHUTDOWN"
    reason: str | None


class Order(NamedTuple):
    """What a call has told a monitor or an agent."""

    quits: bool  # else the guest may do what it likes
    raw: bytes  # the call's entry record: it has the domain's UUID in it
    details: Mapping[str, Value]  # who, and by which call


class Endings:
    """What is known of how domains end. `guests`: their processes."""

    def __init__(self, guests: Guests) -> None:
        self._guests = guests
        self._told: Recent[int, MonitorEvent] = Recent(MOST)  # by thread
        # by daemon and its monitor or agent
        self._asked: Recent[tuple[int, Value], Order] = Recent(MOST)
        # by daemon and domain: who wants it to go with his connection
        self._bound: Recent[tuple[int, Value], Mapping[str, Value]] = Recent(MOST)
        # why it is about to stop
        self._stopping: Recent[tuple[int, Value], Cause] = Recent(MOST)
        self._closing: Recent[int, int] = Recent(MOST)  # threads that end such domains; processes
        self._starting: Recent[int, None] = Recent(MOST)  # threads that start a daemon

    def learn(self, name: str, pid: int, tid: int, fields: Mapping[str, Value]) -> None:
        """From a record of one of these inner functions."""
        if name == TELLS:
            self.tells(tid, fields)
        elif name == CLOSES:
            self.closes(pid, tid)
        else:
            self.starts(tid)

    def tells(self, tid: int, fields: Mapping[str, Value]) -> None:
        """A monitor tells the daemon something, which it handles in this thread."""
        event, before = fields.get("event"), self._told.get(tid)
        if event == "STOP" and before and before.event == _PANICKED:
            return  # which is why it stands still
        if isinstance(event, str):
            self._told.put(tid, MonitorEvent(event, _reason(fields.get("details"))))

    def closes(self, pid: int, tid: int) -> None:
        """The thread ends a domain, as its connection has ended."""
        self._closing.put(tid, pid)

    def starts(self, tid: int) -> None:
        """The thread begins to start a daemon."""
        self._starting.put(tid, None)

    def commands(
        self, pid: int, monitor: Value, text: Value, raw: bytes, known: Mapping[str, Value]
    ) -> None:
        """A call tells the monitor, or the agent, something. `raw`: its entry record; `known`:
        what is to be said of it.
        """
        if isinstance(text, str) and ((quits := bool(_is_quit(text))) or _asks_guest(text)):
            self._asked.put((pid, monitor), Order(quits, raw, known))

    def called(self, call: Call, task: Task) -> None:
        """A call of a program with drivers is over."""
        if call.args is None or call.failed or call.unfinished:
            return
        pid = call.caller.pid
        flags = call.args.values.get("flags")
        if not isinstance(flags, Flags) or _AUTODESTROY not in flags.names:
            return
        known = {"id": call_id(call.tid, call.time), "function": call.function, **whose(task)}
        for value in (call.ret, *call.args.values.values()):
            if isinstance(value, Handle) and value.type == "domain":
                self._bound.put((pid, value.fields.get("uuid")), known)

    def thread_exited(self, tid: int) -> None:
        """Its number is another's from now on."""
        for kept in (self._told, self._closing, self._starting):
            kept.pop(tid)

    def guest_of(self, event: DomainEvent) -> Guest | None:
        """The process that runs the domain, or ran it last."""
        name = event.domain.fields.get("name")
        if isinstance(name, CutText):
            name = name.whole
        return self._guests.of(event.caller.pid, name) if isinstance(name, str) else None

    def cause(self, event: DomainEvent, tid: int, guest: Guest | None) -> Cause | None:
        """Why the domain changed; None: for none of the reasons that are known here."""
        pid = event.caller.pid
        key = (pid, event.domain.fields.get("uuid"))
        if event.event == "started":
            self._stopping.pop(key)
            for monitor, _ in self._asks(key):
                self._asked.pop(monitor)
        found = self._find(event, key, tid, guest)
        if found and event.event in ENDINGS:
            self._stopping.put(key, found)
        return found

    def _find(
        self, event: DomainEvent, key: tuple[int, Value], tid: int, guest: Guest | None
    ) -> Cause | None:
        pid = key[0]
        if tid in self._closing and event.event in ENDINGS:
            self._closing.pop(tid)
            return Cause(BY_CONNECTION_END, self._bound.pop(key) or {})
        if tid in self._starting and event.event not in ENDINGS:
            return Cause(BY_DAEMON)
        told = self._told.get(tid)
        if told and event.event in _FOLLOWS.get(told.event, ()):
            return self._by_monitor(told, event, key, guest)
        if known := _DETAILS.get((event.event, event.detail)):
            return Cause(known[0], {"reason": known[1]})
        if event.event == "resumed":
            before = self._stopping.pop(key)
            # as its on_crash says
            return before if before and before.details.get("reason") == PANIC else None
        if event.event not in ENDINGS:
            return None
        if known_before := self._stopping.get(key):
            return known_before
        return _by_process(pid, guest) or self._by_quit(key)

    def _asks(self, key: tuple[int, Value]) -> list[tuple[tuple[int, Value], Order]]:
        """What the domain's monitor and agent were told, the latest last."""
        try:
            sought = UUID(str(key[1])).bytes
        except ValueError:
            return []
        return [
            (place, asked)
            for place, asked in self._asked.items()
            if place[0] == key[0] and sought in asked.raw
        ]

    def _by_quit(self, key: tuple[int, Value]) -> Cause | None:
        found = [asked for _, asked in self._asks(key) if asked.quits]
        return Cause(BY_CALL, found[-1].details) if found else None

    def _by_monitor(
        self, told: MonitorEvent, event: DomainEvent, key: tuple[int, Value], guest: Guest | None
    ) -> Cause | None:
        pid, reason = key[0], told.reason
        if told.event == "BLOCK_IO_ERROR":
            return Cause(BY_IO_ERROR, {"reason": reason or "io error"})
        if told.event != "SHUTDOWN":
            why = PANIC if told.event == _PANICKED else told.event.lower()
            return Cause(BY_GUEST, {"reason": why})
        if reason is not None and reason.startswith("guest-"):
            details: dict[str, Value] = {"reason": reason}
            if asked := [one for _, one in self._asks(key) if not one.quits]:
                details["asked"] = dict(asked[-1].details)
            return Cause(BY_GUEST, details)
        if reason == "host-qmp-quit":
            return self._by_quit(key) or Cause(BY_HOST, {"reason": reason})
        if reason == "host-signal":
            if (by := _by_process(pid, guest)) is not None:
                return by
            if any(owner == pid for _, owner in self._closing.items()) and key in self._bound:
                return Cause(BY_CONNECTION_END, self._bound.get(key) or {})
            return None  # the daemon's own: by a call of its
        return None if reason is None else Cause(BY_HOST, {"reason": reason})


def _by_process(daemon: int, guest: Guest | None) -> Cause | None:
    """By what the guest's process was ended, if the daemon did not do it itself."""
    if guest is None:
        return None
    if guest.is_oom:
        return Cause(BY_OOM)
    killed = guest.killed
    if killed is None or killed.sender == daemon:
        return None
    details: dict[str, Value] = {"signal": _signal_name(killed.signal)}
    if killed.by is not None:
        by = killed.by
        details |= {"pid": by.pid, "comm": killed.comm, "exe": by.exe, "uid": by.uid}
        details |= {"user": by.user, "loginuid": by.loginuid, "unit": by.unit}
        details["container"] = by.container
        if by.session is not None:
            details["session"] = by.session.fields()
    return Cause(BY_SIGNAL, details)


def whose(task: Task) -> dict[str, Value]:
    """For whom a thread does something: a daemon's client, if that is believed, else its own
    process.
    """
    by = task.caller if task.believed is UNKNOWN else task.believed
    who: dict[str, Value] = {"pid": by.pid, "exe": by.exe, "uid": by.uid, "user": by.user}
    return who if by.session is None else {**who, "session": by.session.fields()}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _reason(details: Value) -> str | None:
    """QEMU's own, of what it told: JSON, or nothing."""
    if not isinstance(details, str):
        return None
    try:
        fields = json.loads(details)
    except (ValueError, RecursionError):
        return None
    reason = fields.get("reason") if isinstance(fields, dict) else None
    return reason[:MOST_TEXT] if isinstance(reason, str) else None
