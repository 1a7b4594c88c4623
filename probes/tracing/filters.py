# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which calls are wanted: options come in; settings for the kernel and a test for finished
calls go out.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from log.client import Client
from log.events import Call, Caller, DomainEvent, Event, Owed
from log.filters.about import ended_so, is_about, is_one_of, names_of, wants_function
from probes.api.table import Function
from probes.kernel import records
from probes.kernel.globs import compile_globs
from probes.kernel.loading.shared import Shared

_WILD = set("*?[")


@dataclass(frozen=True)
class Filters:
    """The user's choice; an empty tuple leaves everything in."""

    pids: tuple[int, ...] = ()
    uids: tuple[int, ...] = ()
    comms: tuple[str, ...] = ()  # names or globs
    functions: tuple[str, ...] = ()  # globs; "!" before one leaves out
    objects: tuple[str, ...] = ()  # globs
    writes: bool = False
    failed: bool = False
    slower_ns: int | None = None
    nested: bool = False
    plumbing: bool = False
    tree: bool = False  # only descendants of the tracer

    def probes(self, function: Function) -> bool:
        """Whether the function is probed: plumbing is only when asked for. Others are even when
        they aren't wanted, to tell the calls that a program makes from those that libvirt makes
        inside them.
        """
        return function.access != "plumbing" or self.plumbing or self._named(function.name)

    def wants(self, function: Function) -> bool:
        """Whether calls of the function are recorded."""
        if self.writes and not function.is_write:
            return False
        return wants_function(function.name, self.functions)

    def _named(self, name: str) -> bool:
        return any(
            fnmatch.fnmatchcase(name, glob) for glob in self.functions if not glob.startswith("!")
        )

    def unknown(self, names: Collection[str]) -> list[str]:
        """A complaint for each glob of -f that matches none of the names: else a wrong letter
        looks like a quiet host.
        """
        complaints = []
        for glob in self.functions:
            wanted = glob.removeprefix("!")
            if not fnmatch.filter(names, wanted):
                import difflib  # seldom used, and long to import

                close = difflib.get_close_matches(wanted, names, 1)
                hint = (
                    (f'did you mean "{close[0]}"?')
                    if close
                    else "libvirt-trace list shows them all"
                )
                complaints.append(f'no function is called "{wanted}"; {hint}')
        return complaints

    def wants_none_of(self, names: Collection[str]) -> bool:
        """Whether -f names functions, and none that there is."""
        wanted = [glob for glob in self.functions if not glob.startswith("!")]
        return bool(wanted) and not any(fnmatch.filter(names, glob) for glob in wanted)

    def settings(self, shared: Shared, self_pid: int) -> bytes:
        """The settings for the kernel, not ready yet; fills its filter maps."""
        shared.allow("pids", (pid.to_bytes(4, "little") for pid in self.pids))
        shared.allow("uids", (uid.to_bytes(4, "little") for uid in self.uids))
        names = () if self.has_wild_names else self.comms
        shared.allow(
            "comms", (name.encode(errors="surrogateescape")[:15].ljust(16, b"\0") for name in names)
        )
        automaton = compile_globs(self.objects) if self.objects else None
        if automaton:
            shared.glob[: 8 * 256] = b"".join(
                bits.to_bytes(8, "little") for bits in automaton.accepts
            )
        return records.SETTINGS.pack(
            0,
            self_pid,
            self.nested,
            bool(self.pids),
            bool(self.uids),
            bool(names),
            self.tree,
            automaton is not None,
            self.writes,
            0,
            *(
                (automaton.start, automaton.stay, automaton.char, automaton.end)
                if automaton
                else (0, 0, 0, 0)
            ),
            0,
            0,
            0,
            0,
        )

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is left to decide when a call has finished."""
        return not (self.failed or self.slower_ns is not None or self.writes or self.objects)

    @property
    def is_known_at_entry(self) -> bool:
        """Whether the kernel can tell which calls are wanted when they begin."""
        return self.keeps_all and not self.has_wild_names

    @property
    def has_wild_names(self) -> bool:
        """Whether threads are chosen by names that the kernel can't compare."""
        return any(_WILD & set(comm) for comm in self.comms)

    @property
    def by_process(self) -> bool:
        """Whether processes are chosen: what daemons do is shown then for these only."""
        return bool(self.pids or self.uids or self.comms or self.tree)

    def hides_changes(self, functions: Iterable[Function]) -> bool:
        """Whether calls are left out that may change a domain."""
        return any(
            function.is_write and function.name.startswith("virDomain") and not self.wants(function)
            for function in functions
        )

    def passes(
        self, wanted: bool, caller: Caller, comm: str, client: Client, in_tree: bool
    ) -> bool:
        """Whether what a thread does is wanted because of it or of its client; `wanted`: the kernel
        says so of the thread.

        `in_tree`: one of them descends from the tracer. This is the whole choice of processes: what
        a call causes is as wanted as the call.
        """
        if wanted and (not self.has_wild_names or is_one_of(comm, self.comms)):
            return True
        return (
            (not self.pids or caller.pid in self.pids or client.pid in self.pids)
            and (not self.uids or caller.uid in self.uids or client.uid in self.uids)
            and (
                not self.comms
                or is_one_of(comm, self.comms)
                or is_one_of(client.program, self.comms)
            )
            and (not self.tree or in_tree)
        )

    def keeps(self, event: Event) -> bool:
        """Whether an event of a wanted process is shown. Always, where `keeps_all`."""
        if type(event) is Owed:
            chooses = self.failed or self.slower_ns is not None
            return not chooses and is_about(names_of(event), self.objects)
        if type(event) is not Call:
            return type(event) is not DomainEvent or is_about(names_of(event), self.objects)
        if self.writes and not event.write:
            return False
        return ended_so(event, failed=self.failed, slower_ns=self.slower_ns) and is_about(
            names_of(event), self.objects
        )
