# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the kernel tells of processes and libraries: its records come in; all who keep something of
a process learn it at once, and what has its place among the calls goes out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from probes.calls.losses import Losses
from probes.host.libraries.mapwatch import Dropped, Happened, Mapped, Online, Record
from probes.host.libraries.modules import Modules
from probes.host.libraries.symbols import Symbols
from probes.host.looking.owners import Owners
from probes.host.looking.turns import Turns
from probes.host.processes.callers import Processes
from probes.host.processes.lives import Exec, Exited, Forked, Missed, OutOfMemory, Signalled
from probes.host.processes.tree import Tree
from probes.tracing.attachments import Attachments

REMEMBERING = 0.02  # s at a time


class Noticing:
    """Hands on what is told. `warn`: is told what the user should know."""

    def __init__(
        self,
        attachments: Attachments,
        modules: Modules,
        symbols: Symbols,
        owners: Owners,
        processes: Processes,
        tree: Tree | None,
        losses: Losses,
        warn: Callable[[str], None],
    ) -> None:
        self._attachments, self._modules, self._symbols = attachments, modules, symbols
        self._owners, self._processes, self._tree = owners, processes, tree
        self._losses, self._warn = losses, warn
        self._remembering: Turns[int] = Turns()  # processes whose mappings are to be remembered

    def is_settled(self) -> bool:
        """Whether nothing is left to do for what was told."""
        return not self._remembering

    def notice(self, seen: Sequence[Record]) -> list[Happened]:
        """Processes that begin and end, and libraries that they load."""
        happened: list[Happened] = []
        self._owners.refresh()
        for record in seen:
            if isinstance(record, Mapped):
                happened.append(record)
                self._modules.changed(record.pid)
                self._remembering.put(self._owners.of(record.pid), record.pid, record.pid)
                self._attachments.mapped(record)
            elif isinstance(record, Exited | Signalled | OutOfMemory):
                happened.append(record)
            elif isinstance(record, Exec):
                happened.append(record)
                self._modules.changed(record.pid)
                self._processes.noticed(record)
            elif isinstance(record, Forked):
                happened.append(record)
                self._processes.noticed(record)
                self._owners.forked(record.pid, record.ppid)
                if self._tree:
                    self._tree.forked(record)
            elif isinstance(record, Missed):
                self._processes.noticed(record)
                self._losses.dropped(record.records)
            elif isinstance(record, Dropped | Online):
                self._missed(record)
        self._remembering.run(lambda _, pid: self._symbols.remember(pid), REMEMBERING)
        return happened

    def _missed(self, record: Dropped | Online) -> None:
        """Libraries may have been mapped unseen."""
        if isinstance(record, Online):
            self._warn(
                f"CPU {record.cpu} was switched on: libraries that were loaded "
                "there in the moment before are looked for"
            )
        else:
            self._losses.unseen(record.records)
        self._attachments.missed()
