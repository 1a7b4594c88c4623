# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process in a pid namespace knows others by numbers of that namespace."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from probes.host.looking.pace import Pace
from probes.host.processes.numbers import Searches, host_pid

INSIDE = """
sleep 600 & echo $$ $!
read -r line
kill $!
"""


def test_numbers_of_a_namespace_are_translated():
    command = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", INSIDE]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as outside:
        assert outside.stdin and outside.stdout
        shell, sleeper = (int(word) for word in outside.stdout.readline().split())
        (child,) = map(
            int, Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()
        )
        (grandchild,) = map(int, Path(f"/proc/{child}/task/{child}/children").read_text().split())
        assert (shell, sleeper) != (child, grandchild)
        assert [host_pid(pid, seen_by=child) for pid in (shell, sleeper)] == [child, grandchild]
        assert host_pid(4_000_000, seen_by=child) is None
        limit = Searches(Pace(0, 0), Pace(0, 0))  # room for one
        assert [host_pid(shell, seen_by=child, limit=limit) for _ in range(2)] == [child, None]
        assert host_pid(os.getpid(), seen_by=outside.pid) == os.getpid()
        outside.stdin.write("\n")
