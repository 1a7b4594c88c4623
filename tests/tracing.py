# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real command as tests see it: started with --json, its lines come out as events, nothing
sleeps.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tests.needs import PATIENCE, PYTHON, ROOT

Event = dict[str, Any]
CALLS = ("call", "unfinished", "verdict")
WITH = (
    "import sys\nsys.path.insert(0, {root!r})\n{before}\nimport "
    "tracer\nsys.exit(tracer.main(sys.argv[1:]))"
)
ROOMY = ("--buffer-size", "64")  # what other programs here do with libvirt meanwhile has room, too


class Result(NamedTuple):
    """What a finished run left behind."""

    events: list[Event]
    status: int
    stderr: str
    output: list[str]  # lines that are no events: what COMMAND printed

    def calls(self, function: str | None = None, pid: int | None = None) -> list[Event]:
        """Finished, unfinished and denied calls, in the order of the log."""
        return select_calls(self.events, function, pid)

    @property
    def end(self) -> Event:
        """The last event."""
        return self.events[-1]

    @property
    def lost(self) -> int:
        """Calls that were lost, but for what daemons here did for other programs."""
        return sum(
            event["count"]
            for event in self.events
            if event["type"] == "lost" and "daemon" not in event["reason"]
        )


def select_calls(events: list[Event], function: str | None, pid: int | None) -> list[Event]:
    """The calls among the events, of one function and process where these are given."""
    return [
        event
        for event in events
        if event["type"] in CALLS
        and (function is None or event["function"] == function)
        and (pid is None or event["pid"] == pid)
    ]


class Tracer:
    """One run of `libvirt-trace --json OPTIONS`, from its start to the end of its process."""

    def __init__(
        self, *options: str, env: Mapping[str, str] | None = None, before: str = ""
    ) -> None:
        """`before`: Python code that runs first, to make up what this machine does not have."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the run
        self._lines: list[bytes] = []  # that were read and not looked at yet
        self._events: list[Event] = []
        self._output: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._runs_command = "--" in options
        program = (
            ("-c", WITH.format(before=before, root=str(ROOT)))
            if before
            else (str(ROOT / "tracer.py"),)
        )
        # else others' calls are recorded too, and may be lost
        self._has_own = self._runs_command or "-p" in options
        self.process = subprocess.Popen(
            [
                PYTHON,
                "-E",
                "-s",
                *program,
                "--json",
                *(() if "--buffer-size" in options else ROOMY),
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=env,
        )
        self.pid = self.process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        # no more than that: the command leaves out what a slow reader does not take
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _look(self) -> bool:
        """Take what was read since the last look; whether that was all there will be."""
        with self._changed:
            lines, self._lines = self._lines, []
            ended = self._ended or not self._reader.is_alive()
        for line in lines:
            text = line.decode()  # the log is UTF-8
            if text.startswith('{"type":'):
                self._events.append(json.loads(text))
            else:
                self._output.append(text.rstrip("\n"))
        return ended

    @property
    def events(self) -> list[Event]:
        """The events so far."""
        self._look()
        return list(self._events)

    @property
    def stderr(self) -> str:
        """What the command has written to standard error so far."""
        self._errors.seek(0)
        return self._errors.read().decode()

    def calls(self, function: str | None = None, pid: int | None = None) -> list[Event]:
        """The calls so far; after finish() or stop(), all of them."""
        return select_calls(self.events, function, pid)

    def wait_for(
        self, wanted: Callable[[Event], bool], seconds: float = 60, count: int = 1
    ) -> Event:
        """The count-th event that is wanted, as soon as it is there; AssertionError when the
        time or the command is over first.
        """
        deadline = time.monotonic() + seconds * PATIENCE
        seen = found = 0
        while True:
            ended = self._look()
            for event in self._events[seen:]:
                found += wanted(event)
                if found == count:
                    return event
            seen = len(self._events)
            left = deadline - time.monotonic()
            if ended or left <= 0:
                why = "the command ended" if ended else "time is over"
                raise AssertionError(
                    f"{why} after {found} of {count} wanted events, {seen} in "
                    f"all; stderr: {self.stderr}"
                )
            with self._changed:
                if not self._lines and not self._ended:
                    self._changed.wait(min(left, 1))

    def wait_attached(self, seconds: float = 60) -> Event:
        """The first "attached" event: from now on every call is seen."""
        return self.wait_for(lambda event: event["type"] == "attached", seconds)

    def stop(self, number: int = signal.SIGINT, lost: int | None = 0) -> Result:
        """Interrupt the command and wait for its end; see finish()."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.finish(lost=lost)

    def finish(self, seconds: float = 60, lost: int | None = 0) -> Result:
        """Wait until the command ends by itself. Asserts whole lines, an "end" event and how much
        was lost (None: anything).

        Where every process is traced, 0 is not asserted: a test counts the calls of its own there.
        """
        try:
            status = self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"the command was still running after {seconds * PATIENCE:g} s; "
                f"stderr: {self.stderr}"
            ) from None
        self._reader.join(seconds * PATIENCE)
        assert self._ended, (
            f"standard output is still open in another process; stderr: {self.stderr}"
        )
        self._look()
        assert self._runs_command or not self._output, f"not JSON lines: {self._output[:5]}"
        assert self._events, f"no events, exit status {status}; stderr: {self.stderr}"
        assert self._events[-1]["type"] == "end", (
            f"the last event is {self._events[-1]}; stderr: {self.stderr}"
        )
        if lost is not None and (lost or self._has_own):
            told = [event for event in self._events if event["type"] == "lost"]
            # what daemons here do for other programs is not this run's
            assert (
                sum(event["count"] for event in told if "daemon" not in event["reason"]) == lost
            ), f"lost: {told}"
        if lost == 0:
            assert not re.search("standard output: .* calls were not written", self.stderr), (
                self.stderr
            )
        return Result(list(self._events), status, self.stderr, self._output)

    def kill(self) -> None:
        """End the command at once, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
