# SPDX-License-Identifier: LGPL-2.1-or-later
"""A line of JSON comes in; the event it was made of goes out: what `jsonl.line` does, backwards.

The line may be anything. What is no event of ours is ForeignLine; types and fields of a newer
version are left out.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from log.client import OWN, Client
from log.events import (
    NO_DETAILS,
    Attached,
    Call,
    Caller,
    CallError,
    Clock,
    Command,
    DomainEvent,
    End,
    Event,
    Gap,
    Lost,
    Owed,
    Reads,
    Recording,
    Removed,
    TargetInfo,
    Unattached,
    UnderWay,
    VerdictInfo,
)
from log.login import Login, LoginStep
from log.render.jsonl import implied_returns
from log.shapes import BYTES, DOUBLE, FIELDS, XML, Types, inside, shape_of
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

_ESCAPED = re.compile(r"\\\\|((?:\\x[0-9a-f]{2})+)")
_is_second = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}").fullmatch
_RETURNS = ("pointer", "integer", "void")
_NONE: Types = {}
# what comes of lines that are no events
_DAMAGE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    AssertionError,
    RecursionError,
    OverflowError,
)

Fields = dict[str, Any]


class ForeignLine(ValueError):
    """The line is no event: of another program, or damaged."""


def parse(line: str | bytes) -> Event | None:
    """The event; None for a type that is not known here. ForeignLine for anything else."""
    try:
        fields = json.loads(line)
        kind = fields["type"]
        read = _KINDS.get(kind)
        if read is None and isinstance(kind, str):
            return None
        assert read
        types = fields.get("types", _NONE)
        return read(fields, types if type(types) is dict else _NONE)
    except _DAMAGE as error:
        raise ForeignLine(str(error)) from None


def moment(text: str) -> int:
    """ns since the epoch of a time as lines have it."""
    if len(text) != 30 or text[19] != "." or text[29] != "Z":
        raise ForeignLine("not a time")
    return _second(text[:19]) * 1_000_000_000 + int(text[20:29])


@lru_cache(maxsize=256)
def _second(text: str) -> int:
    if not _is_second(text):
        raise ForeignLine("not a time")
    return int(datetime.datetime.fromisoformat(f"{text}+00:00").timestamp())


def _int(item: Any) -> int:
    if type(item) is not int:
        raise ForeignLine("not a number")
    return item


def _maybe_int(item: Any) -> int | None:
    return None if item is None else _int(item)


def _bool(item: Any) -> bool:
    if type(item) is not bool:
        raise ForeignLine("neither true nor false")
    return item


def _float(item: Any) -> float:
    return item if type(item) is float else float(_int(item))


def _plain(item: Any) -> str:
    if type(item) is not str:
        raise ForeignLine("not a string")
    return item


def _text(item: Any, path: str, types: Types) -> str:
    if type(item) is not str:
        raise ForeignLine("not a string")
    return _with_bytes(item) if types and types.get(path) == BYTES else item


def _maybe_text(item: Any, path: str, types: Types) -> str | None:
    return None if item is None else _text(item, path, types)


def _dict(item: Any) -> Fields:
    if type(item) is not dict:
        raise ForeignLine("not an object")
    return item


def _list(item: Any) -> list[Any]:
    if type(item) is not list:
        raise ForeignLine("not a list")
    return item


def _with_bytes(text: str) -> str:
    """The text of which `well_formed` has made this one."""
    return _ESCAPED.sub(
        lambda match: (
            "\\"
            if match[1] is None
            else bytes.fromhex(match[1].replace("\\x", "")).decode("utf-8", "surrogateescape")
        ),
        text,
    )


def _value(item: Any, path: str, types: Types) -> Value:
    kind = type(item)
    if kind is str:
        noted = types.get(path) if types else None
        if noted is None:
            return item  # type: ignore[no-any-return]
        if noted == DOUBLE:
            return math.nan if item == "NaN" else math.inf if item == "Infinity" else -math.inf
        text = _with_bytes(item) if noted == BYTES else item
        return Xml(text, text) if noted == XML else text
    if kind is dict:
        return _object(item, path, types)
    if kind is list:
        return [_value(part, inside(path, index), types) for index, part in enumerate(item)]
    return item  # type: ignore[no-any-return]


def _object(fields: Fields, path: str, types: Types) -> Value:
    noted = types.get(path) if types else None
    shape = FIELDS if noted == FIELDS else shape_of(fields)
    if shape == FIELDS:
        return _fields(fields, path, types)
    made = _SHAPES[shape](fields, path, types)
    return Xml(made, made.text) if noted == XML and isinstance(made, CutText) else made


def _fields(fields: Fields, path: str, types: Types) -> dict[str, Value]:
    # most have nothing inside
    return {
        key: item
        if type(item) is int or item is None
        else _value(item, inside(path, key) if types else "", types)
        for key, item in fields.items()
    }


def _handle(fields: Fields, path: str, types: Types) -> Handle:
    rest = {key: item for key, item in fields.items() if key != "type"}
    return Handle(_text(fields["type"], f"{path}/type", types), _fields(rest, path, types))


def _cut_list(fields: Fields, path: str, types: Types) -> CutList:
    items = _value(fields["items"], f"{path}/items", types)
    if type(items) is not list and type(items) is not dict:
        raise ForeignLine("neither a list nor fields")
    return CutList(items, _maybe_int(fields["count"]))


_SHAPES: dict[str, Callable[[Fields, str, Types], Value]] = {
    "cut": lambda f, path, types: CutText(
        _text(f["text"], f"{path}/text", types), _maybe_int(f["length"])
    ),
    "cut list": _cut_list,
    "unreadable": lambda f, path, types: Unreadable(int(f["unreadable"], 16)),
    "pointer": lambda f, path, types: Pointer(int(f["pointer"], 16)),
    "code": lambda f, path, types: Code(
        int(f["pointer"], 16), _text(f["name"], f"{path}/name", types)
    ),
    "enum": lambda f, path, types: EnumValue(
        _int(f["value"]), _maybe_text(f["name"], f"{path}/name", types)
    ),
    "flags": lambda f, path, types: Flags(
        _int(f["value"]),
        tuple(
            [_text(name, f"{path}/names/{i}", types) for i, name in enumerate(_list(f["names"]))]
        ),
    ),
    "redacted": lambda f, path, types: Redacted(_maybe_int(f["length"])),
    "handle": _handle,
}


def _words(items: Any, path: str, types: Types) -> tuple[str, ...] | None:
    if items is None:
        return None
    return tuple([_text(word, f"{path}/{i}", types) for i, word in enumerate(_list(items))])


def _caller(f: Fields, path: str, types: Types) -> Caller:
    return Caller(
        _int(f["pid"]),
        _maybe_text(f["exe"], f"{path}/exe", types),
        _words(f["cmdline"], f"{path}/cmdline", types),
        _int(f["uid"]),
        _maybe_text(f["user"], f"{path}/user", types),
        _maybe_int(f["loginuid"]),
        _maybe_text(f["unit"], f"{path}/unit", types),
        _maybe_text(f["container"], f"{path}/container", types),
        _maybe_int(f.get("real_uid")),
        _maybe_int(f.get("ppid")),
        _session(f.get("session"), f"{path}/session", types),
    )


def _session(item: Any, path: str, types: Types) -> Login | None:
    if item is None:
        return None
    f = _dict(item)
    ways = [
        LoginStep(
            _plain(way["by"]),
            _maybe_int(way.get("pid")),
            _maybe_int(way.get("uid")),
            *(
                _maybe_text(way.get(key), f"{path}/ways/{i}/{key}", types)
                for key in ("user", "peer", "unit", "invocation", "container")
            ),
        )
        for i, way in enumerate(map(_dict, _list(f["ways"])))
    ]
    login = _maybe_text(f["login"], f"{path}/login", types)
    return Login(_maybe_int(f["loginuid"]), login, tuple(ways))


def _client(item: Any, path: str, types: Types) -> Client | None:
    if item is None:
        return None
    f = _dict(item)
    if f.get("daemon"):
        return OWN
    user, group, sasl, x509, selinux, address, exe = (
        _maybe_text(f.get(key), f"{path}/{key}", types)
        for key in ("user", "group", "sasl", "x509", "selinux", "address", "exe")
    )
    pid, uid, gid, loginuid = (_maybe_int(f.get(key)) for key in ("pid", "uid", "gid", "loginuid"))
    readonly = None if f.get("readonly") is None else _bool(f["readonly"])
    return Client(
        pid,
        uid,
        user,
        gid,
        group,
        sasl,
        x509,
        selinux,
        readonly,
        address,
        exe,
        _words(f.get("cmdline"), f"{path}/cmdline", types),
        loginuid,
        _client(f.get("peer"), f"{path}/peer", types),
        _client(f.get("claims"), f"{path}/claims", types),
        f.get("unproved") is True,
        session=_session(f.get("session"), f"{path}/session", types),
    )


def _call(f: Fields, types: Types) -> Call:
    kind = f["type"]
    args, out, failed = f["args"], f["out"], f["failed"]
    ret = None if kind == "unfinished" else _value(f["ret"], "/ret", types)
    returns = f.get("returns") or implied_returns(ret)
    if returns not in _RETURNS:
        raise ForeignLine("no kind of result")
    return Call(
        moment(f["time"]),
        _maybe_int(f["duration_ns"]),
        _int(f["tid"]),
        _text(f["comm"], "/comm", types),
        _caller(f, "", types),
        _plain(f["function"]),
        _plain(f["library"]),
        _int(f["depth"]),
        _bool(f["write"]),
        None if args is None else Values(_fields(_dict(args), "/args", types)),
        Values(_fields(_dict(out), "/out", types)) if out else NO_VALUES,
        ret,
        returns,
        None if failed is None else _bool(failed),
        _error(f["error"], types),
        _client(f.get("client"), "/client", types),
        _verdict(f, kind),
        _maybe_plain(f.get("parent")),
        _names(f.get("one_of", [])),
        unfinished=_plain(f["reason"]) if kind == "unfinished" else None,
        held_by=_maybe_fields(f.get("held_by"), "/held_by", types),
        access=tuple(
            _fields(_dict(asked), f"/access/{number}", types)
            for number, asked in enumerate(_list(f.get("access", [])))
        ),
    )


def arguments(text: bytes) -> Values | None:
    """What stands behind "args" in a call's line that has no "types"."""
    try:
        fields = json.loads(text)
        return None if fields is None else Values(_fields(_dict(fields), "/args", _NONE))
    except _DAMAGE as error:
        raise ForeignLine(str(error)) from None


def _maybe_fields(item: Any, path: str, types: Types) -> Mapping[str, Value] | None:
    return None if item is None else _fields(_dict(item), path, types)


def _under_way(f: Fields, types: Types) -> UnderWay:
    return UnderWay(
        moment(f["time"]),
        _maybe_int(f["age_ns"]),
        _int(f["tid"]),
        _text(f["comm"], "/comm", types),
        _caller(f, "", types),
        _client(f["client"], "/client", types),
        _plain(f["function"]),
        _maybe_handle(f["object"], "/object", types),
        _plain(f["where"]),
        _value(f["command"], "/command", types),
        _maybe_fields(f["held_by"], "/held_by", types),
        _maybe_plain(f["call"]),
    )


def _owed(f: Fields, types: Types) -> Owed:
    refers = _list(f.get("refers", []))
    return Owed(
        moment(f["time"]),
        moment(f["since"]),
        _plain(f["what"]),
        _maybe_handle(f["object"], "/object", types),
        _value(f["detail"], "/detail", types),
        _fields(_dict(f["by"]), "/by", types),
        _bool(f["gone"]),
        _maybe_plain(f["call"]),
        _bool(f["sure"]),
        tuple(_text(one, f"/refers/{i}", types) for i, one in enumerate(refers)),
    )


def _maybe_handle(item: Any, path: str, types: Types) -> Handle | None:
    found = _value(item, path, types)
    if not (found is None or isinstance(found, Handle)):
        raise ForeignLine("not an object of libvirt")
    return found


def _maybe_plain(item: Any) -> str | None:
    return None if item is None else _plain(item)


def _names(items: Any) -> tuple[str, ...]:
    return tuple(map(_plain, _list(items)))


def _error(error: Any, types: Types) -> CallError | None:
    if error is None:
        return None
    name, domain, message = (
        _maybe_text(error[key], f"/error/{key}", types) for key in ("name", "domain", "message")
    )
    return CallError(_int(error["code"]), name, domain, message)


def _verdict(f: Fields, kind: str) -> VerdictInfo | None:
    verdict = f["verdict"]
    if verdict is None:
        return None
    message = f["message"] if kind == "verdict" else verdict.get("message")
    rule, note = _maybe_plain(verdict["rule"]) or "", _maybe_plain(verdict.get("note"))
    return VerdictInfo(_plain(verdict["action"]), rule, _maybe_plain(message), note)


def _command(f: Fields, types: Types) -> Command:
    return Command(
        moment(f["time"]),
        _maybe_int(f["duration_ns"]),
        _int(f["tid"]),
        _text(f["comm"], "/comm", types),
        _caller(f, "", types),
        _value(f["text"], "/text", types),
        _maybe_plain(f["parent"]),
        f["type"] == "agent",
    )


def _domain(f: Fields, types: Types) -> DomainEvent:
    domain = _value(f["domain"], "/domain", types)
    if not isinstance(domain, Handle):
        raise ForeignLine("not a domain")
    parent, cause = _maybe_plain(f["parent"]), f["cause"]
    details: Mapping[str, Value] = NO_DETAILS
    if cause is not None:
        own = ("kind", "id") if parent else ("kind",)
        told = {key: item for key, item in _dict(cause).items() if key not in own}
        details = _fields(told, "/cause", types) if told else NO_DETAILS
    return DomainEvent(
        moment(f["time"]),
        _int(f["tid"]),
        _text(f["comm"], "/comm", types),
        _caller(f, "", types),
        domain,
        _plain(f["event"]),
        _plain(f["detail"]),
        parent,
        _names(f.get("one_of", [])),
        None if cause is None else _maybe_plain(cause["kind"]),
        details,
        _maybe_int(f.get("qemu_pid")),
    )


def _attached(f: Fields, types: Types) -> Attached:
    targets = tuple(
        [
            TargetInfo(
                _text(target["path"], f"/targets/{i}/path", types),
                _maybe_plain(target["libvirt"]),
                _maybe_plain(target.get("note")),
            )
            for i, target in enumerate(_list(f["targets"]))
        ]
    )
    mapped = f.get("mapped_ms")
    times = _float(f["attach_ms"]), None if mapped is None else _float(mapped)
    return Attached(
        moment(f["time"]),
        _plain(f["version"]),
        _int(f["functions"]),
        targets,
        times[0],
        _plain(f["link"]),
        times[1],
    )


def _lost(f: Fields, types: Types) -> Lost:
    whose = _maybe_int(f["uid"]), _maybe_text(f["user"], "/user", types)
    return Lost(
        moment(f["time"]),
        _int(f["count"]),
        _plain(f["ring"]),
        _plain(f["reason"]),
        *whose,
        _int(f["details_lost"]),
    )


def _end(f: Fields, types: Types) -> End:
    calls, failed, denied, lost, details = (
        _int(f[key]) for key in ("calls", "failed", "denied", "lost", "details_lost")
    )
    unsent = _int(f.get("not_exported", 0))
    seconds = _float(f["seconds"])
    rules = tuple(
        _fields(_dict(rule), f"/rules/{number}", types)
        for number, rule in enumerate(_list(f.get("rules", [])))
    )
    return End(moment(f["time"]), calls, failed, denied, lost, seconds, details, unsent, rules)


def _reads(f: Fields, types: Types) -> Reads:
    found = _maybe_handle(f["object"], "/object", types)
    caller = _dict(f["caller"])
    calls, failed, total, longest = (
        _int(f[key]) for key in ("calls", "failed", "total_ns", "max_ns")
    )
    who = _caller(caller, "/caller", types), _text(caller["comm"], "/caller/comm", types)
    caused = _bool(f.get("caused", False))
    times = moment(f["time"]), moment(f["until"])
    return Reads(
        *times,
        *who,
        _client(f.get("client"), "/client", types),
        _plain(f["function"]),
        found,
        calls,
        failed,
        total,
        longest,
        caused,
        _int(f.get("processes", 1)),
        tuple(map(_int, _list(f.get("pids", [])))),
    )


def _gap(f: Fields, types: Types) -> Gap:
    return Gap(moment(f["time"]), moment(f["until"]), _plain(f["reason"]), _maybe_int(f["lost"]))


def _removed(f: Fields, types: Types) -> Removed:
    segment, reason, chain = (_plain(f[key]) for key in ("segment", "reason", "chain"))
    return Removed(moment(f["time"]), segment, reason, chain, _int(f["frame"]))


def _recording(f: Fields, types: Types) -> Recording:
    version, host, kernel = (_plain(f[key]) for key in ("version", "host", "kernel"))
    machine, boot, table = (_maybe_plain(f[key]) for key in ("machine", "boot", "table"))
    filters, limits, clock = (_dict(f[key]) for key in ("filters", "limits", "clock"))
    previous = None if f["previous"] is None else _dict(f["previous"])
    return Recording(
        moment(f["time"]),
        version,
        host,
        machine,
        boot,
        kernel,
        table,
        filters,
        limits,
        clock,
        previous,
    )


_KINDS: dict[str, Callable[[Fields, Types], Event]] = {
    "call": _call,
    "verdict": _call,
    "unfinished": _call,
    "monitor": _command,
    "agent": _command,
    "domain": _domain,
    "under_way": _under_way,
    "owed": _owed,
    "attached": _attached,
    "unattached": lambda f, types: Unattached(
        moment(f["time"]), _text(f["path"], "/path", types), _plain(f["reason"])
    ),
    "clock": lambda f, types: Clock(moment(f["time"]), _int(f["step_ns"])),
    "lost": _lost,
    "end": _end,
    "reads": _reads,
    "gap": _gap,
    "removed": _removed,
    "recording": _recording,
}
