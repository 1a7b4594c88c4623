# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names users: a number comes in; the name comes out at once, if it is in this host's own list, or
later, if a directory is to be asked.

A directory that does not answer must not stop anybody who reads records, so a thread asks it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from log.recent import Recent

PASSWD = Path("/etc/passwd")
MOST_USERS, MOST_WAITING = 4096, 256
LOOK_AGAIN, ASK_AGAIN = 1.0, 60.0  # s: whether the list has changed; for a user that was not found


def find_user(uid: int) -> str | None:
    """The name, however long that takes."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return None


class Users:
    """Names of users on this host."""

    def __init__(
        self,
        find: Callable[[int], str | None] = find_user,
        passwd: Path = PASSWD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find, self._passwd, self._clock = find, passwd, clock
        self._local: dict[int, str] = {}
        self._stamp: tuple[int, int] | None = None
        self._look_at = 0.0
        # names, and when that was
        self._asked: Recent[int, tuple[str | None, float]] = Recent(MOST_USERS)
        self._waiting: set[int] = set()
        self._questions: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[int, str | None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def name(self, uid: int) -> str | None:
        """The name; None: it has none, or the answer is still to come."""
        self._look()
        if uid in self._local:
            return self._local[uid]
        name, when = self._asked.get(uid, (None, None))
        if when is None or (name is None and self._clock() >= when + ASK_AGAIN):
            self._ask(uid)
        return name

    def learned(self) -> dict[int, str]:
        """Names of users for whom there was none before, since the last time."""
        found: dict[int, str] = {}
        with contextlib.suppress(queue.Empty):
            while True:
                uid, name = self._answers.get_nowait()
                self._waiting.discard(uid)
                self._asked.put(uid, (name, self._clock()))
                if name is not None:
                    found[uid] = name
        return found

    def _ask(self, uid: int) -> None:
        if uid in self._waiting or len(self._waiting) >= MOST_WAITING:
            return
        self._waiting.add(uid)
        self._questions.put(uid)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="users", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            uid = self._questions.get()
            self._answers.put((uid, self._find(uid)))

    def _look(self) -> None:
        """Reads the host's own list, if it has changed."""
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_AGAIN
        try:
            status = os.stat(self._passwd)
            stamp = (status.st_ino, status.st_mtime_ns)
            if stamp == self._stamp:
                return
            lines = self._passwd.read_bytes().splitlines()
        except OSError:
            return
        self._stamp, self._local = stamp, {}
        for line in lines:
            name, _, uid, *_ = [*line.split(b":"), b"", b"", b""]
            if name and name[:1] not in b"+-#" and uid.isdigit() and len(uid) <= 10:
                self._local.setdefault(int(uid), name.decode(errors="surrogateescape"))
