# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines of calls, compared whole."""

from typing import Any

import pytest

from log.events import CallError, UnderWay, VerdictInfo
from log.render import text
from log.values import (
    CutText,
    EnumValue,
    Flags,
    Handle,
    Pointer,
    Redacted,
    Unreadable,
    Value,
    Values,
)
from tests.unit.log.render.text_samples import AT, HEAD, LOOKUP, SERVED, STOPPED
from tests.unit.log_samples import CALLER, DESTROY, HOSTILE, UUID, WEB1, call_on

pytestmark = pytest.mark.usefixtures("utc")


CASES = {
    "success": (
        DESTROY,
        "virDomainDestroyFlags(domain=web1, flags=VIR_DOMAIN_DESTROY_GRACEFUL) = 0 <4.1ms>",
    ),
    "failure": (
        LOOKUP,
        'virDomainLookupByName(conn=qemu:///system, name="nosuch") = NULL '
        "VIR_ERR_NO_DOMAIN (Domain not found: no domain with matching name 'nosuch') <212us>",
    ),
    "handle returned": (
        LOOKUP._replace(ret=WEB1, failed=False, error=None),
        'virDomainLookupByName(conn=qemu:///system, name="nosuch") = web1 <212us>',
    ),
    "denied": (
        DESTROY._replace(
            ret=-1, failed=True, duration_ns=None, verdict=VerdictInfo("deny", "keep-web")
        ),
        "virDomainDestroyFlags(domain=web1, flags=VIR_DOMAIN_DESTROY_GRACEFUL) = -1 DENIED by rule "
        '"keep-web"',
    ),
    "audited": (
        DESTROY._replace(verdict=VerdictInfo("audit", "keep-web")),
        "virDomainDestroyFlags(domain=web1, flags=VIR_DOMAIN_DESTROY_GRACEFUL) = 0 <4.1ms> AUDITED "
        'by rule "keep-web"',
    ),
    "unknown error": (
        DESTROY._replace(ret=-1, failed=True, error=CallError(999, None, None, None)),
        "virDomainDestroyFlags(domain=web1, flags=VIR_DOMAIN_DESTROY_GRACEFUL) = -1 999 /* unknown "
        "*/ <4.1ms>",
    ),
    "nested": (
        DESTROY._replace(depth=2, args=Values({"dom": WEB1})),
        "    virDomainDestroyFlags(dom=web1) = 0 <4.1ms>",
    ),
    "unfinished": (
        DESTROY._replace(
            args=Values({"dom": WEB1}), ret=None, duration_ns=None, unfinished="process exited"
        ),
        "virDomainDestroyFlags(dom=web1) = ? <unfinished: process exited>",
    ),
    "arguments lost": (DESTROY._replace(args=None), "virDomainDestroyFlags(args lost) = 0 <4.1ms>"),
    "out": (
        DESTROY._replace(
            function="virDomainGetState",
            args=Values({"domain": WEB1, "flags": Flags(0, ())}),
            out=Values({"state": EnumValue(1, "VIR_DOMAIN_RUNNING"), "reason": 1}),
            duration_ns=850,
        ),
        "virDomainGetState(domain=web1, flags=0 => state=VIR_DOMAIN_RUNNING, reason=1) = 0 <850ns>",
    ),
    "out only": (
        DESTROY._replace(
            function="virGetVersion", args=Values({}), out=Values({"libVer": 9000000})
        ),
        "virGetVersion(=> libVer=9000000) = 0 <4.1ms>",
    ),
    "void": (
        DESTROY._replace(
            function="virResetLastError",
            args=Values({}),
            ret=None,
            returns="void",
            duration_ns=1500,
        ),
        "virResetLastError() = void <1.5us>",
    ),
    "integer unknown": (
        DESTROY._replace(args=Values({}), ret=None),
        "virDomainDestroyFlags() = ? <4.1ms>",
    ),
}


@pytest.mark.parametrize("call, expected", CASES.values(), ids=CASES)
def test_call_line(call, expected):
    assert text.line(call) == f"{HEAD}{expected}\n"


@pytest.mark.parametrize(
    "value, expected",
    [
        (None, "NULL"),
        (True, "true"),
        (-(2**63), "-9223372036854775808"),
        (1.5, "1.5"),
        ("a\nb", '"a\\nb"'),
        (CutText("<domain type='kvm'>", 18211), "\"<domain type='kvm'>\"..."),
        (Unreadable(0x7F0012), "0x7f0012 /* unreadable */"),
        (Pointer(0x401000), "0x401000"),
        (Redacted(12), "<redacted, 12 bytes>"),
        (Redacted(1), "<redacted, 1 byte>"),
        (Redacted(None), "<redacted>"),
        (EnumValue(99, None), "99 /* unknown */"),
        (EnumValue(1, "VIR_DOMAIN_RUNNING"), "VIR_DOMAIN_RUNNING"),
        (Flags(0, ()), "0"),
        (Flags(0x83, ("VIR_A", "VIR_B", "0x80")), "VIR_A|VIR_B|0x80"),
        (Handle("domain", {"name": "my web", "uuid": UUID}), '"my web"'),
        (Handle("domain", {"name": "NULL"}), '"NULL"'),
        (Handle("domain", {"name": "42"}), '"42"'),
        (Handle("secret", {"uuid": UUID}), UUID),
        (Handle("domain", {"name": Unreadable(16)}), "0x10 /* unreadable */"),
        (Handle("stream", {}), "<stream>"),
        ([1, "x", None], '[1, "x", NULL]'),
        ({"cpu_shares": 1024, "odd key": {}}, '{cpu_shares=1024, "odd key"={}}'),
    ],
)
def test_value(value, expected):
    assert (
        text.line(DESTROY._replace(args=Values({"x": value})))
        == f"{HEAD}virDomainDestroyFlags(x={expected}) = 0 <4.1ms>\n"
    )


def test_flag_rest_is_not_quoted_as_if_it_were_a_name():
    assert "flags=0x80)" in text.line(
        DESTROY._replace(args=Values({"flags": Flags(0x80, ("0x80",))}))
    )


def test_hostile_names_stay_inside_their_quotes():
    call = call_on(HOSTILE)._replace(
        comm=("x = 0\n"), function="f\x1b", caller=CALLER._replace(user="a b")
    )
    quoted = '"\\x1b[31m\\n[red]\\u202eevil\\u2066\\u009b\\r\\x00\\x7f\\ufeff\\u2028\\U000e0041"'
    assert text.line(call) == (
        f'09:24:11.403660 41207 "x = 0\\n" "a b" "f\\x1b"(domain={quoted}, flags=0) = 0 <4.1ms>\n'
    )


def test_name_that_the_driver_does_not_know_the_domain_by_is_marked():
    forged = DESTROY._replace(
        args=Values({"domain": Handle("domain", {"name": "web1", "claimed": "innocent"})})
    )
    assert text.line(forged) == (
        f'{HEAD}virDomainDestroyFlags(domain=web1 /* not "innocent" */) = 0 <4.1ms>\n'
    )


HELD: dict[str, Value] = {
    "id": "1-2",
    "function": "virDomainSave",
    "pid": 5,
    "exe": "/usr/bin/virsh",
    "uid": 0,
}


@pytest.mark.parametrize(
    ("age", "where", "command", "held_by", "words"),
    [
        (None, "in the daemon", None, None, "begun before tracing, in the daemon"),
        (
            -3_000_000_000,
            "waiting for the domain's job",
            None,
            {"id": None, "function": "remoteDispatchDomainSave", "age_ns": 4_000_000_000},
            "begun before tracing, at least 3.0s ago, waiting for the domain's job, held by "
            "remoteDispatchDomainSave for 4.0s",
        ),
        (
            2_000_000_000,
            "waiting for the monitor",
            '{"execute":"\x1b[31m"}',
            None,
            'under way for 2.0s, waiting for the monitor: {"execute":"\\x1b[31m"}',
        ),
        (
            3000,
            "waiting for the domain's job",
            None,
            HELD,
            "under way for 3.0us, waiting for the domain's job, held by virDomainSave of 5 virsh 0",
        ),
    ],
)
def test_call_that_is_under_way(
    age: int | None, where: str, command: str | None, held_by: Any, words: str
):
    before = age is None or age < 0
    event = UnderWay(
        SERVED.time, age and abs(age), 7, "rpc", SERVED.caller, SERVED.client, "virDomainSuspend",
        STOPPED.domain, where, command, held_by, None, before=before,
    )  # fmt: skip
    assert text.line(event) == (
        f"{AT[1]} 812 rpc root for 41207 virsh root virDomainSuspend(web1) {words}\n"
    )


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("max_workers", "all 3 workers of process 812 busy (max_workers)"),
        ("max_clients", "process 812 has 3 clients (max_clients)"),
        ("max_\x1b", 'process 812 has 3 ("max_\\x1b")'),
    ],
)
def test_limit_that_a_call_waits_for(limit: str, words: str):
    event = UnderWay(
        SERVED.time, 3_000, 7, "virsh", SERVED.caller, None, "virDomainSuspend", STOPPED.domain,
        "waiting for the daemon", limit={"limit": limit, "most": 3, "pid": 812},
    )  # fmt: skip
    assert text.line(event).endswith(f"under way for 3.0us, waiting for the daemon, {words}\n")


def test_call_that_gave_up_names_who_kept_it_waiting():
    error = CallError(68, "VIR_ERR_OPERATION_TIMEOUT", None, "cannot acquire state change lock")
    failed = SERVED._replace(ret=-1, failed=True, error=error, held_by=HELD, children=())
    assert "lock) (held by virDomainSave of 5 virsh 0) <" in text.line(failed, text.View.BOTH)


REFUSED: dict[str, Value] = {
    "permission": "domain.stop",
    "driver": "polkit",
    "action": "org.libvirt.api.domain.stop",
    "details": {"connect_driver": "QEMU", "domain_name": "web1"},
    "message": "no agent\x1b",
    "answer": "denied",
}
DOOR: dict[str, Value] = {**REFUSED, "permission": None, "details": {}, "answer": "failed"}
NO_ACCESS = CallError(88, "VIR_ERR_ACCESS_DENIED", None, "access denied")
STOP = 'domain.stop(connect_driver="QEMU", domain_name="web1") = denied by polkit (no agent\\x1b)'
ALICE = " 812 rpc-libvirtd root for 41207 virsh root "


@pytest.mark.parametrize("view", list(text.View))
def test_what_access_drivers_said_stands_below_the_call_once(view: text.View):
    ours = SERVED._replace(
        ret=-1, failed=True, error=NO_ACCESS, children=(), access=(REFUSED, DOOR)
    )
    theirs = DESTROY._replace(
        ret=-1, failed=True, error=NO_ACCESS, children=(ours,), access=(REFUSED, DOOR)
    )
    shown = [line for one in (ours, theirs) for line in text.line(one, view).splitlines(True)]
    asked = [line for line in shown if " access " in line.split("access denied")[0]]
    indent = {"fold": 1, "both": 1}.get(view.value, 2)
    who = " 41207 virsh root " if view is text.View.FOLD else ALICE
    at = "09:24:11.403660" if view is text.View.FOLD else AT[1]
    assert asked == [
        f"{at}{who}{'  ' * indent}access {STOP}\n",
        f"{at}{who}{'  ' * indent}access org.libvirt.api.domain.stop() = failed by polkit "
        "(no agent\\x1b)\n",
    ]
    assert shown.index(asked[1]) == shown.index(asked[0]) + 1


def test_what_drivers_said_may_be_anything():
    odd: tuple[dict[str, Value], ...] = ({}, {"answer": 5, "details": [1], "driver": 3})
    assert text.line(DESTROY._replace(access=odd)).count(" = ") == 3
