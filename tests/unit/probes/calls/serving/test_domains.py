# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes of domains: libvirt's own names of events, and by which name a driver knows a
call's domain.
"""

from __future__ import annotations

import pytest

from log.events import Call, Caller, Command
from log.values import NO_VALUES, CutText, Handle, Value, Values
from probes.api.load import load_api
from probes.calls.serving.domains import Lifecycle, found_by, is_told, uuid_of, with_true_name

TABLE = load_api()
CALLER = Caller(7, "/usr/sbin/libvirtd", None, 0, "root", None, None, None)
UUID, OTHER = "6695eb01-f6a4-8304-79aa-97f2502e193f", "00000000-0000-0000-0000-000000000001"


def call(**args: Value) -> Call:
    return Call(
        1,
        2,
        7,
        "x",
        CALLER,
        "virDomainSuspend",
        "libvirt.so.0",
        0,
        True,
        Values(dict(args)),
        NO_VALUES,
        0,
        "integer",
        False,
        None,
    )


def domain(uuid: str = UUID, name: Value = "web1", **more: Value) -> Handle:
    return Handle("domain", {"name": name, "uuid": uuid, **more})


def test_every_event_and_detail_has_libvirts_name():
    lifecycle = Lifecycle(TABLE)
    events = TABLE.enums["virDomainEventType"].constants
    for constant, number in events.items():
        event = constant.removeprefix("VIR_DOMAIN_EVENT_")
        details = TABLE.enums.get(f"virDomainEvent{event.title()}DetailType")
        for detail, value in details.constants.items() if details else ():
            named = lifecycle.names({"arg3": number, "arg4": value})
            assert named == (
                event.lower(),
                detail.removeprefix(f"VIR_DOMAIN_EVENT_{event}_").lower(),
            )
    assert lifecycle.names({"arg3": events["VIR_DOMAIN_EVENT_STOPPED"], "arg4": 2}) == (
        "stopped",
        "crashed",
    )


@pytest.mark.parametrize(
    ("event", "detail", "named"),
    [(5, 99, ("stopped", "99")), (99, 1, ("99", "1")), (0xFFFFFFFF, 7, ("-1", "7"))],
)
def test_events_that_libvirt_has_no_name_for_are_numbers(event, detail, named):
    assert Lifecycle(TABLE).names({"arg3": event, "arg4": detail}) == named


def test_what_a_daemon_tells_its_client_is_no_news():
    told: dict[str, Value] = {"handle": 0x1000 << 64, "arg1": 0x1000, "driver": "remote"}
    assert is_told(told)
    for other in ({"driver": "QEMU"}, {"handle": None}, {"arg1": 0x2000}, {"driver": None}):
        assert not is_told(told | other)


def test_uuid_is_that_of_the_record():
    assert uuid_of({"uuid": int.from_bytes(bytes.fromhex(UUID.replace("-", "")), "little")}) == UUID


def test_names_that_daemons_found_are_those_of_the_client_too():
    forged = domain(claimed="innocent")
    asked = Command(1, 2, 7, "x", CALLER, "quit", None)
    assert found_by([call(domain=domain()), asked, call(domain=forged, other=None)]) == [
        (UUID, "web1")
    ]
    assert found_by([call()._replace(args=None)]) == []


@pytest.mark.parametrize(
    ("claimed", "true", "shown"),
    [
        ("innocent", "web1", domain(claimed="innocent")),
        ("web1", "web1", domain()),
        (None, "web1", domain(claimed=None)),
        ("web1", None, domain()),  # it could not be read
        (CutText("we", 4), "web1", domain(name=CutText("we", 4))),
        (CutText("in", 8), "web1", domain(claimed=CutText("in", 8))),
        ("web12", CutText("web1", 5), domain(name="web12")),
    ],
    ids=str,
)
def test_handle_has_the_drivers_name(claimed, true, shown):
    made = call(domain=domain(name=claimed), flags=0)
    named = with_true_name(made, UUID, true)
    assert named.args == Values({"domain": shown, "flags": 0})
    assert (named is made) is ("claimed" not in shown.fields)


def test_other_domains_and_other_objects_keep_their_names():
    others = call(
        domain=domain(OTHER, "other"), network=Handle("network", {"name": "x", "uuid": UUID})
    )
    assert with_true_name(others, UUID, "web1") is others
    lost = call()._replace(args=None)
    assert with_true_name(lost, UUID, "web1") is lost
