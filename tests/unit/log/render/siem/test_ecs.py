# SPDX-License-Identifier: LGPL-2.1-or-later
"""ECS lines: fields that the schema has, of its types and with its words, but for `libvirt.*`."""

import ipaddress
import json
from pathlib import Path

import pytest
from hypothesis import given

from log.render.siem import ecs
from tests.unit.log.render.siem.samples import (
    CLAIMED,
    CRASHED,
    DENIED,
    EVERY,
    FROM_AFAR,
    HOST,
    NOT_KNOWN,
    STARTED,
    UNFINISHED,
    hostile,
    nasty,
)
from tests.unit.log_samples import ATTACHED, DESTROY, END, UUID

FIELDS = {
    line.split("\t")[0]: ([*line.split("\t"), "", "", ""])[1:4]
    for line in (Path(__file__).parent / "ecs.tsv").read_text().splitlines()
    if not line.startswith("#")
}
EXPECTED = {  # types that go with a category
    "api": {"access", "change", "creation", "deletion", "allowed", "denied"},
    "host": {"change", "start", "end"},
}


def flat(item, path=""):
    """Fields by their names with dots."""
    if isinstance(item, dict):
        for key, inner in item.items():
            yield from flat(inner, f"{path}.{key}" if path else key)
    else:
        yield path, item


def valid(line):
    assert line.count("\n") == 1 and line.endswith("\n")
    event = dict(flat(json.loads(line)))
    for field, item in event.items():
        if field.startswith("libvirt."):
            continue
        kind, normal, words = FIELDS[field]
        assert isinstance(item, list) == (normal == "array"), field
        for one in item if isinstance(item, list) else [item]:
            assert isinstance(one, int if kind == "long" else str), field
            assert not words or one in words.split(), (field, one)
            if kind == "ip":
                ipaddress.ip_address(one)
    for category in event.get("event.category", ()):
        assert set(event["event.type"]) <= EXPECTED[category]
    assert {"@timestamp", "ecs.version", "event.kind", "event.action"} <= event.keys()
    return event


@pytest.mark.parametrize("event", EVERY)
@pytest.mark.parametrize("host", [HOST, None])
def test_every_line_has_only_fields_of_the_schema(event, host):
    assert valid(ecs.line(event, host)).get("host.name") == host


def test_denied_call_says_who_what_where_and_by_which_rule():
    told = valid(ecs.line(DENIED, HOST))
    assert told == told | {
        "@timestamp": "2023-11-15T09:24:11.403660789Z",
        "event.action": "virDomainDestroyFlags",
        "event.type": ["change", "denied"],
        "event.outcome": "failure",
        "event.reason": "denied",
        "rule.name": "keep-web",
        "user.id": "1000",
        "user.name": "alice",
        "process.pid": 41300,
        "service.name": "libvirtd",
        "libvirt.login.id": "1000",
        "libvirt.object.type": "domain",
        "libvirt.object.name": "web1",
        "libvirt.object.uuid": UUID,
        "libvirt.daemon.pid": 812,
        "libvirt.parent": DENIED.parent,
        "related.user": ["alice", "root"],
    }


def test_what_is_not_known_is_not_there():
    told = valid(ecs.line(NOT_KNOWN, None))
    assert not any(field.startswith(("user.", "process.", "source.")) for field in told)
    assert valid(ecs.line(UNFINISHED, HOST))["event.outcome"] == "unknown"
    assert "event.end" not in valid(ecs.line(UNFINISHED, HOST))


def test_peer_is_the_user_and_a_claim_stands_beside():
    told = valid(ecs.line(CLAIMED, HOST))
    assert (told["user.name"], told["libvirt.claims.user"]) == ("alice", "root")
    afar = valid(ecs.line(FROM_AFAR, HOST))
    assert (afar["source.ip"], afar["source.port"]) == ("192.0.2.7", 40312)
    assert (afar["user.name"], afar["libvirt.sasl"]) == ("bob@EXAMPLE.ORG",) * 2


def test_time_runs_to_the_end_of_a_call():
    told = valid(ecs.line(DESTROY, HOST))
    assert told["event.duration"] == 4_100_000
    assert told["event.end"] == "2023-11-15T09:24:11.407760789Z"


def test_domains_begin_and_end():
    assert valid(ecs.line(STARTED, HOST))["event.type"] == ["start"]
    ended = valid(ecs.line(CRASHED, HOST))
    assert (ended["event.type"], ended["event.reason"]) == (["end"], "crashed")
    assert ecs.line(ATTACHED, HOST) == ecs.line(END, HOST) == ""


@given(nasty)
def test_any_name_is_read_back(name):
    told = valid(ecs.line(hostile(name), name))
    assert told["libvirt.object.name"] == told["user.name"] == told["rule.name"] == name
    assert told["process.executable"] == f"/tmp/{name}"
    assert told["process.args"] == told["related.hosts"] == [name]
