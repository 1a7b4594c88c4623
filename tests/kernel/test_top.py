# SPDX-License-Identifier: LGPL-2.1-or-later
"""`top`, the real command: what a program has called is counted exactly, on a terminal it is drawn
until Ctrl-C.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.kernel.conftest import CALLS, TRACER, Steps
from tests.kernel.jobs import Terminal, terminal
from tests.needs import PATIENCE

__all__ = ["terminal"]  # a fixture


@pytest.mark.parametrize("by", ["-n", "-p"])
def test_calls_of_a_program_are_counted_exactly(caller, tmp_path: Path, by: str) -> None:
    """The others on this host have other names, and are not asked for."""
    program = tmp_path / "counted-calls"
    shutil.copy(caller("steps"), program)
    step = Steps(program)
    which = [by, program.name if by == "-n" else str(step.pid)]
    looking = subprocess.Popen(
        [*TRACER, "top", "--once", "--json", "-d", "600", *which, "-u", "root"],
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
    mine = shown["clients"]
    assert [row["client"]["program"] for row in mine] == [program.name]
    assert [(row["client"]["user"], row["calls"], row["failed"]) for row in mine] == [
        ("root", CALLS, 0)
    ]
    for rows in ("functions", "domains"):
        named = {row[rows[:-1]]: row for row in shown[rows]}
        assert named["virDomainGetName" if rows == "functions" else "test"]["calls"] == CALLS
    assert shown["calls"] == CALLS
    assert (shown["type"], shown["lost"], mine[0]["queue_ns"]) == ("top", 0, None)


def test_screen_is_drawn_and_sorted_by_keys_until_it_is_interrupted(
    caller, terminal, tmp_path: Path
) -> None:
    program = tmp_path / "drawn-calls"
    shutil.copy(caller("steps"), program)
    step = Steps(program)
    screen: Terminal = terminal("top", "-d", "0.2")
    before = screen.settings
    screen.wait_for("sorted by calls", "keys c, d, e, q")
    assert screen.is_taken()
    while "drawn-calls root" not in screen.shown:
        step.call(1)
        screen.read()
    screen.press("\x13")  # Ctrl-S: nothing is shown any more, whoever calls
    screen.wait_until(screen.is_held)
    step.call(1)
    screen.press("e\x11")  # Ctrl-Q
    screen.wait_for("sorted by errors", "keys")
    screen.press("\x1a")  # Ctrl-Z
    assert "\x1b[?1049l" in screen.wait_for("has stopped") and screen.settings == before
    screen.press("bg\n")
    screen.wait_for("the shell has read bg")
    step.call()
    screen.press("\n")
    assert "sorted by" not in screen.wait_for("the shell has read \r\n")
    screen.press("fg\n")
    assert "\x1b[?1049h" in screen.wait_for("sorted by errors", "keys")
    screen.press("\x03")
    assert "\x1b[?1049l" in screen.wait_for("the job has ended with 0")  # the screen before
    assert screen.settings == before and step.end() == 0
