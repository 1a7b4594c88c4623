# SPDX-License-Identifier: LGPL-2.1-or-later
"""Of every string that a function takes or gives somebody has decided what it is; a new one is hidden until then, and fails here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from log.events import CutText, Redacted, Xml
from probes import texts
from probes.api import load_api
from probes.api_private import with_private
from probes.copying import Limits
from probes.documents import text_value
from probes.texts import of_argument, of_field, of_parameter
from probes.values import Copied
from tests.needs import lack

TABLE = with_private(load_api([]))
STRINGS = frozenset({"char *", "char **", "const char **", "char ** const", "char ***", "const char *"})
# everything that is hidden, though it is no argument that SECRET names
HIDDEN = {
    "virConnectDomainXMLFromNative.nativeConfig",
    "virConnectDomainXMLToNative",
    "virTypedParamsGetString.value",
}
HIDDEN_PARAMETERS = {"sev-measurement", "sev-secret-header", "sev-secret", "pdh", "cert-chain", "cpu0-id"}


def string_places() -> dict[str, tuple[str, bool]]:
    """ "function.argument", or "function" for its result -> what it is, and whether the table of functions calls it a secret."""
    found = {}
    for function in TABLE.functions:
        for param in function.params:
            if param.kind in ("string", "xml") or param.ctype in STRINGS:
                found[f"{function.name}.{param.name}"] = of_argument(function.name, param.name), param.secret
        if function.result.kind == "string":
            found[function.name] = of_argument(function.name, ""), function.result.secret
    return found


def test_what_every_string_of_a_function_is():
    places = string_places()
    assert len(places) > 270
    assert {kind for kind, _ in places.values()} <= texts.KINDS
    assert {place for place, (kind, secret) in places.items() if kind == texts.HIDDEN and not secret} == HIDDEN
    documents = {place for place, (kind, _) in places.items() if kind == texts.XML}
    for function in TABLE.functions:
        for param in function.params:
            assert param.kind != "xml" or f"{function.name}.{param.name}" in documents
    assert {"virDomainMigrateBegin3Params", "virDomainMigratePrepare3Params.cookieout", "virDomainGetXMLDesc"} <= documents


@pytest.mark.parametrize(
    ("kind", "places"),
    [
        (
            texts.URI,
            {"virConnectOpen.name", "virConnectGetURI", "virDomainMigrateToURI3.dconnuri", "virDomainMigratePrepare3Params.uri_out"},
        ),
        (texts.COMMAND, {"virDomainQemuMonitorCommand.cmd", "virDomainQemuAgentCommand.cmd"}),
        (texts.ANSWER, {"virDomainQemuMonitorCommand.result", "virDomainQemuAgentCommand"}),
        (texts.MIXED, {"virDomainSetMetadata.metadata", "virDomainGetMetadata"}),
        (texts.MESSAGE, {"virGetLastErrorMessage", "virDomainGetMessages.msgs"}),
    ],
)
def test_kinds(kind, places):
    found = {place for place, (what, _) in string_places().items() if what == kind}
    assert places <= found


def test_every_string_of_a_struct():
    found = {
        f"{name}.{field}": of_field(name, field)
        for name, fields in TABLE.structs.items()
        for field, ctype in fields
        if ctype.startswith("char") or ctype in STRINGS
    }
    hidden = {place for place, kind in found.items() if kind == texts.HIDDEN}
    # these are shown as pointers, whoever has them
    assert hidden == {place for place in found if place.split(".")[0] in POINTERS}


POINTERS = frozenset({"virConnectCredential", "virError", "virDomainEventGraphicsAddress", "virDomainEventGraphicsSubjectIdentity"})


def test_every_typed_parameter_that_is_a_string():
    folder = Path("/usr/include/libvirt")
    if not folder.is_dir():
        lack("unit", "libvirt-dev is not installed")
    found = {}
    for header in sorted(folder.glob("libvirt-*.h")):
        for comment, name in re.findall(r'/\*\*((?:(?!\*/).)*?)\*/\s*# *define VIR_\w+ +"([^"]*)"', header.read_text(), re.S):
            if "STRING" in comment:
                found[name] = of_parameter(name.replace("%u", "0"))
    assert len(found) > 20
    assert {name for name, kind in found.items() if kind == texts.HIDDEN} == HIDDEN_PARAMETERS
    assert of_parameter("system.token") == of_parameter("newer") == texts.HIDDEN
    assert of_parameter("destination_xml") == texts.XML and of_parameter("migrate_uri") == texts.URI


def shown(what: str, text: bytes, *, string: int = 4096, redact: bool = True):
    """What is shown of a text of that kind."""
    kept = text[:string]
    return text_value(Copied(0x1000, kept, len(text)), what, Limits(string, redact))


def test_how_each_kind_is_shown():
    uri = b"qemu+tcp://u:hunter2@h/system"
    assert shown(texts.NAME, b"web1") == "web1"
    assert shown(texts.NAME, uri) == shown(texts.URI, uri) == "qemu+tcp://u:<redacted>@h/system"
    assert shown(texts.URI, uri, string=18) == CutText("qemu+tcp://<redacted>", len(uri))
    assert shown(texts.HIDDEN, b"hunter2") == Redacted(7)
    assert shown(texts.MIXED, b"hunter2") == Redacted(7)
    assert shown(texts.MIXED, b"<a>hunter2</a>") == Xml("<redacted/>", "<redacted/>")
    assert shown(texts.COMMAND, b"set_password vnc hunter2") == "set_password <redacted>"
    assert shown(texts.COMMAND, b'{"execute":"stop","arguments":{"password":"hunter2"}}', string=50) == CutText(
        '{"execute":"stop","arguments":{"password":<redacted>', 53
    )
    assert shown(texts.ANSWER, b"hunter2") == Redacted(7)
    assert shown(texts.ANSWER, b'{"return":"hunter2"}') == '{"return":"<redacted>"}'
    assert shown(texts.MESSAGE, b"internal error: hunter2") == "internal error: <redacted>"
    for what in texts.KINDS - {texts.XML}:
        assert shown(what, b"hunter2", redact=False) == "hunter2"
