# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a call is about, however the caller says it: what no rule means passes, what one means
does not.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from enforcer.judging.explain import Supposed, explain
from enforcer.launch.library import table
from enforcer.policy.reading.reading import read_policy
from enforcer.policy.rules import PolicyError
from log.errors import TraceError
from tests.enforced import put, run
from tests.needs import PYTHON

OTHERS = """
[[rule]]
name = "others"
action = "deny"
function = ["virDomain*", "virNetwork*", "virStorage*", "virNodeDevice*", "virSecret*",
            "virConnectListAllDomains"]
object = ["no-such-object-*"]
"""
# runs Python with `c` connected to the test driver and prints the value, or the code of libvirt's
# error
PRINT = """
import libvirt, sys
libvirt.registerErrorHandler(lambda *arguments: None, None)
try:
    c = libvirt.open(sys.argv[2])
    print(eval(sys.argv[1]))
except libvirt.libvirtError as error:
    print(error.get_error_code())
"""
XMLNS = {
    "c.defineXML": "<domain type='test' "
    "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>mine</name><memory>65536</memory>"
    "<os><type>hvm</type></os></domain>",
    "c.networkDefineXML": "<network "
    "xmlns:dnsmasq='http://libvirt.org/schemas/network/dnsmasq/1.0'><name>mine</name>"
    "<dnsmasq:options><dnsmasq:option value='x'/></dnsmasq:options></network>",
}


@pytest.fixture
def tried(tmp_path):
    """tried(POLICY, EXPRESSION, URI=...): what it prints under the policy."""

    def call(policy: str, expression: str, uri: str = "test:///default") -> str:
        path = put(tmp_path / "policy.bin", policy)
        result = run([PYTHON, "-c", PRINT, expression, uri], path)
        assert result.returncode == 0, result
        return result.stdout.strip()

    return call


def deny(functions: list[str], more: str) -> str:
    return f'[[rule]]\nname = "r"\naction = "deny"\nfunction = {functions}\n{more}\n'


def test_calls_on_no_handle_get_libvirts_own_error(caller, tmp_path):
    """No argument behind a handle that is none is looked at: they lead nowhere."""
    program = caller("bad_handles", "-Wno-nonnull")
    plain = run([program], None)
    assert plain.returncode == 0 and plain.stdout.count("\n") == 19
    judged = run([program], put(tmp_path / "policy.bin", OTHERS))
    assert (judged.returncode, judged.stdout) == (0, plain.stdout)
    everything = OTHERS.replace("no-such-object-*", "*") + deny(
        ["virDomain*", "virStorage*"], 'uuid = ["!6695eb01-f6a4-8304-79aa-97f2502e193f"]'
    )
    assert run([program], put(tmp_path / "policy.bin", everything)).stdout == plain.stdout


@pytest.mark.parametrize("function", XMLNS)
def test_declared_prefixes_hide_no_name(tried, function):
    assert tried(OTHERS, f'{function}("""{XMLNS[function]}""").name()') == "mine"
    assert (
        tried(
            OTHERS.replace("no-such-object-", "mi"), f'{function}("""{XMLNS[function]}""").name()'
        )
        == "88"
    )


def test_statistics_of_a_list_are_judged_guest_by_guest(tried):
    guest = (
        "<domain "
        "type='test'><name>g%d</name><memory>1024</memory><os><type>hvm</type></os></domain>"
    )
    twelve = f'[c.defineXML("{guest}" % i) for i in range(12)]'
    assert tried(OTHERS, f"len(c.domainListGetStats({twelve}))") == "12"
    assert (
        tried(
            deny(["virDomainListGetStats"], 'object = "g11"'),
            f"len(c.domainListGetStats({twelve}))",
        )
        == "88"
    )
    assert (
        tried(
            deny(["virDomainListGetStats"], 'object = "g11"'),
            f"len(c.domainListGetStats({twelve}[:11]))",
        )
        == "11"
    )
    allowed = deny(["virDomainListGetStats"], 'object = "g1*"').replace(
        '"deny"', '"allow"'
    ).replace('"r"', '"a"') + deny(["virDomainListGetStats"], "")
    assert tried(allowed, f"len(c.domainListGetStats({twelve}[10:]))") == "2"
    assert tried(allowed, f"len(c.domainListGetStats({twelve}[9:]))") == "88"


@pytest.mark.parametrize(
    ("kind", "one"),
    [
        ("domain", "lookupByName('test')"),
        ("network", "networkLookupByName('default')"),
        ("storagePool", "storagePoolLookupByName('default-pool')"),
    ],
)
def test_events_of_all_objects_are_of_any_object(tried, kind, one):
    """Whoever may not have those of one may not ask for all; those of one other are free."""
    listen = (
        f"libvirt.virEventRegisterDefaultImpl() or c.{kind}EventRegisterAny({{}}, 0, lambda "
        f"*_: 0, None) >= 0"
    )
    functions = [f"virConnect{kind[0].upper()}{kind[1:]}EventRegisterAny"]
    hidden, shown = deny(functions, 'object = "hidden*"'), deny(functions, 'object = "!hidden*"')
    assert tried(hidden, listen.format("None")) == tried(shown, listen.format("None")) == "88"
    assert tried(hidden, listen.format(f"c.{one}")) == "True"
    assert tried(shown, listen.format(f"c.{one}")) == "88"
    assert tried(hidden.replace("deny", "audit"), listen.format("None")) == "True"


UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
LOOKUPS = [
    "c.lookupByName('test').name()",
    f"c.lookupByUUIDString('{UUID}').name()",
    f"c.lookupByUUID(bytes.fromhex('{UUID}'.replace('-', ''))).name()",
    "c.lookupByID(1).name()",
]


@pytest.mark.parametrize("expression", LOOKUPS)
def test_lookups_name_what_they_find(tried, expression):
    for said in ('object = "te*"', f'uuid = "{UUID}"', f'object = "te*"\nuuid = "{UUID}"'):
        assert tried(deny(["virDomainLookup*"], said), expression) == "88"
    for said in (
        'object = "web*"',
        f'uuid = "{UUID.replace("6", "7")}"',
        f'object = "!te*"\nuuid = "{UUID}"',
    ):
        assert tried(deny(["virDomainLookup*"], said), expression) == "test"


def test_what_was_found_to_be_judged_is_released(tried):
    """A connection counts what holds it, and says at its end how much is left."""
    closes = "(c.{0}, c.{0}, c.close())[-1]"
    rule = deny(
        ["virDomainLookup*", "virStorage*", "virNetworkLookup*"],
        f'uuid = "{UUID.replace("6", "7")}"',
    )
    for call in ("lookupByID(1)", "lookupByName('test')", "networkLookupByName('default')"):
        assert tried(rule, closes.format(f"{call}.name()")) == "0", call
    assert tried(rule.replace("deny", "allow"), closes.format("lookupByID(1).name()")) == "0"


def test_lookups_of_nothing_are_libvirts_business(tried):
    for expression in (
        "c.lookupByID(4711)",
        "c.lookupByUUIDString('7795eb01-f6a4-8304-79aa-97f2502e193f')",
        "c.storageVolLookupByPath('/x')",
    ):
        code = tried("", expression)
        assert (
            code in ("42", "50")
            and tried(deny(["virDomainLookup*", "virStorage*"], 'object = "*"'), expression) == code
        )
    by_path = (
        "c.storageVolLookupByPath('/default-pool/x') if "
        "c.storagePoolLookupByName('default-pool').createXML("
    )
    by_path += "'<volume><name>x</name><capacity>1</capacity></volume>').path() else 0"
    assert tried(deny(["virStorageVolLookupByPath"], 'object = "default-pool/x"'), by_path) == "88"


def test_a_name_that_nothing_has_is_judged_whatever_other_rules_ask_for(tried):
    by_uuid = deny(["virDomainLookup*"], f'uuid = "{UUID}"').replace('"r"', '"other"')
    for more in ("", by_uuid):
        assert (
            tried(
                deny(["virDomainLookupByName"], 'object = "no*"') + more, "c.lookupByName('nosuch')"
            )
            == "88"
        )
        assert (
            tried(
                deny(["virDomainLookupByName"], 'object = "!no*"') + more,
                "c.lookupByName('nosuch')",
            )
            == "42"
        )


@pytest.mark.parametrize(
    ("names", "denied"),
    [
        ("test", True),
        ("test/s", True),
        ("!test", False),
        ("!test/s", False),
        ("!other", True),
        ("!other/s", True),
        ("s", False),
    ],
)
def test_a_snapshot_has_both_its_names(tried, names, denied):
    """What one of them matches is matched, also where that must not be."""
    xml = "<domainsnapshot><name>s</name></domainsnapshot>"
    made = f"c.lookupByName('test').snapshotCreateXML('{xml}')"
    printed = tried(
        deny(["virDomainSnapshotGetXMLDesc"], f'object = "{names}"'), f"{made}.getXMLDesc() and 0"
    )
    assert printed == ("88" if denied else "0")


def test_pool_named_by_its_source(tried):
    xml = "<pool type='logical'><source><device path='/dev/x'/><name>{}</name></source></pool>"
    rule = deny(["virStoragePool*XML"], 'object = "evil*"')
    assert tried(rule, f'c.storagePoolDefineXML("{xml.format("evil")}").name()') == "88"
    assert tried(rule, f'c.storagePoolDefineXML("{xml.format("good")}").name()') == "good"


@pytest.mark.parametrize(
    "uri",
    [
        "test:///default",
        "test:///default?x=1",
        "test://u@/default",
        "test://u@/default?a=b",
        "test:///default#f",
    ],
)
def test_uri_is_the_same_with_user_and_query(tried, uri):
    for functions in (["virConnectOpen*"], ["virDomainSuspend"]):
        for glob, denied in (
            ("test:///default", True),
            ("test:///*", True),
            ("test:///other", False),
            ("qemu:*", False),
        ):
            printed = tried(
                deny(functions, f'uri = "{glob}"'), "c.lookupByName('test').suspend()", uri
            )
            assert printed == ("88" if denied else "0"), (functions, glob)


ADD = "c.lookupByName('test').attachDeviceFlags(\"{}\", 1)"
DEVICES = {
    (
        "<hostdev mode='subsystem' type='usb'><source><address bus='1' "
        "device='2'/></source></hostdev>"
    ): True,
    (
        "<x:hostdev xmlns:x='u' mode='subsystem' type='usb'><source><address bus='1' "
        "device='2'/></source></x:hostdev>"
    ): True,
    (
        "<interface type='hostdev'><source><address type='pci' domain='0' bus='0' slot='16' "
        "function='0'/></source></interface>"
    ): True,
    "<interface type='network'><source network='default'/></interface>": False,
    "<!-- no <hostdev/> --><interface type='network'><source network='default'/></interface>": (
        False
    ),
}


@pytest.mark.parametrize("xml", DEVICES)
def test_rule_on_elements(tried, xml):
    rule = deny(["virDomainAttachDevice*"], 'element = ["hostdev", "interface[@type=\'hostdev\']"]')
    assert (tried(rule, ADD.format(xml)) == "88") is DEVICES[xml]
    if "hostdev" in xml.split()[0]:
        assert (
            tried(
                deny(["virDomainAttachDevice*"], "contains = { xml = ['<hostdev'] }"),
                ADD.format(xml),
            )
            == "88"
        )


def test_mistakes_in_elements_are_said():
    for element, message in (
        ("<hostdev", "\"<hostdev\" is no element: say hostdev, or interface[@type='hostdev']"),
        ("interface[@type]", "is no element"),
        ("!hostdev", "is no element"),
    ):
        with pytest.raises(PolicyError) as error:
            read_policy(deny(["virDomainDefineXML"], f'element = "{element}"'), "p.toml", table())
        assert message in str(error.value)
    with pytest.raises(PolicyError, match="no function of this rule takes an XML document"):
        read_policy(deny(["virDomainSuspend"], 'element = "hostdev"'), "p.toml", table())


def test_explain_says_what_the_library_does(tmp_path):
    """Where a function names its object in a file, what is known of the object decides nothing."""
    policy = read_policy(OTHERS, "p.toml", table())
    said = explain(policy, table(), Supposed("virDomainRestore", object="mine"))
    assert said == ['rule "others" (line 2) denies it, since the object can\'t be told']
    restore = run(
        ["virsh", "-q", "-c", "test:///default", "restore", "/dev/null"],
        put(tmp_path / "policy.bin", OTHERS),
    )
    assert 'access denied: by rule "others"' in restore.stderr
    assert (
        explain(policy, table(), Supposed("virDomainListGetStats", object="mine"))[0]
        == "no rule matches: it is allowed"
    )


def test_explain_reads_the_document_that_the_call_is_given():
    policy = read_policy(deny(["virDomainAttachDevice*"], 'element = "hostdev"'), "p.toml", table())
    for xml, first in (
        ("<hostdev/>", 'rule "r" (line 1) denies it'),
        ("<disk/>", "no rule matches: it is allowed"),
        (None, 'rule "r" (line 1) denies it, since the element can\'t be told'),
    ):
        assert explain(policy, table(), Supposed("virDomainAttachDevice", xml=xml))[0] == first
    with pytest.raises(TraceError, match=r"^virDomainSuspend takes no document$"):
        explain(policy, table(), Supposed("virDomainSuspend", xml="<hostdev/>"))


def test_example_policy_denies_host_devices(tmp_path):
    example = Path(__file__).parents[2] / "policy.example.toml"
    assert "element" in example.read_text()
    subprocess.run(
        [PYTHON, "tracer.py", "policy", "check", str(example)],
        check=True,
        cwd=example.parent,
        capture_output=True,
    )
