# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who has the jobs that calls wait for, where that began before tracing: threads that wait come in.

To look takes long, the first time: another thread does it, meanwhile calls are traced.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping

from log.recent import Recent
from log.values import Value
from probes.hanging.hanging import Hanging, Witness

MOST, MOST_AT_ONCE = 1024, 64

_Thread = tuple[int, int]  # of which process


class Witnesses:
    """What was seen. `hanging`: makes what looks, when it is needed."""

    def __init__(self, hanging: Callable[[], Hanging]) -> None:
        self._make = hanging
        self._hanging: Hanging | None = None
        self._seen: Recent[_Thread, Witness] = Recent(MOST)
        self._looks: threading.Thread | None = None
        self._found: dict[_Thread, Witness] = {}  # by the thread that looks

    def watch(self, threads: Iterable[_Thread]) -> None:
        """These wait, and nobody is known to have what they wait for."""
        if self._looks is not None and self._looks.is_alive():
            return
        self._take()
        unseen = [one for one in threads if one not in self._seen or not self._is_still(one)]
        if unseen:
            self._looks = threading.Thread(
                target=self._look, args=(unseen[:MOST_AT_ONCE],), name="look", daemon=True
            )
            self._looks.start()

    def watch_now(self, threads: Iterable[_Thread]) -> None:
        """The same, and what can be known is known then."""
        self.watch(threads)
        if self._looks is not None:
            self._looks.join()
        self._take()

    def holder(self, pid: int, tid: int) -> Mapping[str, Value] | None:
        """Who has the job that the thread waits for, or has just waited for."""
        self._take()
        seen = self._seen.get((pid, tid))
        if seen is None or self._hanging is None or not self._is_still((pid, tid)):
            return None
        return self._hanging.by(seen, time.time_ns())

    def _is_still(self, thread: _Thread) -> bool:
        seen = self._seen.get(thread)
        return seen is not None and self._hanging is not None and self._hanging.is_still(seen)

    def _take(self) -> None:
        while self._found:
            self._seen.put(*self._found.popitem())

    def _look(self, threads: list[_Thread]) -> None:
        if self._hanging is None:
            self._hanging = self._make()
        for pid, tid in threads:
            if (seen := self._hanging.witness(pid, tid)) is not None:
                self._found[pid, tid] = seen
