# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes that may leave libvirt's calls on one stack and make others on another: what they
have mapped comes in, their names go out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from probes.host.looking import maps
from probes.host.looking.owners import Owners
from probes.host.looking.proc import NS, TICKS, began, read_status
from probes.host.looking.turns import Turns

_LIBRARY = re.compile(
    rb"/[^/\n]*(?:greenlet|gevent|eventlet|fiber|coro(?!sync)|boost_context|libpth\b|pypy|stackless|guile|continuation\.so)[^/\n]*$",
    re.M | re.I,
)
_LOADED = re.compile(rb"/Coro/[^\n]*\.so$", re.M)  # Perl's
_CODE = re.compile(rb"^Vm(?:Exe|Lib):\s+([0-9]+) kB$", re.M)


def uses_coroutines(mapped: bytes) -> bool:
    """Whether a process with these mappings, as /proc has them, has a library for coroutines."""
    return bool(_LIBRARY.search(mapped) or _LOADED.search(mapped))


def find(pids: Iterable[int], proc: Path = Path("/proc")) -> list[int]:
    """Those of the processes that have a library for coroutines."""
    return [pid for pid in pids if uses_coroutines(maps.text(pid, proc, maps.MOST_TEXT))]


class Left:
    """Processes in which a call may have been left for good (longjmp); `tell` is told of those that
    copy no stacks, where it has been.

    Such copying lets return addresses go from the stack, which come back later. It was done by code
    that is still mapped.
    """

    def __init__(
        self, tell: Callable[[int, int, int], None], owners: Owners, proc: Path = Path("/proc")
    ) -> None:
        self._tell, self._owners, self._proc = tell, owners, proc
        self._asked: Turns[int] = Turns()

    def ask(self, pid: int) -> None:
        """The process is to be looked at, soon."""
        self._asked.put(self._owners.of(pid), pid, pid)

    def run(self, seconds: float) -> None:
        """Looks at those that wait, for about so long at most."""
        self._asked.run(lambda _, pid: self.look(pid), seconds)

    def is_done(self) -> bool:
        """Whether none waits."""
        return not self._asked

    def look(self, pid: int) -> None:
        """Looks at a process now."""
        start, pages = began(pid, self._proc), _executable_pages(pid, self._proc)
        mapped = maps.text(pid, self._proc, maps.MOST_TEXT)
        if (
            start is None
            or pages is None
            or not mapped
            or len(mapped) >= maps.MOST_TEXT
            or uses_coroutines(mapped)
        ):
            return
        if (began(pid, self._proc), _executable_pages(pid, self._proc)) == (start, pages):
            self._tell(pid, start * TICKS // NS, pages)


def _executable_pages(pid: int, proc: Path) -> int | None:
    """How much code a process has mapped, in pages of 4 KiB."""
    found = [int(kilobytes) for kilobytes in _CODE.findall(read_status(pid, proc) or b"")]
    return sum(found) // 4 if len(found) == 2 else None
