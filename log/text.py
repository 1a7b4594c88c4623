# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event comes in; one line in strace's grammar goes out, as plain text and as the (role, text) pairs that colour is made of.

Both are the same list of pieces, `role, text, role, text, ...`, so a colour can't change a character.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from log.abstract import abstract
from log.events import (
    NO_VALUES,
    Attached,
    Call,
    CallError,
    Code,
    CutList,
    CutText,
    End,
    EnumValue,
    Event,
    Flags,
    Handle,
    Lost,
    Pointer,
    Redacted,
    Unreadable,
    Value,
    Values,
    Xml,
)
from log.quote import escape, name, quote

INDENT = "  "  # a level of nesting
_ARGS_LOST = ("", "(", "notice", "args lost", "", ")")


def line(event: Event) -> str:
    """The event as one line of plain text, with its newline."""
    return "".join(_pieces(event)[1::2])


def segments(event: Event) -> Iterator[tuple[str, str]]:
    """The same line as (role, text) pairs; the roles are the keys of `console.THEME`, "" is for punctuation."""
    pieces = _pieces(event)
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
    return (
        f"{event.calls} {_plural(event.calls, 'call')}, {event.failed} failed, {event.denied} denied, "
        f"{event.lost} lost in {event.seconds:.1f}s"
    )


def _pieces(event: Event) -> list[str]:
    if type(event) is Call:
        return _call(event)
    return ["time", _clock(event.time), "notice", f" libvirt-trace: {_NOTICES[type(event)](event)}", "", "\n"]


def _call(call: Call) -> list[str]:
    who = _who(call.caller.pid, call.comm, call.caller.user, call.caller.uid)
    indent = INDENT * call.depth if call.depth else ""
    pieces = ["time", _clock(call.time), "process", who, "function", indent + _function(call.function)]
    if call.args is None:
        pieces += _ARGS_LOST
    elif call.out is NO_VALUES or not call.out.values:
        pieces += ("", "(", *_values(call.args), "", ")")
    else:
        arrow = " => " if call.args.values else "=> "
        pieces += ("", "(", *_values(call.args), "", arrow, *_values(call.out), "", ")")
    if call.unfinished is not None:
        pieces += ("", " = ", "notice", f"? <unfinished: {escape(call.unfinished)}>", "", "\n")
        return pieces
    pieces += ("", " = ", *_result(call))
    verdict = call.verdict
    if verdict is not None and verdict.action == "deny":
        pieces += ("", " ", "denied", f"DENIED by rule {quote(verdict.rule)}")
    elif call.error is not None:
        pieces += ("", " ", "failed", _error(call.error))
    if call.duration_ns is not None:
        pieces += ("duration", f" <{duration(call.duration_ns)}>")
    if verdict is not None and verdict.action == "audit":
        pieces += ("", " ", "denied", f"AUDITED by rule {quote(verdict.rule)}")
    pieces += ("", "\n")
    return pieces


@lru_cache(maxsize=1024)
def _who(pid: int, comm: str, user: str | None, uid: int) -> str:
    return f" {pid} {name(comm)} {uid if user is None else name(user)} "


_function = lru_cache(maxsize=2048)(name)  # an unknown function's name is what a file in some container says


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
    if label is None:
        return ["object", f"<{name(handle.type)}>"]
    if type(label) is str:
        return ["object", name(label)]
    return _value(label)


def _flags(flags: Flags) -> list[str]:
    return ["constant", escape("|".join(flags.names))] if flags.names else ["number", str(flags.value)]


def _enum(item: EnumValue) -> list[str]:
    return ["number", f"{item.value} /* unknown */"] if item.name is None else ["constant", escape(item.name)]


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
        files = f", {len(paths)} files" if len(paths) > 1 else ""
        reason = "" if note is None else f"; {escape(note)}"
        where.append(f"{name(folder if files else paths[0])} ({version}{files}{reason})")
    late = "" if event.mapped_ms is None else f"; mapped {event.mapped_ms:.0f}ms before, calls in that time were missed"
    return f"attached to {event.functions} functions in {', '.join(where)}, {event.attach_ms:.1f}ms, {escape(event.link)}{late}"


def _lost(event: Lost) -> str:
    remedy = "; a larger --buffer-size or fewer functions (-f) may help" if event.reason == "buffer full" else ""
    return f"lost {event.count} {escape(event.ring)} {_plural(event.count, 'call')}: {escape(event.reason)}{remedy}"


_NOTICES: dict[type, Callable[[Any], str]] = {Attached: _attached, Lost: _lost, End: end_summary}
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
