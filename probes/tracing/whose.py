# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who does what is traced: records of threads come in; callers, for whom they work, and whether
that is wanted go out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from log.events import Caller
from probes.calls.serving.tasks import Task, Tasks
from probes.host.daemons.before import Before
from probes.host.daemons.programs import Daemons
from probes.host.processes.callers import Processes
from probes.host.processes.lives import NO_ID
from probes.host.processes.tree import Tree
from probes.host.processes.users import Users
from probes.internals.private import DISPATCH
from probes.kernel import records
from probes.plans.plan import PlanRow
from probes.tracing.filters import Filters


class Whose:
    """Processes, their users, what their threads are at, and those that descend from a command."""

    def __init__(
        self,
        filters: Filters,
        rows: list[PlanRow],
        daemons: Daemons,
        before: Before,
        *,
        full_cmdlines: bool,
    ) -> None:
        self._filters, self._rows, self._before = filters, rows, before
        self.users = Users()
        self.processes = Processes(user_name=self.users.name, full_cmdlines=full_cmdlines)
        self.tree = Tree(os.getpid()) if filters.tree else None
        self.tasks = Tasks(self.processes, daemons, self.tree.add if self.tree else None)

    def learn(self, raws: Sequence[bytes]) -> None:
        """Who threads are, and for whom they work."""
        for raw in raws:
            kind, _, _, row, _, _, tid, _, _, tgid = records.HEAD.unpack_from(raw)
            of = None if kind == records.REC_TASK else self._rows[row]
            self.tasks.learn(raw, of.private if of else None, of.entry if of else None)
            if of and of.private == DISPATCH:
                self._before.serves(tgid, tid)

    def sender(self, pid: int, uid: int | None, at: int) -> Caller:
        """Who sent a signal, and may have gone since."""
        found = self.processes.lookup(pid, at=at)
        if found.uid != NO_ID or uid is None:
            return found
        return found._replace(uid=uid, user=self.processes.user(uid))

    def passes(self, wanted: bool, task: Task) -> bool:
        """Whether what a thread does is wanted; `wanted`: the kernel says so of it."""
        caller, client, in_tree = task.caller, task.believed, wanted
        if self.tree and not wanted:
            pid, served = client.pid, task.served
            in_tree = pid is not None and self.tree.has(
                pid, served.client_start if served else None
            )
            in_tree = in_tree or self.tree.has(caller.pid)
        return self._filters.passes(wanted, caller, task.comm, client, in_tree)
