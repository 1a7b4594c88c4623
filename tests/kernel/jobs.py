# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command as a job of a shell, on a terminal of its own (a pty)."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.kernel.conftest import TRACER
from tests.needs import PATIENCE, PYTHON

# runs its arguments as a job in the foreground, as shells do, and leaves the terminal's settings
# alone; says when the job has stopped or ended, and does then what it reads: fg, bg, or nothing
SHELL = """
import os, resource, signal, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):  # who runs the tests may ignore these
    signal.signal(number, signal.SIG_DFL)
job = os.fork()
if not job:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    _, status = os.waitpid(job, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        break
    print(f"job {job} has stopped", flush=True)
    for line in sys.stdin:
        if line == "fg\\n":
            os.tcsetpgrp(0, job)
        if line in ("fg\\n", "bg\\n"):
            os.kill(job, signal.SIGCONT)
        print("the shell has read " + line, flush=True)
        if line == "fg\\n":
            break
print(f"the job has ended with {os.waitstatus_to_exitcode(status)}", flush=True)
sys.stdin.read()
"""
HELD = 1.0  # s
UNSEEN = termios.ECHO | termios.ICANON


class Terminal:
    """One with the tracer as a job in its foreground."""

    def __init__(self, *options: str) -> None:
        self.shell, self._screen = pty.fork()
        if self.shell == 0:
            os.environ.update(TERM="xterm", NO_COLOR="1")
            os.execv(PYTHON, [PYTHON, "-c", SHELL, *TRACER, *options])
        self.shown = ""

    @property
    def settings(self) -> list[Any]:
        """Of the terminal, now."""
        return termios.tcgetattr(self._screen)

    def is_taken(self) -> bool:
        """Whether what is typed is neither shown nor kept until Enter."""
        return not self.settings[3] & UNSEEN

    def press(self, keys: str) -> None:
        os.write(self._screen, keys.encode())

    def wait_for(self, text: str, until: str = "\n") -> str:
        """What was shown up to the end of the line with that text; the rest stays."""
        while (at := self.shown.find(text)) < 0 or until not in self.shown[at:]:
            self.read()
        end = self.shown.index(until, at) + 1
        before, self.shown = self.shown[:end], self.shown[end:]
        return before

    def is_held(self) -> bool:
        """Whether nothing comes: what was written before has been read."""
        while select.select([self._screen], [], [], HELD)[0]:
            self.read()
        return True

    def read(self) -> None:
        """Wait for more."""
        ready = select.select([self._screen], [], [], 60 * PATIENCE)[0]
        assert ready, f"nothing comes after {self.shown[-500:]!r}"
        self.shown += os.read(self._screen, 1 << 16).decode(errors="replace")

    def job(self) -> int:
        """Who is in the foreground."""
        return os.tcgetpgrp(self._screen)

    def wait_until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60 * PATIENCE
        while not true():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def end(self) -> None:
        job = os.tcgetpgrp(self._screen)
        os.close(self._screen)  # hangs up
        if job not in (0, self.shell):  # the terminal was the job's: a test has failed
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job, signal.SIGKILL)
        os.waitpid(self.shell, 0)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    started: list[Terminal] = []

    def start(*options: str) -> Terminal:
        started.append(Terminal(*options))
        return started[-1]

    yield start
    for one in started:
        one.end()
