# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which call caused which, in another process: messages come in, origins go out; and so who is
wanted because of whom.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from log.events import Call
from log.values import Value
from probes.calls.parts.open import Extra, Message, Open, OpenCalls, Sent
from probes.calls.parts.verdicts import in_all
from probes.calls.serving.access import keep, told
from probes.calls.serving.clients import Served
from probes.calls.serving.domains import found_by, with_true_name
from probes.calls.serving.tasks import Choice, Task
from probes.kernel import records

MOST_SENT = 64  # messages of a call that answers are expected to; a call sends one and waits
MOST_ORIGINS = 64  # of one message, that can't be told apart


def sent(fields: Mapping[str, Value]) -> Message:
    """The message of a SEND record."""
    program, serial, procedure = fields["block"], fields["arg2"], fields["arg3"]
    assert isinstance(program, int) and isinstance(serial, int) and isinstance(procedure, int)
    return Message(program, procedure & 0xFFFFFFFF, serial & 0xFFFFFFFF)


class Origins:
    """Messages that are on their way, and what was sent for them."""

    def __init__(self) -> None:
        self._sent: dict[Message, list[Sent]] = {}

    def send(self, message: Message, by: Sent) -> None:
        """A call sends it."""
        self._sent.setdefault(message, []).append(by)

    def ended(self, message: Message, tid: int, number: int) -> None:
        """The call that sent it is over."""
        left = [by for by in self._sent.get(message, ()) if (by.tid, by.number) != (tid, number)]
        if left:
            self._sent[message] = left
        else:
            self._sent.pop(message, None)

    def of(self, served: Served, daemon: int) -> list[Sent]:
        """The calls that may have caused what is done for the message: one, or several that can't
        be told apart; none if they are too many.

        A proxy passes on the identity of its own client: then that is the one of the message's
        sender, too, and this the peer. What a daemon says is believed of anybody's calls if root
        runs it, else of its own user's (`daemon`: uid) only: any program can say that it is one.
        """
        pid = served.client.pid if served.client else None
        if served.client is None or pid is None:
            return []
        found = [
            by
            for by in self._sent.get(served.message, ())
            if pid in (by.pid, by.client_pid) and daemon in (0, by.uid)
        ]
        end = served.client.peer.pid if served.client.peer else None
        found = [by for by in found if by.pid == end] or found
        return found if len(found) <= MOST_ORIGINS else []


class Causes:
    """Calls and those that they had made elsewhere."""

    def __init__(
        self, calls: OpenCalls, find_task: Callable[[int, int, int], Task], choice: Choice
    ) -> None:
        self._calls, self._find_task, self._choice = calls, find_task, choice
        self._origins = Origins()

    def sends(self, call: Open, tid: int, message: Message) -> None:
        """The call sends it, and waits for the answer."""
        task = self._find_task(call.task, call.tgid, tid)
        served = task.served
        client_pid = served.client.pid if served and served.client else None
        sent = self._calls.extra(tid, call).sent
        if message in sent:
            return
        if len(sent) >= MOST_SENT:
            oldest = next(iter(sent))
            del sent[oldest]
            self._origins.ended(oldest, tid, call.seq)
        sent[message] = None
        self._origins.send(
            message,
            Sent(call.tgid, tid, call.seq, self._calls.id(call, tid), client_pid, task.caller.uid),
        )

    def of(self, task: Task) -> list[Sent]:
        """The wanted calls that may have caused what the thread does."""
        if task.served is None:
            return []
        caused = self._origins.of(task.served, task.caller.uid)
        return [origin for origin in caused if not self._calls.is_hidden(origin.tid, origin.number)]

    def choose(self, call: Open, flags: int, tid: int) -> None:
        """Whether the call is wanted because of who makes it: as much as the call that caused
        it, or the one around it.
        """
        task = self._find_task(call.task, call.tgid, tid)
        origins = [] if call.depth else self.of(task)
        if origins:
            self._calls.extra(tid, call).origins = origins
        outermost = self._calls.stacks[tid][0]
        if (
            self._calls.is_hidden(tid, outermost.seq)
            if outermost is not call
            else not origins and not self.passes(flags, task)
        ):
            self._calls.extra(tid, call).hidden = True

    def passes(self, flags: int, task: Task) -> bool:
        """Whether what a thread does is wanted because of who it is, or whom it does it for;
        `flags`: of its record.
        """
        return self._choice.passes is None or self._choice.passes(
            bool(flags & records.REC_WANTED), task
        )

    def ended(self, tid: int, call: Open, extra: Extra | None) -> None:
        """The call is over: no answer is for it."""
        for message in extra.sent if extra else ():
            self._origins.ended(message, tid, call.seq)

    def link(self, built: Call, call: Open, tid: int, extra: Extra) -> Call:
        """With what it caused and what caused it."""
        self.ended(tid, call, extra)
        origins = extra.origins
        built = built._replace(
            verdict=in_all(extra),
            children=tuple(extra.children),
            more_children=extra.more,
            parent=origins[0].id if len(origins) == 1 else None,
            one_of=tuple(origin.id for origin in origins) if len(origins) > 1 else (),
            held_by=extra.held_by if built.error else None,
            access=told(extra.access) if built.failed else (),
        )
        for uuid, name in [extra.checked] if extra.checked else found_by(extra.children):
            built = with_true_name(built, uuid, name)
        if len(origins) == 1 and (
            parent := self._calls.extra_of(origins[0].tid, origins[0].number)
        ):
            parent.add(built)
            parent.held_by = extra.held_by
            for answer in built.access:
                keep(parent.access, answer)
        return built
