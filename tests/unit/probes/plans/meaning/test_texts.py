# SPDX-License-Identifier: LGPL-2.1-or-later
"""Of every string that a function takes or gives somebody has decided what it is; a new one is
hidden until then, and fails here.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from log.values import CutText, Redacted, Value, Xml
from probes.api.load import load_api
from probes.api.table import Param
from probes.api.undescribed import with_private
from probes.internals.layouts import LAYOUTS
from probes.kernel import records
from probes.plans.functions import entry_plan, return_plan
from probes.plans.meaning import texts
from probes.plans.meaning.captured import Copied, Limits
from probes.plans.meaning.documents import text_value
from probes.plans.meaning.texts import of_argument, of_field, of_parameter
from probes.plans.plan import Constants, Plan
from tests.needs import lack
from tests.unit.probes.plans.test_walks import Memory, in_pieces, parameter, run

TABLE = with_private(load_api([]))
STRINGS = frozenset(
    {("char *"), "char **", "const char **", "char ** const", "char ***", "const char *"}
)
# everything that is hidden, though it is no argument that SECRET names
HIDDEN = {
    "virConnectDomainXMLFromNative.nativeConfig",
    "virConnectDomainXMLToNative",
    "virTypedParamsGetString.value",
}
HIDDEN_PARAMETERS = {
    "sev-measurement",
    "sev-secret-header",
    "sev-secret",
    "pdh",
    "cert-chain",
    "cpu0-id",
}


def string_places() -> dict[str, tuple[str, bool]]:
    """ "function.argument", or "function" for its result -> what it is, and whether the table
    of functions calls it a secret.
    """
    found = {}
    for function in TABLE.functions:
        for param in function.params:
            if param.kind in ("string", "xml") or param.ctype in STRINGS:
                found[f"{function.name}.{param.name}"] = (
                    of_argument(function.name, param.name),
                    param.secret,
                )
        if function.result.kind == "string":
            found[function.name] = of_argument(function.name, ""), function.result.secret
    return found


def test_what_every_string_of_a_function_is():
    places = string_places()
    assert len(places) > 270
    assert {kind for kind, _ in places.values()} <= texts.KINDS
    assert {
        place for place, (kind, secret) in places.items() if kind == texts.HIDDEN and not secret
    } == HIDDEN
    documents = {place for place, (kind, _) in places.items() if kind == texts.XML}
    for function in TABLE.functions:
        for param in function.params:
            assert param.kind != "xml" or f"{function.name}.{param.name}" in documents
    assert {
        "virDomainMigrateBegin3Params",
        "virDomainMigratePrepare3Params.cookieout",
        "virDomainGetXMLDesc",
    } <= documents


@pytest.mark.parametrize(
    ("kind", "places"),
    [
        (
            texts.URI,
            {
                "virConnectOpen.name",
                "virConnectGetURI",
                "virDomainMigrateToURI3.dconnuri",
                "virDomainMigratePrepare3Params.uri_out",
            },
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


POINTERS = frozenset(
    {
        "virConnectCredential",
        "virError",
        "virDomainEventGraphicsAddress",
        "virDomainEventGraphicsSubjectIdentity",
    }
)


def test_every_typed_parameter_that_is_a_string():
    folder = Path("/usr/include/libvirt")
    if not folder.is_dir():
        lack("unit", "libvirt-dev is not installed")
    found = {}
    for header in sorted(folder.glob("libvirt-*.h")):
        for comment, name in re.findall(
            r"/\*\*((?:(?!\*/).)*?)\*/\s*# *define VIR_\w+ "
            r'+"([^"]*)"',
            header.read_text(),
            re.S,
        ):
            if "STRING" in comment:
                found[name] = of_parameter(name.replace("%u", "0"))
    assert len(found) > 20
    # newer headers have the beginnings and ends of names apart
    shown = " ".join(globs for globs, _ in texts.PARAMETERS)
    ends = {name for name in found if name.startswith(".")}
    # all that begins with cpu. or memory. is shown
    assert {name for name in ends if f"{name} " not in f"{shown} "} <= {".vcpus"}
    assert {
        name for name, kind in found.items() if kind == texts.HIDDEN
    } - ends == HIDDEN_PARAMETERS
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
    assert shown(
        texts.COMMAND, b'{"execute":"stop","arguments":{"password":"hunter2"}}', string=50
    ) == CutText('{"execute":"stop","arguments":{"password":<redacted>', 53)
    assert shown(texts.ANSWER, b"hunter2") == Redacted(7)
    assert shown(texts.ANSWER, b'{"return":"hunter2"}') == '{"return":"<redacted>"}'
    assert shown(texts.MESSAGE, b"internal error: hunter2") == "internal error: <redacted>"
    for what in texts.KINDS - {texts.XML}:
        assert shown(what, b"hunter2", redact=False) == "hunter2"


MARK = "zebrafish"
URI_WITH_MARK = f"qemu+tcp://u:{MARK}@h/system"
SPELLED = (
    MARK,
    URI_WITH_MARK,
    "<domain><devices><graphics "
    f"passwd='{MARK}'/></devices><description>{MARK}</description></domain>",
    f'{{"execute":"x","arguments":{{"password":"{MARK}"}}}}',
    f"set_password vnc {MARK}",
)


def record(plan: Plan, fixed: bytearray, memory: Memory) -> dict[str, Value]:
    """What is shown of a record with these bytes; the texts that belong to it are behind them."""
    stream = run(plan, fixed, memory)
    behind = b""
    for one in plan.texts:
        found = memory.string(int.from_bytes(fixed[one.source : one.source + 8], "little"), 1 << 16)
        length = len(found) - 1 if found else -14
        struct.pack_into("<i", fixed, one.slot, length)
        behind += (
            found[: one.size].ljust((len(found[: one.size]) + 8) & ~7, b"\0")
            if found and length < one.size
            else b""
        )
    return plan.decode(bytes(fixed[: plan.fixed]) + behind, in_pieces(stream), Constants())


def marked(param: Param, spelled: str, memory: Memory) -> int | None:
    """What to hand in for an argument so that the text is in it; None: it is no text."""
    text = memory.text(spelled)
    if param.kind in ("string", "xml") or param.ctype == "char *":
        return text
    if "virTypedParameterPtr" in param.ctype:
        fields = (
            "sev-secret",
            "newer",
            "destination_xml",
            "migrate_uri",
            "user-name" if "://" in spelled else "a.password",
        )
        params = memory.put(b"".join(parameter(field, 7, "<Q", text) for field in fields))
        return memory.put(struct.pack("<Q", params)) if param.ctype.endswith("*") else params
    if param.ctype.count("*") == 3:
        return memory.put(struct.pack("<Q", memory.put(struct.pack("<2Q", text, text))))
    if param.ctype.startswith(("char **", "const char **")):
        return memory.put(struct.pack("<3Q", text, text, 0))
    return None


def test_a_marked_secret_in_every_text_of_every_function():
    tried = 0
    for function in TABLE.functions:
        for spelled in SPELLED:
            memory = Memory()
            given, kinds = [], set()
            for param in (param for param in function.params if param.kind != "double"):
                value = marked(param, spelled, memory)
                kinds |= (
                    {of_argument(function.name, param.name)}
                    if value is not None and "virTyped" not in param.ctype
                    else set()
                )
                count = memory.put(struct.pack("<i4x", 5 if "params" in param.name else 2))
                given.append(
                    value
                    if value is not None
                    else count
                    if param.ctype.endswith("*")
                    else 5
                    if param.name == "nparams"
                    else 2
                )
            result = memory.text(spelled) if function.result.kind == "string" else 2
            kinds |= {of_argument(function.name, "")} if function.result.kind == "string" else set()
            if texts.NAME in kinds and spelled != URI_WITH_MARK:
                continue  # a name is a name
            for make, at in ((entry_plan, records.ENTRY_ARGS), (return_plan, records.RETURN_ARGS)):
                plan = make(function, TABLE, LAYOUTS["gobject"], Limits(4096, True), 0)
                fixed = bytearray(records.FIXED)
                if make is return_plan:
                    struct.pack_into("<Q", fixed, records.RETURN_VALUE, result)
                for i, value in enumerate(given[:6]):
                    struct.pack_into("<Q", fixed, at + 8 * i, value)
                values = record(plan, fixed, memory)
                assert MARK not in repr(values), (function.name, spelled, values)
                tried += "redacted" in repr(values).lower()
    assert tried > 700
