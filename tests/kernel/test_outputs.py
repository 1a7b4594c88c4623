# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is behind pointers, in and out: a caller prints the line that the log must have."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from probes.program import has_may_goto
from tests.kernel.conftest import TRACER, Run, bare
from tests.needs import PATIENCE, PYTHON

_error = re.compile(r" VIR_ERR_\w+ \(.*\)$")
SECRET = "swordfish"


def test_a_line_for_every_kind(caller, traced_text) -> None:
    lines, facts = traced_text(caller("outputs"))
    # by their begin: a call that ended its process is told when that is noticed
    shown = [_error.sub("", bare(line)) for line in sorted(lines)]
    assert len(facts) >= 24
    # the connection is opened and the domain is found first; what became of hostile calls is not of interest here
    ends = [" = -1" if line.endswith(" = -1") else " = ? <unfinished: process exited>" for line in shown[2:]]
    assert shown[2:] == [fact + (end if fact.endswith(")") else "") for fact, end in zip(facts, ends, strict=True)]


@pytest.mark.parametrize("form", ["text", "json", "xml"])
def test_no_secret_is_in_the_log(caller, form: str) -> None:
    argv = [*TRACER, "--format", form, "--", str(caller("secrets", "-lvirt-qemu"))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60 * PATIENCE)
    assert " 0 lost in " in done.stderr
    made = int(re.findall(r"^\d+$", done.stdout, re.M)[0])
    assert made >= 23
    # a document on screen is a line that says what it describes
    assert done.stdout.count("redacted") >= (10 if form == "text" else made)
    assert SECRET not in done.stdout
    assert SECRET not in done.stderr


@pytest.mark.parametrize("form", ["json", "xml"])
def test_secrets_are_in_the_log_that_is_asked_for_them(caller, form: str) -> None:
    argv = [*TRACER, "--no-redact", "-s", "4096", "--format", form, "--", str(caller("secrets", "-lvirt-qemu"))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60 * PATIENCE)
    made = int(re.findall(r"^\d+$", done.stdout, re.M)[0])
    # one line a call, and those of opening and closing
    assert sum(SECRET in line for line in done.stdout.splitlines()) == made
    assert "secrets are shown, because of --no-redact" in done.stderr


def test_long_lists_and_documents_are_cut_and_counted(traced: Callable[..., Run], tmp_path: Path) -> None:
    script = tmp_path / "many.py"
    script.write_text(
        "import json, libvirt\n"
        "conn = libvirt.open('test:///default')\n"
        "for i in range(79):\n"
        "    conn.createXML(f\"<domain type='test'><name>many{i:02}</name><memory>1</memory><os><type>hvm</type></os></domain>\")\n"
        "print(json.dumps([domain.name() for domain in conn.listAllDomains()]))\n"
        "conn.getAllDomainStats()\n"
        "conn.listDomainsID()\n"
        "xml = '<domain type=\"test\"><name>big</name><devices>' + '<disk type=\"file\"/>' * 2000 + '</devices></domain>'\n"
        "try: conn.defineXML(xml)\n"
        "except libvirt.libvirtError: pass\n"
        "print(len(xml))\n"
    )
    run = traced(PYTHON, script)
    domains = run.call("virConnectListAllDomains")["out"]["domains"]
    assert (domains["count"], domains["cut"]) == (80, True)
    names, length = run.facts
    kept = len(domains["items"])
    assert kept == 64 if has_may_goto() else kept > 40
    assert [domain["name"] for domain in domains["items"]] == names[:kept]
    stats = run.call("virConnectGetAllDomainStats")["out"]["retStats"]
    assert stats["count"] == 80
    assert all(set(record["params"]) == {"state.state", "state.reason"} for record in stats["items"])
    ids = run.call("virConnectListDomains")["out"]["ids"]
    assert sorted(ids) == list(range(1, 81))
    xml = run.call("virDomainDefineXML")["args"]["xml"]
    assert (xml["length"], xml["cut"], len(xml["text"])) == (length, True, 256)


def test_callbacks_and_events_have_names(caller, traced: Callable[..., Run]) -> None:
    program = caller("callbacks", "-rdynamic")
    run = traced(program)
    ((name, exported, static),) = run.facts
    register = run.call("virConnectDomainEventRegisterAny")["args"]
    assert register["eventID"] == {"value": 1, "name": "VIR_DOMAIN_EVENT_ID_REBOOT"}
    assert register["cb"] == {"pointer": exported, "name": name}
    assert register["freecb"]["name"].partition("+")[0] in ("free", "cfree", "__libc_free")
    symbols = subprocess.check_output(["nm", program], text=True)
    (linked,) = (int(line.split()[0], 16) for line in symbols.splitlines() if line.endswith(" t on_close"))
    close = run.call("virConnectRegisterCloseCallback")["args"]["cb"]
    # the program is mapped where its linked addresses say, but for the segments' padding
    headers = subprocess.check_output(["readelf", "-lW", program], text=True)
    loads = [line.split() for line in headers.splitlines() if line.split()[:1] == ["LOAD"]]
    offset = next(linked - int(load[2], 16) + int(load[1], 16) for load in loads if 0 <= linked - int(load[2], 16) < int(load[5], 16))
    assert close == {"pointer": static, "name": f"{program.name}+{offset:#x}"}
