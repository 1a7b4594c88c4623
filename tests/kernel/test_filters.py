# SPDX-License-Identifier: LGPL-2.1-or-later
"""Filters leave exactly the wanted calls; the callers' own facts say which these are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.needs import PYTHON

DOMAINS = ("web1", "web22", "db1", "wéb1")
WORK = """
import libvirt, sys
libvirt.registerErrorHandler(lambda *_: None, None)
connection = libvirt.open("test:///default")
xml = "<domain type='test'><name>%s</name><memory>1024</memory><os><type>hvm</type></os></domain>"
domains = [connection.defineXML(xml % name) for name in sys.argv[1:]]
for domain in domains:
    for _ in range(23):
        domain.create()
        domain.info()
        domain.destroy()
try:
    connection.lookupByName("nosuch")
except libvirt.libvirtError:
    pass
"""


class Work:
    """A process that does WORK when it is told to: traced by its pid, it is alone among all
    that use libvirt meanwhile.
    """

    def __init__(self, *before: str) -> None:
        program = f"import sys; sys.stdin.readline(); exec({WORK!r})"
        self.process = subprocess.Popen(
            [*before, PYTHON, "-c", program, *DOMAINS], stdin=subprocess.PIPE
        )
        self.pid = self.process.pid
        self.only = ("-p", str(self.pid))

    def do(self) -> None:
        self.process.communicate(b"go\n")
        assert self.process.returncode == 0


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.process.kill()
    work.process.communicate()


def functions(result):
    return {call["function"] for call in result.calls()}


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        ("web1", {"web1"}),
        ("web*", {"web1", "web22"}),
        ("w?b1", {"web1", "wéb1"}),
        ("*1", {"web1", "db1", "wéb1"}),
        ("[dw]*b1", {"web1", "db1", "wéb1"}),
        ("web[!1]*", {"web22"}),
        ("x" * 70, set()),
        ("*" + "?" * 2 + "1", {"web1", "wéb1", "db1"}),
    ],
)
def test_object_globs_choose_by_name(trace, work, glob, names):
    """By the whole name, however much of it is shown."""
    tracer = trace("--object", glob, *work.only)
    work.do()
    result = tracer.stop()
    for function in ("virDomainCreate", "virDomainGetInfo", "virDomainDestroy"):
        calls = result.calls(function)
        assert {call["args"]["domain"]["name"] for call in calls} == names
        assert len(calls) == 23 * len(names)
    assert {call["ret"]["name"] for call in result.calls("virDomainDefineXML")} == names


def test_a_name_that_is_shown_cut_chooses_whole(trace, work):
    tracer = trace("-s", "3", "--object", "web22", *work.only)
    work.do()
    calls = tracer.stop().calls()
    assert sum(call["function"] == "virDomainCreate" for call in calls) == 23
    cut = {"text": "web", "length": 5, "cut": True}
    handles = [
        value
        for call in calls
        for value in (*call["args"].values(), call["ret"])
        if isinstance(value, dict)
    ]
    assert {str(one["name"]) for one in handles if one.get("type") == "domain"} == {str(cut)}
    # of what a connection is called nothing is cut out of the middle
    assert {one["uri"] for one in handles if one.get("type") == "connect"} == {"test:///default"}


@pytest.mark.other_kernels
def test_writes_are_all_that_is_left(trace, work):
    tracer = trace("-w", *work.only)
    work.do()
    result = tracer.stop()
    assert functions(result) == {"virDomainDefineXML", "virDomainCreate", "virDomainDestroy"}
    assert len(result.calls("virDomainCreate")) == 23 * len(DOMAINS)


def test_function_globs_choose_and_leave_out(trace, work):
    tracer = trace("-f", "virDomain*", "-f", "!*Info", "-f", "!virDomainLookup*", *work.only)
    work.do()
    assert functions(tracer.stop()) == {"virDomainDefineXML", "virDomainCreate", "virDomainDestroy"}


def test_failed_calls_are_all_that_is_left(trace, work):
    tracer = trace("-x", *work.only)
    work.do()
    (call,) = tracer.stop().calls()
    assert (call["function"], call["args"]["name"], call["ret"]) == (
        "virDomainLookupByName",
        "nosuch",
        None,
    )


def test_user_chooses_the_processes(trace, work):
    theirs = Work("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    tracer = trace("-u", "nobody", *work.only, *theirs.only)
    work.do()
    theirs.do()
    result = tracer.stop()
    assert len(result.calls("virDomainCreate")) == 23 * len(DOMAINS)
    assert {(call["pid"], call["uid"], call["user"]) for call in result.calls()} == {
        (theirs.pid, 65534, "nobody")
    }


def test_process_name_chooses_the_processes(trace, work, tmp_path):
    name = f"v{os.getpid()}"  # others use virsh, too
    program = tmp_path / name
    program.symlink_to("/usr/bin/virsh")
    tracer = trace("-n", name)
    work.do()
    with subprocess.Popen([program, "-q", "-c", "test:///default", "suspend test"]) as virsh:
        assert virsh.wait() == 0
    result = tracer.stop()
    assert len(result.calls("virDomainSuspend", virsh.pid)) == 1
    assert {(call["comm"], call["pid"]) for call in result.calls()} == {(name, virsh.pid)}


def test_pid_chooses_the_process(trace, work):
    tracer, other = trace(*work.only), Work()
    other.do()
    work.do()
    result = tracer.stop()
    assert {call["pid"] for call in result.calls()} == {work.pid}
    assert len(result.calls("virDomainGetInfo")) == 23 * len(DOMAINS)


def test_slower_leaves_out_what_is_fast(trace, work):
    everything, slow = trace(*work.only), trace("--slower", "0.3", *work.only)
    work.do()
    all_calls, result = everything.stop().calls(), slow.stop()
    assert all(call["duration_ns"] >= 300_000 for call in result.calls())
    assert 0 < len(result.calls()) < len(all_calls)


def test_number_of_calls_ends_the_log(trace, work):
    tracer = trace("--max-events", "23", *work.only)
    work.do()
    result = tracer.finish()
    assert (result.status, len(result.calls()), result.end["calls"]) == (0, 23, 23)


def test_calls_inside_calls_only_when_asked(trace, work):
    flat, nested = trace("-a", *work.only), trace("-a", "--nested", *work.only)
    work.do()
    assert {call["depth"] for call in flat.stop().calls()} == {0}
    inner = [call for call in nested.stop().calls("virResetLastError") if call["depth"] == 1]
    assert len(inner) >= 3 * 23 * len(DOMAINS)  # every public function begins with it
