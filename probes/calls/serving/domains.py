# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes of domains inside a daemon, and what a driver takes a call's domain for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from log.events import Call, Event
from log.values import CutText, Handle, Value, Values
from probes.api.table import ApiTable
from probes.plans.meaning import values

_EVENT = "VIR_DOMAIN_EVENT_"
# calls that are remembered (endings.py), as they may bind a domain to their connection
REMEMBERED = frozenset(
    {
        "virDomainCreateWithFiles",
        "virDomainCreateWithFlags",
        "virDomainCreateXML",
        "virDomainCreateXMLWithFiles",
    }
)


class Lifecycle:
    """The names of events and of the ways in which they came about: `stopped`, `crashed`."""

    def __init__(self, table: ApiTable) -> None:
        self._events = _names(table, "virDomainEventType", _EVENT)
        # virDomainEventStoppedDetailType: VIR_DOMAIN_EVENT_STOPPED_CRASHED
        self._details = {
            event: _names(
                table, f"virDomainEvent{event.title()}DetailType", f"{_EVENT}{event.upper()}_"
            )
            for event in self._events.values()
        }

    def names(self, fields: Mapping[str, Value]) -> tuple[str, str]:
        """Event and detail of a LIFECYCLE record; numbers where libvirt has no name."""
        kind, detail = (
            values.integer("i32", number)
            for number in (fields["arg3"], fields["arg4"])
            if isinstance(number, int)
        )
        event = self._events.get(kind, str(kind))
        return event, self._details.get(event, {}).get(detail, str(detail))


def is_told(fields: Mapping[str, Value]) -> bool:
    """Whether a LIFECYCLE record says what a daemon told its client. The name and UUID are then
    those of a client's handle.
    """
    handle = fields["handle"]
    return (
        isinstance(handle, int) and handle >> 64 == fields["arg1"] and fields["driver"] == "remote"
    )


def uuid_of(fields: Mapping[str, Value]) -> str:
    """The UUID in a record."""
    number = fields["uuid"]
    assert isinstance(number, int)
    return values.uuid_value(number.to_bytes(16, "little"))


def found_by(events: Iterable[Event]) -> list[tuple[str, Value]]:
    """UUID and name of domains that these calls were sent for under another name."""
    return [
        (str(value.fields["uuid"]), value.fields["name"])
        for event in events
        if isinstance(event, Call) and event.args
        for value in event.args.values.values()
        if isinstance(value, Handle) and "claimed" in value.fields
    ]


def with_true_name(call: Call, uuid: str, name: Value) -> Call:
    """The call; where its handle of the domain has another name than the driver's, with the
    driver's, and the handle's as `claimed`.
    """
    if call.args is None:
        return call
    changed: dict[str, Value] = {}
    for key, value in call.args.values.items():
        if (
            isinstance(value, Handle)
            and value.type == "domain"
            and value.fields.get("uuid") == uuid
            and _differ(value.fields.get("name"), name)
        ):
            fields = {**value.fields, "name": name, "claimed": value.fields.get("name")}
            changed[key] = value._replace(fields=fields)
    return call._replace(args=Values({**call.args.values, **changed})) if changed else call


def _differ(claimed: Value, true: Value) -> bool:
    """Whether these are two names: as far as both were captured."""
    if not isinstance(true, str | CutText):
        return False  # it could not be read
    if not isinstance(claimed, str | CutText):
        return True
    one, other = (
        value if isinstance(value, str) else value.whole or value.text for value in (claimed, true)
    )
    if _is_cut(claimed):
        other = other[: len(one)]
    if _is_cut(true):
        one = one[: len(other)]
    return one != other


def _is_cut(name: str | CutText) -> bool:
    """Whether less than all of it was captured."""
    return isinstance(name, CutText) and (
        name.length is None
        or len((name.whole or name.text).encode(errors="surrogatepass")) < name.length
    )


def _names(table: ApiTable, enum: str, prefix: str) -> dict[int, str]:
    found: dict[int, str] = {}
    if enum in table.enums:
        for name, value in table.enums[enum].constants.items():
            found.setdefault(value, name.removeprefix(prefix).lower())
    return found
