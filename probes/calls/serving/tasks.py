# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who made a call and for whom: records of the ring of tasks come in, threads as they were at a
call go out.

A thread says who it is by a number of its own (REC_TASK), and what it does for a client by another;
so nothing here is found by a thread's or a process's number, which is given out again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from log.client import UNKNOWN, Client
from log.events import Caller
from log.recent import Recent
from log.values import Value
from probes.calls.parts.open import Message
from probes.calls.serving.clients import Clients, Connection, Identified, Served, dispatched
from probes.host.daemons.programs import Daemons
from probes.host.processes.callers import Captured, Processes
from probes.internals.private import CLAIM, IDENTITY
from probes.kernel import records
from probes.plans.meaning.captured import u64
from probes.plans.plan import Constants, Plan

MOST = 65536
_NO_MESSAGE = Message(0, 0, 0)


class Task(NamedTuple):
    """A thread as it was when it made a call."""

    caller: Caller
    comm: str
    served: Served | None = None  # what it was doing for a client
    is_daemon: bool = False  # of one of libvirt's daemons
    is_roots: bool = False  # none but root can have changed its program

    @property
    def believed(self) -> Client:
        """The client, as far as it is believed who that is: anybody can make a daemon, and say what
        he likes of others.

        One that root runs is believed, another user's of that user's own processes.
        """
        served, uid = self.served, self.caller.uid
        if served is None or served.client is None or not self.is_roots:
            return UNKNOWN
        is_own = served.client.uid == served.client_uid == uid
        return served.client if uid == 0 or is_own else UNKNOWN


class Choice(NamedTuple):
    """What of the user's choice matters while calls are under way; which events are shown in the
    end is for log/filters/shown.py.

    Which processes are wanted is decided when a call begins, since what it causes is as wanted as
    it is.
    """

    # of what a thread does: whether it is wanted, by whether the kernel says so of the thread, and
    # the thread
    passes: Callable[[bool, Task], bool] | None = None  # None: all is
    asks: bool = False  # the kernel can't say so of any thread
    hides_changes: bool = False  # calls that may change a domain are left out
    only_writes: bool = False


class Tasks:
    """Threads, by the numbers in records.

    `in_tree` is told of each process that passes the kernel's filters: its number and when it began
    (ns, CLOCK_BOOTTIME).
    """

    def __init__(
        self, processes: Processes, daemons: Daemons, in_tree: Callable[[int, int], None] | None
    ) -> None:
        self._processes, self._daemons, self._in_tree = processes, daemons, in_tree
        self._clients = Clients(processes)
        self._own: Recent[int, Task] = Recent(MOST)
        self._serving: Recent[int, Task] = Recent(MOST)
        # whether it is a daemon and root's own, by number, start and program, since that is still
        # asked for when the process has gone
        self._programs: Recent[tuple[int, int, str | None], tuple[bool, bool]] = Recent(MOST)

    def learn(self, raw: bytes, private: str | None, plan: Plan | None) -> None:
        """From the next record: a REC_TASK, or one of the inner function `private`."""
        kind, _, flags, _, time_ns, task, tid, _, _, tgid = records.HEAD.unpack_from(raw)
        if kind == records.REC_TASK:
            self._learn_thread(raw, flags, time_ns, task, tgid)
        elif private == CLAIM:
            if (known := self._serving.get(task)) and known.served and plan:
                self._clients.claimed(_identified(raw, plan), known.served, tgid, time_ns)
        elif private != IDENTITY:
            assert plan is not None
            own = u64(raw, records.ENTRY_SP)
            fields = plan.decode(raw, {}, Constants())
            self._serving.put(
                task,
                self.find(own, tgid, tid)._replace(served=dispatched(fields), is_daemon=True),
            )
        elif (
            (known := self._serving.get(task)) and known.served and known.served.client is None
        ):  # drivers change it for a while
            assert plan is not None
            client, start, uid = self._clients.of(
                _identified(raw, plan), known.served, tgid, time_ns
            )
            served = known.served._replace(client=client, client_start=start, client_uid=uid)
            known = known._replace(served=served)
            shown = client if known.believed is client else self._clients.unproved(client)
            self._serving.put(task, known._replace(served=served._replace(shown=shown)))

    def seen(
        self, pid: int, comm: str, identity: Mapping[str, Value] | None, *, serves: bool
    ) -> Task:
        """A thread that nothing was told of: what it is now, and whom it serves, by the client's
        identity in its memory.
        """
        daemon = self._daemons.is_daemon(pid)
        task = Task(self._processes.lookup(pid), comm, None, daemon, self._daemons.is_roots(pid))
        if not serves:
            return task
        client, start, uid = (
            self._clients.read(identity, pid) if identity else (UNKNOWN, None, None)
        )
        served = Served(_NO_MESSAGE, Connection(None, None), client, 0, start, uid)
        task = task._replace(served=served, is_daemon=True)
        shown = client if task.believed is client else client._replace(unproved=True)
        return task._replace(served=served._replace(shown=shown))

    def name(self, names: Mapping[int, str]) -> None:
        """Names of users that are known only now."""
        named = self._processes.name(names)
        for known in (self._own, self._serving):
            for number, task in known.items():
                caller = named.get(id(task.caller))
                if caller is None and task.caller.uid in names and task.caller.user is None:
                    caller = task.caller._replace(user=names[task.caller.uid])
                if caller is not None:
                    known[number] = task._replace(caller=caller)

    def find(self, task: int, pid: int, tid: int) -> Task:
        """The thread that a record's number stands for."""
        found = self._own.get(task) or self._serving.get(task)
        if found is not None:
            return found
        # its record was lost
        try:
            comm = (
                Path(f"/proc/{pid}/task/{tid}/comm")
                .read_text(errors="backslashreplace")
                .rstrip("\n")
            )
        except OSError:
            comm = "?"
        return Task(
            self._processes.lookup(pid),
            comm,
            None,
            self._daemons.is_daemon(pid),
            self._daemons.is_roots(pid),
        )

    def _learn_thread(self, raw: bytes, flags: int, time_ns: int, task: int, tgid: int) -> None:
        start, cgroup, ppid, uid, gid, loginuid, number, size, real_uid, namespace, comm = (
            records.TASK.unpack_from(raw, records.HEAD.size)
        )
        self._clients.numbers.note(tgid, namespace, number, start)
        name = comm.partition(b"\0")[0].decode(errors="backslashreplace")
        captured = Captured(
            tgid, ppid, uid, gid, None if loginuid == 0xFFFFFFFF else loginuid, cgroup, start,
            raw[records.TASK_TEXT : records.TASK_TEXT + size] or None, name, None, real_uid,
        )  # fmt: skip
        caller = self._processes.caller(captured, time_ns)
        is_daemon, is_roots = self._programs.learn(
            (tgid, start, caller.exe),
            lambda _: (self._daemons.is_daemon(tgid), self._daemons.is_roots(tgid)),
        )
        self._own.put(task, Task(caller, name, None, is_daemon, is_roots))
        if self._in_tree and flags & records.REC_WANTED:
            self._in_tree(tgid, start)


def _identified(raw: bytes, plan: Plan) -> Identified:
    return Identified(plan.key(raw), lambda: plan.decode(raw, {}, Constants()))
