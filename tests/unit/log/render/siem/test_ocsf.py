# SPDX-License-Identifier: LGPL-2.1-or-later
"""OCSF lines: valid by the published schema, and the same facts for any name."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given

from log.render.siem import ocsf
from tests.unit.log.render.siem.samples import (
    CLAIMED,
    CRASHED,
    DENIED,
    EVERY,
    FROM_AFAR,
    GAP,
    HOST,
    NOT_ENFORCED,
    NOT_KNOWN,
    STARTED,
    UNFINISHED,
    hostile,
    nasty,
)
from tests.unit.log_samples import ATTACHED, END, UUID

SCHEMA = json.loads((Path(__file__).parent / "ocsf.json").read_text())


def valid(line):
    assert line.count("\n") == 1 and line.endswith("\n")
    event = json.loads(line)
    kind = SCHEMA["classes"][str(event["class_uid"])]
    jsonschema.Draft202012Validator({**kind, "$defs": SCHEMA["$defs"]}).validate(event)
    assert event["metadata"]["version"] == SCHEMA["version"]
    return event


@pytest.mark.parametrize("event", EVERY)
@pytest.mark.parametrize("host", [HOST, None])
def test_every_line_is_valid_by_the_schema(event, host):
    told = valid(ocsf.line(event, host))
    assert told.get("device", {}).get("hostname") == host
    assert told["time"] == event.time // 1_000_000


def test_schema_refuses_what_is_wrong():
    wrong = json.loads(ocsf.line(DENIED, HOST))
    wrong["actor"]["user"]["nick"] = "x"
    with pytest.raises(jsonschema.ValidationError):
        valid(json.dumps(wrong) + "\n")


def test_denied_call_says_who_what_where_and_by_which_rule():
    told = valid(ocsf.line(DENIED, HOST))
    assert told["actor"]["user"] == {"uid": "1000", "name": "alice"}
    assert told["actor"]["process"]["pid"] == 41300
    assert told["actor"]["process"]["auid"] == 1000
    assert told["api"]["operation"] == "virDomainDestroyFlags"
    assert told["api"]["service"] == {"name": "libvirtd"}
    assert told["resources"] == [{"type": "domain", "name": "web1", "uid": UUID}]
    assert (told["status"], told["status_code"]) == ("Failure", "denied")
    assert (told["action"], told["disposition"]) == ("Denied", "Blocked")
    assert told["policy"] == {"name": "keep-web", "is_applied": True}
    assert told["metadata"]["correlation_uid"] == DENIED.parent
    assert told["unmapped"]["daemon"]["pid"] == 812


def test_what_is_not_known_is_not_there():
    told = valid(ocsf.line(NOT_KNOWN, None))
    assert told["actor"] == {"app_name": "unknown"}
    assert told["src_endpoint"] == {"svc_name": "unknown"}
    assert valid(ocsf.line(UNFINISHED, HOST))["status"] == "Unknown"
    assert "policy" not in valid(ocsf.line(CLAIMED, HOST))


def test_peer_is_the_actor_and_a_claim_stands_beside():
    told = valid(ocsf.line(CLAIMED, HOST))
    assert told["actor"]["user"]["name"] == "alice"
    assert told["unmapped"]["claims"]["user"] == "root"
    afar = valid(ocsf.line(FROM_AFAR, HOST))
    assert afar["src_endpoint"]["ip"] == "192.0.2.7"
    assert afar["src_endpoint"]["port"] == 40312
    assert afar["actor"] == {"user": {"name": "bob@EXAMPLE.ORG"}}


def test_domains_have_a_life_and_gaps_are_errors():
    assert valid(ocsf.line(STARTED, HOST))["activity_name"] == "Start"
    ended = valid(ocsf.line(CRASHED, HOST))
    assert (ended["activity_name"], ended["status"]) == ("Stop", "Failure")
    assert ended["actor"]["process"]["pid"] == 4711
    assert valid(ocsf.line(GAP, HOST))["class_name"] == "Application Error"
    assert valid(ocsf.line(NOT_ENFORCED, HOST))["severity"] == "High"
    assert ocsf.line(ATTACHED, HOST) == ocsf.line(END, HOST) == ""


@given(nasty)
def test_any_name_is_read_back(name):
    told = valid(ocsf.line(hostile(name), name))
    assert told["resources"][0]["name"] == name
    assert told["actor"]["user"]["name"] == name
    assert told["policy"]["name"] == told["status_detail"] == name
    assert told["actor"]["process"]["file"]["path"] == f"/tmp/{name}"
    assert told["device"]["hostname"] == name
