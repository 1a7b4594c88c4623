# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event comes in; one line of JSON goes out: `type` first, pure UTF-8, safe to show on a
terminal.

Lines are put together from fragments that are encoded once: the arguments' in Values.rendered, the
caller's and the names' in bounded caches. A dict through `json.dumps` costs several times as much.

A line says all that the event does: where its JSON alone could be taken for another value (a
document for a string, say), `types` tells, by JSON pointer, what it is. `log/parsing/parse.py`
reads it back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from json.encoder import encode_basestring, encode_basestring_ascii
from math import isfinite, isnan
from typing import Any

from log.client import Client
from log.events import (
    Call,
    Caller,
    CallError,
    Command,
    DomainEvent,
    Event,
    Reads,
    UnderWay,
    VerdictInfo,
    call_id,
    once,
)
from log.moments import SECOND, clock, rfc3339
from log.parsing.kinds import KINDS, kind_of
from log.quote import is_visible, well_formed
from log.recent import by_identity
from log.shapes import Types, implied_returns, note_fields, note_types
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

# callers and clients whose JSON is kept: for all sinks, as each would have to make it again (5 us)
_MOST_SHARED = 4096
_LITERAL = {True: "true", False: "false", None: "null"}


def line(event: Event) -> str:
    """One event as one JSON object in its documented shape, with its newline."""
    if type(event) is not Call:
        return _reads(event) if type(event) is Reads else _other(event)
    start, duration, alike = event[0], event[1], event[-1]
    parts: _Parts
    if alike is None:  # as once() has it, which would be a call more for each line
        parts = _parts(event)
    elif "json" in alike:
        parts = alike["json"]
    else:
        parts = alike["json"] = _parts(event)
    before, upto_id, middle, after = parts
    number = str(start)  # made once, for the second, its fraction and the id
    digits = number if start >= SECOND else f"{start:010}"
    took = "null" if duration is None else duration
    return f"{before}{clock(digits[:-9])}.{digits[-9:]}{upto_id}{number}{middle}{took}{after}"


def value(item: Value) -> str:
    """A value as JSON: integers exact to 64 bits, doubles that are not finite as "NaN",
    "Infinity" or "-Infinity".
    """
    return _ENCODERS[type(item)](item)


def string(text: str) -> str:
    """A JSON string; what a terminal might obey or hide is escaped, lone surrogates are as
    `well_formed` has them.
    """
    if text.isascii():
        return encode_basestring_ascii(text)
    text = well_formed(text)
    return (
        encode_basestring(text)
        if is_visible(text.replace("\n", ""))
        else encode_basestring_ascii(text)
    )


# for what comes again and is short: functions, libraries, thread names
_word = lru_cache(maxsize=2048)(string)


_Parts = tuple[str, str, str, str]


def _parts(call: Call) -> _Parts:
    """A call's line but for its time, its time as a part of its id, and its duration: what
    stands before, between and after them.
    """
    args, out, error, client, verdict = call.args, call.out, call.error, call.client, call.verdict
    kind, end, result, said = "call", "}\n", f'"ret":{value(call.ret)},', ""
    if call.unfinished is not None:
        kind, end, result = "unfinished", f',"reason":{_word(call.unfinished)}}}\n', ""
    elif verdict is not None and verdict.action == "deny":
        kind, end = (
            "verdict",
            f',"action":"deny","rule":{_word(verdict.rule)},"message":{value(verdict.message)}}}\n',
        )
    if verdict is not None:
        said = _verdict(verdict, kind != "verdict")
    if call.returns != implied_returns(call.ret if result else None):
        result += f'"returns":"{call.returns}",'
    middle = (
        f'",{_who(call.caller, call.tid, call.comm)},'
        f"{_what(call.function, call.library, call.depth, call.write)},"
        f'"args":{"null" if args is None else args.rendered.get("json") or _values(args)},'
        f'"out":{"{}" if out is NO_VALUES else out.rendered.get("json") or _values(out)},'
        f'{result}"failed":{_LITERAL[call.failed]},'
        f'"error":{"null" if error is None else _error(error)},"duration_ns":'
    )
    one_of = f'"one_of":{_list(call.one_of)},' if call.one_of else ""
    held_by = f',"held_by":{_mapping(call.held_by)}' if call.held_by is not None else ""
    asked = ",".join(map(_mapping, call.access))
    access = f',"access":[{asked}]' if asked else ""
    after = (
        f',"parent":{value(call.parent)},{one_of}'
        f'"client":{"null" if client is None else _client(client)},'
        f'"verdict":{said or "null"}{held_by}{access}{_types(_call_types(call))}{end}'
    )
    return f'{{"type":"{kind}","time":"', f'Z","id":"{call.tid}-', middle, after


def _values(values: Values) -> str:
    text = values.rendered["json"] = _mapping(values.values)
    return text


@by_identity(_MOST_SHARED)
def _who(caller: Caller, tid: int, comm: str) -> str:
    fields = caller.fields()
    return f'"pid":{fields.pop("pid")},"tid":{tid},"comm":{_word(comm)},{_mapping(fields)[1:-1]}'


@lru_cache(maxsize=4096)
def _what(function: str, library: str, depth: int, write: bool) -> str:
    name, file = _word(function), _word(library)
    return f'"function":{name},"library":{file},"depth":{depth},"write":{_LITERAL[write]}'


@by_identity(_MOST_SHARED)
def _client(client: Client) -> str:
    return _mapping(client.fields())


@lru_cache(maxsize=1024)
def _error(error: CallError) -> str:
    return _mapping(error._asdict())


@lru_cache(maxsize=1024)
def _verdict(verdict: VerdictInfo, with_message: bool) -> str:
    fields: dict[str, Value] = {"action": verdict.action, "rule": verdict.rule or None}
    if verdict.note is not None:
        fields["note"] = verdict.note
    if with_message and verdict.message is not None:
        fields["message"] = verdict.message
    return _mapping(fields)


def _call_types(call: Call) -> Types:
    """What JSON alone does not say of a call's values, by where they are."""
    found: Types = {}
    note_fields(call.caller.fields(), "", found)
    note_types(call.comm, "/comm", found)
    for key, values in (("args", call.args), ("out", call.out)):
        if values is not None and values is not NO_VALUES:
            found.update(_values_types(values, key))
    if call.unfinished is None:
        note_types(call.ret, "/ret", found)
    if call.error is not None:
        note_types(call.error._asdict(), "/error", found)
    if call.client is not None:
        note_fields(call.client.fields(), "/client", found)
    if call.held_by is not None:
        note_fields(call.held_by, "/held_by", found)
    for number, asked in enumerate(call.access):
        note_fields(asked, f"/access/{number}", found)
    return found


def _values_types(values: Values, key: str) -> Types:
    known: Types | None = values.rendered.get("types " + key)
    if known is None:
        known = values.rendered["types " + key] = {}
        note_fields(values.values, f"/{key}", known)
    return known


def _time(ns: int) -> str:
    return f'"time":"{rfc3339(ns)}"'


def _other(event: Event) -> str:
    name = kind_of(event)
    kind = KINDS[name]
    fields = kind.written(event)
    if isinstance(event, (Command, DomainEvent, UnderWay)):
        return _of_process(name, event, fields)
    return _rare(name, event.time, fields)


def _of_process(
    kind: str, event: Command | DomainEvent | UnderWay, fields: Mapping[str, Value]
) -> str:
    known = f'"id":"{call_id(event.tid, event.time)}",{_who(event.caller, event.tid, event.comm)}'
    found: Types = {}
    note_fields({"comm": event.comm, **event.caller.fields(), **fields}, "", found)
    return (
        f'{{"type":"{kind}",{_time(event.time)},{known},{_mapping(fields)[1:-1]}{_types(found)}}}\n'
    )


def _reads(event: Reads) -> str:
    """Thousands come at once, each minute the same but for their times and numbers."""
    middle, after = once(event, "json", _reads_parts)
    return (
        f'{{"type":"reads","time":"{rfc3339(event.time)}","until":"{rfc3339(event.until)}{middle}'
        f'{event.calls},"failed":{event.failed},"total_ns":{event.total_ns},'
        f'"max_ns":{event.max_ns}{after}'
    )


def _reads_parts(event: Reads) -> tuple[str, str]:
    """What stands between its times and its numbers, and after them."""
    caller, types = _counted_caller(event.caller, event.comm)
    client, client_types = _NULL if event.client is None else _counted_client(event.client)
    found, object_types = _NULL if event.object is None else _counted_object(event.object)
    types = {**types, **client_types}
    note_types(event.function, "/function", types)
    types.update(object_types)
    several = ""
    if event.processes != 1 or event.pids:
        several = f',"processes":{event.processes},"pids":{_list(event.pids)}'
    middle = (
        f'","caller":{caller},"client":{client},"function":{_word(event.function)},'
        f'"object":{found},{_CAUSED if event.caused else ""}"calls":'
    )
    return middle, f"{several}{_types(types)}}}\n"


_CAUSED = '"caused":true,'
_NULL: tuple[str, Types] = "null", {}


@by_identity(_MOST_SHARED)
def _counted_caller(caller: Caller, comm: str) -> tuple[str, Types]:
    fields: dict[str, Value] = {"pid": caller.pid, "comm": comm, **caller.fields()}
    return _noted(fields, "/caller")


@by_identity(_MOST_SHARED)
def _counted_client(client: Client) -> tuple[str, Types]:
    return _noted(client.fields(), "/client")


@by_identity(_MOST_SHARED)
def _counted_object(found: Handle) -> tuple[str, Types]:
    return _noted(found, "/object")


def _noted(item: Value, place: str) -> tuple[str, Types]:
    """Its JSON, and what that does not say of it."""
    types: Types = {}
    note_types(item, place, types)
    return value(item), types


def _rare(kind: str, ns: int, fields: Mapping[str, Value]) -> str:
    found: Types = {}
    note_fields(fields, "", found)
    return f'{{"type":"{kind}",{_time(ns)},{_mapping(fields)[1:-1]}{_types(found)}}}\n'


def _types(found: Types) -> str:
    return f',"types":{_mapping(found)}' if found else ""


def _mapping(fields: Mapping[str, Value]) -> str:
    return (
        "{"
        + ",".join([f"{_word(key)}:{_ENCODERS[type(item)](item)}" for key, item in fields.items()])
        + "}"
    )


def _list(items: list[Value] | tuple[Value, ...]) -> str:
    return "[" + ",".join([_ENCODERS[type(item)](item) for item in items]) + "]"


def _float(number: float) -> str:
    if isfinite(number):
        return repr(number)
    return '"NaN"' if isnan(number) else '"Infinity"' if number > 0 else '"-Infinity"'


def _handle(handle: Handle) -> str:
    return _mapping({"type": handle.type, **handle.fields})


def _cut(text: CutText) -> str:
    length = "null" if text.length is None else text.length
    return f'{{"text":{string(text.text)},"length":{length},"cut":true}}'


def _cut_list(cut: CutList) -> str:
    count = "null" if cut.total is None else cut.total
    return f'{{"items":{value(cut.items)},"count":{count},"cut":true}}'


_ENCODERS: dict[type, Callable[[Any], str]] = {
    type(None): lambda item: "null",
    bool: lambda item: _LITERAL[item],
    int: str,
    float: _float,
    str: string,
    list: _list,
    tuple: _list,
    dict: _mapping,
    CutText: _cut,
    CutList: _cut_list,
    Xml: lambda item: value(item.shown),
    Unreadable: lambda item: f'{{"unreadable":"{item.address:#x}"}}',
    Pointer: lambda item: f'{{"pointer":"{item.address:#x}"}}',
    Code: lambda item: f'{{"pointer":"{item.address:#x}","name":{value(item.name)}}}',
    Handle: _handle,
    EnumValue: lambda item: f'{{"value":{item.value},"name":{value(item.name)}}}',
    Flags: lambda item: f'{{"value":{item.value},"names":{_list(item.names)}}}',
    Redacted: lambda item: f'{{"redacted":true,"length":{value(item.length)}}}',
}
