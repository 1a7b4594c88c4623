# SPDX-License-Identifier: LGPL-2.1-or-later
"""`top`, the real command: what a program has called is counted exactly, on a terminal it is drawn
until Ctrl-C.
"""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
from pathlib import Path

from tests.kernel.conftest import CALLS, TRACER, Steps
from tests.needs import PATIENCE


def test_calls_of_a_program_are_counted_exactly(caller, tmp_path: Path) -> None:
    """The others on this host have other names."""
    program = tmp_path / "counted-calls"
    shutil.copy(caller("steps"), program)
    step = Steps(program)
    looking = subprocess.Popen(
        [*TRACER, "top", "--once", "--json", "-d", "600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert looking.stderr and "counting calls" in looking.stderr.readline()
    step.call(CALLS)
    looking.send_signal(signal.SIGINT)
    output, complaints = looking.communicate(timeout=60 * PATIENCE)
    assert (looking.returncode, step.end()) == (0, 0), complaints
    (line,) = output.splitlines()
    shown = json.loads(line)
    mine = [row for row in shown["clients"] if row["client"]["program"] == program.name]
    assert [(row["client"]["user"], row["calls"], row["failed"]) for row in mine] == [
        ("root", CALLS, 0)
    ]
    for rows in ("functions", "domains"):
        named = {row[rows[:-1]]: row for row in shown[rows]}
        assert named["virDomainGetName" if rows == "functions" else "test"]["calls"] >= CALLS
    assert sum(row["calls"] for row in shown["clients"]) == shown["calls"]
    assert (shown["type"], shown["lost"], mine[0]["queue_ns"]) == ("top", 0, None)


def test_screen_is_drawn_until_it_is_interrupted(caller, tmp_path: Path) -> None:
    program = tmp_path / "drawn-calls"
    shutil.copy(caller("steps"), program)
    step = Steps(program)
    screen, terminal = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "60"}
    looking = subprocess.Popen(
        [*TRACER, "top", "-d", "0.2"], stdin=terminal, stdout=terminal, stderr=terminal, env=env
    )
    os.close(terminal)
    drawn = b""
    while b"drawn-calls root" not in drawn:
        step.call(1)
        drawn += os.read(screen, 1 << 16)
    looking.send_signal(signal.SIGINT)
    drawn = b""
    try:
        while got := os.read(screen, 1 << 16):
            drawn += got
    except OSError:  # nobody has it any more
        pass
    assert (looking.wait(60 * PATIENCE), step.end()) == (0, 0), drawn
    assert b"\x1b[?1049l" in drawn  # the screen that was there before
    os.close(screen)
