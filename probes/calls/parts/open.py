# SPDX-License-Identifier: LGPL-2.1-or-later
"""The calls that are under way: by thread, by process, and what few of them have beside their
entry record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from log.events import Event, VerdictInfo, call_id
from log.values import Value
from probes.kernel import records
from probes.plans.meaning.captured import Piece, u64

NO_RETURN = "no return probe"
MOST_CHILDREN = 1000  # of a call that are shown below it
MOST_LOOKED_AT = 512  # calls of a process, where one of them is sought

Pieces = dict[int, list[Piece]]  # of long strings, by operation


# what access drivers were asked for a call, and answered
Answers = list[Mapping[str, Value]]


class Message(NamedTuple):
    """What tells one call of a connection from all others that are under way on it."""

    program: int
    procedure: int
    serial: int


class Sent(NamedTuple):
    """A message on its way: by the call `number` of the thread, which another process may have
    caused (`client_pid`).
    """

    pid: int
    tid: int
    number: int
    id: str  # of the call
    client_pid: Value
    uid: int = 0  # effective


class Extra:
    """What few calls under way have beside their entry record."""

    __slots__ = (
        "access",
        "changed",
        "checked",
        "children",
        "command",
        "held_by",
        "hidden",
        "is_past",
        "more",
        "origins",
        "pieces",
        "sent",
        "unarmed",
        "verdict",
    )

    def __init__(self) -> None:
        self.access: Answers = []
        self.changed: set[Value] = set()  # UUIDs of domains
        # the call that had the job which this one waited for in vain
        self.held_by: Mapping[str, Value] | None = None
        self.hidden = False  # for nobody who is asked for
        self.pieces: Pieces | None = None  # of long arguments
        self.unarmed: str | None = None  # why it has no return probe
        self.verdict: VerdictInfo | None = None
        self.is_past = False  # past a policy that no daemon is asked about instead
        self.sent: dict[Message, None] = {}  # in this order
        self.origins: list[Sent] = []
        # no more than MOST_CHILDREN: a migration asks its monitor for hours
        self.children: list[Event] = []
        self.more = 0
        # to a monitor or agent that has not answered: time (ns), whether to an agent, text
        self.command: tuple[int, bool, Value] | None = None
        # UUID and name of the domain that the driver found
        self.checked: tuple[str, Value] | None = None

    def add(self, child: Event) -> None:
        """What the call has caused."""
        if len(self.children) < MOST_CHILDREN:
            self.children.append(child)
        else:
            self.more += 1


class Open(NamedTuple):
    """A call that has begun."""

    raw: bytes | None  # its entry record; None: lost
    row: int
    seq: int
    depth: int
    task: int
    tgid: int
    level: int

    @property
    def started(self) -> int:
        """ns, CLOCK_MONOTONIC."""
        assert self.raw is not None
        return int.from_bytes(self.raw[records.RECORD_TIME : records.RECORD_TIME + 8], "little")

    @property
    def is_unarmed(self) -> bool:
        """Whether it has no return probe."""
        return self.raw is not None and bool(self.raw[records.RECORD_FLAGS] & records.REC_UNARMED)

    @property
    def is_after_left(self) -> bool:
        """Whether it has none as another call may have been left for good."""
        return self._has(records.CALLER_LEFT)

    @property
    def is_confined(self) -> bool:
        """Whether it has none as its thread is under seccomp."""
        return self._has(records.CALLER_CONFINED)

    def _has(self, bit: int) -> bool:
        return self.raw is not None and bool(u64(self.raw, records.ENTRY_CALLER) & bit)

    @property
    def sp(self) -> int:
        """Where its return address is."""
        assert self.raw is not None
        return u64(self.raw, records.ENTRY_SP)


def why_unarmed(call: Open, stack: list[Open]) -> str:
    """Why it has no return probe, though its function has one, after those of its thread that
    are still under way.
    """
    if call.is_confined:
        return f"{NO_RETURN}: under seccomp"
    if call.is_after_left:
        return f"{NO_RETURN}: another call was left"
    armed = [other for other in stack if other.raw is not None and not other.is_unarmed]
    # none: it was the parent process that made the other one, or its record was lost
    near = not armed or 0 < armed[-1].sp - call.sp < records.NEAR
    return f"{NO_RETURN}: {'inside another call' if near else 'stack switched'}"


class OpenCalls:
    """The calls under way. `epoch`: the time since the epoch (ns) of a time on CLOCK_MONOTONIC."""

    def __init__(self, epoch: Callable[[int], int]) -> None:
        self._epoch = epoch
        # by thread, the outermost first
        self.stacks: defaultdict[int, list[Open]] = defaultdict(list)
        self._extras: dict[tuple[int, int], Extra] = {}  # by thread and number
        self._process: dict[int, int] = {}  # of each thread that has a stack
        self._threads: defaultdict[int, set[int]] = defaultdict(set)  # those, by process

    def begin(self, call: Open, tid: int, stack: list[Open]) -> None:
        """It has begun, in the thread whose stack that is."""
        if not stack and self._process.get(tid) != call.tgid:
            self._forget_process(tid)
            self._process[tid] = call.tgid
            self._threads[call.tgid].add(tid)
        stack.append(call)

    def extra(self, tid: int, call: Open) -> Extra:
        """What it has beside its record, from now on."""
        key = (tid, call.seq)
        found = self._extras.get(key)
        if found is None:
            found = self._extras[key] = Extra()
        return found

    def extra_of(self, tid: int, number: int) -> Extra | None:
        """What the call of that number has beside its record, if anything."""
        return self._extras.get((tid, number)) if self._extras else None

    def take_extra(self, tid: int, number: int) -> Extra | None:
        """The same, as the call is over."""
        return self._extras.pop((tid, number), None) if self._extras else None

    def is_hidden(self, tid: int, number: int) -> bool:
        """Whether the call is one that nobody asked for."""
        extra = self._extras.get((tid, number)) if self._extras else None
        return extra is not None and extra.hidden

    def id(self, call: Open, tid: int) -> str:
        """What the log knows it by."""
        return call_id(tid, self._epoch(call.started))

    def innermost(self, tid: int) -> Open | None:
        """The thread's last call."""
        stack = self.stacks.get(tid)
        return stack[-1] if stack else None

    def outermost(self, pid: int) -> list[tuple[int, Open]] | None:
        """Threads of the process that are in a call, and the outermost one of each; None: more
        than anybody should look at.
        """
        found: list[tuple[int, Open]] = []
        for tid in self._threads.get(pid, ()):
            if stack := self.stacks.get(tid):
                if len(found) == MOST_LOOKED_AT:
                    return None
                found.append((tid, stack[0]))
        return found

    def began_before(self, when: int, pid: int | None = None) -> Iterator[tuple[int, list[Open]]]:
        """Threads, of that process if one is given, whose outermost call began before the time
        `when` (ns), and their stacks.
        """
        for tid in list(self.stacks if pid is None else self._threads.get(pid, ())):
            stack = self.stacks.get(tid)
            if stack and stack[0].started < when:
                yield tid, stack

    def oldest(self) -> int | None:
        """When the oldest call began that is under way (ns)."""
        return min((stack[0].started for stack in self.stacks.values() if stack), default=None)

    def forget(self, tid: int) -> list[Open]:
        """The thread has ended; the calls that it was in, the innermost first."""
        self._forget_process(tid)
        return self.stacks.pop(tid, [])[::-1]

    def forget_idle(self) -> None:
        """Of threads outside any call nothing is kept."""
        for tid in [tid for tid, stack in self.stacks.items() if not stack]:
            self.forget(tid)

    def threads(self) -> list[tuple[int, int]]:
        """(pid, tid) of threads inside a call."""
        return [(stack[0].tgid, tid) for tid, stack in self.stacks.items() if stack]

    def __len__(self) -> int:
        return sum(len(stack) for stack in self.stacks.values())

    def _forget_process(self, tid: int) -> None:
        pid = self._process.pop(tid, None)
        if pid is not None:
            self._threads[pid].discard(tid)
            if not self._threads[pid]:
                del self._threads[pid]
