# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event comes in; what a system's log is told of it goes out: a kind, a priority, a sentence
and fields. Told are changes, denials, losses and ends of domains, and nothing else.

What a daemon does for a call is told with that call only, unless it was denied.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from log.events import Call, DomainEvent, End, Event, Gap, Lost, Unattached, call_id
from log.filters.about import is_denied, object_of
from log.login import short
from log.moments import rfc3339
from log.quote import escape
from log.render import text
from log.values import CutText, Handle, Value

WARNING, NOTICE, INFO = 4, 5, 6  # of syslog
AUTHPRIV = 10  # its facility of who may do what
ENDS = ("stopped", "crashed")  # events of a domain that has ceased to run
# what an entry of a journal's catalog is found by; never given to another kind
MESSAGE_IDS = {
    "write": "36e979cde99e4305a8356de9735f92e2",
    "denied": "b43690de5a314fd9aa837b2dee20dbc8",
    "ended": "c737ced1e70c499ca3833bd45fbff74c",
    "lost": "4be60d63edb148e38d79d79ed33cbb7f",
    "unattached": "13339f02a84b4e6393241013e09cf617",
    "gap": "8789439609724190a7f167ccb5833d52",
    "end": "3141acc1f37a435c873448b452c67431",
    "anchor": "a7535566683d4af28859fc6da0e7392e",
}
_is_type = re.compile(r"[a-z][a-z_]{0,20}").fullmatch
_NOTICES: dict[type, str] = {Lost: "lost", Unattached: "unattached", Gap: "gap", End: "end"}


class Told(NamedTuple):
    """What a log is told of an event."""

    kind: str  # a key of MESSAGE_IDS
    time: int  # ns since the epoch
    priority: int
    message: str  # a line, safe to be shown
    pid: int | None
    fields: dict[str, str]  # by names such as "function"; never empty ones


def is_told(event: Event) -> bool:
    """Whether a system's log is told of it."""
    if type(event) is Call:
        return is_denied(event) or (event.write and event.parent is None)
    if type(event) is DomainEvent:
        return event.event in ENDS
    return type(event) in _NOTICES


def told_of(event: Event) -> Told:
    """What is told of an event of which something is."""
    kind, priority = _kind_of(event)
    found: dict[str, Value] = {"event": kind, "time": rfc3339(event.time)}
    pid = None
    if type(event) is Call or type(event) is DomainEvent:
        caller, pid = event.caller, event.caller.pid
        found |= {
            "id": call_id(event.tid, event.time),
            "parent": event.parent,
            "pid": caller.pid,
            "comm": event.comm,
            "exe": caller.exe,
            "uid": caller.uid,
            "user": caller.user,
            "loginuid": caller.loginuid,
            "unit": caller.unit,
            "container": caller.container,
            "session": None if caller.session is None else short(caller.session.fields()),
        }
    if type(event) is Call:
        found |= _fields_of_call(event)
    elif type(event) is DomainEvent:
        found |= _fields_of_object(event.domain)
        found |= {"change": event.event, "detail": event.detail, "cause": event.cause}
    fields = {key: _plain(value) for key, value in found.items() if value is not None}
    return Told(kind, event.time, priority, _message(event), pid, fields)


def _kind_of(event: Event) -> tuple[str, int]:
    if type(event) is Call:
        if is_denied(event):
            return "denied", WARNING
        return "write", NOTICE if event.failed or event.unfinished else INFO
    if type(event) is DomainEvent:
        return "ended", WARNING if event.event == "crashed" else INFO
    kind = _NOTICES[type(event)]
    return kind, INFO if kind == "end" else WARNING


def _fields_of_call(call: Call) -> dict[str, Value]:
    outcome = "failed" if call.failed else "unknown" if call.failed is None else "ok"
    if call.unfinished is not None:
        outcome = "unfinished"
    if is_denied(call):
        outcome = "denied"
    found: dict[str, Value] = {
        "function": call.function,
        "outcome": outcome,
        "duration_ns": call.duration_ns,
        "reason": call.unfinished,
    }
    about = object_of(call)
    if about is not None:
        found |= _fields_of_object(about)
    if call.error is not None:
        found |= {"error": call.error.name or call.error.code, "error_message": call.error.message}
    if call.verdict is not None:
        found |= {"action": call.verdict.action, "rule": call.verdict.rule or None}
    if call.client is not None:
        for key in ("pid", "uid", "user", "sasl", "x509", "address", "exe", "loginuid"):
            found[f"client_{key}"] = getattr(call.client, key)
        session = call.client.session
        found["client_session"] = None if session is None else short(session.fields())
    return found


def _fields_of_object(about: Handle) -> dict[str, Value]:
    found: dict[str, Value] = {"object": about.label, "object_type": about.type}
    if _is_type(about.type):  # a file of lines may say anything
        found |= {
            f"{about.type}_name": about.fields.get("name"),
            f"{about.type}_uuid": about.fields.get("uuid"),
        }
    return found


def _message(event: Event) -> str:
    view = text.View.BOTH if getattr(event, "parent", None) is not None else text.View.FOLD
    pieces = [piece for role, piece in text.segments(_alone(event), view) if role != "time"]
    return "".join(pieces).strip()


def _alone(event: Event) -> Event:
    """Without what it caused: a line, and not a tree."""
    return event._replace(children=()) if type(event) is Call and event.parent else event


def _plain(value: Value) -> str:
    """As one line of text that shows nothing it should not."""
    if isinstance(value, CutText):
        value = f"{value.text}..."
    return escape(value if isinstance(value, str) else str(value))
