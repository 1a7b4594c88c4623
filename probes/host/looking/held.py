# SPDX-License-Identifier: LGPL-2.1-or-later
"""Looks into processes that may keep whoever looks waiting: work on a process comes in; what it
gave comes out, or that it took too long.

A process can wait for a page of its own with its memory locked, and anybody can have a file system
that never brings one. Its command line, its environment and the files that it has mapped can't be
read then, and only what kills a process ends the wait. So a thread does the work, for whoever is
not root's.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from log.recent import Recent
from probes.host.looking.owners import account_of_process
from probes.host.looking.pace import OTHERS_SHARE, Pace

T = TypeVar("T")
Asked = tuple[Callable[[], Any], Callable[[Any], object]]  # work, and what to do if it is late

PATIENCE = 0.5  # s
BURST = 1.0  # s that an account may have us wait at first
QUICK = 0.05  # s, which is not held against anybody
MOST_STUCK = 16  # threads that wait, of an account
MOST_ACCOUNTS, MOST_TOLD = 4096, 8  # of processes by name
HOLDS = "it keeps whoever looks into its memory waiting"


class Looking:
    """Who is waited for, and who is not any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of all below
        self._mine = threading.local()  # the thread that works for each
        self._stuck: Counter[int] = Counter()  # by account
        self._paces: Recent[int, Pace] = Recent(MOST_ACCOUNTS)
        self._told: set[int] = set()  # processes
        self._untold: list[str] = []

    def ask(
        self,
        pid: int,
        work: Callable[[], T],
        nothing: T,
        proc: Path = Path("/proc"),
        drop: Callable[[T], object] = lambda late: None,
        *,
        only_reads: bool = False,
    ) -> T:
        """What the work gives, or `nothing` where the process does not let us look; `drop` is for
        what comes too late. `only_reads`: the work does not open what is mapped.
        """
        account = account_of_process(pid, proc)
        if not account:  # root's, or gone
            return work()
        with self._lock:
            pace = self._paces.learn(account, lambda _: Pace(OTHERS_SHARE, BURST))
            if self._stuck[account] >= MOST_STUCK or not pace.ready():
                self._tell(pid)
                return nothing
        try:
            helper: _Helper = getattr(self._mine, "helper", None) or _Helper()
        except RuntimeError:  # no room for a thread: it is not known
            return nothing
        self._mine.helper = helper

        def look() -> T:
            if not only_reads:
                _touch(pid, proc)
            return work()

        helper.asked.put((look, drop))
        try:
            found, error = helper.gave.get(timeout=QUICK)
        except queue.Empty:
            with pace:
                answer = self._wait(helper, pid, account)
            if answer is None:
                return nothing
            found, error = answer
        if error is not None:
            raise error
        return found  # type: ignore[no-any-return]

    def take(self) -> list[str]:
        """What the user should know, since the last time."""
        with self._lock:
            untold, self._untold = self._untold, []
        return untold

    def _wait(self, helper: _Helper, pid: int, account: int) -> tuple[Any, Exception | None] | None:
        try:
            return helper.gave.get(timeout=PATIENCE)
        except queue.Empty:
            with self._lock:
                self._stuck[account] += 1
        if not helper.leave(lambda: self._back(account)):  # it has come back at the last moment
            self._back(account)
            return helper.gave.get()
        self._mine.helper = None
        with self._lock:
            self._tell(pid)
        return None

    def _back(self, account: int) -> None:
        with self._lock:
            self._stuck[account] -= 1

    def _tell(self, pid: int) -> None:
        if pid in self._told or len(self._told) > MOST_TOLD:
            return
        self._told.add(pid)
        self._untold.append(
            f"process {pid}: {HOLDS}; what is only there is not known"
            if len(self._told) <= MOST_TOLD
            else "more processes keep whoever looks into their memory waiting"
        )


def _touch(pid: int, proc: Path) -> None:
    """Waits here for a locked memory, where the wait ends with our process. To open what is mapped
    may wait for somebody else who does so, and nothing ends that.
    """
    with contextlib.suppress(OSError), open(f"{proc}/{pid}/cmdline", "rb", buffering=0) as file:
        file.read(1)


class _Helper:
    """A thread, until it is left alone with what it waits for."""

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self.gave: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._back: Callable[[], None] | None = None
        threading.Thread(target=self._run, name="look", daemon=True).start()

    def leave(self, back: Callable[[], None]) -> bool:
        """Nobody waits for it any more; False: it has an answer by now."""
        with self._lock:
            if not self.gave.empty():
                return False
            self._back = back
            return True

    def _run(self) -> None:
        while True:
            work, drop = self.asked.get()
            found, error = None, None
            try:
                found = work()
            except Exception as raised:
                error = raised
            with self._lock:
                if self._back is None:
                    self.gave.put((found, error))
                    continue
            if error is None:
                drop(found)
            self._back()
            return


# no session's own: threads that wait go on doing so, whoever asked, and the next one who looks must
# not start as many again
LOOKING = Looking()
