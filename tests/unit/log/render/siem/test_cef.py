# SPDX-License-Identifier: LGPL-2.1-or-later
"""CEF lines, read back by the rules of the standard, whatever the names are."""

import re

import pytest
from hypothesis import given

from log.client import Client
from log.quote import is_visible
from log.render.siem import cef
from tests.unit.log.render.siem.samples import (
    CLAIMED,
    CRASHED,
    DENIED,
    EVERY,
    FROM_AFAR,
    GAP,
    HOST,
    NOT_KNOWN,
    UNFINISHED,
    hostile,
    nasty,
)
from tests.unit.log_samples import ATTACHED, DESTROY, END, UUID

# keys of the standard's dictionary (those that are used here)
KEYS = {
    "act",
    "c6a2",
    "cat",
    "cn1",
    "cn2",
    "cnt",
    "cs1",
    "cs2",
    "cs3",
    "cs4",
    "cs5",
    "cs6",
    "dpid",
    "dproc",
    "dvchost",
    "end",
    "externalId",
    "flexString1",
    "flexString2",
    "msg",
    "outcome",
    "reason",
    "request",
    "rt",
    "shost",
    "spid",
    "sproc",
    "spt",
    "src",
    "start",
    "suid",
    "suser",
}
NUMBERS = {"rt", "start", "end", "cnt", "spid", "dpid", "spt", "cn1", "cn2"}


def read(line):
    """Header and extension: a value ends before the last blank in front of the next key."""
    assert line.startswith("CEF:0|") and line.endswith("\n") and line.count("\n") == 1
    assert is_visible(line[:-1])
    head, rest = [], line[len("CEF:") : -1]
    for _ in range(7):
        match = re.match(r"((?:[^\\|]|\\[\\|])*)\|", rest)
        assert match
        head.append(re.sub(r"\\(.)", r"\1", match[1]))
        rest = rest[match.end() :]
    keys = [*re.finditer(r"(?:^| )(\w+)(?<!\\)=", rest)]
    fields = {}
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        value = rest[key.end() : following.start() if following else len(rest)]
        assert not re.search(r"(?<!\\)(?:\\\\)*=", value)
        assert key[1] not in fields
        fields[key[1]] = re.sub(r"\\(.)", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), value)
    return head, fields


def seen(text):
    """What a value with visible escapes stands for."""
    escape = r"\\(\\|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))"
    return re.sub(
        escape,
        lambda m: "\\" if m[1] == "\\" else chr(int(m[2] or m[3] or m[4], 16)),
        text,
    )


@pytest.mark.parametrize("event", EVERY)
@pytest.mark.parametrize("host", [HOST, None])
def test_every_line_has_only_keys_of_the_standard(event, host):
    head, fields = read(cef.line(event, host))
    assert head[:3] == ["0", "libvirt-trace", "libvirt-trace"] and 0 <= int(head[6]) <= 10
    labels = {key for key in fields if key.endswith("Label")}
    assert fields.keys() - labels <= KEYS
    assert {key.removesuffix("Label") for key in labels} <= fields.keys()
    assert all(fields[key].isdecimal() for key in NUMBERS & fields.keys())
    assert fields.get("dvchost") == host


def test_denied_call_says_who_what_where_and_by_which_rule():
    head, fields = read(cef.line(DENIED, HOST))
    assert head[4:] == ["virDomainDestroyFlags", "virDomainDestroyFlags", "7"]
    labelled = {fields[key]: fields[key[: -len("Label")]] for key in fields if "Label" in key}
    assert labelled == labelled | {
        "rule": "keep-web",
        "object": "web1",
        "objectType": "domain",
        "objectUuid": UUID,
        "loginuid": "1000",
        "exe": "/usr/bin/virsh",
        "parent": DENIED.parent,
    }
    assert fields == fields | {
        "rt": "1700040251403",
        "suser": "alice",
        "suid": "1000",
        "spid": "41300",
        "sproc": "virsh",
        "dproc": "libvirtd",
        "act": "deny",
        "outcome": "failure",
        "reason": "denied: ask",
    }


def test_what_is_not_known_is_not_there():
    fields = read(cef.line(NOT_KNOWN, HOST))[1]
    assert not {"suser", "suid", "spid", "sproc", "src", "shost"} & fields.keys()
    assert read(cef.line(UNFINISHED, HOST))[1]["outcome"] == "unknown"


def test_peer_is_the_source_and_a_claim_stands_beside():
    fields = read(cef.line(CLAIMED, HOST))[1]
    assert (fields["suser"], fields["flexString2"]) == ("alice", "user:root")
    fields = read(cef.line(FROM_AFAR, HOST))[1]
    assert (fields["src"], fields["spt"], fields["suser"]) == (
        "192.0.2.7",
        "40312",
        "bob@EXAMPLE.ORG",
    )
    six = Client(address="[2001:db8::7]:40312")
    fields = read(cef.line(FROM_AFAR._replace(client=six), HOST))[1]
    assert (fields["c6a2"], fields["spt"], "src" in fields) == ("2001:db8::7", "40312", False)


def test_losses_and_endings_are_grave():
    assert read(cef.line(GAP, HOST))[0][4:] == ["nothing recorded", "nothing recorded", "8"]
    head, fields = read(cef.line(CRASHED, HOST))
    assert head[4:] == ["domain stopped", "domain stopped", "5"]
    assert (fields["spid"], fields["reason"]) == ("4711", "crashed: signal")
    assert cef.line(ATTACHED, HOST) == cef.line(END, HOST) == ""


def test_long_values_are_cut_and_say_so():
    fields = read(cef.line(hostile("=" * 5000), HOST))[1]
    assert fields["suser"] == "=" * 1020 + "..."


@given(nasty)
def test_any_name_is_read_back(name):
    fields = read(cef.line(hostile(name), name))[1]
    assert seen(fields["cs2"]) == seen(fields["suser"]) == seen(fields["cs1"]) == name
    assert seen(fields["cs5"]) == f"/tmp/{name}"
    assert seen(fields["reason"]) == f"denied: {name}"


@given(nasty)
def test_names_that_can_be_seen_stand_as_they_are(name):
    bare = re.sub(r"[^ -~]|\\", "", name) or "web1"
    assert read(cef.line(hostile(bare), HOST))[1]["cs2"] == bare


def test_call_without_an_object_has_none():
    fields = read(cef.line(DESTROY._replace(args=None), HOST))[1]
    assert "cs2" not in fields and "cs4" not in fields
