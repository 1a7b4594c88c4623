# SPDX-License-Identifier: LGPL-2.1-or-later
"""The list of processes that have libvirt loaded, and how it is rendered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.parse
import weakref
from types import SimpleNamespace

import pytest

from enforcer.guard import GUARD
from log.client import UNKNOWN
from log.events import Lost
from probes.host.daemons.admin import _uri
from probes.host.looking.maps import ENFORCER
from probes.verbs import looking_on
from probes.verbs import processes as ps
from probes.verbs import ps as show
from probes.verbs.processes import Listed, list_processes, render_json, render_table
from tests.unit.log_samples import DESTROY, START

LIBVIRT = os.path.realpath("/usr/lib/x86_64-linux-gnu/libvirt.so.0")
LOAD = (
    "import ctypes, sys; [ctypes.CDLL(path) for path in sys.argv[1:]]; print('loaded', "
    "flush=True); sys.stdin.read()"
)

ROWS = [
    Listed(
        7,
        0,
        "root",
        "libvirtd",
        "/usr/sbin/libvirtd",
        ("/usr/lib/libvirt.so.0.9000.0",),
        ("9.0.0",),
        "libvirtd.service",
        None,
        True,
        ({"origin": "/etc/web.toml", "mode": "audit", "age_s": 7300},),
        ("virNew",),
    ),
    Listed(
        123456,
        4711,
        None,
        "a\x1b[31m\nb",
        None,
        ("/a/libvirt.so.0 (deleted)", "/b/libvirt.so.0"),
        (),
        None,
        "0123456789abcdef" * 4,
        False,
    ),
]


@pytest.mark.parametrize("enforced", [False, True])
def test_process_is_listed(tmp_path, enforced):
    enforcer = tmp_path / ENFORCER
    subprocess.run(
        ["gcc", "-shared", "-nostdlib", "-x", "c", "-", "-o", enforcer],
        input=b"void f(void) { }",
        check=True,
    )
    libraries = [LIBVIRT, *([str(enforcer)] if enforced else [])]
    child = subprocess.Popen(
        [sys.executable, "-c", LOAD, *libraries], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin and child.stdout
    child.stdout.readline()
    rows = list_processes(GUARD)
    (row,) = [row for row in rows if row.pid == child.pid]
    assert (row.exe, row.files) == (os.path.realpath(sys.executable), (LIBVIRT,))
    assert row.libvirt == (
        subprocess.check_output(
            ["dpkg-query", "-W", "-f", "${Version}", "libvirt0"], text=True
        ).split("-")[0],
    )
    assert row.enforced is enforced
    assert [row.pid for row in rows] == sorted(row.pid for row in rows)
    child.stdin.close()
    child.stdout.close()
    child.wait()
    assert child.pid not in {row.pid for row in list_processes(GUARD)}


def test_table():
    assert render_table(ROWS) == (
        "PID     USER  COMM          LIBVIRT  ENFORCED                UNIT              CONTAINER  "
        "   EXE                 FILES\n"
        "7       root  libvirtd      9.0.0    /etc/web.toml audit 2h  libvirtd.service  -          "
        "   /usr/sbin/libvirtd"
        "  /usr/lib/libvirt.so.0.9000.0\n"
        "123456  4711  a\\x1b[31m\\nb  -        no                      -                 "
        "0123456789ab  -"
        "                   /a/libvirt.so.0 (deleted),/b/libvirt.so.0\n"
    )
    three = ROWS[0]._replace(
        files=("/usr/lib/libvirt.so.0", "/usr/lib/libvirt-qemu.so.0", "/x/libvirt.so.0")
    )
    assert render_table([three]).splitlines()[1].endswith("  /usr/lib (2 files),/x/libvirt.so.0")
    gone = ROWS[0]._replace(
        files=("/usr/lib/libvirt.so.0 (deleted)", "/usr/lib/libvirt-qemu.so.0 (deleted)")
    )
    assert render_table([gone]).splitlines()[1].endswith("  /usr/lib (2 files, deleted)")
    assert render_table([]).split() == [
        "PID",
        "USER",
        "COMM",
        "LIBVIRT",
        "ENFORCED",
        "UNIT",
        "CONTAINER",
        "EXE",
        "FILES",
    ]


def test_json_lines():
    lines = [json.loads(line) for line in render_json(ROWS).splitlines()]
    assert lines == [
        {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in row._asdict().items()
        }
        for row in ROWS
    ]
    odd = ROWS[0]._replace(comm='a\udcff"\\')
    assert json.loads(render_json([odd]).encode())["comm"] == 'a\\xff"\\\\'


def test_socket_that_a_process_has_chosen_is_no_more_than_a_path():
    query = urllib.parse.urlsplit(_uri("/proc/1/root/a?b=c&mode=x#\udcff d-admin-sock")).query
    assert urllib.parse.parse_qsl(query, errors="surrogateescape") == [
        ("socket", "/proc/1/root/a?b=c&mode=x#\udcff d-admin-sock")
    ]


class Something:
    """An event of which one can tell whether somebody keeps it."""


class Busy:
    """A session in which a new client calls with each look, and calls are lost at the end."""

    def __init__(self, *_: object) -> None:
        self.looks = 0
        self.told: list[weakref.ref[Something]] = []

    def start(self) -> None:
        pass

    def poll(self) -> list[object]:
        assert not any(one() for one in self.told), "what was counted is not kept"
        self.looks += 1
        event = Something()
        self.told.append(weakref.ref(event))
        return [event, DESTROY._replace(client=UNKNOWN._replace(pid=self.looks // 2 + 1))]

    def stop(self) -> list[object]:
        return [Lost(START, 3, "write", "buffer full")]

    def take_warnings(self) -> list[str]:
        return ["it is cold"]


def test_calls_are_counted_as_they_come(monkeypatch, capsys):
    """However many there are, also of clients; what the numbers lack is said."""
    monkeypatch.setattr(looking_on, "Session", Busy)
    monkeypatch.setattr(ps, "MOST_COUNTED", 2)
    clock = SimpleNamespace(monotonic=iter(range(9)).__next__, sleep=lambda seconds: None)
    monkeypatch.setattr(looking_on, "time", clock)
    counts = show._counted(8, GUARD)
    pid = DESTROY.caller.pid
    assert counts == {(pid, 1): 1, (pid, 2): 2}
    assert capsys.readouterr().err.splitlines()[1:] == [
        "libvirt-trace: it is cold",
        "libvirt-trace: 3 calls lost: some numbers are too small",
        "libvirt-trace: 4 calls of clients beyond 2 not counted",
    ]
