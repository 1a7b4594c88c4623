# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event comes in; one line in strace's grammar goes out, as plain text and as the (role, text)
pairs that colour is made of.

Both are the same list of pieces, `role, text, role, text, ...`, so a colour can't change a
character.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any

from log.client import Client
from log.events import (
    Call,
    Caller,
    CallError,
    Command,
    DomainEvent,
    Event,
    Owed,
    Reads,
    Recording,
    UnderWay,
)
from log.filters.asking import command_name, only_asks
from log.login import came
from log.quote import escape, name, quote
from log.recent import by_identity
from log.render.notices import notice
from log.render.printers import arguments, handle, value
from log.render.units import clock, duration, plural
from log.render.why import owed, person, plain, why
from log.values import (
    NO_VALUES,
    Value,
    Values,
)

INDENT = "  "  # a level of nesting
_JUDGED = {"deny": "DENIED", "audit": "AUDITED"}
_ARGS_LOST = ("", "(", "notice", "args lost", "", ")")


class View(Enum):
    """How a call is shown that others were made for, in a daemon."""

    FOLD = "fold"  # once, where it began, with the time it took in the daemon
    TREE = "short"  # with what it caused on the lines below it
    FULL = "full"  # the same, each question to a monitor or agent on a line of its own
    BOTH = "both"  # each call by itself, also in the daemon


def line(event: Event, view: View = View.FOLD) -> str:
    """The event as a line of plain text with its newline; several of a tree, "" for what is
    folded away.
    """
    if type(event) is Call and event.alike is not None and event.duration_ns is not None:
        return _again(event, event.alike)
    return "".join(_pieces(event, view)[1::2])


def _again(call: Call, alike: dict[str, Any]) -> str:
    """The same of a call that has company only in calls that are alike: nothing caused it, and it
    caused nothing.
    """
    texts: tuple[str, str] | None = alike.get("text line")
    if texts is None:
        head, end = _parts(call)
        texts = alike["text line"] = "".join(head[1::2]), "".join(end[1::2])
    before, after = texts
    return f"{clock(call.time)}{before} <{duration(call.duration_ns or 0)}>{after}"


def segments(event: Event, view: View = View.FOLD) -> Iterator[tuple[str, str]]:
    """The same text as (role, text) pairs; the roles are the keys of `console.THEME`, "" is for
    punctuation.
    """
    pieces = _pieces(event, view)
    return zip(pieces[::2], pieces[1::2], strict=True)


def _pieces(event: Event, view: View) -> list[str]:
    if type(event) is Call:
        if view is View.BOTH:
            return [*_asked(event), *_call(event, view)] if event.children else _call(event, view)
        if event.parent is not None:
            return []
        return (
            _tree(event, 0, view)
            if view is not View.FOLD and event.children
            else _call(event, view)
        )
    if type(event) is Command and event.parent is not None and only_asks(event.text):
        return []  # with its call
    if type(event) is Command or type(event) is DomainEvent:
        return (
            []
            if view is not View.BOTH and event.parent is not None
            else _LINES[type(event)](event, 0)
        )
    if type(event) is UnderWay:
        return _under_way(event, 0)
    if type(event) is Owed:
        return _owed(event)
    if type(event) is Reads:
        return [] if event.caused and view is not View.BOTH else _reads(event)
    if type(event) is Recording:
        return []
    return [
        "time",
        clock(event.time),
        "notice",
        f" libvirt-trace: {notice(event)}",
        "",
        "\n",
    ]


def _call(call: Call, view: View) -> list[str]:
    before, after = _parts(call)
    if view is View.FOLD and call.children:
        after = [*_judged(call), *after]
    took = (
        ()
        if call.duration_ns is None
        else (
            "duration",
            f" <{duration(call.duration_ns)}{_inside(call) if view is View.FOLD else ''}>",
        )
    )
    asked = () if not call.access or _is_told_below(call, view) else _access(call, before[1])
    return ["time", clock(call.time), *before, *took, *after, *asked]


def _is_told_below(call: Call, view: View) -> bool:
    """Whether what was asked is told with the daemon's call that asked it."""
    return view is not View.FOLD and any(
        type(child) is Call and child.access for child in call.children
    )


def _access(call: Call, who: str) -> Iterator[str]:
    """What libvirt's access drivers were asked for the call that failed, a line each."""
    for asked in call.access:
        about, driver, message = (asked.get(key) for key in ("details", "driver", "message"))
        what = asked.get("permission") or asked.get("action")
        answer = asked.get("answer")
        why = f" by {name(driver)}" if isinstance(driver, str) else ""
        why += f" ({escape(message)})" if isinstance(message, str) else ""
        yield from ("time", clock(call.time), "process", who)
        yield from ("", INDENT * (call.depth + 1), "function", "access", "", " ")
        yield from ("string", name(what) if isinstance(what, str) else "?")
        if isinstance(about, dict):
            yield from ("", "(", *arguments(Values(about)), "", ")")
        yield from ("", " = ", "number" if answer == "allowed" else "failed")
        yield from (f"{escape(str(answer))}{why}", "", "\n")


def _judged(call: Call) -> list[str]:
    """What daemons' enforcers said of a call that was made for this one."""
    pieces: list[str] = []
    for child in call.children:
        verdict = child.verdict if type(child) is Call else None
        if verdict is not None and verdict.action in _JUDGED:
            daemon = os.path.basename(child.caller.exe or "") or child.comm
            pieces += (
                "",
                " ",
                "denied",
                f"{_JUDGED[verdict.action]} by rule {quote(verdict.rule)} ({name(daemon)})",
            )
    return pieces


def _inside(call: Call) -> str:
    """How much of a call's time daemons took for it."""
    spent: dict[str, int] = {}
    for child in call.children:
        if type(child) is Call and child.duration_ns is not None:
            daemon = os.path.basename(child.caller.exe or "") or child.comm
            spent[daemon] = spent.get(daemon, 0) + child.duration_ns
    return "".join(f", {name(daemon)} {duration(ns)}" for daemon, ns in spent.items())


def _tree(event: Call, level: int, view: View) -> list[str]:
    pieces = _call(event._replace(depth=event.depth + level, alike=None), view)
    level += event.depth + 1
    children = sorted(event.children, key=lambda child: int(child.time))
    for run in [[child] for child in children] if view is View.FULL else _runs(children):
        if len(run) > 1:
            pieces += _questions(run, level)
        elif type(run[0]) is Call:
            pieces += _tree(run[0], level, view)
        else:
            pieces += _LINES[type(run[0])](run[0], level)
    if event.more_children:
        pieces += ("", INDENT * level, "notice", f"and {event.more_children} more", "", "\n")
    return pieces


def _runs(children: Sequence[Any]) -> list[list[Any]]:
    """What a call caused, where the same question was asked again and again (a start asks some
    400 times) together.
    """
    return [list(run) for _, run in itertools.groupby(children, _sameness())]


def _sameness() -> Callable[[Any], object]:
    """Tells what may be shown together: what changes something has a line of its own."""
    numbers = itertools.count()
    return lambda child: (
        (child.to_agent, command_name(child.text))
        if type(child) is Command and only_asks(child.text)
        else next(numbers)
    )


def _asked(call: Call) -> list[str]:
    """Lines for the questions that were asked in a call: they are told with it."""
    children = [child for child in call.children if type(child) is not Call]
    pieces: list[str] = []
    for run in _runs(sorted(children, key=lambda child: int(child.time))):
        if len(run) > 1:
            pieces += _questions(run, 0)
        elif type(run[0]) is Command and only_asks(run[0].text):
            pieces += _command(run[0], 0)
    return pieces


def _questions(run: Sequence[Command], level: int) -> list[str]:
    """One line for the same question, asked several times; the time is that of all of them."""
    took = sum(command.duration_ns or 0 for command in run)
    text = f"{plain(command_name(run[0].text))}, {len(run)} times"
    return [*_clock_and_who(run[0]), *_told(run[0], text, duration(took), level)]


def _command(command: Command, level: int) -> list[str]:
    took = "no answer" if command.duration_ns is None else duration(command.duration_ns)
    return [*_clock_and_who(command), *_told(command, plain(command.text), took, level)]


def _told(command: Command, text: str, took: str, level: int) -> tuple[str, ...]:
    whom = "agent" if command.to_agent else "monitor"
    return (
        "",
        INDENT * level,
        "function",
        whom,
        "",
        " ",
        "string",
        text,
        "duration",
        f" <{took}>",
        "",
        "\n",
    )


def _domain(event: DomainEvent, level: int) -> list[str]:
    reason = "" if event.parent else f", {why(event)}"
    what = (
        "",
        INDENT * level,
        "function",
        "domain",
        "",
        " ",
        *handle(event.domain),
        "notice",
        f" {escape(event.event)}: ",
    )
    return [*_clock_and_who(event), *what, "notice", f"{escape(event.detail)}{reason}", "", "\n"]


def _held(by: Mapping[str, Value]) -> str:
    who, age = person(by), by.get("age_ns")
    since = f" for {duration(age)}" if isinstance(age, int) else ""
    return f"held by {name(str(by.get('function')))}{f' of {who}' if who else ''}{since}"


_LIMITS = {
    "max_workers": "all {most} workers of process {pid} busy",
    "max_clients": "process {pid} has {most} clients",
    "max_anonymous_clients": "{most} clients of process {pid} have not proved who they are",
    "max_client_requests": "process {pid} takes {most} calls of a connection at a time",
}


def _limit(limit: Mapping[str, Value]) -> str:
    """Of a daemon: "process 123 has 16 clients (max_clients)"."""
    which = str(limit.get("limit"))
    how = _LIMITS.get(which, "process {pid} has {most}")
    return f"{how.format(most=limit.get('most'), pid=limit.get('pid'))} ({name(which)})"


def _under_way(event: UnderWay, level: int) -> list[str]:
    """A call that has not ended, and where its time goes."""
    took = None if event.age_ns is None else duration(event.age_ns)
    age = f"under way for {took}"
    if event.before:
        age = f"begun before tracing{f', at least {took} ago' if took else ''}"
    where = escape(event.where)
    if event.command is not None:
        where += f": {plain(event.command)}"
    if event.held_by:
        where += f", {_held(event.held_by)}"
    if event.limit:
        where += f", {_limit(event.limit)}"
    who = _who(event.caller, event.comm, event.client)
    about = ("", "(", *(handle(event.object) if event.object else ()), "", ")")
    return [
        *("time", clock(event.time), "process", who),
        *("function", _function(event.function), *about),
        *("notice", f" {age}, {where}", "", "\n"),
    ]


def _owed(event: Owed) -> list[str]:
    """What was begun and not ended: "web1: frozen by 4711 backup alice for 41s"."""
    return [
        *("time", clock(event.time), "notice", " libvirt-trace: "),
        *(handle(event.object) if event.object else ("object", "?")),
        *("notice", f": {owed(event)}", "", "\n"),
    ]


def _reads(event: Reads) -> list[str]:
    """Calls that were counted, in the place of their lines."""
    who = _who(event.caller, event.comm, event.client)
    about = ("", "(", *handle(event.object), "", ")") if event.object else ("", "()")
    failed = f", {event.failed} failed" if event.failed else ""
    by = "" if event.processes == 1 else f" by {event.processes} processes"
    counts = f"{event.calls} {plural(event.calls, 'read')}{by}{failed} until {clock(event.until)}"
    took = f" <{duration(event.total_ns)}, {duration(event.max_ns)} at most>"
    return [
        *(
            "time",
            clock(event.time),
            "process",
            who,
            "function",
            _function(event.function),
            *about,
            "",
            " = ",
        ),
        *("number", counts, "duration", took, "", "\n"),
    ]


def _clock_and_who(event: Command | DomainEvent) -> tuple[str, ...]:
    return (
        "time",
        clock(event.time),
        "process",
        _process(event.caller, event.comm),
    )


def _parts(call: Call) -> tuple[list[str], list[str]]:
    """The pieces between a call's time and its duration, and those behind it; once for all
    calls that are alike.
    """
    if call.alike is None:
        return _before(call), _after(call)
    parts: tuple[list[str], list[str]] | None = call.alike.get("text")
    if parts is None:
        parts = call.alike["text"] = _before(call), _after(call)
    return parts


def _before(call: Call) -> list[str]:
    who = _who(call.caller, call.comm, call.client)
    indent = INDENT * call.depth if call.depth else ""
    pieces = ["process", who, "function", indent + _function(call.function)]
    if call.args is None:
        pieces += _ARGS_LOST
    elif call.out is NO_VALUES or not call.out.values:
        pieces += ("", "(", *arguments(call.args), "", ")")
    else:
        arrow = " => " if call.args.values else "=> "
        pieces += ("", "(", *arguments(call.args), "", arrow, *arguments(call.out), "", ")")
    if call.unfinished is not None:
        why = (
            call.unfinished
            if call.unfinished.startswith("no return probe")
            else (f"unfinished: {call.unfinished}")
        )
        pieces += ("", " = ", "notice", f"? <{escape(why)}>")
        return pieces
    pieces += ("", " = ", *_result(call))
    if call.verdict is not None and call.verdict.action == "deny":
        pieces += ("", " ", "denied", f"DENIED by rule {quote(call.verdict.rule)}")
    elif call.error is not None:
        pieces += ("", " ", "failed", _error(call.error))
        if call.held_by:
            pieces += ("", " ", "notice", f"({_held(call.held_by)})")
    elif call.failed is None:
        pieces += ("", " ", "notice", "(error lost, if any)")
    return pieces


def _after(call: Call) -> list[str]:
    pieces: list[str] = []
    verdict = call.verdict
    if verdict is not None and call.unfinished is None:
        if verdict.action == "audit":
            pieces += ("", " ", "denied", f"AUDITED by rule {quote(verdict.rule)}")
        elif verdict.action == "not enforced":
            pieces += ("", " ", "denied", "NOT ENFORCED")
        if verdict.note is not None:
            pieces += ("", " ", "notice", f"({escape(verdict.note)})")
    return [*pieces, "", "\n"]


@by_identity(1024)
def _process(caller: Caller, comm: str) -> str:
    user = caller.uid if caller.user is None else name(caller.user)
    return f" {caller.pid} {name(comm)} {user} "


@by_identity(1024)
def _person(caller: Caller, comm: str) -> str:
    """With how its user came in."""
    fields = None if caller.session is None else caller.session.fields()
    return f"{_process(caller, comm)[:-1]}{came(fields, caller.uid)} "


def _who(caller: Caller, comm: str, client: Client | None) -> str:
    """What a daemon does it does for somebody: how that one came in is what matters."""
    if client is None:
        return _person(caller, comm)
    return _process(caller, comm) + _for(client)


@lru_cache(maxsize=1024)
def _for(client: Client) -> str:
    """Whom a daemon makes a call for."""
    return f"for {_whom(client)} "


def _whom(client: Client) -> str:
    if client.is_daemon:
        return "itself"
    words = [] if client.pid is None else [str(client.pid)]
    words += [name(client.address)] if client.pid is None and client.address is not None else []
    words += [name(client.program)] if client.exe is not None else []
    user = "?" if client.name is None else name(client.name)
    says = f" who says {_whom(client.claims)}" if client.claims else ""
    alone = " (unproved)" if client.unproved else ""
    how = came(client.session.fields() if client.session else None, client.uid)
    return " ".join([*words, user]) + how + says + alone


# an unknown function's name is what a file in some container says
_function = lru_cache(maxsize=2048)(name)


def _result(call: Call) -> tuple[str, ...]:
    ret = call.ret
    if ret is None:
        # an integer that is not known is one that could not be read
        text = {"pointer": "NULL", "void": "void"}.get(call.returns, "?")
        return ("failed" if call.failed else "number", text)
    if call.failed and type(ret) is int:
        return ("failed", str(ret))
    return tuple(value(ret))


@lru_cache(maxsize=1024)
def _error(error: CallError) -> str:
    code = error.name or f"{error.code} /* unknown */"
    return escape(code) if error.message is None else f"{escape(code)} ({escape(error.message)})"


_LINES: dict[type, Callable[[Any, int], list[str]]] = {Command: _command, DomainEvent: _domain}
