# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records of the audit system, read by its own library."""

import auparse
import pytest
from hypothesis import given

from log.render.siem import auditd
from tests.unit.log.render.siem.samples import (
    CRASHED,
    DENIED,
    DETAILS,
    EVERY,
    FAILED,
    FROM_AFAR,
    HOST,
    NOT_KNOWN,
    READS,
    STARTED,
    UNFINISHED,
    hostile,
    nasty,
)
from tests.unit.log_samples import ATTACHED, END, UUID

LONGEST = 8970  # of a record (MAX_AUDIT_MESSAGE_LENGTH)


def read(lines):
    """Each event's fields as the library interprets them, and when it was."""
    parser = auparse.AuParser(auparse.AUSOURCE_BUFFER, lines)
    parser.set_escape_mode(auparse.AUPARSE_ESC_RAW)
    found = []
    while parser.parse_next_event():
        assert parser.get_num_records() == 1
        stamp = parser.get_timestamp()
        fields = {}
        while True:
            name = parser.get_field_name()
            assert name not in fields or name == "key"  # of which there may be several
            seen = parser.interpret_field()
            by_name = name in ("uid", "auid") and seen != "unset"  # that this host has for it
            fields[name] = parser.get_field_str() if by_name else seen
            if not parser.next_field():
                break
        found.append(((stamp.sec, stamp.milli), fields))
    return found


def fields_of(event, host=HOST):
    line = auditd.line(event, host)
    assert line.count("\n") == 1 and line.endswith("\n") and len(line) < LONGEST
    ((second, milli), fields), *more = read(line)
    assert not more
    assert (second, milli) == (event.time // 10**9, event.time // 10**6 % 1000)
    return fields


@pytest.mark.parametrize("event", EVERY)
@pytest.mark.parametrize("host", [HOST, None])
def test_every_line_is_a_record(event, host):
    fields = fields_of(event, host)
    assert fields["type"] == "VIRT_CONTROL"
    assert fields.get("node") == host
    assert {"pid", "uid", "auid", "op", "exe", "addr", "res"} <= fields.keys()


def test_denied_call_is_the_clients_and_says_by_which_rule():
    fields = fields_of(DENIED)
    assert fields == fields | {
        "pid": "41300",
        "uid": "1000",
        "auid": "1000",
        "acct": "alice",
        "exe": "/usr/bin/virsh",
        "op": "virDomainDestroyFlags",
        "vm": "web1",
        "uuid": UUID,
        "key": "keep-web",
        "reason": "denied",
        "verdict": "deny",
        "res": "failed",
    }


def test_objects_that_are_no_domains_are_resources():
    network = FAILED._replace(function="virNetworkLookupByName")
    fields = fields_of(network)
    assert (fields["resrc"], fields["name"], fields["res"]) == ("network", "nosuch", "failed")
    assert fields["reason"] == "VIR_ERR_NO_DOMAIN"


def test_what_is_not_known_is_taken_for_nobody():
    fields = fields_of(NOT_KNOWN)
    assert {fields[key] for key in ("pid", "acct", "exe", "addr")} == {"?"}
    assert {fields[key] for key in ("uid", "auid", "ses")} == {"unset"}
    assert fields_of(UNFINISHED)["res"] == "?"
    assert fields_of(FROM_AFAR)["addr"] == "192.0.2.7"


def test_domains_start_and_stop_as_libvirts_own_records_say():
    started, stopped = fields_of(STARTED), fields_of(CRASHED)
    assert (started["op"], started["reason"], started["res"]) == ("start", "booted", "success")
    assert (stopped["op"], stopped["reason"], stopped["pid"]) == ("stop", "crashed", "4711")
    assert (fields_of(READS)["count"], fields_of(DETAILS)["count"]) == ("120", "7")
    assert auditd.line(ATTACHED, HOST) == auditd.line(END, HOST) == ""


def test_records_of_one_millisecond_are_events_of_their_own():
    lines = "".join(auditd.line(DENIED._replace(tid=tid), HOST) for tid in range(1, 500))
    assert len(read(lines)) == 499
    twice = "".join(auditd.line(DENIED, HOST) for _ in range(2))
    assert len(set(twice.splitlines())) == 1  # sent twice it is the same


@given(nasty)
def test_any_name_is_read_back_by_the_audit_library(name):
    fields = fields_of(hostile(name))
    assert fields["vm"] == fields["acct"] == name
    if "\x01" not in name:  # which parts several keys
        assert fields["key"] == name
    assert fields["exe"] == f"/tmp/{name}"
    assert (fields["res"], fields["uid"], fields["op"]) == (
        "failed",
        "1000",
        "virDomainDestroyFlags",
    )


def test_names_of_any_length_fit_in_a_record():
    fields = fields_of(hostile("\x1b" * 4000))
    assert fields["vm"] == "\x1b" * 509 + "..."
