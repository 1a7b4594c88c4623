# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages of errors: what they quote is hidden, what libvirt says stays; and every error that
the test driver can be made to say.
"""

from __future__ import annotations

import libvirt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from log.redact import messages
from log.redact.marker import REDACTED
from log.redact.messages import PLAIN, redact_error
from probes.api.load import load_api

CODES = load_api([]).enums["virErrorNumber"].constants
XML_ERROR, XML_DETAIL, INTERNAL = 27, 35, 1
SECRET = "hunter2"

HIDDEN = [
    (
        XML_DETAIL,
        "(domain_definition):1: Opening and ending tag mismatch: hunter2 line 1 and "
        "domain\n<domain>...passwd='hunter2'\n----^",
    ),
    (XML_DETAIL, "(domain_definition):1: Specification mandates value for attribute hunter2"),
    (
        XML_DETAIL,
        "(domain_definition):7: Extra content at the end of the document\n<graphics "
        "passwd='hunter2'/>\n^",
    ),
    (
        XML_ERROR,
        "XML error: Invalid value for attribute 'passwdValidTo' in element 'graphics': 'hunter2'",
    ),
    (XML_ERROR, "XML error: Invalid value for attribute 'x' in element 'graphics': 'a' hunter2'"),
    (XML_ERROR, "XML error: unknown type 'hunter2"),
    (INTERNAL, "internal error: Unable to parse URI esx://user:pa/hunter2@localhost/"),
    (INTERNAL, "internal error: Unable to parse URI esx://user:pa hunter2@localhost/"),
    (
        INTERNAL,
        'internal error: cannot parse json {"password":"hunter2: lexical error: invalid char',
    ),
    (
        INTERNAL,
        "internal error: process exited while connecting to monitor: qemu-system-x86_64: "
        "-object secret,data=hunter2: bad",
    ),
    (
        INTERNAL,
        "internal error: unable to execute QEMU command 'object-add': Parameter \"data\" "
        "hunter2 is bad",
    ),
    (8, "invalid argument: could not parse hunter2"),
    (38, "Failed to open file '/root/hunter2': No such file or directory"),
    (67, "unsupported configuration: unknown disk device 'hunter2'"),
    (
        INTERNAL,
        "internal error: Child process (/bin/x --password hunter2) unexpected exit status "
        "1: hunter2",
    ),
    (55, "Requested operation is not valid: can't reach qemu+tcp://u:hunter2@h/system"),
    (INTERNAL, "internal error: die-hunter2-network"),
    (INTERNAL, "internal error: virHunter2"),
    (INTERNAL, "internal error: testhunter2 <hunter2>"),
]


@pytest.mark.parametrize(("code", "message"), HIDDEN)
def test_what_a_message_quotes_is_hidden(code, message):
    shown = redact_error(code, message)
    assert SECRET not in shown.lower() and REDACTED in shown
    for end in range(len(message)):
        assert "hunte" not in redact_error(code, message[:end] + "...")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (42, "Domain not found: no domain with matching name 'web1'"),
        (43, "Network not found: no network with matching name 'n 1'"),
        (55, "Requested operation is not valid: domain is not running"),
        (3, "this function is not supported by the connection driver: virConnectSetKeepAlive"),
        (88, "access denied: these guests are kept: ask the on-call engineer"),
        (7, "invalid domain pointer in virDomainGetName"),
        (XML_ERROR, "XML error: Missing required attribute 'type' in element 'graphics'"),
        (38, "Cannot recv data: Connection reset by peer"),
        (INTERNAL, "internal error: client socket is closed"),
        (5, "no connection driver available for foo:///bar"),
        (8, "unsupported flags (0x100000) in function testDomainGetXMLDesc"),
        (8, "memory in virDomainSetMemory must not be zero"),
        (XML_ERROR, "XML error: an os <type> must be specified"),
        (8, "invalid argument: requested cpu amount exceeds maximum supported amount (4242 > 32)"),
        (86, "Guest agent is not responding: QEMU guest agent is not connected"),
    ],
)
def test_what_libvirt_says_stays(code, message):
    assert redact_error(code, message) == message


def test_exemptions_have_the_codes_of_their_names():
    for code, reason in PLAIN.items():
        assert CODES[f"VIR_ERR_{reason.partition(':')[0]}"] == code


BROKEN = [
    (
        "<domain type='test'><name>x</name><devices><graphics type='vnc' "
        "passwd='hunter2'/></device></domain>"
    ),
    "<domain type='test'><name>x</name><devices><graphics type='vnc' "
    "passwd='hunter2></devices></domain>",
    "<domain type='test'><name>x</name><devices><graphics type='vnc' "
    "passwd=hunter2/></devices></domain>",
    "<domain type='test'><name>x</name><devices><graphics type='vnc' hunter2/></devices></domain>",
    "<domain type='test'><name>x</name><devices><graphics type='hunter2'/></devices></domain>",
    "<domain type='test'><name>x</name><hunter2></domain>",
    "<domain type='test'><name>x</name>&hunter2;</domain>",
    "<domain type='hunter2'><name>x</name></domain>",
    "<domain type='test'><name>x</name><memory>hunter2</memory></domain>",
    "<domain type='test'><name>x</name><memory unit='hunter2'>1</memory></domain>",
    "<domain type='test'><name>x</name><uuid>hunter2</uuid></domain>",
    "<domain type='test'><name>x</name><vcpu cpuset='hunter2'>1</vcpu></domain>",
    "<domain type='test'><name>x</name><os><type arch='hunter2'>hvm</type></os></domain>",
    "<domain type='test'><name>x</name><memory>1</memory><os><type>hunter2</type></os></domain>",
    "<domain type='test'><name>x</name><memory>1</memory><os><type>hvm</type></os><clock "
    "offset='hunter2'/></domain>",
    "<domain "
    "type='test'><name>x</name><memory>1</memory><os><type>hvm</type></os><on_crash>hunter2</on_crash></domain>",
    "<domain type='test'><name>x</name><memory>1</memory><os><type>hvm</type></os><devices><disk "
    "type='hunter2'/></devices></domain>",
    "<domain "
    "type='test'><name>x</name><memory>1</memory><os><type>hvm</type></os><devices><hunter2/></devices>",
    "<domain "
    "type='test'><name>x</name><memory>1</memory><os><type>hvm</type></os><devices><interface "
    "type='user'><mac address='hunter2'/>"
    "</interface></devices></domain>",
    "hunter2",
    "<!-- hunter2",
    "<domain><![CDATA[hunter2",
    "<?hunter2",
    "\x01hunter2",
]


def test_no_error_of_a_broken_document_tells_what_is_in_it():
    libvirt.registerErrorHandler(lambda context, error: None, None)
    conn = libvirt.open("test:///default")
    makers = (
        conn.defineXML,
        conn.createXML,
        conn.networkDefineXML,
        conn.storagePoolDefineXML,
        conn.nodeDeviceCreateXML,
        conn.compareCPU,
    )
    told = 0
    for make in makers:
        for document in BROKEN:
            try:
                made = make(document)
            except libvirt.libvirtError as error:
                message = error.get_error_message()
                told += SECRET in message
                assert SECRET not in redact_error(error.get_error_code(), message), message
            else:
                if hasattr(made, "undefine"):
                    made.undefine()
    assert told > 25
    for uri in (
        "esx://user:pa/hunter2@localhost/",
        "hunter2",
        "hunter2://x",
        "test://u:hunter2@h/none",
        "test:///hun?ter=hunter2",
    ):
        with pytest.raises(libvirt.libvirtError) as caught:
            libvirt.open(uri)
        assert (
            SECRET
            not in redact_error(caught.value.get_error_code(), caught.value.get_error_message())
            or "hunter2://" in uri
        )


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(set(CODES.values()) - set(PLAIN))),
    st.text(alphabet="ΨΩ '\"`:<>{}=\n/ab“”", max_size=40),
)
def test_any_text_that_is_not_libvirt_s_is_hidden(code, text):
    shown = redact_error(code, f"internal error: failed to parse {text}")
    assert not set("ΨΩ") & set(shown)


def test_a_translation_is_known_where_it_is_installed(tmp_path, monkeypatch):
    """A catalogue with one message, as libvirt's translations are."""
    import struct

    pairs = [
        (b"", b"Content-Type: text/plain; charset=UTF-8\n"),
        (b"internal error: %s", "Interner Gerätefehler: %s".encode()),
    ]
    texts, at, rows = b"", 28 + 16 * len(pairs), [b"", b""]
    for side in (0, 1):
        for pair in pairs:
            rows[side] += struct.pack("<II", len(pair[side]), at + len(texts))
            texts += pair[side] + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    catalogue = tmp_path / "de/LC_MESSAGES/libvirt.mo"
    catalogue.parent.mkdir(parents=True)
    catalogue.write_bytes(head + rows[0] + rows[1] + texts)
    monkeypatch.setattr(messages, "CATALOGS", tmp_path)
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    messages.translated.cache_clear()
    redact_error.cache_clear()
    try:
        assert (
            redact_error(INTERNAL, "Interner Gerätefehler: hunter2")
            == f"Interner Gerätefehler: {REDACTED}"
        )
    finally:
        messages.translated.cache_clear()
        redact_error.cache_clear()


def test_the_names_of_functions_are_those_of_the_api_table() -> None:
    assert messages.FUNCTIONS.read_text().split() == [
        function.name for function in load_api([]).functions
    ]
