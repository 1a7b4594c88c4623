# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why a domain ended: which of the things that happened to it was it, and which was not."""

from __future__ import annotations

from uuid import UUID

import pytest

from log.events import Caller, DomainEvent
from log.values import Handle, Value
from probes.calls.serving.endings import Cause, Endings
from probes.host.daemons.guests import Guest, Guests, Killed

ID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
DAEMON, MONITOR, VM_THREAD, WORKER = 7, 0x7F00, 71, 72
CALLER = Caller(DAEMON, "/usr/sbin/libvirtd", None, 0, "root", None, None, None)
ALICE = Caller(40, "/bin/kill", None, 1000, "alice", 1000, None, None)
KNOWN: dict[str, Value] = {"id": "1-2", "function": "virDomainShutdown", "pid": 41}
RAW = b"record" + UUID(ID).bytes


def event(what: str, detail: str = "") -> DomainEvent:
    domain = Handle("domain", {"name": "web1", "uuid": ID})
    return DomainEvent(1, 1, "x", CALLER, domain, what, detail, None)


@pytest.fixture
def endings() -> Endings:
    return Endings(Guests(lambda pid, uid, at: None))


def told(endings: Endings, what: str, details: str | None) -> None:
    endings.tells(VM_THREAD, {"arg0": MONITOR, "event": what, "details": details})


def killed(number: int, sender: int | None, by: Caller | None = None) -> Guest:
    guest = Guest(50, 0)
    guest.killed = Killed(5, number, sender, by, by and "kill")
    return guest


def causes(endings: Endings, guest: Guest | None = None) -> tuple[Cause | None, Cause | None]:
    """Of what the monitor's thread tells, and of what another one does later."""
    return (
        endings.cause(event("shutdown"), VM_THREAD, guest),
        endings.cause(event("stopped"), WORKER, guest),
    )


@pytest.mark.parametrize("reason", ["guest-shutdown", "guest-reset", "guest-panic"])
def test_guest_itself(endings: Endings, reason: str):
    told(endings, "SHUTDOWN", f'{{"guest":true,"reason":"{reason}"}}')
    assert causes(endings) == (Cause("guest", {"reason": reason}),) * 2
    assert endings.cause(event("started"), WORKER, None) is None
    assert endings.cause(event("stopped"), WORKER, None) is None  # that was another time


def test_guest_that_was_asked(endings: Endings):
    endings.commands(DAEMON, MONITOR, '{"execute":"system_powerdown"}', RAW, KNOWN)
    endings.commands(DAEMON, 1, '{"execute":"system_powerdown"}', b"another domain", {})
    told(endings, "SHUTDOWN", '{"guest":true,"reason":"guest-shutdown"}')
    cause = Cause("guest", {"reason": "guest-shutdown", "asked": KNOWN})
    assert causes(endings) == (cause, cause)


@pytest.mark.parametrize(
    "text",
    [
        '{"execute":"quit","id":"libvirt-1"}\n',
        '{"execute":"human-monitor-command","arguments":{"command-line":"quit"},"id":"1"}',
        "q",
    ],
)
@pytest.mark.parametrize("is_told", [True, False])
def test_monitor_that_was_told_to_quit(endings: Endings, text: str, is_told: bool):
    """It may go before it says so."""
    endings.commands(DAEMON, MONITOR, text, RAW, KNOWN)
    if is_told:
        told(endings, "SHUTDOWN", '{"guest":false,"reason":"host-qmp-quit"}')
    assert causes(endings)[1] == Cause("call", KNOWN)


def test_another_monitors_quit(endings: Endings):
    endings.commands(DAEMON, MONITOR, '{"execute":"query-quit"}', RAW, KNOWN)
    told(endings, "SHUTDOWN", '{"guest":false,"reason":"host-qmp-quit"}')
    assert causes(endings)[0] == Cause("host", {"reason": "host-qmp-quit"})


def test_signal_of_somebody(endings: Endings):
    told(endings, "SHUTDOWN", '{"guest":false,"reason":"host-signal"}')
    first, second = causes(endings, killed(15, 40, ALICE))
    assert first == second and first and first.kind == "signal"
    assert {**first.details, "comm": None} == {
        "signal": "SIGTERM",
        "pid": 40,
        "comm": None,
        "exe": "/bin/kill",
        "uid": 1000,
        "user": "alice",
        "loginuid": 1000,
        "unit": None,
        "container": None,
    }
    assert endings.cause(event("stopped"), WORKER, killed(11, None)) == first


def test_signal_of_the_kernel_and_of_the_daemon(endings: Endings):
    cause = Cause("signal", {"signal": "SIGSEGV"})
    assert endings.cause(event("stopped"), WORKER, killed(11, None)) == cause
    other = Endings(Guests(lambda pid, uid, at: None))
    assert other.cause(event("stopped"), WORKER, killed(9, DAEMON)) is None


def test_want_of_memory_is_no_signal(endings: Endings):
    guest = killed(9, None)
    guest.is_oom = True
    assert endings.cause(event("stopped"), WORKER, guest) == Cause("oom")


def test_end_of_a_connection(endings: Endings):
    endings.closes(DAEMON, WORKER)
    assert endings.cause(event("stopped"), WORKER, None) == Cause("connection end")
    # the thread may do something else then
    assert endings.cause(event("resumed"), WORKER, None) is None
    endings.thread_exited(WORKER)


def test_daemon_that_starts(endings: Endings):
    endings.starts(WORKER)
    assert endings.cause(event("started"), WORKER, None) == Cause("daemon")
    endings.thread_exited(WORKER)
    assert endings.cause(event("started"), WORKER, None) is None


@pytest.mark.parametrize(
    ("what", "detail", "kind"),
    [
        ("suspended", "ioerror", "io error"),
        ("suspended", "watchdog", "guest"),
        ("crashed", "panicked", "guest"),
        ("suspended", "paused", None),
        ("defined", "added", None),
    ],
)
def test_details_of_libvirts_own(endings: Endings, what: str, detail: str, kind: str | None):
    found = endings.cause(event(what, detail), WORKER, None)
    assert (found and found.kind) == kind


@pytest.mark.parametrize("details", [None, "", "{", "[1]", '{"reason":7}', "[" * 100_000])
def test_what_a_monitor_tells_may_be_anything(endings: Endings, details: str | None):
    told(endings, "SHUTDOWN", details)
    assert causes(endings) == (None, None)
    told(endings, "RTC_CHANGE", details)
    assert causes(endings) == (None, None)


def test_panic_is_why_a_guest_stands_still_and_goes_on(endings: Endings):
    why = Cause("guest", {"reason": "guest-panic"})
    endings.tells(VM_THREAD, {"event": "GUEST_PANICKED"})
    endings.tells(VM_THREAD, {"event": "STOP"})
    assert endings.cause(event("suspended"), VM_THREAD, None) == why
    assert endings.cause(event("crashed", "panicked"), WORKER, None) == why
    assert endings.cause(event("resumed"), VM_THREAD, None) == why
    endings.tells(VM_THREAD, {"event": "RESUME"})
    endings.tells(VM_THREAD, {"event": "STOP"})
    assert endings.cause(event("suspended"), VM_THREAD, None) is None
    assert endings.cause(event("resumed"), VM_THREAD, None) is None
