# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event comes in; one line in strace's grammar goes out, as plain text and as the (role, text)
pairs that colour is made of.

Both are the same list of pieces, `role, text, role, text, ...`, so a colour can't change a
character.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any

from log.asking import command_name, only_asks
from log.events import (
    BY_CALL,
    NO_CALL,
    Attached,
    Call,
    CallError,
    Clock,
    Command,
    DomainEvent,
    End,
    Event,
    Gap,
    Lost,
    Reads,
    Recording,
    Removed,
    Unattached,
)
from log.quote import escape, name, quote
from log.render.abstract import abstract
from log.values import (
    NO_VALUES,
    Code,
    CutList,
    CutText,
    EnumValue,
    Flags,
    Handle,
    Pointer,
    Redacted,
    Unreadable,
    Value,
    Values,
    Xml,
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
    return "".join(_pieces(event, view)[1::2])


def segments(event: Event, view: View = View.FOLD) -> Iterator[tuple[str, str]]:
    """The same text as (role, text) pairs; the roles are the keys of `console.THEME`, "" is for
    punctuation.
    """
    pieces = _pieces(event, view)
    return zip(pieces[::2], pieces[1::2], strict=True)


def duration(ns: int) -> str:
    """A time span with two or three digits and its unit: `850ns`, `4.1ms`, `212us`, `65s`."""
    scaled, unit = float(ns), "ns"
    if ns < 1000:
        return f"{ns}ns"
    for unit in ("us", "ms", "s"):
        scaled /= 1000
        if scaled < 999.5 or unit == "s":
            break
    return f"{scaled:.1f}{unit}" if scaled < 9.95 else f"{scaled:.0f}{unit}"


def end_summary(event: End) -> str:
    """What was seen, in one line without the time: for the end of a log and for standard error."""
    details = (
        f"; {event.details_lost} {_plural(event.details_lost, 'detail')} lost"
        if event.details_lost
        else ""
    )
    return (
        f"{event.calls} {_plural(event.calls, 'call')}, {event.failed} failed, {event.denied} "
        "denied, "
        f"{event.lost} lost in {event.seconds:.1f}s{details}"
    )


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
    if type(event) is Reads:
        return [] if event.caused and view is not View.BOTH else _reads(event)
    if type(event) is Recording:
        return []
    return [
        "time",
        _clock(event.time),
        "notice",
        f" libvirt-trace: {_NOTICES[type(event)](event)}",
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
    return ["time", _clock(call.time), *before, *took, *after]


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
    text = f"{_plain(command_name(run[0].text))}, {len(run)} times"
    return [*_clock_and_who(run[0]), *_told(run[0], text, duration(took), level)]


def _command(command: Command, level: int) -> list[str]:
    took = "no answer" if command.duration_ns is None else duration(command.duration_ns)
    return [*_clock_and_who(command), *_told(command, _plain(command.text), took, level)]


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
    if event.parent:
        why = ""
    elif event.one_of:
        why = f", by one of {len(event.one_of)} calls"
    else:
        why = {BY_CALL: (", by a call that is not shown"), NO_CALL: (", by no call")}.get(
            event.cause or "", ", cause not known"
        )
    what = (
        "",
        INDENT * level,
        "function",
        "domain",
        "",
        " ",
        *_handle(event.domain),
        "notice",
        f" {escape(event.event)}: ",
    )
    return [*_clock_and_who(event), *what, "notice", f"{escape(event.detail)}{why}", "", "\n"]


def _reads(event: Reads) -> list[str]:
    """Calls that were counted, in the place of their lines."""
    who = _who(event.caller.pid, event.comm, event.caller.user, event.caller.uid) + (
        _for(event.client) if event.client else ""
    )
    about = ("", "(", *_handle(event.object), "", ")") if event.object else ("", "()")
    failed = f", {event.failed} failed" if event.failed else ""
    counts = f"{event.calls} {_plural(event.calls, 'read')}{failed} until {_clock(event.until)}"
    took = f" <{duration(event.total_ns)}, {duration(event.max_ns)} at most>"
    return [
        *(
            "time",
            _clock(event.time),
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
        _clock(event.time),
        "process",
        _who(event.caller.pid, event.comm, event.caller.user, event.caller.uid),
    )


def _plain(text: Value) -> str:
    """JSON as it is, without quotes of our own."""
    if isinstance(text, CutText):
        return escape(text.text) + "..."
    return escape(text) if isinstance(text, str) else "?"


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
    who = _who(call.caller.pid, call.comm, call.caller.user, call.caller.uid)
    if call.client is not None:
        who += _for(call.client)
    indent = INDENT * call.depth if call.depth else ""
    pieces = ["process", who, "function", indent + _function(call.function)]
    if call.args is None:
        pieces += _ARGS_LOST
    elif call.out is NO_VALUES or not call.out.values:
        pieces += ("", "(", *_values(call.args), "", ")")
    else:
        arrow = " => " if call.args.values else "=> "
        pieces += ("", "(", *_values(call.args), "", arrow, *_values(call.out), "", ")")
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


@lru_cache(maxsize=1024)
def _who(pid: int, comm: str, user: str | None, uid: int) -> str:
    return f" {pid} {name(comm)} {uid if user is None else name(user)} "


def _for(client: Mapping[str, Value]) -> str:
    """Whom a daemon makes a call for."""
    if client.get("daemon"):
        return "for itself "
    exe, pid = client.get("exe"), client.get("pid")
    user = next(
        (
            name(str(client[key]))
            for key in ("sasl", "x509", "user", "uid")
            if client.get(key) is not None
        ),
        "?",
    )
    words = (
        [str(pid)]
        if pid is not None
        else []
        if client.get("address") is None
        else [name(str(client["address"]))]
    )
    words += [name(os.path.basename(exe))] if isinstance(exe, str) else []
    claims = client.get("claims")
    says = f" who says {_for(claims)[4:-1]}" if isinstance(claims, Mapping) else ""
    return f"for {' '.join([*words, user])}{says} "


# an unknown function's name is what a file in some container says
_function = lru_cache(maxsize=2048)(name)


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(second))


def _clock(ns: int) -> str:
    return f"{_second(ns // 1_000_000_000)}.{ns // 1000 % 1_000_000:06d}"


def _result(call: Call) -> tuple[str, ...]:
    ret = call.ret
    if ret is None:
        # an integer that is not known is one that could not be read
        text = {"pointer": "NULL", "void": "void"}.get(call.returns, "?")
        return ("failed" if call.failed else "number", text)
    if call.failed and type(ret) is int:
        return ("failed", str(ret))
    return tuple(_value(ret))


@lru_cache(maxsize=1024)
def _error(error: CallError) -> str:
    code = error.name or f"{error.code} /* unknown */"
    return escape(code) if error.message is None else f"{escape(code)} ({escape(error.message)})"


def _values(values: Values) -> list[str]:
    """`name=value, ...` as pieces, made once for all calls that share the values."""
    pieces: list[str] | None = values.rendered.get("text")
    if pieces is None:
        pieces = values.rendered["text"] = _fields(values.values)
    return pieces


def _fields(fields: Mapping[str, Value]) -> list[str]:
    pieces: list[str] = []
    for key, item in fields.items():
        pieces += ("", ", " if pieces else "", "name", name(key), "", "=", *_value(item))
    return pieces


def _value(item: Value) -> list[str]:
    return _PRINTERS[type(item)](item)


def _list(items: list[Value] | tuple[Value, ...]) -> list[str]:
    pieces = ["", "["]
    for index, item in enumerate(items):
        pieces += ("", ", " if index else "", *_value(item))
    return [*pieces, "", "]"]


def _dict(fields: Mapping[str, Value]) -> list[str]:
    return ["", "{", *_fields(fields), "", "}"]


def _cut_list(cut: CutList) -> list[str]:
    pieces = _value(cut.items)
    rest = "..." if cut.total is None else f"... {cut.total} in all"
    return [*pieces[:-2], "", ", " if cut.items else "", "notice", rest, *pieces[-2:]]


def _handle(handle: Handle) -> list[str]:
    label = handle.label
    if "claimed" in handle.fields:
        return [
            *_value(Handle(handle.type, {"name": label})),
            "notice",
            f" /* not {''.join(_value(handle.fields['claimed'])[1::2])} */",
        ]
    if label is None:
        return ["object", f"<{name(handle.type)}>"]
    if type(label) is str:
        return ["object", name(label)]
    return _value(label)


def _flags(flags: Flags) -> list[str]:
    return (
        ["constant", escape("|".join(flags.names))] if flags.names else ["number", str(flags.value)]
    )


def _enum(item: EnumValue) -> list[str]:
    return (
        ["number", (f"{item.value} /* unknown */")]
        if item.name is None
        else ["constant", escape(item.name)]
    )


def _redacted(item: Redacted) -> list[str]:
    length = "" if item.length is None else f", {item.length} {_plural(item.length, 'byte')}"
    return ["secret", f"<redacted{length}>"]


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else noun + "s"


def _attached(event: Attached) -> str:
    alike: dict[tuple[str, str | None, str | None], list[str]] = {}
    for path, libvirt, note in event.targets:
        alike.setdefault((os.path.dirname(path), libvirt, note), []).append(path)
    where = []
    for (folder, libvirt, note), paths in alike.items():
        version = "version unknown" if libvirt is None else f"libvirt {escape(libvirt)}"
        roots = max(Counter(paths).values())  # containers have the same paths
        files = f", {len(paths)} files" if len(paths) > 1 else ""
        files += f" in {roots} roots" if roots > 1 else ""
        reason = "" if note is None else f"; {escape(note)}"
        where.append(f"{name(folder if len(paths) > 1 else paths[0])} ({version}{files}{reason})")
    late = (
        ""
        if event.mapped_ms is None
        else (f"; mapped {event.mapped_ms:.0f}ms before, calls in that time were missed")
    )
    return (
        f"attached to {event.functions} functions in {', '.join(where)}, "
        f"{event.attach_ms:.1f}ms, {escape(event.link)}{late}"
    )


def _lost(event: Lost) -> str:
    remedy = (
        "; a larger --buffer-size or fewer functions (-f) may help"
        if event.reason.startswith("buffer full")
        else ""
    )
    whose = f" of {escape(event.user or str(event.uid))}" if event.uid is not None else ""
    what = f"{event.count} {escape(event.ring)} {_plural(event.count, 'call')}{whose}"
    if not event.count:
        what = (
            f"{event.details} {_plural(event.details, 'detail')} of {escape(event.ring)} "
            f"calls{whose}"
        )
        if event.ring == "processes":
            what = f"{event.details} {_plural(event.details, 'event')} about processes"
    return f"lost {what}: {escape(event.reason)}{remedy}"


def _unattached(event: Unattached) -> str:
    return f"not every call of {name(event.path)} is seen: {escape(event.reason)}"


def _clock_set(event: Clock) -> str:
    return (
        f"the clock was set {'forward' if event.step_ns > 0 else 'back'} by "
        f"{duration(abs(event.step_ns))}"
    )


def _gap(event: Gap) -> str:
    if event.lost is None:
        return f"nothing was recorded until {day_and_time(event.until)}: {escape(event.reason)}"
    lost = f"{event.lost} {_plural(event.lost, 'call')} missing"
    return f"recorded late until {day_and_time(event.until)}, {lost}: {escape(event.reason)}"


def _removed(event: Removed) -> str:
    return f"{name(event.segment)} was removed from the record: {escape(event.reason)}"


def day_line(ns: int) -> str:
    """A line that tells the day of those below it, in local time, as they have no date."""
    return time.strftime("-- %a %Y-%m-%d --\n", time.localtime(ns // 1_000_000_000))


def day_and_time(ns: int) -> str:
    """Local time, for what may be days ago."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ns // 1_000_000_000))


_NOTICES: dict[type, Callable[[Any], str]] = {
    Attached: _attached,
    Unattached: _unattached,
    Clock: _clock_set,
    Lost: _lost,
    End: end_summary,
    Gap: _gap,
    Removed: _removed,
}
_LINES: dict[type, Callable[[Any, int], list[str]]] = {Command: _command, DomainEvent: _domain}
_PRINTERS: dict[type, Callable[[Any], list[str]]] = {
    type(None): lambda item: ["number", "NULL"],
    bool: lambda item: ["number", "true" if item else "false"],
    int: lambda item: ["number", str(item)],
    float: lambda item: ["number", repr(item)],
    str: lambda item: ["string", quote(item)],
    list: _list,
    tuple: _list,
    dict: _dict,
    CutList: _cut_list,
    Xml: lambda item: ["string", abstract(item)],
    CutText: lambda item: ["string", quote(item.text) + "..."],
    Unreadable: lambda item: ["notice", f"{item.address:#x} /* unreadable */"],
    Pointer: lambda item: ["number", f"{item.address:#x}"],
    Code: lambda item: ["number", name(item.name)],
    Handle: _handle,
    EnumValue: _enum,
    Flags: _flags,
    Redacted: _redacted,
}
