# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is known of calls that hang since before tracing began: threads as they are inside come in,
events go out.

The functions on a thread's stack were given an object, a message, a domain's jobs: what is there is
read from its process's memory. A call of a client and what a daemon does for it are one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import UUID

from log.client import UNKNOWN, Client
from log.events import UnderWay
from log.redact.json import redact_message, without_newline
from log.values import Handle, Value
from probes.api.table import ApiTable
from probes.calls.serving import waits
from probes.calls.serving.endings import whose
from probes.calls.serving.tasks import Task
from probes.hanging import memory as memories
from probes.hanging.memory import Held, ProcessMemory, memory_of
from probes.host.daemons.stacks import Inside, Stacks
from probes.host.looking.held import LOOKING
from probes.internals import waiting
from probes.internals.private import AGENT, BEGINS_JOB, DISPATCH, MONITOR, SEND, SENDS
from probes.internals.waiting import AGENT_JOB, JOB, LONG_JOB

_MS = 1_000_000
_TEXT_OF_MESSAGE, _HEADER = 8, 32  # private.MONITOR and private.DISPATCH say so
MOST_OF_MONITOR = 512  # bytes of a monitor's or an agent's, in which its domain is

# process of the client, program, procedure, serial; None: not known
Message = tuple[int, int, int, int] | None


class TaskOf(Protocol):
    """Tells who a process's thread works for, by the identity of its client."""

    def __call__(
        self, pid: int, comm: str, identity: Mapping[str, Value] | None, *, serves: bool
    ) -> Task:
        """The thread, as it is now."""


class _Read(NamedTuple):
    """What memory tells of a call."""

    object: Handle | None = None
    connection: Value = None
    identity: Mapping[str, Value] | None = None  # of a daemon's client
    message: tuple[int, int, int] | None = None  # program, procedure, serial
    command: Value = None
    wants: str | None = None  # which of a domain's jobs
    since: int | None = None  # ms since the epoch: it has the job, or waits for it
    held: Held | None = None  # who has it
    jobs: int = 0  # where the domain's are
    kind: str = ""  # of the one that it has
    most: int = 0  # calls of its client that the daemon takes at a time; 0: not known


class Witness(NamedTuple):
    """Who had the job of a domain that somebody waits for, when it was looked."""

    pid: int  # of the daemon
    jobs: int  # where the domain's are
    kind: str  # which of them
    held: Held
    holder: Inside | None  # None: it is in no public function
    identity: Mapping[str, Value] | None  # of its client


class Busy(NamedTuple):
    """A connection of a daemon's, on whose calls it works."""

    client: int | None  # its process; None: it has none here
    is_known: bool  # who it is
    calls: int  # that are worked on
    most: int  # that are taken at a time; 0: not known

    def is_full(self) -> bool:
        """Whether no further call is taken."""
        return 0 < self.most <= self.calls


class Hanging:
    """Looks at them."""

    def __init__(
        self,
        stacks: Stacks,
        table: ApiTable,
        task_of: TaskOf,
        *,
        redact: bool,
        proc: Path = Path("/proc"),
    ) -> None:
        self._stacks, self._table, self._task_of = stacks, table, task_of
        self._redact, self._proc = redact, proc
        self._show_command = redact_message if redact else without_newline

    def describe(self, found: Iterable[Inside], now: int) -> list[UnderWay]:
        """Those calls, at the time `now` (ns since the epoch): the ones that last longest first, as
        far as that is known.
        """
        read = [(one, self._read(one)) for one in found]
        served = {
            (one.pid, one.tid): self._task_of(one.pid, one.comm, what.identity, serves=one.serves)
            for one, what in read
        }
        told: list[UnderWay] = []
        made = _only_once(
            (_key(one.pid, what), (one, what)) for one, what in read if SEND in one.given
        )
        done = _only_once(
            (_key(_client_pid(served[one.pid, one.tid]), what), (one, what))
            for one, what in read
            if one.serves
        )
        linked = made.keys() & done.keys()
        for one, what in read:
            task, doing = served[one.pid, one.tid], (one, what)
            if one.serves and _key(_client_pid(task), what) in linked:
                continue  # told with its client's
            if SEND in one.given and _key(one.pid, what) in linked:
                doing = done[_key(one.pid, what)]
            told.append(self._event(one, what, task, *doing, now))
        return sorted(told, key=lambda event: (event.age_ns is None, -(event.age_ns or 0)))

    def witness(self, pid: int, tid: int) -> Witness | None:
        """Who keeps that thread waiting, which wants a domain's job; None: it is not known."""
        one = self._stacks.look(pid, tid)
        what = self._read(one) if one and one.waits_for == BEGINS_JOB else _Read()
        if one is None or what.held is None or what.wants is None:
            return None
        return self._witness(pid, what)

    def busy(self, pid: int) -> list[Busy]:
        """The connections on whose calls a daemon works, as far as these do not end at once."""
        calls: Counter[int] = Counter()
        one_of: dict[int, Inside] = {}
        for one in self._stacks.scan([pid]):
            if one.serves:
                end = one.given.get(DISPATCH, {}).get(2, 0)
                calls[end] += 1
                one_of[end] = one
        return [self._busy(one, calls[end]) for end, one in one_of.items()]

    def _busy(self, one: Inside, calls: int) -> Busy:
        what = self._read(one)
        task = self._task_of(one.pid, one.comm, what.identity, serves=True)
        return Busy(_client_pid(task), what.identity is not None, calls, what.most)

    def by(self, seen: Witness, now: int) -> Mapping[str, Value]:
        """The call that has the job, or what the daemon calls it, at that time (ns since the
        epoch).
        """
        function: Value = seen.held.name or "?"
        who: Mapping[str, Value] = {}
        if (one := seen.holder) is not None:
            function = one.function
            task = self._task_of(seen.pid, one.comm, seen.identity, serves=one.serves)
            who = whose(task)
        age = now - seen.held.since * _MS
        return {"id": None, "function": function, **who, "age_ns": age if age >= 0 else None}

    def is_still(self, seen: Witness) -> bool:
        """Whether nothing has changed since then: the same thread has had the job all the time."""
        try:
            with memory_of(seen.pid, self._proc) as memory:
                return memories.holder(memory, seen.jobs, seen.kind) == seen.held
        except OSError:
            return False

    def _witness(self, pid: int, what: _Read) -> Witness | None:
        assert what.held and what.wants
        one = self._stacks.look(pid, what.held.tid)
        identity = self._read(one).identity if one else None
        return Witness(pid, what.jobs, what.kind, what.held, one, identity)

    def _event(
        self, one: Inside, what: _Read, task: Task, doing: Inside, does: _Read, now: int
    ) -> UnderWay:
        place = waits.place_of(doing.waits_for, serves=doing.serves)
        if doing.waits_for == BEGINS_JOB and does.wants == AGENT_JOB:
            place = waits.FOR_AGENT_JOB
        age = None if does.since is None else now - does.since * _MS
        seen = self._witness(doing.pid, does) if does.held else None
        held_by = self.by(seen, now) if seen else None
        return UnderWay(
            now,
            age if age is not None and age >= 0 else None,
            one.tid,
            one.comm,
            task.caller,
            (task.served.shown or UNKNOWN) if task.served else None,
            one.function,
            what.object,
            place,
            does.command,
            held_by,
            connection=what.connection if isinstance(what.connection, str) else None,
            before=True,
        )

    def _read(self, one: Inside) -> _Read:
        return LOOKING.ask(one.pid, lambda: self._look(one), _Read(), self._proc)

    def _look(self, one: Inside) -> _Read:
        try:
            with memory_of(one.pid, self._proc) as memory:
                found = self._objects(memory, one)
                about = next(
                    (it for it in found if it.type != "connect"), found[0] if found else None
                )
                found_jobs = self._jobs(memory, one, about)
                return found_jobs._replace(
                    object=about,
                    connection=about
                    and memories.connection_of(memory, about, one.layout, redact=self._redact),
                    identity=self._identity(memory, one),
                    message=_message(memory, one),
                    command=self._command(memory, one),
                    most=_most_calls(memory, one),
                )
        except OSError:
            return _Read()

    def _objects(self, memory: ProcessMemory, one: Inside) -> list[Handle]:
        function = self._table.by_name.get(one.function)
        given = one.given.get(one.function, {})
        return [
            found
            for number, param in enumerate(function.params if function else ())
            if param.kind == "handle" and param.object and number in given
            if (
                found := memories.handle(
                    memory, param.object, given[number], one.layout, redact=self._redact
                )
            )
        ]

    def _identity(self, memory: ProcessMemory, one: Inside) -> Mapping[str, Value] | None:
        end = one.given.get(DISPATCH, {}).get(2)
        at = one.places.get(waiting.CLIENT_IDENTITY)
        return memories.identity(memory, memory.word(end + at)) if end and at else None

    def _command(self, memory: ProcessMemory, one: Inside) -> Value:
        """What a monitor, or an agent, has not answered."""
        if one.waits_for in AGENT:
            return AGENT[one.waits_for] or self._shown(
                memory.text(one.given.get(one.waits_for, {}).get(1, 0))
            )
        at, monitor = one.places.get(waiting.MESSAGE), one.given.get(MONITOR, {}).get(0)
        if one.waits_for != MONITOR or not at or not monitor:
            return None
        return self._shown(memory.text(memory.word(memory.word(monitor + at) + _TEXT_OF_MESSAGE)))

    def _shown(self, text: str | None) -> Value:
        return None if text is None else self._show_command(text)

    def _jobs(self, memory: ProcessMemory, one: Inside, about: Handle | None) -> _Read:
        """Which job it wants, who has that, and since when it waits for it, or has one itself."""
        if waiting.HAS_JOBS not in one.places:
            return _Read()
        if one.waits_for != BEGINS_JOB:
            kind = AGENT_JOB if one.waits_for in AGENT else JOB
            own = _own(memory, one, about, (kind, LONG_JOB))
            return _Read(since=own.since if own else None)
        given = one.given.get(BEGINS_JOB, {})
        if 1 not in given or 2 not in given:
            return _Read()
        kinds = (JOB, LONG_JOB) if given[2] & 0xFFFFFFFF else (AGENT_JOB,)
        what = _Read(wants=kinds[0], since=_waits_since(memory, one), jobs=given[1])
        for kind in kinds:
            if held := memories.holder(memory, given[1], kind):
                return what._replace(held=held, kind=kind)
        return what


def _own(
    memory: ProcessMemory, one: Inside, about: Handle | None, kinds: tuple[str, ...]
) -> Held | None:
    """The job that the thread has, of the domain whose monitor or agent it asks. That has the
    domain somewhere: it is the one with the same UUID, and a job of this thread.
    """
    job, definition = (one.places.get(key) for key in (waiting.DOMAIN_JOB, waiting.DEFINITION))
    monitor = one.given.get(one.waits_for or "", {}).get(0)
    uuid = about.fields.get("uuid") if about and about.type == "domain" else None
    whole = memory.read(monitor, MOST_OF_MONITOR) if monitor else None
    if job is None or definition is None or whole is None or not isinstance(uuid, str):
        return None
    for i in range(0, MOST_OF_MONITOR, 8):
        domain = int.from_bytes(whole[i : i + 8], "little")
        described = memory.word(domain + definition) if domain else 0
        if described and memory.read(described + 8, 16) == UUID(uuid).bytes:
            jobs = memory.word(domain + job)
            for kind in kinds:
                held = memories.holder(memory, jobs, kind)
                if held and held.tid == one.tid:
                    return held
    return None


def _waits_since(memory: ProcessMemory, one: Inside) -> int | None:
    """Since when a thread waits for a job: it gives up after a time that is known."""
    if not one.until or waiting.PATIENCE not in one.places:
        return None
    until = memory.word(one.until) * 1000 + memory.word(one.until + 8) // _MS
    return until - one.places[waiting.PATIENCE] if until else None


def _most_calls(memory: ProcessMemory, one: Inside) -> int:
    """How many calls a daemon takes at a time of the client that it works for; 0: not known."""
    end, at = one.given.get(DISPATCH, {}).get(2), one.places.get(waiting.CLIENT_REQUESTS)
    return memory.number(end + at) if end and at else 0


def _message(memory: ProcessMemory, one: Inside) -> tuple[int, int, int] | None:
    """Program, procedure and serial of the message that a client has sent, or a daemon handles."""
    at = one.given.get(DISPATCH, {}).get(3) if one.serves else one.given.get(SENDS, {}).get(1)
    header = memory.read(at + _HEADER, 24) if at else None
    if header is None:
        return None
    program, procedure, serial = (int.from_bytes(header[i : i + 4], "little") for i in (0, 8, 16))
    return program, procedure, serial


def _client_pid(task: Task) -> int | None:
    client: Client | None = task.served.client if task.served else None
    return client.pid if client else None


def _key(client: int | None, what: _Read) -> Message:
    return None if client is None or what.message is None else (client, *what.message)


def _only_once(
    found: Iterator[tuple[Message, tuple[Inside, _Read]]],
) -> dict[Message, tuple[Inside, _Read]]:
    """Where several have the same message, none is told from the others."""
    everything = list(found)
    times = Counter(key for key, _ in everything)
    return {key: it for key, it in everything if times[key] == 1 and key is not None}
