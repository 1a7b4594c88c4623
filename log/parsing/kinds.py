# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events that are no calls, in JSON: one description of each kind's fields, by which its line is
written and read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

from log import events
from log.events import Event
from log.moments import rfc3339
from log.parsing import fields as take
from log.parsing.fields import Fields, ForeignLine
from log.parsing.values import fields, maybe_fields, maybe_handle, value
from log.parsing.who import caller, client
from log.shapes import Types, inside
from log.values import Handle, Value

Take = Callable[[Any, str, Types], Any]  # what JSON has, where that is, the line's notes


class Codec(NamedTuple):
    """What JSON has in a field, and what an event has: one comes in, the other goes out."""

    read: Take
    write: Callable[[Any], Value] = lambda item: item


class LineField(NamedTuple):
    """A field of a line. Both ways see all of the event and of the line, as a few of them stand for
    more than one field of the event.
    """

    key: str
    write: Callable[[Any], Value]  # of the event
    left_out: Callable[[Any], bool]  # of which events
    read: Callable[[Fields, Types, Fields], object]  # into the event's fields, the last


class Kind(NamedTuple):
    """A kind of event: what it is made as, and its fields, behind the time. One of a process has
    its thread and its caller before them.
    """

    made: Callable[..., Event]
    fields: tuple[LineField, ...]
    of_process: bool = False

    def written(self, event: Event) -> dict[str, Value]:
        """The event's fields, but for the time and a process's own."""
        return {field.key: field.write(event) for field in self.fields if not field.left_out(event)}

    def read(self, found: Fields, types: Types) -> Event:
        """The event of a line's fields."""
        told: dict[str, Any] = {"time": take.moment(found["time"])}
        if self.of_process:
            told |= {
                "tid": take.whole(found["tid"]),
                "comm": take.text(found["comm"], "/comm", types),
                "caller": caller(found, "", types),
            }
        for field in self.fields:
            field.read(found, types, told)
        return self.made(**told)


def _plainly(read: Callable[[Any], Any]) -> Codec:
    return Codec(lambda item, path, types: read(item))


def _never(event: Any) -> bool:
    return False


def _field(
    key: str,
    how: Codec,
    name: str | None = None,
    *,
    before: Callable[[Fields], Any] | None = None,
) -> LineField:
    """One that is always there, `name` in the event; `before`: what it is in lines of before there
    was such a field.
    """
    name, path = name or key, f"/{key}"
    of = attrgetter(name)

    take_it = how.read

    def read(found: Fields, types: Types, told: Fields) -> None:
        if before is not None and key not in found:
            told[name] = before(found)
        else:
            told[name] = take_it(found[key], path, types)

    return LineField(key, lambda event: how.write(of(event)), _never, read)


def _maybe(key: str, how: Codec, usual: Any = None) -> LineField:
    """One that is left out where it is as usual."""
    of = attrgetter(key)
    always = _field(key, how, before=lambda found: usual)
    return always._replace(left_out=lambda event: bool(of(event) == usual))


def _listed(read: Take, write: Callable[[Any], Value] = lambda item: item) -> Codec:
    """A list of these."""
    return Codec(
        lambda items, path, types: tuple(
            [
                read(item, inside(path, index), types)
                for index, item in enumerate(take.listing(items))
            ]
        ),
        lambda items: [write(item) for item in items],
    )


def _as_fields(item: Mapping[str, Value] | None) -> Value:
    return None if item is None else dict(item)


def _handle(item: Any, path: str, types: Types) -> Handle:
    found = value(item, path, types)
    if not isinstance(found, Handle):
        raise ForeignLine("not a domain")
    return found


def _target(item: Any, path: str, types: Types) -> events.TargetInfo:
    return events.TargetInfo(
        take.text(item["path"], f"{path}/path", types),
        take.maybe_plain(item["libvirt"]),
        take.maybe_plain(item.get("note")),
    )


def _of_target(target: events.TargetInfo) -> Value:
    told: dict[str, Value] = {"path": target.path, "libvirt": target.libvirt}
    return told if target.note is None else {**told, "note": target.note}


def _cause(event: events.DomainEvent) -> Value:
    if not event.cause:
        return None
    own: dict[str, Value] = {"kind": event.cause}
    if event.parent:
        own["id"] = event.parent
    return {**own, **event.known}


def _read_cause(found: Fields, types: Types, into: Fields) -> None:
    cause = found["cause"]
    if cause is None:
        into["cause"] = None
        return
    own = ("kind", "id") if found["parent"] else ("kind",)
    told = {key: item for key, item in take.mapping(cause).items() if key not in own}
    known = fields(told, "/cause", types) if told else events.NO_DETAILS
    into |= {"cause": take.maybe_plain(cause["kind"]), "known": known}


def _counted_caller(event: events.Reads) -> Value:
    return {"pid": event.caller.pid, "comm": event.comm, **event.caller.fields()}


def _read_counted_caller(found: Fields, types: Types, into: Fields) -> None:
    whose = take.mapping(found["caller"])
    into["caller"] = caller(whose, "/caller", types)
    into["comm"] = take.text(whose["comm"], "/caller/comm", types)


def _is_one(event: events.Reads) -> bool:
    return event.processes == 1 and not event.pids


WHOLE, MAYBE_WHOLE = _plainly(take.whole), _plainly(take.maybe_whole)
PLAIN, MAYBE_PLAIN, PLAINS = (
    _plainly(take.plain),
    _plainly(take.maybe_plain),
    Codec(lambda items, path, types: take.plains(items), list),
)
BOOLEAN, REAL = _plainly(take.boolean), _plainly(take.real)
TEXT, MAYBE_TEXT, TEXTS = Codec(take.text), Codec(take.maybe_text), _listed(take.text)
MOMENT = Codec(lambda item, path, types: take.moment(item), rfc3339)
VALUE, DOMAIN, MAYBE_HANDLE = Codec(value), Codec(_handle), Codec(maybe_handle)
NAMED = Codec(lambda item, path, types: fields(take.mapping(item), path, types), _as_fields)
MAYBE_NAMED = Codec(maybe_fields, _as_fields)
# of the record itself, as JSON has it
MAPPING = _plainly(take.mapping)
MAYBE_MAPPING = _plainly(lambda item: None if item is None else take.mapping(item))
CLIENT = Codec(client, lambda one: None if one is None else one.fields())

_COMMAND = (
    _field("text", VALUE),
    _field("duration_ns", MAYBE_WHOLE),
    _field("parent", MAYBE_PLAIN),
)
KINDS: Mapping[str, Kind] = {
    "monitor": Kind(events.Command, _COMMAND, True),
    "agent": Kind(lambda **told: events.Command(**told, to_agent=True), _COMMAND, True),
    "domain": Kind(
        events.DomainEvent,
        (
            _field("domain", DOMAIN),
            _field("event", PLAIN),
            _field("detail", PLAIN),
            _field("parent", MAYBE_PLAIN),
            _maybe("one_of", PLAINS, ()),
            LineField("cause", _cause, _never, _read_cause),
            _field("qemu_pid", MAYBE_WHOLE, before=lambda found: None),
        ),
        True,
    ),
    "under_way": Kind(
        events.UnderWay,
        (
            _field("function", PLAIN),
            _field("object", MAYBE_HANDLE),
            _field("connection", MAYBE_TEXT, before=lambda found: None),
            _field("age_ns", MAYBE_WHOLE),
            _field("where", PLAIN),
            _field("command", VALUE),
            _field("held_by", MAYBE_NAMED),
            _field("client", CLIENT),
            _field("call", MAYBE_PLAIN),
            _field("before", BOOLEAN, before=lambda found: found["age_ns"] is None),
            _field("limit", MAYBE_NAMED, before=lambda found: None),
        ),
        True,
    ),
    "owed": Kind(
        events.Owed,
        (
            _field("since", MOMENT),
            _field("what", PLAIN),
            _field("object", MAYBE_HANDLE),
            _field("detail", VALUE),
            _field("by", NAMED),
            _field("gone", BOOLEAN),
            _field("call", MAYBE_PLAIN),
            _field("sure", BOOLEAN),
            _maybe("refers", TEXTS, ()),
        ),
    ),
    "attached": Kind(
        events.Attached,
        (
            _field("version", PLAIN),
            _field("functions", WHOLE),
            _field("targets", _listed(_target, _of_target)),
            _field("attach_ms", REAL),
            _field("link", PLAIN),
            _maybe("mapped_ms", REAL),
        ),
    ),
    "unattached": Kind(events.Unattached, (_field("path", TEXT), _field("reason", PLAIN))),
    "clock": Kind(events.Clock, (_field("step_ns", WHOLE),)),
    "lost": Kind(
        events.Lost,
        (
            _field("count", WHOLE),
            _field("ring", PLAIN),
            _field("reason", PLAIN),
            _field("uid", MAYBE_WHOLE),
            _field("user", MAYBE_TEXT),
            _field("details_lost", WHOLE, "details"),
        ),
    ),
    "end": Kind(
        events.End,
        (
            *(_field(key, WHOLE) for key in ("calls", "failed", "denied", "lost")),
            _field("seconds", REAL),
            _field("details_lost", WHOLE),
            _maybe("not_exported", WHOLE, 0),
            _maybe("rules", _listed(NAMED.read, _as_fields), ()),
        ),
    ),
    # a host's record may have thousands at once: `jsonl.line` writes the same faster
    "reads": Kind(
        events.Reads,
        (
            _field("until", MOMENT),
            LineField("caller", _counted_caller, _never, _read_counted_caller),
            _field("client", CLIENT, before=lambda found: None),
            _field("function", PLAIN),
            _field("object", MAYBE_HANDLE),
            _maybe("caused", BOOLEAN, False),
            *(_field(key, WHOLE) for key in ("calls", "failed", "total_ns", "max_ns")),
            _maybe("processes", WHOLE, 1)._replace(left_out=_is_one),
            _maybe("pids", _listed(WHOLE.read), ())._replace(left_out=_is_one),
        ),
    ),
    "gap": Kind(
        events.Gap,
        (_field("until", MOMENT), _field("reason", PLAIN), _field("lost", MAYBE_WHOLE)),
    ),
    "removed": Kind(
        events.Removed,
        (*(_field(key, PLAIN) for key in ("segment", "reason", "chain")), _field("frame", WHOLE)),
    ),
    "recording": Kind(
        events.Recording,
        (
            *(_field(key, PLAIN) for key in ("version", "host")),
            *(_field(key, MAYBE_PLAIN) for key in ("machine", "boot")),
            _field("kernel", PLAIN),
            _field("table", MAYBE_PLAIN),
            *(_field(key, MAPPING) for key in ("filters", "limits", "clock")),
            _field("previous", MAYBE_MAPPING),
        ),
    ),
}
_NAMES = {kind.made: name for name, kind in KINDS.items()}


def kind_of(event: Event) -> str:
    """What its line has as `type`."""
    if isinstance(event, events.Command) and event.to_agent:
        return "agent"
    return _NAMES[type(event)]
