# SPDX-License-Identifier: LGPL-2.1-or-later
"""Wrong words on the command line are answered in one line that says what is wrong and where to
look.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tracer
from log.verbs.usage import split_command
from probes.tracing.filters import Filters
from probes.verbs.options import tracing_parser

LAST_PID = 1 << 22  # never given to a process: pids end before it


@pytest.mark.parametrize(
    "words, complaint",
    [
        ("--bogus", "unrecognized arguments: --bogus; see libvirt-trace --help"),
        (
            "virsh list",
            "unrecognized arguments: virsh list (-- goes before a COMMAND); see libvirt-trace "
            "--help",
        ),
        ("-w --", "no COMMAND after --; see libvirt-trace --help"),
        (
            "--no-redact --otlp http://h",
            "secrets are sent nowhere: --no-redact is for looking on only; see libvirt-trace "
            "--help",
        ),
        ("-p abc", "argument -p: 'abc' is not a process id; see libvirt-trace --help"),
        (
            "-u no-such-user",
            "argument -u: no user 'no-such-user' on this host; see libvirt-trace --help",
        ),
        ("-d soon", "argument -d: 'soon' is not a time in seconds; see libvirt-trace --help"),
        (
            "--slower -1",
            "argument --slower: '-1' is not a time in milliseconds; see libvirt-trace --help",
        ),
        (
            "-s 65537",
            "argument -s: '65537' is not a number of bytes up to 65536; see libvirt-trace --help",
        ),
        (
            "--max-events 0",
            "argument --max-events: '0' is not a number of calls; see libvirt-trace --help",
        ),
        (
            "--buffer-size 1025",
            "argument --buffer-size: '1025' is not a number of MiB up to 1024; see "
            "libvirt-trace --help",
        ),
        (
            "--spill 65537",
            "argument --spill: '65537' is not a number of MiB up to 65536; see "
            "libvirt-trace --help",
        ),
        ("--wri", "unrecognized arguments: --wri; see libvirt-trace --help"),
        ("list --all", "unrecognized arguments: --all; see libvirt-trace list --help"),
        ("ps 1", "unrecognized arguments: 1; see libvirt-trace ps --help"),
    ],
)
def test_wrong_words_are_explained_in_one_line(words, complaint, capsys):
    with pytest.raises(SystemExit) as end:
        tracer.main(words.split())

    assert end.value.code == 2
    assert capsys.readouterr() == ("", f"libvirt-trace: {complaint}\n")


def test_tracing_without_root_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert tracer.main(["--", "true"]) == 1
    assert capsys.readouterr() == ("", "libvirt-trace: tracing needs root: run it with sudo\n")


def test_process_that_is_not_there_is_said(monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert tracer.main(["-p", str(LAST_PID)]) == 1
    assert capsys.readouterr() == ("", f"libvirt-trace: no process has the id {LAST_PID}\n")


def test_list_says_when_nothing_matches(capsys):
    assert tracer.main(["list", "virDomainDestory"]) == 1
    assert capsys.readouterr() == ("", "libvirt-trace: no function matches virDomainDestory\n")


def test_options_of_the_command_are_its_own():
    assert split_command(["-w", "--", "virsh", "--", "-x"]) == (["-w"], ["virsh", "--", "-x"])
    assert split_command(["-w"]) == (["-w"], [])


def test_numbers_have_the_units_that_help_promises():
    options = tracing_parser("0").parse_args(
        ["--slower", "1.5", "--buffer-size", "5", "-d", "0.5", "-u", "0", "-u", "root"]
    )

    assert (options.slower, options.buffer_size, options.seconds, options.users) == (
        1_500_000,
        8,
        0.5,
        [0, 0],
    )


def test_function_pattern_that_matches_nothing_is_complained_of():
    names = ["virDomainDestroy", "virDomainSuspend"]

    assert Filters(functions=("virDomain*", "!*Suspend", "virDomainDestroy")).unknown(names) == []
    assert Filters(functions=("virDomainDestory", "!xyz*")).unknown(names) == [
        'no function is called "virDomainDestory"; did you mean "virDomainDestroy"?',
        'no function is called "xyz*"; libvirt-trace list shows them all',
    ]


WORDS = [
    "-p",
    "-u",
    "-n",
    "-f",
    "--object",
    "-w",
    "-x",
    "--slower",
    "--nested",
    "-a",
    "-s",
    "-d",
    "--max-events",
    "--all-processes",
    "-c",
]
WORDS += [
    "--json",
    "--format",
    "-o",
    "--library",
    "--buffer-size",
    "--returns",
    "--debug",
    "text",
    "xml",
    "0",
    "1",
    "23",
    "-1",
    "1e400",
    "nan",
]
WORDS += [
    "65536",
    "65537",
    "root",
    "!vir*",
    "[",
    "--",
    "",
    "٣",
    "99999999999999999999",
    "--no-redact",
    "--slower=0.5",
    "-s0",
    "\udcff",
]


@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), max_size=6))
def test_any_words_are_understood_or_refused(words):
    own, _ = split_command(words)
    try:
        options = tracing_parser("0").parse_args(own)
    except SystemExit as end:
        assert end.code in ((0, 2) if {"-h", "--help", "--version"} & set(own) else (2,))
        return
    assert 0 <= options.string <= 65536
    assert options.buffer_size & (options.buffer_size - 1) == 0
    assert options.seconds is None or options.seconds >= 0
    assert options.slower is None or options.slower >= 0


@pytest.mark.parametrize(
    "error, said",
    [
        (
            FileNotFoundError(2, "No such file or directory", "/sys/x\x1b"),
            "/sys/x\\x1b: no such file or directory; --debug shows where",
        ),
        (OSError(24, "Too many open files"), "too many open files; raise the limit (ulimit -n)"),
        (OSError(27, "File too large"), "file too large; raise the limit (ulimit -f)"),
        (
            PermissionError(1, "Operation not permitted"),
            "operation not permitted; is a capability missing? --debug shows where",
        ),
    ],
)
def test_what_the_system_refuses_is_one_line(monkeypatch, capsys, error, said):
    def refused(words):
        raise error

    monkeypatch.setattr("probes.verbs.functions.show_functions", refused)
    assert tracer.main(["list"]) == 1
    assert capsys.readouterr() == ("", f"libvirt-trace: {said}\n")
    with pytest.raises(type(error)):
        tracer.main(["list", "--debug"])


def test_a_fault_of_ours_is_one_line_without_what_it_says(monkeypatch, capsys):
    def broken(words):
        raise ValueError("a secret")

    monkeypatch.setattr("probes.verbs.functions.show_functions", broken)
    assert tracer.main(["list"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "secret" not in err
    assert err.startswith("libvirt-trace: internal error: ValueError in test_options.py:")


FAILS_IN_A_THREAD = """
import sys, threading
sys.path.insert(0, {root!r})
import probes.verbs.functions, tracer
def fail():
    raise KeyError("hunter2")
def functions(arguments):
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    return 0
probes.verbs.functions.show_functions = functions
tracer.main(["list"])
"""


def test_a_fault_in_a_thread_is_one_line_too():
    code = FAILS_IN_A_THREAD.format(root=os.path.dirname(tracer.__file__))
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stderr == (
        "libvirt-trace: internal error: KeyError in <string>:6; please report "
        "it (--debug shows how it came about)\n"
    )
