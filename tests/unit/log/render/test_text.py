# SPDX-License-Identifier: LGPL-2.1-or-later
"""Text lines, compared whole."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.client import OWN, UNKNOWN, Client
from log.events import (
    BY_CALL,
    NO_CALL,
    CallError,
    Command,
    DomainEvent,
    TargetInfo,
    UnderWay,
    VerdictInfo,
)
from log.render import text, units
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
from tests.unit.log_samples import (
    ATTACHED,
    CALLER,
    CLOCK,
    CONNECT,
    DESTROY,
    END,
    HOSTILE,
    LOST,
    UNATTACHED,
    UUID,
    WEB1,
    any_text,
    any_value,
    any_values,
    call_on,
)

NO_DOMAIN = CallError(
    42,
    "VIR_ERR_NO_DOMAIN",
    "VIR_FROM_QEMU",
    "Domain not found: no domain with matching name 'nosuch'",
)
LOOKUP = DESTROY._replace(
    function="virDomainLookupByName",
    args=Values({"conn": CONNECT, "name": "nosuch"}),
    ret=None,
    returns="pointer",
    failed=True,
    error=NO_DOMAIN,
    duration_ns=212_300,
)


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    units._second.cache_clear()
    yield
    monkeypatch.undo()
    time.tzset()
    units._second.cache_clear()


HEAD = "09:24:11.403660 41207 virsh root "
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


@pytest.mark.parametrize(
    "event, expected",
    [
        (
            ATTACHED,
            "attached to 526 functions in /usr/lib/libvirt.so.0 (libvirt 9.0.0), 9.8ms, "
            "uprobe_multi",
        ),
        (
            ATTACHED._replace(targets=(TargetInfo("/lib/libvirt.so.0", "9.0.0"),) * 2),
            "attached to 526 functions in /lib (libvirt 9.0.0, 2 files in 2 roots), 9.8ms, "
            "uprobe_multi",
        ),
        (
            ATTACHED._replace(targets=(TargetInfo("/a b", None, "32-bit"),), mapped_ms=120.4),
            'attached to 526 functions in "/a b" (version unknown; 32-bit), 9.8ms, uprobe_multi; '
            "mapped 120ms before, calls in that time were missed",
        ),
        (
            ATTACHED._replace(
                targets=(
                    *ATTACHED.targets,
                    TargetInfo("/usr/lib/libvirt-qemu.so.0", "9.0.0"),
                    TargetInfo("/a/libvirt.so.0", "9.0.0"),
                )
            ),
            "attached to 526 functions in /usr/lib (libvirt 9.0.0, 2 files), /a/libvirt.so.0 "
            "(libvirt 9.0.0), 9.8ms, uprobe_multi",
        ),
        (UNATTACHED, 'not every call of "/a b/libvirt.so.0" is seen: it is cut short'),
        (CLOCK, "the clock was set back by 3600s"),
        (
            LOST,
            "lost 12 read calls: buffer full; a larger --buffer-size or fewer functions (-f) "
            "may help",
        ),
        (END, "1234 calls, 5 failed, 1 denied, 0 lost in 12.3s"),
    ],
)
def test_other_events_speak_for_the_tracer(event, expected):
    assert text.line(event) == f"09:24:11.403660 libvirt-trace: {expected}\n"


@pytest.mark.parametrize(
    "ns, expected",
    [
        (0, "0ns"),
        (999, "999ns"),
        (1000, "1.0us"),
        (9949, "9.9us"),
        (9960, "10us"),
        (212_300, "212us"),
        (999_499, "999us"),
        (999_600, "1.0ms"),
        (4_100_000, "4.1ms"),
        (999_600_000, "1.0s"),
        (3_725_000_000_000, "3725s"),
    ],
)
def test_duration_has_two_or_three_digits(ns, expected):
    assert units.duration(ns) == expected


def test_hostile_names_stay_inside_their_quotes():
    call = call_on(HOSTILE)._replace(
        comm=("x = 0\n"), function="f\x1b", caller=CALLER._replace(user="a b")
    )
    quoted = '"\\x1b[31m\\n[red]\\u202eevil\\u2066\\u009b\\r\\x00\\x7f\\ufeff\\u2028\\U000e0041"'
    assert text.line(call) == (
        f'09:24:11.403660 41207 "x = 0\\n" "a b" "f\\x1b"(domain={quoted}, flags=0) = 0 <4.1ms>\n'
    )


def test_user_without_a_name_is_a_number():
    assert text.line(DESTROY._replace(caller=CALLER._replace(uid=1007, user=None))).startswith(
        "09:24:11.403660 41207 virsh 1007 vir"
    )


@given(
    args=st.none() | any_values,
    out=any_values,
    ret=any_value,
    word=any_text,
    error=st.none()
    | st.builds(
        CallError,
        st.integers(0, 2**31 - 1),
        st.none() | any_text,
        st.none() | any_text,
        st.none() | any_text,
    ),
)
def test_any_call_is_one_visible_line_and_its_segments_are_the_same(args, out, ret, word, error):
    verdict = VerdictInfo("audit", word)
    call = DESTROY._replace(
        args=args, out=out, ret=ret, comm=word, function=word, error=error, verdict=verdict
    )
    line = text.line(call)
    assert line.endswith("\n") and line[:-1].isprintable()
    assert "".join(piece for _, piece in text.segments(call)) == line


# what daemons do for a call

DAEMON = DESTROY.caller._replace(pid=812, exe="/usr/sbin/libvirtd")
CLIENT = Client(pid=41207, uid=0, user="root", exe="/usr/bin/virsh")
MONITOR = Command(
    DESTROY.time + 2000, 1_000, 9, "rpc-libvirtd", DAEMON, '{"execute":"quit"}', "9-1"
)
STOPPED = DomainEvent(
    DESTROY.time + 3000, 9, "rpc-libvirtd", DAEMON, WEB1, "stopped", "destroyed", "9-1"
)
SERVED = DESTROY._replace(
    time=DESTROY.time + 1000,
    tid=9,
    comm="rpc-libvirtd",
    caller=DAEMON,
    client=CLIENT,
    parent="7-1",
    duration_ns=3_900_000,
    children=(MONITOR, STOPPED),
)
ASKED = DESTROY._replace(children=(SERVED,))
AT = {1: "09:24:11.403661", 2: "09:24:11.403662", 3: "09:24:11.403663"}  # us after DESTROY
FUNCTION = "virDomainDestroyFlags(domain=web1, flags=VIR_DOMAIN_DESTROY_GRACEFUL) = 0"


def test_daemons_half_is_folded_into_its_origin():
    assert text.line(ASKED) == f"{HEAD}{FUNCTION} <4.1ms, libvirtd 3.9ms>\n"
    assert [text.line(event) for event in (SERVED, MONITOR, STOPPED)] == ["", "", ""]


def test_tree_shows_what_a_call_caused_in_the_order_of_its_begin():
    assert text.line(ASKED, text.View.TREE) == (
        f"{HEAD}{FUNCTION} <4.1ms>\n"
        f"{AT[1]} 812 rpc-libvirtd root for 41207 virsh root   {FUNCTION} <3.9ms>\n"
        f'{AT[2]} 812 rpc-libvirtd root     monitor {{"execute":"quit"}} <1.0us>\n'
        f"{AT[3]} 812 rpc-libvirtd root     domain web1 stopped: destroyed\n"
    )
    assert (
        text.line(ASKED._replace(more_children=7), text.View.TREE)
        == text.line(ASKED, text.View.TREE) + "  and 7 more\n"
    )
    assert [text.line(event, text.View.TREE) for event in (SERVED, MONITOR, STOPPED)] == [
        "",
        "",
        "",
    ]


def test_both_halves_have_a_line_each():
    assert text.line(ASKED, text.View.BOTH) == f"{HEAD}{FUNCTION} <4.1ms>\n"
    assert text.line(SERVED, text.View.BOTH) == (
        f"{AT[1]} 812 rpc-libvirtd root for 41207 virsh root {FUNCTION} <3.9ms>\n"
    )
    assert text.line(STOPPED, text.View.BOTH) == (
        f"{AT[3]} 812 rpc-libvirtd root domain web1 stopped: destroyed\n"
    )


def told(at: int, words: str, to_agent: bool = False) -> Command:
    return MONITOR._replace(
        time=DESTROY.time + 1000 * at, text=words, duration_ns=1_000_000, to_agent=to_agent
    )


QUESTIONS = [
    told(
        2 + n % 2,
        f'{{"execute":"qom-get","arguments":{{"path":"/machine/{n}"}},"id":"libvirt-{n}"}}',
    )
    for n in range(7)
]
QUIT = told(4, '{"execute":"quit"}')
PINGS = [told(5, "guest-ping", to_agent=True) for _ in range(2)]
STARTED = SERVED._replace(
    children=(*QUESTIONS, told(4, '{"execute":"query-cpus-fast"}'), QUIT, QUIT, *PINGS, STOPPED)
)


def test_a_question_that_is_asked_again_and_again_has_one_line():
    lines = text.line(ASKED._replace(children=(STARTED,)), text.View.TREE).split("\n")
    assert [line.partition(" root     ")[2] for line in lines[2:-1]] == [
        "monitor qom-get, 7 times <7.0ms>",
        "domain web1 stopped: destroyed",
        'monitor {"execute":"query-cpus-fast"} <1.0ms>',
        'monitor {"execute":"quit"} <1.0ms>',  # it changes something
        'monitor {"execute":"quit"} <1.0ms>',
        "agent guest-ping, 2 times <2.0ms>",
    ]
    assert lines[2].startswith(f"{AT[2]} 812 rpc-libvirtd root     ")
    full = text.line(ASKED._replace(children=(STARTED,)), text.View.FULL).split("\n")
    assert len(full) == 1 + 1 + len(STARTED.children) + 1
    assert not [line for line in full if "times" in line]
    assert full[:2] == lines[:2]


def test_questions_are_told_with_their_call_where_both_halves_are_shown():
    at_once = [text.line(child, text.View.BOTH) for child in STARTED.children]
    assert [bool(line) for line in at_once] == [False] * 8 + [True] * 2 + [False] * 2 + [True]
    lines = text.line(STARTED, text.View.BOTH).split("\n")
    assert [line.partition(" root ")[2] for line in lines[:3]] == [
        "monitor qom-get, 7 times <7.0ms>",
        'monitor {"execute":"query-cpus-fast"} <1.0ms>',
        "agent guest-ping, 2 times <2.0ms>",
    ]
    assert lines[3:] == text.line(SERVED, text.View.BOTH).split("\n")


@pytest.mark.parametrize("view", text.View)
def test_what_no_call_is_known_to_have_caused_is_shown(view: text.View):
    alone = SERVED._replace(parent=None, children=())
    assert text.line(alone, view) == (
        f"{AT[1]} 812 rpc-libvirtd root for 41207 virsh root {FUNCTION} <3.9ms>\n"
    )
    crashed = STOPPED._replace(detail="crashed", parent=None)
    line = f"{AT[3]} 812 rpc-libvirtd root domain web1 stopped: crashed"
    assert text.line(crashed, view) == f"{line}, cause not known\n"
    assert text.line(crashed._replace(cause=NO_CALL), view) == f"{line}, by no call\n"
    assert text.line(crashed._replace(cause=BY_CALL), view) == (
        f"{line}, by a call that is not shown\n"
    )
    assert text.line(crashed._replace(one_of=("1-2", "3-4")), view).endswith(
        " domain web1 stopped: crashed, by one of 2 calls\n"
    )


@pytest.mark.parametrize(
    "client, shown",
    [
        (OWN, "for itself"),
        (Client(sasl="alice"), "for alice"),
        (Client(x509="CN=web, O=\x1b[31m"), r'for "CN=web, O=\x1b[31m"'),
        (Client(pid=7, uid=1000, user="alice"), "for 7 alice"),
        (Client(address="10.0.0.1:99", uid=0), 'for 10.0.0.1:99 "0"'),
        (Client(pid=7, uid=1, claims=Client(uid=0)), 'for 7 "1" who says "0"'),
        (UNKNOWN, "for ?"),
        (Client(pid=7, user="alice", unproved=True), "for 7 alice (unproved)"),
    ],
    ids=str,
)
def test_client_is_named_by_what_is_known_of_it(client, shown: str):
    assert text.line(SERVED._replace(parent=None, client=client)).startswith(
        f"{AT[1]} 812 rpc-libvirtd root {shown} virDomainDestroyFlags("
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
