# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keys in the live view, on a terminal (a pty) with a shell that stops and continues its job:
`s` tells what is under way, and whoever has the terminal finds it as it was.
"""

from __future__ import annotations

import os
import signal
import termios
from pathlib import Path

import pytest

from tests.kernel.jobs import UNSEEN, Terminal, terminal
from tests.kernel.test_lifecycle import stop_inside
from tests.needs import PATIENCE

__all__ = ["terminal"]  # a fixture


def test_key_tells_what_is_under_way_and_the_terminal_is_given_back(
    caller, terminal, auth_uri: str, tmp_path: Path
) -> None:
    program = caller("inside")
    screen: Terminal = terminal("-f", "virConnectOpenAuth", "-n", program.name)
    before = screen.settings
    assert before[3] & UNSEEN == UNSEEN
    screen.wait_for("attached to")
    assert screen.is_taken() and screen.settings[3] & termios.ISIG
    step, go = stop_inside(program, auth_uri, tmp_path)
    screen.wait_for("1 open", ",")  # it is known
    under_way = f"{step.pid} "

    screen.press("xs")
    told = screen.wait_for("under way for")
    assert under_way in told and "xs" not in told

    screen.press("\x1a")  # Ctrl-Z
    job = int(screen.wait_for("has stopped").rpartition("job ")[2].split()[0])
    assert screen.settings == before
    screen.press("bg\ns\n")  # the second is for the shell: the job has gone on
    read = screen.wait_for("the shell has read s")
    assert "under way" not in read and screen.settings == before

    screen.press("fg\n")
    screen.wait_for("the shell has read fg")
    screen.wait_until(screen.is_taken)
    screen.press("S")
    assert under_way in screen.wait_for("under way for")

    os.kill(job, signal.SIGSTOP)  # nobody can give it back then
    screen.wait_for("has stopped")
    assert screen.is_taken()
    screen.press("fg\n")
    screen.wait_for("the shell has read fg")
    screen.press("s")
    screen.wait_for("under way for")
    screen.press("\x03")
    assert "with 0" in screen.wait_for("the job has ended")
    assert screen.settings == before

    go.write_text("\n")
    step.communicate(timeout=20 * PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_terminal_is_given_back_however_it_ends(terminal, number: signal.Signals) -> None:
    screen: Terminal = terminal("-n", "nobody-here")
    before = screen.settings
    screen.wait_for("attached to")
    assert screen.is_taken()
    os.kill(screen.job(), number)
    status = -number if number == signal.SIGQUIT else 0
    assert f"with {status}" in screen.wait_for("the job has ended")
    assert screen.settings == before


def test_command_keeps_the_terminal(terminal) -> None:
    screen: Terminal = terminal("--", "/bin/sh", "-c", "read word; echo it has read $word")
    before = screen.settings
    screen.wait_for("attached to")
    assert screen.settings == before
    screen.press("s\n")
    screen.wait_for("it has read s")
    screen.wait_for("the job has ended")
