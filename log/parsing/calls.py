# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads calls: the fields of a line come in; what it was made of goes out."""

from __future__ import annotations

from typing import Any

from log.events import Call, CallError, VerdictInfo
from log.parsing.fields import (
    Fields,
    ForeignLine,
    boolean,
    listing,
    mapping,
    maybe_plain,
    maybe_text,
    maybe_whole,
    moment,
    plain,
    plains,
    text,
    whole,
)
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
        moment(f["time"]),
        maybe_whole(f["duration_ns"]),
        whole(f["tid"]),
        text(f["comm"], "/comm", types),
        caller(f, "", types),
        plain(f["function"]),
        plain(f["library"]),
        whole(f["depth"]),
        boolean(f["write"]),
        None if args is None else Values(fields(mapping(args), "/args", types)),
        Values(fields(mapping(out), "/out", types)) if out else NO_VALUES,
        ret,
        returns,
        None if failed is None else boolean(failed),
        _error(f["error"], types),
        client(f.get("client"), "/client", types),
        _verdict(f, kind),
        maybe_plain(f.get("parent")),
        plains(f.get("one_of", [])),
        unfinished=plain(f["reason"]) if kind == "unfinished" else None,
        held_by=maybe_fields(f.get("held_by"), "/held_by", types),
        access=tuple(
            fields(mapping(asked), f"/access/{number}", types)
            for number, asked in enumerate(listing(f.get("access", [])))
        ),
    )


def _error(error: Any, types: Types) -> CallError | None:
    if error is None:
        return None
    name, domain, message = (
        maybe_text(error[key], f"/error/{key}", types) for key in ("name", "domain", "message")
    )
    return CallError(whole(error["code"]), name, domain, message)


def _verdict(f: Fields, kind: str) -> VerdictInfo | None:
    verdict = f["verdict"]
    if verdict is None:
        return None
    message = f["message"] if kind == "verdict" else verdict.get("message")
    rule, note = maybe_plain(verdict["rule"]) or "", maybe_plain(verdict.get("note"))
    return VerdictInfo(plain(verdict["action"]), rule, maybe_plain(message), note)
