# SPDX-License-Identifier: LGPL-2.1-or-later
"""What processes in pid namespaces call others: a number there comes in, the number here goes out.

All processes are looked through for that, which takes a share of the time at most.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from probes.host.looking import maps
from probes.host.looking.pace import Pace
from probes.host.looking.proc import read_link, read_status, uids

# of the time, for what a process in a pid namespace calls others; s at once
SEARCH_SHARE, SEARCH_BURST = 0.05, 0.5


class Searches(NamedTuple):
    """The share of the time that looking through all processes may take: for processes of
    root's, and for those of others.
    """

    of_root: Pace
    of_others: Pace


def searches() -> Searches:
    """A new one."""
    return Searches(Pace(SEARCH_SHARE, SEARCH_BURST), Pace(SEARCH_SHARE, SEARCH_BURST))


def host_pid(
    pid: int, seen_by: int, proc: Path = Path("/proc"), limit: Searches | None = None
) -> int | None:
    """The number here of the process that the process `seen_by` knows as `pid`.

    None: it has gone, several may be meant, or such questions have taken their share of the time.
    They differ where that one is in a pid namespace of its own, as a container is.
    """
    here = read_link(f"{proc}/self/ns/pid")
    there = read_link(f"{proc}/{seen_by}/ns/pid")
    if there is None or there == here:
        return pid
    if limit is None:
        return _search(pid, seen_by, there, proc)
    pace = limit.of_root if _is_roots(seen_by, proc) else limit.of_others
    if not pace.ready():
        return None
    with pace:
        return _search(pid, seen_by, there, proc)


def _search(pid: int, seen_by: int, there: str, proc: Path) -> int | None:
    level = len(_numbers(seen_by, proc)) - 1
    found = {
        other: numbers
        for other in maps.pids(proc)
        if len(numbers := _numbers(other, proc)) > level and numbers[level] == pid
    }
    if len(found) > 1:  # in namespaces beside it, too
        found = {
            other: numbers
            for other, numbers in found.items()
            if read_link(f"{proc}/{other}/ns/pid") == there
        }
    return next(iter(found)) if len(found) == 1 else None


def _numbers(pid: int, proc: Path) -> list[int]:
    """The numbers of a process, in the outermost pid namespace first."""
    lines = (read_status(pid, proc) or b"").splitlines()
    return [int(word) for line in lines if line.startswith(b"NSpid:") for word in line.split()[1:]]


def _is_roots(pid: int, proc: Path) -> bool:
    whose = uids(read_status(pid, proc))
    return whose is not None and whose.effective == 0
