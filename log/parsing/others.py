# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads events that are no calls: the fields of a line come in; what it was made of goes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from log.events import (
    NO_DETAILS,
    Attached,
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
)
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
    real,
    text,
    whole,
)
from log.parsing.values import fields, maybe_fields, maybe_handle, value
from log.parsing.who import caller, client
from log.shapes import Types
from log.values import Handle, Value


def _command(f: Fields, types: Types) -> Command:
    return Command(
        moment(f["time"]),
        maybe_whole(f["duration_ns"]),
        whole(f["tid"]),
        text(f["comm"], "/comm", types),
        caller(f, "", types),
        value(f["text"], "/text", types),
        maybe_plain(f["parent"]),
        f["type"] == "agent",
    )


def _domain(f: Fields, types: Types) -> DomainEvent:
    domain = value(f["domain"], "/domain", types)
    if not isinstance(domain, Handle):
        raise ForeignLine("not a domain")
    parent, cause = maybe_plain(f["parent"]), f["cause"]
    details: Mapping[str, Value] = NO_DETAILS
    if cause is not None:
        own = ("kind", "id") if parent else ("kind",)
        told = {key: item for key, item in mapping(cause).items() if key not in own}
        details = fields(told, "/cause", types) if told else NO_DETAILS
    return DomainEvent(
        moment(f["time"]),
        whole(f["tid"]),
        text(f["comm"], "/comm", types),
        caller(f, "", types),
        domain,
        plain(f["event"]),
        plain(f["detail"]),
        parent,
        plains(f.get("one_of", [])),
        None if cause is None else maybe_plain(cause["kind"]),
        details,
        maybe_whole(f.get("qemu_pid")),
    )


def _under_way(f: Fields, types: Types) -> UnderWay:
    return UnderWay(
        moment(f["time"]),
        maybe_whole(f["age_ns"]),
        whole(f["tid"]),
        text(f["comm"], "/comm", types),
        caller(f, "", types),
        client(f["client"], "/client", types),
        plain(f["function"]),
        maybe_handle(f["object"], "/object", types),
        plain(f["where"]),
        value(f["command"], "/command", types),
        maybe_fields(f["held_by"], "/held_by", types),
        maybe_plain(f["call"]),
        maybe_text(f.get("connection"), "/connection", types),
        boolean(f.get("before", f["age_ns"] is None)),
        maybe_fields(f.get("limit"), "/limit", types),
    )


def _owed(f: Fields, types: Types) -> Owed:
    refers = listing(f.get("refers", []))
    return Owed(
        moment(f["time"]),
        moment(f["since"]),
        plain(f["what"]),
        maybe_handle(f["object"], "/object", types),
        value(f["detail"], "/detail", types),
        fields(mapping(f["by"]), "/by", types),
        boolean(f["gone"]),
        maybe_plain(f["call"]),
        boolean(f["sure"]),
        tuple(text(one, f"/refers/{i}", types) for i, one in enumerate(refers)),
    )


def _attached(f: Fields, types: Types) -> Attached:
    targets = tuple(
        [
            TargetInfo(
                text(target["path"], f"/targets/{i}/path", types),
                maybe_plain(target["libvirt"]),
                maybe_plain(target.get("note")),
            )
            for i, target in enumerate(listing(f["targets"]))
        ]
    )
    mapped = f.get("mapped_ms")
    times = real(f["attach_ms"]), None if mapped is None else real(mapped)
    return Attached(
        moment(f["time"]),
        plain(f["version"]),
        whole(f["functions"]),
        targets,
        times[0],
        plain(f["link"]),
        times[1],
    )


def _lost(f: Fields, types: Types) -> Lost:
    whose = maybe_whole(f["uid"]), maybe_text(f["user"], "/user", types)
    return Lost(
        moment(f["time"]),
        whole(f["count"]),
        plain(f["ring"]),
        plain(f["reason"]),
        *whose,
        whole(f["details_lost"]),
    )


def _end(f: Fields, types: Types) -> End:
    calls, failed, denied, lost, details = (
        whole(f[key]) for key in ("calls", "failed", "denied", "lost", "details_lost")
    )
    unsent = whole(f.get("not_exported", 0))
    seconds = real(f["seconds"])
    rules = tuple(
        fields(mapping(rule), f"/rules/{number}", types)
        for number, rule in enumerate(listing(f.get("rules", [])))
    )
    return End(moment(f["time"]), calls, failed, denied, lost, seconds, details, unsent, rules)


def _reads(f: Fields, types: Types) -> Reads:
    found = maybe_handle(f["object"], "/object", types)
    whose = mapping(f["caller"])
    calls, failed, total, longest = (
        whole(f[key]) for key in ("calls", "failed", "total_ns", "max_ns")
    )
    who = caller(whose, "/caller", types), text(whose["comm"], "/caller/comm", types)
    caused = boolean(f.get("caused", False))
    times = moment(f["time"]), moment(f["until"])
    return Reads(
        *times,
        *who,
        client(f.get("client"), "/client", types),
        plain(f["function"]),
        found,
        calls,
        failed,
        total,
        longest,
        caused,
        whole(f.get("processes", 1)),
        tuple(map(whole, listing(f.get("pids", [])))),
    )


def _gap(f: Fields, types: Types) -> Gap:
    return Gap(moment(f["time"]), moment(f["until"]), plain(f["reason"]), maybe_whole(f["lost"]))


def _removed(f: Fields, types: Types) -> Removed:
    segment, reason, chain = (plain(f[key]) for key in ("segment", "reason", "chain"))
    return Removed(moment(f["time"]), segment, reason, chain, whole(f["frame"]))


def _recording(f: Fields, types: Types) -> Recording:
    version, host, kernel = (plain(f[key]) for key in ("version", "host", "kernel"))
    machine, boot, table = (maybe_plain(f[key]) for key in ("machine", "boot", "table"))
    filters, limits, clock = (mapping(f[key]) for key in ("filters", "limits", "clock"))
    previous = None if f["previous"] is None else mapping(f["previous"])
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


OTHERS: dict[str, Callable[[Fields, Types], Event]] = {
    "monitor": _command,
    "agent": _command,
    "domain": _domain,
    "under_way": _under_way,
    "owed": _owed,
    "attached": _attached,
    "unattached": lambda f, types: Unattached(
        moment(f["time"]), text(f["path"], "/path", types), plain(f["reason"])
    ),
    "clock": lambda f, types: Clock(moment(f["time"]), whole(f["step_ns"])),
    "lost": _lost,
    "end": _end,
    "reads": _reads,
    "gap": _gap,
    "removed": _removed,
    "recording": _recording,
}
