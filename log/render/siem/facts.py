# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event comes in; what an audit asks of it goes out: who, what, on which object, how it ended,
by which rule. What is not known is None.

Calls have facts, also those that were denied or have no end, counted reads, changes of domains,
what was begun and not ended, and whatever makes a log incomplete: losses, gaps, files whose calls
are not seen. Nothing else has.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from log.client import Client
from log.documents import names_in
from log.events import Call, Caller, DomainEvent, Event, Gap, Lost, Owed, Reads, Unattached, call_id
from log.filters.about import DEFINES, NAME_ARGS
from log.login import short
from log.quote import escape
from log.render.notices import notice
from log.render.printers import arguments, value
from log.render.why import owed, plain, why
from log.values import CutText, Handle, Value, Xml

CALL, READS, DOMAIN, LOSS = (
    "call",
    "reads",
    "domain",
    "loss",
)  # kinds of facts; of a domain: also what is owed
OWED = "owed"  # what is said to have happened
CREATE, READ, UPDATE, DELETE = "create", "read", "update", "delete"
ALLOWED, DENIED, AUDITED, NOT_ENFORCED = "allow", "deny", "audit", "not enforced"
_is_uuid = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_makes = re.compile(r"(?:Create|Define)(?:XML|Linux)").search
_removes = re.compile(r"Undefine|Delete").search
_subject = re.compile(
    r"vir(Domain|Network|NWFilter|Interface|StoragePool|StorageVol|NodeDevice|Secret)"
).match
_SUBJECTS = {
    "Domain": "domain",
    "Network": "network",
    "NWFilter": "nwfilter",
    "Interface": "interface",
    "StoragePool": "pool",
    "StorageVol": "volume",
    "NodeDevice": "nodedev",
    "Secret": "secret",
}


class Who(NamedTuple):
    """For whom it was done: in a daemon its client, as the kernel, SASL or a certificate tells."""

    pid: int | None
    uid: int | None
    user: str | None
    loginuid: int | None
    real_uid: int | None
    exe: str | None
    comm: str | None
    cmdline: tuple[str, ...] | None
    address: str | None  # of a client on another host, without its port
    port: int | None
    sasl: str | None
    x509: str | None
    unit: str | None
    container: str | None
    session: str | None  # how the user came in, in short

    @property
    def ip(self) -> str | None:
        """The address, where it is one by number."""
        try:
            return None if self.address is None else str(ipaddress.ip_address(self.address))
        except ValueError:
            return None

    @property
    def program(self) -> str | None:
        """The program's name."""
        return os.path.basename(self.exe) if self.exe else self.comm

    @property
    def account(self) -> str | None:
        """The user's name; without one, the name that SASL or a certificate has proved."""
        return self.user if self.uid is not None else self.user or self.sasl or self.x509


class Affected(NamedTuple):
    """An object of libvirt's."""

    type: str | None
    name: str | None
    uuid: str | None


class Audited(NamedTuple):
    """What an audit asks of an event."""

    kind: str
    time: int  # ns since the epoch
    what: str  # the function, "domain started", "calls lost", ...
    message: str  # a line for people
    id: str | None = None
    parent: str | None = None  # id of the call that it was done for
    duration_ns: int | None = None
    who: Who | None = None  # None: not known, or nobody
    claims: dict[str, Value] | None = None  # what the client has said of itself
    daemon: Who | None = None  # the process that did it, where it was for another
    things: tuple[Affected, ...] = ()  # the first one is the object, others are involved
    uri: str | None = None  # of the connection
    action: str | None = None  # create, read, ...
    success: bool | None = None
    reason: str | None = None  # "VIR_ERR_NO_DOMAIN", "denied", "crashed", "buffer full", ...
    detail: str | None = None  # libvirt's message
    verdict: str | None = None
    rule: str | None = None
    how_many: int | None = None  # calls, where it is not one
    until: int | None = None  # ns since the epoch

    @property
    def thing(self) -> Affected:
        """The object; one of which nothing is known where there is none."""
        return self.things[0] if self.things else Affected(None, None, None)


def facts(event: Event) -> Audited | None:
    """The facts; None: the event has none."""
    tell = _TELL.get(type(event))
    return tell(event) if tell else None


def _call(call: Call) -> Audited:
    who, claims, daemon = _parties(call.caller, call.comm, call.client)
    verdict, error = call.verdict, call.error
    action = None if verdict is None else verdict.action
    reason = error.name or str(error.code) if error and call.failed is not False else None
    detail = error.message if error and reason else None
    if action == DENIED:
        assert verdict
        reason, detail = "denied", verdict.message or detail
    elif call.unfinished is not None:
        reason = call.unfinished
    denied = action == DENIED
    return Audited(
        CALL,
        call.time,
        call.function,
        _line(call),
        call_id(call.tid, call.time),
        call.parent,
        call.duration_ns,
        who,
        claims,
        daemon,
        tuple(_things(call)),
        _uri(call),
        _action(call.function, call.write),
        False if denied else None if call.failed is None or call.unfinished else not call.failed,
        reason,
        detail,
        action,
        verdict.rule or None if verdict else None,
    )


def _reads(event: Reads) -> Audited:
    who, claims, daemon = _parties(event.caller, event.comm, event.client)
    thing = () if event.object is None else (_thing(event.object),)
    failed = f", {event.failed} failed" if event.failed else ""
    return Audited(
        READS,
        event.time,
        event.function,
        f"{event.function}: {event.calls} reads{failed}",
        duration_ns=event.total_ns,
        who=who,
        claims=claims,
        daemon=daemon,
        things=thing,
        action=READ,
        success=True if not event.failed else False if event.failed == event.calls else None,
        how_many=event.calls,
        until=event.until,
    )


def _domain(event: DomainEvent) -> Audited:
    thing = _thing(event.domain)
    return Audited(
        DOMAIN,
        event.time,
        f"domain {event.event}",
        f"domain {event.event}: {event.detail}, {why(event)}",
        call_id(event.tid, event.time),
        event.parent,
        who=_known(event.known),
        daemon=_process(event.caller, event.comm),
        things=(thing,),
        success="crashed" not in (event.event, event.detail) and event.detail != "failed",
        reason=event.detail,
        detail=event.cause,
    )


def _owed(event: Owed) -> Audited:
    about = () if event.object is None else (_thing(event.object),)
    uri = _text(event.object.fields.get("uri")) if event.object else None
    name = about[0].name or uri if about else None
    return Audited(
        DOMAIN,
        event.time,
        OWED,
        f"{escape(name or '?')}: {owed(event)}",
        parent=event.call,
        who=_known(event.by),
        things=tuple(one._replace(name=name) for one in about),
        uri=uri,
        success=False if event.gone else None,
        reason=event.what,
        detail=None if event.detail is None else plain(event.detail),
    )


def _loss(event: Lost) -> Audited:
    who = None
    if event.uid is not None:
        who = _NOBODY._replace(uid=event.uid, user=event.user)
    what = "calls lost" if event.count else "details lost"
    count = event.count or event.details
    return _incomplete(event, what, event.reason, who=who, how_many=count)


def _gap(event: Gap) -> Audited:
    return _incomplete(
        event, "nothing recorded", event.reason, how_many=event.lost, until=event.until
    )


def _unattached(event: Unattached) -> Audited:
    return _incomplete(
        event, "calls not seen", event.reason, things=(Affected("file", event.path, None),)
    )


def _incomplete(event: Any, what: str, reason: str, **more: Any) -> Audited:
    return Audited(LOSS, event.time, what, notice(event), success=False, reason=reason, **more)


def _parties(
    caller: Caller, comm: str, client: Client | None
) -> tuple[Who | None, dict[str, Value] | None, Who | None]:
    """For whom, what that one claims, and the daemon that did it."""
    process = _process(caller, comm)
    if client is None or client.is_daemon:
        return process, None, None
    claims: dict[str, Value] | None = None
    if client.claims is not None:
        known = client.claims.fields().items()
        claims = {key: item for key, item in known if item is not None}
    return _known(client.fields()), claims, process


def _process(caller: Caller, comm: str) -> Who:
    return _NOBODY._replace(
        pid=caller.pid,
        uid=caller.uid,
        user=caller.user,
        loginuid=caller.loginuid,
        real_uid=caller.real_uid,
        exe=caller.exe,
        comm=comm,
        cmdline=caller.cmdline,
        unit=caller.unit,
        container=caller.container,
        session=None if caller.session is None else short(caller.session.fields()),
    )


_NOBODY = Who(*(None,) * len(Who._fields))


def _known(fields: Mapping[str, Value]) -> Who | None:
    """Who it is by these fields: a client's, or those of a cause, who has sent the signal, say."""
    host, _, port = (_text(fields.get("address")) or "").rpartition(":")
    words, session = fields.get("cmdline"), fields.get("session")
    who = Who(
        pid=_number(fields.get("pid")),
        uid=_number(fields.get("uid")),
        user=_text(fields.get("user")),
        loginuid=_number(fields.get("loginuid")),
        real_uid=None,
        exe=_text(fields.get("exe")),
        comm=_text(fields.get("comm")),
        cmdline=tuple(map(str, words)) if isinstance(words, list | tuple) else None,
        address=host.strip("[]") or None,
        port=int(port) if port.isascii() and port.isdecimal() and int(port) < 1 << 16 else None,
        sasl=_text(fields.get("sasl")),
        x509=_text(fields.get("x509")),
        unit=_text(fields.get("unit")),
        container=_text(fields.get("container")),
        session=short(session) if isinstance(session, Mapping) else None,
    )
    return None if who == _NOBODY else who


def _things(call: Call) -> Iterator[Affected]:
    """The objects that the call is on, or has found or made; else what it names."""
    values = {} if call.args is None else call.args.values
    handles = [item for item in (*values.values(), call.ret) if isinstance(item, Handle)]
    objects = [_thing(handle) for handle in handles if handle.type != "connect"]
    if objects:
        yield from dict.fromkeys(objects)
        return
    named = Affected(_subject_of(call.function), None, None)
    for key, item in values.items():
        if key in NAME_ARGS:
            named = named._replace(name=named.name or _text(item))
        elif key in ("uuid", "uuidstr"):
            named = named._replace(uuid=_text(item))
        elif isinstance(item, Xml) and DEFINES(call.function):
            for text in names_in(item.captured):
                if _is_uuid(text):
                    named = named._replace(uuid=named.uuid or text)
                else:
                    named = named._replace(name=named.name or text)
    if named.name is not None or named.uuid is not None:
        yield named


def _thing(handle: Handle) -> Affected:
    """By its name, and the name of what it is in: a volume's pool, a snapshot's domain."""
    found = next(
        (handle.fields[key] for key in ("name", "usage", "portdev") if handle.fields.get(key)), None
    )
    name, uuid = _text(found), handle.fields.get("uuid")
    places = (_text(handle.fields.get(key)) for key in ("pool", "domain", "network"))
    within = next((place for place in places if place is not None), None)
    if within is not None:
        name = within if name is None else f"{within}/{name}"
    return Affected(handle.type, name, _text(uuid))


def _subject_of(function: str) -> str | None:
    found = _subject(function)
    return _SUBJECTS[found[1]] if found else None


def _uri(call: Call) -> str | None:
    for item in () if call.args is None else (*call.args.values.values(), call.ret):
        if isinstance(item, Handle) and item.type == "connect":
            return _text(item.fields.get("uri"))
    return None


def _action(function: str, write: bool) -> str:
    """What is done to objects, as far as a function's name tells."""
    if not write:
        return READ
    return DELETE if _removes(function) else CREATE if _makes(function) else UPDATE


def _line(call: Call) -> str:
    """The call as people read it, without who made it and when."""
    args = "..." if call.args is None else "".join(arguments(call.args)[1::2])
    line = f"{call.function}({args})"
    if call.unfinished is not None or call.returns == "void":
        return line
    return f"{line} = {''.join(value(call.ret)[1::2])}"


def _text(item: Value) -> str | None:
    if isinstance(item, CutText):
        return item.text + "..."
    return item if isinstance(item, str) else None


def _number(item: Value) -> int | None:
    return item if isinstance(item, int) and not isinstance(item, bool) else None


_TELL: dict[type, Callable[[Any], Audited]] = {
    Call: _call,
    Reads: _reads,
    DomainEvent: _domain,
    Owed: _owed,
    Lost: _loss,
    Gap: _gap,
    Unattached: _unattached,
}
