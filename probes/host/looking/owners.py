# SPDX-License-Identifier: LGPL-2.1-or-later
"""On whose account work is that a process causes: a process comes in; a number, mostly of its
user, comes out.
"""

from __future__ import annotations

from pathlib import Path

from log.recent import Recent
from probes.host.looking.proc import PROC, read_status, uids

NOBODY_KNOWS = -1  # the account of processes that have gone
MOST_PROCESSES = 16384
# users are given blocks of so many further numbers from there on (/etc/subuid): who has a block
# counts once
SUB_UIDS, SUB_UID_BLOCK = 100_000, 65_536


def account_of(uid: int) -> int:
    """The account of a user."""
    return uid if uid < SUB_UIDS else uid - (uid - SUB_UIDS) % SUB_UID_BLOCK


def account_of_process(pid: int, proc: Path = PROC) -> int | None:
    """The account of whoever the process works for; None: it has gone."""
    # the folder's owner would be root for a process that hides its memory, which anybody's can
    whose = uids(read_status(pid, proc))
    # a set-uid program works for who runs it
    return None if whose is None else account_of(whose.effective or whose.real)


class Owners:
    """Whose processes are."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._parents: Recent[int, int] = Recent(MOST_PROCESSES)
        self._looked_up: dict[int, int] = {}

    def forked(self, pid: int, parent: int) -> None:
        """Notes whose child a process is: it may have gone when anybody looks."""
        self._parents.put(pid, parent)

    def refresh(self) -> None:
        """Looks at every process again: they change their users, and numbers are used again."""
        self._looked_up.clear()

    def of(self, pid: int) -> int:
        """The account; of a process that has gone, its parent's."""
        account = self._looked_up.get(pid)
        if account is None:
            account = account_of_process(pid, self._proc)
            if account is None:
                account = account_of_process(self._parents.get(pid, 0), self._proc)
            if account is None:
                account = NOBODY_KNOWS
            self._looked_up[pid] = account
        return account
