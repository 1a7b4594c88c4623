# SPDX-License-Identifier: LGPL-2.1-or-later
"""The benchmark runs, and its table has every row; what the numbers are is not a test's
business.
"""

from __future__ import annotations

import re
import subprocess

from tests import needs

ROWS = {
    "cost of a call": (
        "null pair",
        "nothing attached",
        "libvirt-trace --json, everything captured",
        "calls that it lost",
        "libvirt-trace -c -q, counted in the kernel",
        "calls that it lost",
        "its programs alone, registers and times",
        "and the domain's name and UUID",
        "and driver and result: everything",
        "bpftrace, the same fields",
        "calls that it lost",
        "ltrace",
        "preloaded logger",
    ),
    "calls without result": (
        "a probe at the entry, a program that returns 0",
        "and one on the instruction that returns",
        "a call that is filtered out by its process",
        "one under seccomp, where return probes kill",
        "a call whose inner one has no probe",
        "a nested call: more",
    ),
    "attaching": (
        "libvirt-trace, \\d+ functions: attach",
        "libvirt-trace, \\d+ functions: detach",
        "attach a function",
        "detach a function",
        "BCC, 4 functions: attach a function",
        "BCC, 4 functions: detach a function",
    ),
    "the command": (
        'start to "attached"',
        "bpftrace, one probe: start",
        "start, against bpftrace's",
        "libvirt-trace --version",
        "libvirt-trace --help",
        "libvirt-trace list",
        "SIGINT to its exit",
        "processor, 1 s idle",
        "peak resident memory, idle",
    ),
    "many processes": (
        "100 more: attach",
        '100 more: start to "attached"',
        "100 more: processor while idle",
        "100 more: a call",
        "100 more: peak resident memory",
        "100 more: SIGINT to its exit",
    ),
    "growth": (
        *(
            f"{files}: {what}"
            for files in ("1 more library file", "3 more library files")
            for what in (
                'start to "attached"',
                "attach, a file",
                "a call",
                "peak resident memory",
                "SIGINT to its exit",
            )
        ),
        "a list of 10 domains: more",
        "a list of 100 domains: more",
        "statistics of 10: more",
        "statistics of 100: more",
        "1 thread: more",
        "8 threads: more",
        "10 connections: more",
        "10 connections: peak resident memory",
        "50 connections: more",
        "50 connections: peak resident memory",
    ),
    "calls of a daemon": (
        "untraced",
        "traced in client and daemon, not linked",
        "traced in client and daemon, linked",
        "linking, of the time untraced",
        "linking: more",
    ),
    "load": (
        "JSON lines to a file: 1 s without loss",
        "JSON lines to a file: processor time of the reader",
        "text to a pipe: 1 s without loss",
        "text to a pipe: processor time of the reader",
        "two callers flat out, --spill: lost",
        "peak resident memory",
    ),
    "enforcer": (
        "a call that is not enforced",
        "a call without a rule: more",
        "with a rule that looks at the name: more",
        "with 1,000 of them: more",
        "with 10,000 of them: more",
        "1,000 whose names begin like the domain's: more",
        "the slowest call while the largest policy there may be is replaced",
        "a judged call with 10,000 rules, against one",
        "start of a program without libvirt: more",
        "start of one with libvirt: more",
        "size of the library",
    ),
    "enforced daemon": (
        "a client's call, processor time of the daemon",
        "judged by user and name: more",
    ),
    "asking a record": (
        r"zstdcat \| jq",
        "libvirt-trace log --object",
        "zstdgrep",
        "time of ours to that of jq",
    ),
    "asking a day": (
        "20,000 calls as JSON lines",
        "a call in the record",
        "libvirt-trace log --object",
        "zstdgrep",
        r"zstdcat \| jq",
    ),
    "exports": (
        "journal: events a second",
        "an event, of the tracer's own thread",
        "an event, processor time in all",
        "syslog: events a second",
        "an event, of the tracer's own thread",
        "an event, processor time in all",
        "otlp: events a second",
        "an event, of the tracer's own thread",
        "an event, processor time in all",
        "prometheus: events a second",
        "an event, of the tracer's own thread",
        "an event, processor time in all",
    ),
}


def test_bench_prints_every_row():
    for need in needs.NEEDS["bench"]:
        if missing := need():
            needs.lack("kernel", missing)
    command = [needs.PYTHON, "-m", "tests.bench", "--quick"]
    run = subprocess.run(
        command, cwd=needs.ROOT, capture_output=True, text=True, timeout=240 * needs.PATIENCE
    )
    assert run.returncode == 0, run.stderr
    machine, rounds, headings, rule, *lines = run.stdout.splitlines()
    assert (
        machine.startswith("Linux ")
        and "rounds" in rounds
        and headings.split()[:4] == ["part", "what", "value", "unit"]
    )
    assert set(rule) == {"-"}
    expected = [(part, what) for part, names in ROWS.items() for what in names]
    assert len(lines) == len(expected), run.stdout
    for line, (part, what) in zip(lines, expected, strict=True):
        assert re.match(rf"{part} +{what}.* {{2}}-?[0-9.,]+  \S", line), line
