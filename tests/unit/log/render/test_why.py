# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why a domain changed, in words."""

from __future__ import annotations

import pytest

from log.events import CAUSES, Caller, DomainEvent
from log.render.why import why
from log.values import Handle, Value

CALLER = Caller(7, "/usr/sbin/libvirtd", None, 0, "root", None, None, None)
EVENT = DomainEvent(1, 1, "x", CALLER, Handle("domain", {}), "stopped", "failed", None)
KILL: dict[str, Value] = {"signal": "SIGKILL", "pid": 9, "comm": "kill", "exe": "/bin/kill"}


@pytest.mark.parametrize(
    ("kind", "details", "words"),
    [
        (None, {}, "cause not known"),
        ("no call", {}, "by no call"),
        ("call", {}, "by a call that is not shown"),
        ("call", {"function": "virX", "pid": 5, "user": "al"}, "by virX of 5 al"),
        ("signal", {**KILL, "uid": 0, "user": "root"}, "by SIGKILL from 9 kill root"),
        ("signal", {**KILL, "unit": "a.service"}, "by SIGKILL from 9 kill in a.service"),
        ("signal", {**KILL, "exe": "/x/\x1b[31m"}, 'by SIGKILL from 9 "\\x1b[31m"'),
        ("signal", {"signal": "SIGSEGV"}, "by SIGSEGV"),
        ("oom", {}, "by the kernel, for want of memory"),
        ("guest", {"reason": "guest-reset"}, "by the guest (guest-reset)"),
        (
            "guest",
            {"reason": "guest-shutdown", "asked": {"function": "virDomainShutdown", "pid": 5}},
            "by the guest (guest-shutdown), after virDomainShutdown of 5",
        ),
        ("io error", {}, "by an I/O error"),
        ("connection end", {}, "because the connection that it was bound to ended"),
        (
            "connection end",
            {"pid": 5, "exe": "/usr/bin/python3", "uid": 0},
            "because the connection of 5 python3 0 ended, which had started it so",
        ),
        ("daemon", {}, "by the daemon's start"),
        ("host", {"reason": "host-ui"}, "by QEMU (host-ui)"),
    ],
)
def test_cause_in_words(kind: str | None, details: dict[str, Value], words: str):
    assert why(EVENT._replace(cause=kind, known=details)) == words


def test_every_kind_has_words():
    assert all(why(EVENT._replace(cause=kind)) != "cause not known" for kind in CAUSES)
