# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is behind pointers, in and out: a caller prints the line that the log must have."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from probes.kernel.loading.features import has_may_goto
from tests.kernel.conftest import TRACER, Run, bare
from tests.needs import PATIENCE, PYTHON

_error = re.compile(r" VIR_ERR_\w+ \(.*\)$")
SECRET = "swordfish"


def test_a_line_for_every_kind(caller, traced_text) -> None:
    lines, facts = traced_text(caller("outputs"))
    # by their begin: a call that ended its process is told when that is noticed
    shown = [_error.sub("", bare(line)) for line in sorted(lines)]
    assert len(facts) >= 24
    # the connection is opened and the domain is found first; what became of hostile calls is not of
    # interest here
    ends = [
        (" = -1") if line.endswith(" = -1") else (" = ? <unfinished: process exited>")
        for line in shown[2:]
    ]
    assert shown[2:] == [
        fact + (end if fact.endswith(")") else "") for fact, end in zip(facts, ends, strict=True)
    ]


@pytest.mark.parametrize("form", ["text", "json", "xml", "ecs"])
def test_no_secret_is_in_the_log(caller, form: str, tmp_path: Path) -> None:
    """In no sink: the screen, the file of -o, the table of -c, the last line, what --debug and
    the status line add.
    """
    record = tmp_path / "record"
    options = [
        "-a",
        "-c",
        "--tree",
        "--debug",
        "--format",
        form,
        "-s",
        "4096" if form == "xml" else "256",
        "-o",
        str(record),
    ]
    argv = [*TRACER, *options, "--", str(caller("secrets", "-lvirt-qemu"))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60 * PATIENCE)
    assert " 0 lost in " in done.stderr
    made = int(re.findall(r"^\d+$", done.stdout, re.M)[0])
    assert made >= 60
    # a document on screen, or in a message, is a line that says what it describes
    assert done.stdout.count("redacted") >= (20 if form in ("text", "ecs") else made)
    assert "virTypedParamsGetString" in done.stdout
    for sink in (done.stdout, done.stderr, record.read_text()):
        assert "redacted" in sink or sink is done.stderr
        assert SECRET not in sink


@pytest.mark.parametrize("form", ["json", "xml"])
def test_secrets_are_in_the_log_that_is_asked_for_them(caller, form: str) -> None:
    argv = [
        *TRACER,
        "--no-redact",
        "-s",
        "4096",
        "--format",
        form,
        "--",
        str(caller("secrets", "-lvirt-qemu")),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60 * PATIENCE)
    made = int(re.findall(r"^\d+$", done.stdout, re.M)[0])
    # one line a call, and those of opening and closing
    assert sum(SECRET in line for line in done.stdout.splitlines()) == made
    assert "secrets are shown, because of --no-redact" in done.stderr


# what a user types, with a secret in it; of each virsh makes a call of its own
TYPED = [
    ["set-user-password", "test", "root", SECRET],
    ["set-user-password", "--password", "--domain", SECRET],
    ["secret-set-value", "6695eb01-f6a4-8304-79aa-97f2502e193f", SECRET],
    ["qemu-monitor-command", "test", "--hmp", "set_password", "vnc", SECRET],
    [
        "qemu-agent-command",
        "test",
        f'{{"execute":"guest-set-user-password","arguments":{{"password":"a\\"{SECRET}"}}}}',
    ],
    ["desc", "test", "--live", f"the password is {SECRET}"],
    ["metadata", "test", "http://x.org", "--key", "x", "--set", f"<a>{SECRET}</a>"],
    ["domxml-from-native", "qemu-argv", "DOCUMENT"],
    ["define", "DOCUMENT"],
    ["migrate", "test", f"qemu+tcp://u:a/{SECRET}@nohost.invalid/system"],
    [f"list; set-user-password test root {SECRET}"],
    ["suspend", "test"],
]


def test_no_secret_that_was_typed_is_in_the_log(tmp_path: Path, traced: Callable[..., Run]) -> None:
    document, script = tmp_path / "document", tmp_path / "all.sh"
    document.write_text(
        "<domain type='test'><name>x</name><devices><graphics type='vnc' "
        f"passwd='{SECRET}'/></device></domain>"
    )
    words = [[str(document) if word == "DOCUMENT" else word for word in line] for line in TYPED]
    lines = [shlex.join(["virsh", "-q", "-c", "test:///default", *line]) for line in words]
    script.write_text("\n".join([f"{line} >/dev/null 2>&1" for line in lines] + ["exit 0\n"]))
    run = traced("sh", script)
    assert SECRET not in json.dumps(run.result.events) + run.result.stderr
    seen = {tuple(call["cmdline"][4:]) for call in run.calls()}
    # virsh refuses some of them itself
    assert len({call["pid"] for call in run.calls()}) >= len(TYPED) - 2
    assert {("suspend", "test"), ("define", str(document))} <= seen
    assert ("set-user-password", "test", "<redacted>", "<redacted>") in seen
    (defined,) = run.calls("virDomainDefineXML")
    # libvirt 9.0 and 11.3 begin it each in its own way
    assert re.match(
        r"(\(domain_definition\):1|at line 1): Opening and ending tag mismatch: devices line 1 and "
        r"device",
        defined["error"]["message"],
    )


def test_what_virt_install_is_told_and_tells_libvirt(traced: Callable[..., Run]) -> None:
    typed = [
        "--name",
        "v1",
        "--memory",
        "64",
        "--disk",
        "none",
        "--import",
        "--osinfo",
        "detect=off,require=off",
        "--noautoconsole",
    ]
    secrets = ["--graphics", f"vnc,password={SECRET}", f"--qemu-commandline=-x {SECRET}"]
    argv = ["virt-install", "--connect", "test:///default", *typed, *secrets]
    run = traced("sh", "-c", f"{shlex.join(argv)} >/dev/null 2>&1", options=("-s", "65536"))
    assert SECRET not in json.dumps(run.result.events) + run.result.stderr
    created = next(
        call
        for call in run.calls()
        if call["function"]
        in ("virDomainCreateXML", "virDomainDefineXMLFlags", "virDomainDefineXML")
    )
    assert created["cmdline"][2:] == [
        *argv[1:-2],
        "vnc,password=<redacted>",
        "--qemu-commandline=<redacted>",
    ]
    document = next(
        value
        for value in created["args"].values()
        if isinstance(value, str) and value.startswith("<domain")
    )
    assert (
        "<name>v1</name>" in document
        and ("<redacted/>\n  </qemu:commandline>") in document
        and 'passwd="<redacted>"' in document
    )


def test_command_lines_are_whole_in_the_log_that_is_asked_for_them(
    traced: Callable[..., Run],
) -> None:
    typed = ["virsh", "-q", "-c", "test:///default", "set-user-password", "test", "root", SECRET]
    for options in (("--cmdline", "full"), ("--no-redact",)):
        run = traced("sh", "-c", f"{shlex.join(typed)} 2>/dev/null; exit 0", options=options)
        assert {tuple(call["cmdline"]) for call in run.calls()} == {tuple(typed)}
        shown = run.call("virDomainSetUserPassword")["args"]["password"]
        assert shown == (
            SECRET if options == ("--no-redact",) else {"redacted": True, "length": len(SECRET)}
        )


def test_long_lists_and_documents_are_cut_and_counted(
    traced: Callable[..., Run], tmp_path: Path
) -> None:
    script = tmp_path / "many.py"
    script.write_text(
        "import json, libvirt\n"
        "conn = libvirt.open('test:///default')\n"
        "for i in range(79):\n"
        '    conn.createXML(f"<domain '
        "type='test'><name>many{i:02}</name><memory>1</memory><os><type>hvm</type></os></domain>\")\n"
        "print(json.dumps([domain.name() for domain in conn.listAllDomains()]))\n"
        "conn.getAllDomainStats()\n"
        "conn.listDomainsID()\n"
        "xml = '<domain type=\"test\"><name>big</name><devices>' + '<disk type=\"file\"/>' * 2000 "
        "+ '</devices></domain>'\n"
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
    assert all(
        set(record["params"]) == {"state.state", "state.reason"} for record in stats["items"]
    )
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
    (linked,) = (
        int(line.split()[0], 16) for line in symbols.splitlines() if line.endswith(" t on_close")
    )
    close = run.call("virConnectRegisterCloseCallback")["args"]["cb"]
    # the program is mapped where its linked addresses say, but for the segments' padding
    headers = subprocess.check_output(["readelf", "-lW", program], text=True)
    loads = [line.split() for line in headers.splitlines() if line.split()[:1] == ["LOAD"]]
    offset = next(
        linked - int(load[2], 16) + int(load[1], 16)
        for load in loads
        if 0 <= linked - int(load[2], 16) < int(load[5], 16)
    )
    assert close == {"pointer": static, "name": f"{program.name}+{offset:#x}"}


def test_what_was_not_found_was_not_written(traced, caller):
    """And a call that no event loop takes is nobody's failure."""
    run = traced(caller("found"), options=("-a",))
    outs = [
        (call["function"], call["out"])
        for call in run.calls()
        if call["function"].startswith("virTypedParamsGet")
    ]
    assert outs == [
        ("virTypedParamsGetInt", {}),
        ("virTypedParamsGetString", {}),
        ("virTypedParamsGetInt", {"value": 23}),
    ]
    added = run.call("virEventAddTimeout")
    assert (added["ret"], added["failed"], added["error"]) == (-1, False, None)
