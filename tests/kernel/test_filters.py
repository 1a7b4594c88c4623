# SPDX-License-Identifier: LGPL-2.1-or-later
"""Filters leave exactly the wanted calls; the callers' own facts say which these are."""

from __future__ import annotations

import os
import subprocess

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


def work(*before: str) -> int:
    process = subprocess.Popen([*before, PYTHON, "-c", WORK, *DOMAINS])
    assert process.wait() == 0
    return process.pid


def functions(result, pid):
    return {call["function"] for call in result.calls(pid=pid)}


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
def test_object_globs_choose_by_name(trace, glob, names):
    tracer = trace("--object", glob)
    pid = work()
    result = tracer.stop()
    for function in ("virDomainCreate", "virDomainGetInfo", "virDomainDestroy"):
        calls = result.calls(function, pid)
        assert {call["args"]["domain"]["name"] for call in calls} == names
        assert len(calls) == 23 * len(names)
    assert {call["ret"]["name"] for call in result.calls("virDomainDefineXML", pid)} == names


@pytest.mark.other_kernels
def test_writes_are_all_that_is_left(trace):
    tracer = trace("-w")
    pid = work()
    result = tracer.stop()
    assert functions(result, pid) == {"virDomainDefineXML", "virDomainCreate", "virDomainDestroy"}
    assert len(result.calls("virDomainCreate", pid)) == 23 * len(DOMAINS)


def test_function_globs_choose_and_leave_out(trace):
    tracer = trace("-f", "virDomain*", "-f", "!*Info", "-f", "!virDomainLookup*")
    pid = work()
    assert functions(tracer.stop(), pid) == {"virDomainDefineXML", "virDomainCreate", "virDomainDestroy"}


def test_failed_calls_are_all_that_is_left(trace):
    tracer = trace("-x")
    pid = work()
    (call,) = tracer.stop().calls(pid=pid)
    assert (call["function"], call["args"]["name"], call["ret"]) == ("virDomainLookupByName", "nosuch", None)


def test_user_chooses_the_processes(trace):
    tracer = trace("-u", "nobody")
    mine = work()
    theirs = work("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    result = tracer.stop()
    assert result.calls(pid=mine) == []
    assert len(result.calls("virDomainCreate", theirs)) == 23 * len(DOMAINS)
    assert {(call["uid"], call["user"]) for call in result.calls(pid=theirs)} == {(65534, "nobody")}


def test_process_name_chooses_the_processes(trace):
    tracer = trace("-n", "virsh")
    pid = work()
    subprocess.run(["virsh", "-q", "-c", "test:///default", "suspend test"], check=True)
    result = tracer.stop()
    assert result.calls(pid=pid) == []
    assert len(result.calls("virDomainSuspend")) >= 1
    assert {call["comm"] for call in result.calls()} == {"virsh"}


def test_pid_chooses_the_process(trace):
    reading, writing = os.pipe()
    program = "import os, sys; os.read(int(sys.argv.pop()), 1);" + f"exec({WORK!r})"
    process = subprocess.Popen([PYTHON, "-c", program, *DOMAINS, str(reading)], pass_fds=[reading])
    tracer = trace("-p", str(process.pid))
    other = work()
    os.write(writing, b"\n")
    assert process.wait() == 0
    result = tracer.stop()
    assert result.calls(pid=other) == []
    assert len(result.calls("virDomainGetInfo", process.pid)) == 23 * len(DOMAINS)


def test_slower_leaves_out_what_is_fast(trace):
    everything, slow = trace(), trace("--slower", "0.3")
    pid = work()
    all_calls, result = everything.stop().calls(pid=pid), slow.stop()
    assert all(call["duration_ns"] >= 300_000 for call in result.calls(pid=pid))
    assert 0 < len(result.calls(pid=pid)) < len(all_calls)


def test_number_of_calls_ends_the_log(trace):
    tracer = trace("--max-events", "23")
    work()
    result = tracer.finish()
    assert (result.status, len(result.calls()), result.end["calls"]) == (0, 23, 23)


def test_calls_inside_calls_only_when_asked(trace):
    flat, nested = trace("-a"), trace("-a", "--nested")
    pid = work()
    assert {call["depth"] for call in flat.stop().calls(pid=pid)} == {0}
    inner = [call for call in nested.stop().calls("virResetLastError", pid) if call["depth"] == 1]
    assert len(inner) >= 3 * 23 * len(DOMAINS)  # every public function begins with it
