# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls: those that have ended, those that are under way, and reads that were counted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache

from log.events import Call, CallError, Reads, UnderWay
from log.quote import escape, name, quote
from log.render.pieces.who import INDENT, function, who_of
from log.render.printers import arguments, handle, value
from log.render.units import clock, duration, plural
from log.render.why import person, plain
from log.values import NO_VALUES, Value, Values

_JUDGED = {"deny": "DENIED", "audit": "AUDITED"}
_ARGS_LOST = ("", "(", "notice", "args lost", "", ")")
_LIMITS = {
    "max_workers": "all {most} workers of process {pid} busy",
    "max_clients": "process {pid} has {most} clients",
    "max_anonymous_clients": "{most} clients of process {pid} have not proved who they are",
    "max_client_requests": "process {pid} takes {most} calls of a connection at a time",
}


def one_call(call: Call, *, folded: bool) -> list[str]:
    """A call; `folded`: what daemons did for it is told with it."""
    before, after = parts_of(call)
    if folded and call.children:
        after = [*_judged(call), *after]
    took = (
        ()
        if call.duration_ns is None
        else (
            "duration",
            f" <{duration(call.duration_ns)}{_inside(call) if folded else ''}>",
        )
    )
    asked = (
        () if not call.access or _is_told_below(call, folded=folded) else _access(call, before[1])
    )
    return ["time", clock(call.time), *before, *took, *after, *asked]


def _is_told_below(call: Call, *, folded: bool) -> bool:
    """Whether what was asked is told with the daemon's call that asked it."""
    return not folded and any(type(child) is Call and child.access for child in call.children)


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


def parts_of(call: Call) -> tuple[list[str], list[str]]:
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
    who = who_of(call.caller, call.comm, call.client)
    indent = INDENT * call.depth if call.depth else ""
    pieces = ["process", who, "function", indent + function(call.function)]
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


def _held(by: Mapping[str, Value]) -> str:
    who, age = person(by), by.get("age_ns")
    since = f" for {duration(age)}" if isinstance(age, int) else ""
    return f"held by {name(str(by.get('function')))}{f' of {who}' if who else ''}{since}"


def _limit(limit: Mapping[str, Value]) -> str:
    """Of a daemon: "process 123 has 16 clients (max_clients)"."""
    which = str(limit.get("limit"))
    how = _LIMITS.get(which, "process {pid} has {most}")
    return f"{how.format(most=limit.get('most'), pid=limit.get('pid'))} ({name(which)})"


def under_way(event: UnderWay) -> list[str]:
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
    who = who_of(event.caller, event.comm, event.client)
    about = ("", "(", *(handle(event.object) if event.object else ()), "", ")")
    return [
        *("time", clock(event.time), "process", who),
        *("function", function(event.function), *about),
        *("notice", f" {age}, {where}", "", "\n"),
    ]


def counted(event: Reads) -> list[str]:
    """Calls that were counted, in the place of their lines."""
    who = who_of(event.caller, event.comm, event.client)
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
            function(event.function),
            *about,
            "",
            " = ",
        ),
        *("number", counts, "duration", took, "", "\n"),
    ]
