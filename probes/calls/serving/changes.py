# SPDX-License-Identifier: LGPL-2.1-or-later
"""What calls do besides: what they tell the monitors of virtual machines, and domains that
begin or cease to run, go out as events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from log.events import BY_CALL, BY_CONNECTION_END, NO_CALL, Command, DomainEvent, Event
from log.filters.asking import only_asks
from log.redact.json import redact_message, without_newline
from log.values import Handle, Value
from probes.api.table import ApiTable, Function
from probes.calls.parts.decode import Decoder
from probes.calls.parts.open import Open, OpenCalls
from probes.calls.serving.causes import Causes
from probes.calls.serving.domains import Lifecycle, is_told, uuid_of
from probes.calls.serving.endings import ENDINGS, Cause, Endings, whose
from probes.calls.serving.tasks import Choice, Task
from probes.kernel import records

MOST_PENDING = 256  # changes of domains of which it isn't known yet what caused them
MIGRATED, FINISHES = "migrated", "virDomainMigrateFinish"
MOST_CAUSES = 64  # of a change, that can't be told apart


class Pending(NamedTuple):
    """A change of a domain, while it may be told yet which of the calls under way does it."""

    event: DomainEvent
    uuid: Value
    task: Task
    flags: int
    causes: set[tuple[int, int]]  # threads and numbers of calls


class Changes:
    """Changes of domains, some of which wait until it is known which call did them.

    `unseen`: whether calls of which nothing is known may be under way in a process.
    """

    def __init__(
        self,
        decoder: Decoder,
        calls: OpenCalls,
        causes: Causes,
        table: ApiTable,
        find_task: Callable[[int, int, int], Task],
        epoch: Callable[[int], int],
        choice: Choice,
        unseen: Callable[[int], bool],
        endings: Endings,
        *,
        redact: bool,
    ) -> None:
        self._decoder, self._calls, self._causes = decoder, calls, causes
        self._find_task, self._epoch, self._choice, self._unseen = find_task, epoch, choice, unseen
        self._endings = endings
        self._lifecycle = Lifecycle(table)
        self._show_command = redact_message if redact else without_newline
        self.pending: list[Pending] = []

    def asks(self, call: Open, tid: int, to_agent: bool, text: Value, time: int) -> None:
        """The call tells a monitor, or an agent, something, and waits for an answer."""
        self._calls.extra(tid, call).command = time, to_agent, self._show_command(text)

    def answered(self, call: Open, tid: int, time: int, ended: list[Event]) -> None:
        """The answer has come."""
        extra = self._calls.extra(tid, call)
        if not extra.command:
            return
        began, to_agent, text = extra.command
        task = self._find_task(call.task, call.tgid, tid)
        command = Command(
            self._epoch(began),
            time - began,
            tid,
            task.comm,
            task.caller,
            text,
            self._calls.id(call, tid),
            to_agent,
        )
        extra.command = None
        if self._choice.only_writes and only_asks(text):
            return
        extra.add(command)
        if not extra.hidden:
            ended.append(command)

    def commands(self, call: Open, tid: int, monitor: Value, text: Value) -> None:
        """The call tells a monitor, or an agent, something."""
        function = self._decoder.rows[call.row].function
        task = self._find_task(call.task, call.tgid, tid)
        if self._calls.is_hidden(tid, call.seq):
            return
        known = {
            "id": self._calls.id(call, tid),
            "function": function.name if function else "?",
            **whose(task),
        }
        self._endings.commands(call.tgid, monitor, text, call.raw or b"", known)

    def changed(
        self,
        call: Open | None,
        task: Task,
        tid: int,
        time: int,
        fields: Mapping[str, Value],
        flags: int,
        ended: list[Event],
    ) -> None:
        """A domain began or ceased to run. A client is told so too, by its daemon, which is no
        news.
        """
        if is_told(fields):
            return
        domain = Handle("domain", {"name": fields["name"], "uuid": uuid_of(fields)})
        event, detail = self._lifecycle.names(fields)
        changed = DomainEvent(
            self._epoch(time), tid, task.comm, task.caller, domain, event, detail, None
        )
        pid, uuid = task.caller.pid, fields["uuid"]
        guest = self._endings.guest_of(changed)
        if guest:
            changed = changed._replace(qemu_pid=guest.pid)
        other = self._endings.cause(changed, tid, guest)
        if other and other.kind == BY_CONNECTION_END:
            call = None  # the daemon's own, which closes the connection for who has ended
        if call:
            self._calls.extra(tid, call).changed.add(uuid)
            for pending in [
                one
                for one in self.pending
                if one.event.caller.pid == pid
                and one.uuid == uuid
                and (tid, call.seq) in one.causes
            ]:
                self.pending.remove(pending)
                self._caused(pending.event, pending.task, pending.flags, [(tid, call)], ended)
        elif other:
            self._by_other(changed, other, flags, task, ended)
            return
        # a monitor has a thread of its own, which is told what a call has done before the call is
        under_way = [(tid, call)] if call else self._calls.outermost(pid)
        if under_way is None:
            self._tell_unknown(Pending(changed, uuid, task, flags, set()), ended)
            return
        causes = under_way if call else self._changing(under_way, uuid)
        causes = causes or self._finishing(changed, under_way)
        if (
            not causes
            and not flags & records.REC_SERVING
            and (possible := self._creating(under_way))
        ):
            self.pending.append(Pending(changed, uuid, task, flags, possible))
            if len(self.pending) > MOST_PENDING:
                self._tell_unknown(self.pending.pop(0), ended)
        else:
            self._caused(changed, task, flags, causes, ended)

    def _by_other(
        self, changed: DomainEvent, other: Cause, flags: int, task: Task, ended: list[Event]
    ) -> None:
        """Tells the change, of which it is known how it came about."""
        id_ = other.details.get("id")
        if other.kind == BY_CALL:
            for thread, call in self._calls.outermost(changed.caller.pid) or ():
                if self._calls.id(call, thread) == id_:  # it is still under way
                    self._caused(changed, task, flags, [(thread, call)], ended)
                    return
        changed = changed._replace(cause=other.kind, known=other.details)
        is_wanted = id_ is not None or self._causes.passes(flags, task)
        if is_wanted and not self._choice.hides_changes:
            ended.append(changed)

    def _caused(
        self,
        changed: DomainEvent,
        task: Task,
        flags: int,
        causes: list[tuple[int, Open]],
        ended: list[Event],
    ) -> None:
        """Tells the change with what is known of its cause: one of the calls; `flags`: of its
        record.
        """
        shown = [(tid, call) for tid, call in causes if not self._calls.is_hidden(tid, call.seq)]
        if len(shown) > MOST_CAUSES:
            ended.append(changed._replace(cause=BY_CALL if shown == causes else None))
        elif shown:
            extras = [self._calls.extra(tid, call) for tid, call in shown]
            ids = tuple(self._calls.id(call, tid) for tid, call in shown)
            if len(causes) == 1:
                changed = changed._replace(parent=ids[0], cause=BY_CALL)
                extras[0].add(changed)
            else:
                changed = changed._replace(one_of=ids, cause=BY_CALL if shown == causes else None)
            ended.append(changed)
        elif not causes and self._causes.passes(flags, task) and not self._choice.hides_changes:
            # whose record was lost, or who gave the domain another name
            if flags & records.REC_SERVING:
                changed = changed._replace(cause=BY_CALL)
            elif not self._unseen(changed.caller.pid) and self._looked_at_all(changed):
                changed = changed._replace(cause=NO_CALL)
            ended.append(changed)

    def _looked_at_all(self, changed: DomainEvent) -> bool:
        """Whether there is nothing that may have ended the domain unseen."""
        return changed.event not in ENDINGS or changed.qemu_pid is not None

    def _tell_unknown(self, pending: Pending, ended: list[Event]) -> None:
        """The change, of which nothing is said about its cause."""
        if self._causes.passes(pending.flags, pending.task) and not self._choice.hides_changes:
            ended.append(pending.event)

    def _finishing(
        self, changed: DomainEvent, under_way: list[tuple[int, Open]]
    ) -> list[tuple[int, Open]]:
        """Those of these calls that end a migration to here: they name the domain, if at all, in a
        cookie, and nothing else lets one run that has come so.
        """
        if changed.detail != MIGRATED:
            return []
        functions = [(one, self._decoder.rows[one[1].row].function) for one in under_way]
        return [one for one, it in functions if it and it.name.startswith(FINISHES)]

    def _creating(self, under_way: list[tuple[int, Open]]) -> set[tuple[int, int]]:
        """Those of these calls that may bring up a domain whose UUID they don't tell: only what
        they do next does.
        """
        return {
            (tid, call.seq)
            for tid, call in under_way
            if self._decoder.is_write(call) and _may_create(self._decoder.rows[call.row].function)
        }

    def call_ended(self, tid: int, number: int, ended: list[Event]) -> None:
        """The call is over: it was not the one, if it hasn't said so."""
        for pending in [one for one in self.pending if (tid, number) in one.causes]:
            pending.causes.discard((tid, number))
            if not pending.causes:
                self.pending.remove(pending)
                self._caused(pending.event, pending.task, pending.flags, [], ended)

    def _changing(self, under_way: list[tuple[int, Open]], uuid: Value) -> list[tuple[int, Open]]:
        """Those of these calls that may be changing the domain."""
        assert isinstance(uuid, int)
        sought = uuid.to_bytes(16, "little")
        return [
            (tid, call)
            for tid, call in under_way
            if (call.raw and sought in call.raw and self._decoder.is_write(call))
            or (
                (extra := self._calls.extra_of(tid, call.seq)) is not None and uuid in extra.changed
            )
        ]


def _may_create(function: Function | None) -> bool:
    """Whether the function may have to do with a domain that none of its arguments is."""
    return (
        function is not None
        and function.name.startswith("virDomain")
        and all(param.object != "domain" for param in function.params)
    )
