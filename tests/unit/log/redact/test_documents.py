# SPDX-License-Identifier: LGPL-2.1-or-later
"""XML and JSON: a secret is hidden however it is spelled and wherever the text was cut; what
libvirt's schemas know stays.
"""

from __future__ import annotations

import json
import subprocess
import time
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from log.redact import xml
from log.redact.generate_qmp import Qemu, describe
from log.redact.generate_schema import HARMLESS, HIDDEN, is_shown, places
from log.redact.json import known, redact_answer, redact_command, redact_json
from log.redact.marker import REDACTED
from log.redact.xml import redact_xml
from log.render.abstract import abstract
from log.values import Xml
from tests.needs import lack

SECRET = "zebrafish"

DOCUMENTS = {
    "qemu:arg as libvirt writes it": "<domain type='kvm' "
    "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:commandline><qemu:arg"
    " "
    "value='{&quot;qom-type&quot;:&quot;secret&quot;,&quot;id&quot;:&quot;s&quot;,&quot;data&quot;:&quot;zebrafish&quot;}'/>"
    "</qemu:commandline></domain>",
    "qemu:env": (
        "<domain><qemu:commandline><qemu:env name='VNC_PASSWORD' "
        "value='zebrafish'/></qemu:commandline></domain>"
    ),
    "another prefix": "<domain xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>"
    "<q:commandline><q:arg value='zebrafish'/></q:commandline></domain>",
    "entity": (
        "<!DOCTYPE domain [<!ENTITY p 'zebrafish'>]><domain><devices><graphics type='vnc' "
        "passwd='&p;'/></devices></domain>"
    ),
    "cdata": "<domain><devices><disk><source><auth><password><![CDATA[zebrafish]]></password>"
    "</auth></source></disk></devices></domain>",
    "cdata in a known place": "<domain><description><![CDATA[zebrafish]]></description></domain>",
    "comment before": "<disk><password><!-- x -->zebrafish</password></disk>",
    "in a comment": "<domain><!-- passwd='zebrafish' --><name>web1</name></domain>",
    "instruction before": "<disk><password><?x y?>zebrafish</password></disk>",
    "in an instruction": "<domain><?x zebrafish?></domain>",
    "prefix": "<disk xmlns:x='u'><x:password>zebrafish</x:password></disk>",
    "prefixed attribute": "<graphics type='vnc' xmlns:x='u' x:passwd='zebrafish'/>",
    "secret's value": "<secret ephemeral='no'><value>zebrafish</value></secret>",
    "cloud-init": (
        "<domain><metadata><c:init xmlns:c='u'>password: zebrafish</c:init></metadata></domain>"
    ),
    "smbios": "<domain><sysinfo type='smbios'>"
    "<oemStrings><entry>passwd.plaintext-password.root=zebrafish</entry></oemStrings></sysinfo></domain>",
    "fw_cfg": (
        "<domain><sysinfo type='fwcfg'><entry name='opt/x'>zebrafish</entry></sysinfo></domain>"
    ),
    "kernel command line": "<domain><os><cmdline>luks.key=zebrafish</cmdline></os></domain>",
    "container's environment": "<domain><os><initenv name='P'>zebrafish</initenv></os></domain>",
    "cookie": "<disk type='network'><source protocol='https' name='x'>"
    "<cookies><cookie name='s'>zebrafish</cookie></cookies></source></disk>",
    "query": (
        "<disk type='network'><source protocol='https' name='x' query='token=zebrafish'/></disk>"
    ),
    "launch security": "<domain><launchSecurity type='sev'>"
    "<session>zebrafish</session><dhCert>zebrafish</dhCert></launchSecurity></domain>",
    "user info": (
        "<domain><devices><console type='tcp'><source mode='connect' "
        "host='tcp://u:zebrafish@h'/></console></devices></domain>"
    ),
    "missing quote": "<graphics type='vnc' port='-1 passwd='zebrafish'/>",
    "attribute without a value": "<graphics type='vnc' zebrafish/>",
    "attribute without quotes": "<graphics type='vnc' passwd=zebrafish/>",
    "as a tag": "<domain><zebrafish>x</zebrafish></domain>",
    "wrong end": "<domain><name>web1</zebrafish></domain>",
    "behind the end": "<domain/>zebrafish",
    "text between": "<domain>zebrafish<name>web1</name></domain>",
    "second declaration": "<domain/><?xml version='1.0' encoding='zebrafish'?>",
    "other encoding": (
        "<?xml version='1.0' encoding='UTF-7'?><domain><name>zebrafish</name></domain>"
    ),
    "no number": "<domain><memory unit='KiB'>zebrafish</memory></domain>",
    "no document": "zebrafish",
    "deep": "<domain>" * 300 + "<name>zebrafish</name>",
    "no word of the schemas": "<graphics type='zebrafish'/>",
    "no mode": "<domain><on_crash>zebrafish</on_crash></domain>",
    "title": "<domain><title>zebrafish</title></domain>",
    "rule's comment": (
        "<filter name='f'><rule action='drop' direction='in'><tcp "
        "comment='zebrafish'/></rule></filter>"
    ),
    "DNS text": "<network><dns><txt name='x' value='zebrafish'/></dns></network>",
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_secret_in_a_document_is_hidden(document):
    shown = redact_xml(document)
    assert SECRET not in shown and "redacted" in shown
    assert SECRET not in abstract(Xml(shown, shown))
    for end in range(len(document)):
        assert SECRET[:5] not in redact_xml(document[:end])


KEPT = [
    "<domain type='kvm' id='3'><name>web1</name>"
    "<uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid><memory unit='KiB'>65536</memory></domain>",
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<domain type="kvm">\n  <os><type arch="x86_64" '
    'machine="pc-q35-7.2">hvm</type></os>\n</domain>\n',
    "<domain type='kvm'><devices><disk type='file' device='disk'>"
    "<driver name='qemu' type='qcow2' cache='none'/><source file='/images/a.qcow2'/>"
    "<target dev='vda' bus='virtio'/><alias name='virtio-disk0'/></disk></devices></domain>",
    "<disk type='network'><source protocol='rbd' name='pool/image'>"
    "<host name='mon1' port='6789'/><auth><secret type='ceph' usage='ceph-key'/>"
    "</auth></source></disk>",
    "<graphics type='vnc' port='5900' autoport='no' listen='127.0.0.1'><listen type='address' "
    "address='127.0.0.1'/></graphics>",
    "<interface type='network'><mac address='52:54:00:11:22:33'/><source network='default'/><model "
    "type='virtio'/></interface>",
    "<network><name>n1</name><forward mode='nat'/><bridge name='virbr7'/><ip address='10.0.0.1' "
    "netmask='255.255.255.0'/></network>",
    "<pool type='dir'><name>p1</name><target><path>/images</path></target></pool>",
    "<volume><name>v1</name><capacity unit='G'>3</capacity><target><format "
    "type='qcow2'/></target></volume>",
    "<secret ephemeral='no' private='yes'><usage "
    "type='ceph'><name>client.admin</name></usage></secret>",
    "<domainsnapshot><name>s1</name><memory snapshot='no'/></domainsnapshot>",
    "<host mac='52:54:00:11:22:33' name='web1' ip='10.0.0.7'/>",
    "<domain type='kvm'><name><![CDATA[web1]]></name></domain>",
    "",
    "\n",
]


@pytest.mark.parametrize("document", KEPT)
def test_what_a_document_describes_stays(document):
    assert redact_xml(document) == document


def test_documents_of_the_test_driver_stay():
    def ask(*words):
        return subprocess.check_output(["virsh", "-q", "-c", "test:///default", *words], text=True)

    documents = (
        ("dumpxml", "test"),
        ("net-dumpxml", "default"),
        ("pool-dumpxml", "default-pool"),
        ("iface-dumpxml", "eth1"),
        ("capabilities",),
    )
    for words in documents:
        document = ask(*words)
        assert redact_xml(document) == document


def test_a_redacted_document_is_one():
    etree = pytest.importorskip("lxml.etree")
    document = (
        "<domain><name>a</name><description>x</description><metadata><a:b "
        "xmlns:a='u'/></metadata><devices><disk/></devices></domain>"
    )
    assert len(etree.fromstring(redact_xml(document))) == 4
    assert abstract(Xml("", redact_xml(document))) == "<domain name=a disks=1>"


STRANGE = "\u03a8\u03a9"  # nothing else has these
ODD = st.text(alphabet=("\u03a8\u03a9<>&'\"= ;/!-[]?x\n"), min_size=1, max_size=20).map(
    lambda text: f"\u03a8{text}\u03a9"
)


def spellings(secret: str) -> st.SearchStrategy[str]:
    """Elements with the secret in them, as well-formed as they can be, and not."""
    quoted = quoteattr(secret)
    cdata = secret.replace("]]>", "")
    return st.sampled_from(
        [
            f"<graphics type='vnc' passwd={quoted}/>",
            f"<graphics passwd={quoted} type='vnc' port='5'/>",
            f"<graphics passwd = {quoted}>",
            f"<graphics passwd='{secret}'/>",
            f'<graphics passwd="{secret}"/>',
            f"<password>{escape(secret)}</password>",
            f"<password><![CDATA[{cdata}]]></password>",
            f"<password><!-- x --><?y?>{escape(secret)}</password>",
            f"<x:secret xmlns:x='u'><value>{escape(secret)}</value></x:secret>",
            f"<qemu:commandline><qemu:arg value={quoted}/></qemu:commandline>",
            f"<description>{secret}</description>",
            f"<metadata>{secret}</metadata>",
            f"<!--{secret}-->",
            f"<?{secret}?>",
            f"{secret}",
            "".join(f"&#{ord(char)};" for char in secret) + "<passwd/>",
            f"<sysinfo><entry name='p'>{escape(secret)}</entry></sysinfo>",
        ]
    )


@settings(max_examples=300, deadline=None)
@given(st.data(), ODD)
def test_any_secret_in_any_spelling_cut_anywhere(data, secret):
    inner = data.draw(spellings(secret))
    document = (
        f"<domain type='kvm'><name>web1</name><devices>{inner}</devices><title>x</title></domain>"
    )
    for end in (len(document), *data.draw(st.lists(st.integers(0, len(document)), max_size=8))):
        shown = redact_xml(document[:end])
        assert not set(STRANGE) & set(shown), shown
        assert "&#936;" not in shown


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="<>/='\"&;!-[]?ab: \n", max_size=200))
@example("<a " + "b='c' " * 50)
def test_any_text_is_gone_through(text):
    redact_xml(text)
    redact_json(text)


COMMANDS = {
    "quote in it": (
        r'{"execute":"guest-set-user-password","arguments":{"username":"root","password":"ab\"zebrafish"}}'
    ),
    (
        "data before the type"
    ): '{"execute":"object-add","arguments":{"data":"zebrafish","qom-type":"secret","id":"s0"}}',
    "escaped key": r'{"execute":"set_password","arguments":{"pass\u0077ord":"zebrafish"}}',
    "key of nobody": '{"execute":"set_password","arguments":{"zebrafish":1}}',
    "single quotes": "{'execute':'set_password','arguments':{'password':'zebrafish'}}",
    "in a command for people": (
        '{"execute":"human-monitor-command","arguments":{"command-line":"set_password vnc '
        'zebrafish"}}'
    ),
    "in a list": (
        '{"execute":"guest-exec","arguments":{"path":"/bin/sh","arg":["-c","echo '
        'zebrafish"],"env":["P=zebrafish"]}}'
    ),
    "nested": '{"execute":"blockdev-add","arguments":{"driver":"https","node-name":"n","cookie":"zebrafish","url":"https://u:zebrafish@h/"}}',
    "JSON in a name": (
        '{"execute":"x","arguments":{"filename":"json:{\\"password\\":\\"zebrafish\\"}"}}'
    ),
    "URI as a name": '{"execute":"x","arguments":{"filename":"ssh://u:zebrafish@h/x"}}',
    "behind the end": '{"execute":"stop"} zebrafish',
    "text alone": '["zebrafish"]',
    "value of a property": (
        '{"execute":"qom-set","arguments":{"path":"/objects/s","property":"data","value":"zebrafish"}}'
    ),
    "set_password": "set_password vnc zebrafish",
    "quoted": 'set_password vnc "a zebrafish"',
    "with options": "set_password vnc -d id zebrafish",
    "change": 'change vnc password "a zebrafish"',
    "object_add": "object_add secret,id=s,data=zebrafish",
    "a number": '{"execute":"set_password","arguments":{"protocol":"vnc","password":zebrafish}}',
    "nothing": "zebrafish",
    "command that is not known": "zebrafish stop",
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_secret_in_a_command_is_hidden(command):
    shown = redact_command(command)
    assert SECRET not in shown and REDACTED in shown
    for end in range(len(command)):
        assert SECRET[:5] not in redact_command(command[:end])
    answer = redact_answer(command)
    assert not isinstance(answer, str) or SECRET not in answer


@pytest.mark.parametrize(
    "command",
    [
        '{"execute":"query-status","id":"libvirt-7"}',
        '{"execute": "qom-get", "arguments": {"path": "/machine/unattached/device[0]", "property": '
        '"realized"}, "id": "libvirt-8"}',
        '{"execute":"device_add","arguments":{"driver":"virtio-blk-pci","bus":"pci.0","addr":"0x3","drive":"libvirt-1-format","id":"d0","bootindex":1}}',
        '{"return": {"status": "running", "singlestep": false, "running": true}, "id": '
        '"libvirt-25"}',
        '{"execute":"guest-fsfreeze-freeze","arguments":{"mountpoints":["/","/srv/data"]}}',
        '{"execute":"migrate-set-parameters","arguments":{"max-bandwidth":104857600,"tls-creds":""}}',
        "info version",
        "stop",
        "guest-fstrim",
        "",
    ],
)
def test_commands_stay(command):
    assert redact_command(command) == command


@pytest.mark.parametrize("key", ["password", "data", "value", "pass", "cookie", "nobody-knows"])
def test_a_number_may_be_a_secret(key):
    assert "7431" not in redact_command(
        f'{{"execute":"x","arguments":{{"{key}":7431,"list":[{{"{key}":[7431]}}]}}}}'
    )


@settings(max_examples=300, deadline=None)
@given(st.data(), ODD)
def test_any_secret_in_any_json_cut_anywhere(data, secret):
    value = json.dumps(secret, ensure_ascii=data.draw(st.booleans()))
    inner = data.draw(
        st.sampled_from(
            [
                value,
                f"[{value}]",
                f'{{"password":{value}}}',
                f"{{{value}:1}}",
                secret,
                f"'{secret}'",
            ]
        )
    )
    key = data.draw(
        st.sampled_from(
            ["password", "data", "id", "path", "return", "value", "x", "filename", "type"]
        )
    )
    document = f'{{"execute":"stop","arguments":{{"{key}":{inner}}},"id":"x"}}'
    for end in (len(document), *data.draw(st.lists(st.integers(0, len(document)), max_size=8))):
        shown = redact_command(document[:end])
        assert not set(STRANGE) & set(shown), shown
        assert "\\u03a8" not in shown


def test_the_table_of_places_covers_the_installed_schemas():
    found = places_of_host()
    for place, contents in found.items():
        element, _, attribute = place.partition("@")
        # also: it was decided
        assert ((attribute or ".") in xml.known().places[element]) == is_shown(place, contents), (
            place
        )


def places_of_host():
    from pathlib import Path

    folder = Path("/usr/share/libvirt/schemas")
    if not folder.is_dir():
        lack("unit", "libvirt's schemas are not installed")
    return places(folder)


def test_what_was_decided_about_places_is_not_contradictory():
    assert not set(HIDDEN) & set(HARMLESS)
    secrets = (
        "devices/graphics@passwd",
        "cookies/cookie",
        "launchSecurity/session",
        "os/cmdline",
        "domain/description",
    )
    for place in secrets:
        assert not is_shown(place, {"any", "word"})


def test_the_table_of_words_is_that_of_the_installed_qemu():
    found = describe(Qemu(["qemu-system-x86_64"]))
    # another release has others
    assert len(found["keys"] - known().keys - found["texts"]) < len(found["keys"]) / 4
    for name in ("password", "data", "secret", "cookie", "command-line"):
        assert name not in known().keys or name in {"data", "command-line", "password"}


@pytest.mark.parametrize(
    "piece",
    [
        "<a>",
        "<a ",
        "<!--",
        "<![CDATA[",
        "<?",
        "&",
        "<a b='",
        '<a b="',
        "x='",
        "</a>",
        '{"',
        "[",
        '"\\',
        "{",
        '{"a":',
    ],
)
def test_long_documents_are_quick(piece):
    text = piece * (65536 // len(piece))
    started = time.process_time()
    redact_xml("<domain>" + text)
    redact_xml("<domain " + text)
    redact_command("{" + text)
    assert time.process_time() - started < 3
