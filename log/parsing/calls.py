# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads calls: the fields of a line come in; what it was made of goes out."""

from __future__ import annotations

from typing import Any

from log.events import Call, CallError, VerdictInfo
from log.parsing import fields as take
from log.parsing.fields import Fields, ForeignLine
from log.parsing.values import fields, maybe_fields, value
from log.parsing.who import caller, client
from log.shapes import Types, implied_returns
from log.values import NO_VALUES, Values

_RETURNS = ("pointer", "integer", "void")


def call(f: Fields, types: Types) -> Call:
    """A call, one that has not ended, or one that was denied."""
    kind = f["type"]
    args, out, failed = f["args"], f["out"], f["failed"]
    ret = None if kind == "unfinished" else value(f["ret"], "/ret", types)
    returns = f.get("returns") or implied_returns(ret)
    if returns not in _RETURNS:
        raise ForeignLine("no kind of result")
    return Call(
        take.moment(f["time"]),
        take.maybe_whole(f["duration_ns"]),
        take.whole(f["tid"]),
        take.text(f["comm"], "/comm", types),
        caller(f, "", types),
        take.plain(f["function"]),
        take.plain(f["library"]),
        take.whole(f["depth"]),
        take.boolean(f["write"]),
        None if args is None else Values(fields(take.mapping(args), "/args", types)),
        Values(fields(take.mapping(out), "/out", types)) if out else NO_VALUES,
        ret,
        returns,
        None if failed is None else take.boolean(failed),
        _error(f["error"], types),
        client(f.get("client"), "/client", types),
        _verdict(f, kind),
        take.maybe_plain(f.get("parent")),
        take.plains(f.get("one_of", [])),
        unfinished=take.plain(f["reason"]) if kind == "unfinished" else None,
        held_by=maybe_fields(f.get("held_by"), "/held_by", types),
        access=tuple(
            fields(take.mapping(asked), f"/access/{number}", types)
            for number, asked in enumerate(take.listing(f.get("access", [])))
        ),
    )


def _error(error: Any, types: Types) -> CallError | None:
    if error is None:
        return None
    name, domain, message = (
        take.maybe_text(error[key], f"/error/{key}", types) for key in ("name", "domain", "message")
    )
    return CallError(take.whole(error["code"]), name, domain, message)


def _verdict(f: Fields, kind: str) -> VerdictInfo | None:
    verdict = f["verdict"]
    if verdict is None:
        return None
    message = f["message"] if kind == "verdict" else verdict.get("message")
    rule, note = take.maybe_plain(verdict["rule"]) or "", take.maybe_plain(verdict.get("note"))
    return VerdictInfo(take.plain(verdict["action"]), rule, take.maybe_plain(message), note)
