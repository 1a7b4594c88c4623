# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `policy explain` says of calls with several objects, of flags, and of URIs in a daemon."""

from __future__ import annotations

import subprocess

import pytest

from enforcer.judging.explain import Supposed, explain
from enforcer.launch.library import table
from enforcer.policy.reading.reading import read_policy
from enforcer.policy.rules import PolicyError
from log.errors import TraceError
from tests.enforced import COMMAND

TABLE = table()
ALLOWED = "no rule matches: it is allowed"
DENIED = 'rule "r" (line 1) denies it'
ALLOWS = 'rule "r" (line 1) allows it'
EVIL = "<domain><name>evil1</name></domain>"
GOOD = "<domain><name>good</name><uuid>6695eb01-f6a4-8304-79aa-97f2502e1931</uuid></domain>"
UUID = "6695eb01-f6a4-8304-79aa-97f2502e1931"


def rule(functions: str, more: str, action: str = "deny") -> str:
    return f'[[rule]]\nname = "r"\naction = "{action}"\nfunction = ["{functions}"]\n{more}\n'


def said(text: str, *arguments: object, **facts: object) -> str:
    question = Supposed(*arguments, **facts)  # type: ignore[arg-type]
    return explain(read_policy(text, "p.toml", TABLE), TABLE, question)[0]


def unsure(what: str) -> str:
    return f"{DENIED}, since {what} can't be told"


@pytest.mark.parametrize(
    ("function", "facts", "answer"),
    [
        ("virDomainRename", {"object": "evil1"}, DENIED),
        ("virDomainRename", {"object": "good"}, unsure("the new name")),
        ("virDomainRename", {"object": "good", "new_name": "evil"}, DENIED),
        ("virDomainRename", {"object": "good", "new_name": "better"}, ALLOWED),
        ("virDomainMigrateToURI2", {"object": "good"}, unsure("the object in the document and the "
                                                              "new name")),
        ("virDomainMigrateToURI2", {"object": "good", "xml": ""}, unsure("the new name")),
        ("virDomainMigrateToURI2", {"object": "good", "new_name": "", "xml": ""}, ALLOWED),
        ("virDomainMigrateToURI2", {"object": "good", "new_name": "", "xml": EVIL}, DENIED),
        ("virDomainMigrateToURI2", {"object": "good", "new_name": "evil", "xml": GOOD}, DENIED),
        ("virDomainMigrateToURI3", {"object": "good", "new_name": "", "xml": GOOD}, ALLOWED),
        ("virDomainMigrateToURI3", {"object": "good", "new_name": "", "xml": "<x><!"},
         unsure("the object in the document")),
        # what is restored is in a file
        ("virDomainRestore", {"object": "good"}, unsure("the object")),
        ("virDomainDefineXML", {"xml": EVIL}, DENIED),
        ("virDomainDefineXML", {"xml": GOOD}, ALLOWED),
        ("virDomainDefineXML", {}, unsure("the object")),
    ],
)  # fmt: skip
def test_all_objects_of_a_call_count(function, facts, answer):
    assert said(rule(function, 'object = "evil*"'), function, **facts) == answer


def test_rule_that_allows_wants_all_of_them():
    by_name = rule("virDomainRename", 'object = "good*"', "allow")
    assert said(by_name, "virDomainRename", "good", new_name="good2") == ALLOWS
    for facts in ({}, {"new_name": "evil"}):
        assert said(by_name, "virDomainRename", "good", **facts) == ALLOWED
    # a name has no UUID
    by_uuid = rule("virDomainRename", f'uuid = "{UUID}"', "allow")
    assert said(by_uuid, "virDomainRename", "good", UUID, new_name="good2") == ALLOWED
    assert said(by_uuid.replace("allow", "deny"), "virDomainRename", "good", UUID) == DENIED


@pytest.mark.parametrize(
    ("function", "facts", "message"),
    [
        ("virDomainSuspend", {"new_name": "x"}, "virDomainSuspend gives no new name"),
        ("virDomainDefineXML", {"object": "web1", "xml": GOOD}, 'the document names "good"'),
        (
            "virDomainDefineXML",
            {"object": "web1", "xml": "<domain/>"},
            "the document names nothing",
        ),
        (
            "virDomainDefineXML",
            {"uuid": UUID[:-1] + "2", "xml": GOOD},
            f"the document has the UUID {UUID}",
        ),
    ],
)
def test_what_the_document_says_is_not_contradicted(function, facts, message):
    with pytest.raises(TraceError, match=f"^{message}$"):
        said(rule("virDomain*", 'object = "evil*"'), function, **facts)


URI = 'uri = "qemu:///system"'


@pytest.mark.parametrize(
    ("uri", "in_client", "in_daemon", "anywhere"),
    [
        ("qemu:///system?x=1", DENIED, DENIED, DENIED),
        ("test:///default", ALLOWED, ALLOWED, ALLOWED),
        # root's daemon has one driver for both
        ("qemu:///session", ALLOWED, DENIED, unsure("the uri")),
        # a client says by "?name=" where its daemon is to connect
        ("qemu+tcp://host/system", ALLOWED, unsure("the uri"), unsure("the uri")),
    ],
)
def test_uri_says_another_thing_in_a_daemon(uri, in_client, in_daemon, anywhere):
    text = rule("virDomainSuspend", URI)
    for where, answer in ((False, in_client), (True, in_daemon), (None, anywhere)):
        assert said(text, "virDomainSuspend", uri=uri, in_daemon=where) == answer, where


STATS = 'flags = { %s = ["VIR_DOMAIN_STATS_STATE"] }'


def test_flags_are_those_of_whichever_argument_has_them():
    """Statistics have two arguments with flags; who asks for none gets all."""
    name = "virConnectGetAllDomainStats"
    for key, given, denied in (
        ("any", {"VIR_DOMAIN_STATS_STATE", "VIR_DOMAIN_STATS_BALLOON"}, True),
        ("any", {"VIR_DOMAIN_STATS_BALLOON"}, False),
        ("any", set(), True),
        ("all", set(), True),
        ("none", set(), False),
        ("none", {"VIR_DOMAIN_STATS_BALLOON"}, True),
        ("any", {"VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT", "VIR_DOMAIN_STATS_BALLOON"}, False),
    ):
        answer = said(rule(name, STATS % key), name, flags=frozenset(given))
        assert answer == (DENIED if denied else ALLOWED), (key, given)
    both = (
        'flags = { any = ["VIR_DOMAIN_STATS_STATE", "VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT"] }'
    )
    for given, denied in (
        ({"VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT", "VIR_DOMAIN_STATS_BALLOON"}, True),
        ({"VIR_DOMAIN_STATS_STATE"}, True),
        ({"VIR_DOMAIN_STATS_BALLOON"}, False),
    ):
        answer = said(rule(name, both), name, flags=frozenset(given))
        assert answer == (DENIED if denied else ALLOWED), given
    guest = rule("virDomainGetGuestInfo", 'flags = { any = ["VIR_DOMAIN_GUEST_INFO_USERS"] }')
    assert said(guest, "virDomainGetGuestInfo", flags=frozenset()) == DENIED


@pytest.mark.parametrize("key", ["any", "all", "none"])
def test_flag_that_is_no_bit_is_refused(key):
    text = rule("virDomainDestroyFlags", f'flags = {{ {key} = ["VIR_DOMAIN_DESTROY_DEFAULT"] }}')
    with pytest.raises(PolicyError) as error:
        read_policy(text, "p.toml", TABLE)
    assert error.value.args == (
        'p.toml:5: "VIR_DOMAIN_DESTROY_DEFAULT" is 0, so no call can be told by it: say none = '
        "[...], with the flags that are not to be set",
    )


def test_command_asks_about_new_names_daemons_and_no_document(tmp_path):
    policy = tmp_path / "p.toml"
    policy.write_text(rule("virDomainMigrate*", 'object = "evil*"\nuri = "qemu:///system"'))
    words = ["--function", "virDomainMigrateToURI2", "--object", "good", "--uri", "qemu:///session"]

    def answer(*more: str) -> str:
        command = [*COMMAND, "policy", "explain", policy, *words, *more]
        return subprocess.check_output(command, text=True).splitlines()[0]

    assert answer("--new-name", "evil", "--xml", "", "--daemon") == DENIED
    assert answer("--new-name", "evil", "--xml", "", "--no-daemon") == ALLOWED
    assert answer("--new-name", "", "--xml", "", "--daemon") == ALLOWED
    assert answer("--new-name", "", "--daemon") == unsure("the object in the document")
