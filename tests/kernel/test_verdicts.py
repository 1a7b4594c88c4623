# SPDX-License-Identifier: LGPL-2.1-or-later
"""Verdicts in the log, in order among the calls; and calls that a policy covers but nobody
judged.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.enforced import COMMAND, KEEP_TEST, enforced_environment, library, put
from tests.needs import PYTHON
from tests.readme import without_sessions

VIRSH = ("virsh", "-q", "-c", "test:///default")
BYPASS = """
import ctypes, sys
library = ctypes.CDLL("libvirt.so.0")
find = ctypes.CDLL(None).dlvsym
find.restype = ctypes.c_void_p
def call(name, *arguments):
    function = ctypes.CFUNCTYPE(ctypes.c_void_p, *[ctypes.c_void_p] * len(arguments))
    return function(find(ctypes.c_void_p(library._handle), name, b"LIBVIRT_0.0.3"))(*arguments)
connection = call(b"virConnectOpen", b"test:///default")
domain = call(b"virDomainLookupByName", connection, b"test")
print(call(b"virDomainSuspend", domain) or 0, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def policy_file(tmp_path):
    library()
    path = tmp_path / "policy.toml"
    path.write_text(
        KEEP_TEST + '[[rule]]\nname = "look"\naction = "audit"\nfunction = "virDomainReboot"\n'
        '[[rule]]\nname = "find"\naction = "allow"\nfunction = "virDomainLookupByName"\n'
    )
    return path


def test_denied_call_is_an_event_with_all_its_arguments(trace, policy_file):
    words = ("suspend test; reboot test; resume test",)
    result = trace(
        "-f",
        "virDomain*",
        "-f",
        "!*Free",
        "--",
        *COMMAND,
        "enforce",
        "--policy",
        str(policy_file),
        "--",
        *VIRSH,
        *words,
        attached=False,
    ).finish()
    calls = result.calls()
    assert [(call["type"], call["function"]) for call in calls] == [
        ("call", "virDomainLookupByName"),
        ("verdict", "virDomainSuspend"),
        ("call", "virDomainLookupByName"),
        ("call", "virDomainReboot"),
        ("call", "virDomainLookupByName"),
        ("call", "virDomainResume"),
    ]
    found, denied, _, rebooted, _, resumed = calls
    assert found["verdict"] == {"action": "allow", "rule": "find"}
    assert rebooted["verdict"] == {"action": "audit", "rule": "look"}
    assert resumed["verdict"] is None
    assert denied["args"] == {"domain": found["ret"]}
    assert (
        denied["ret"],
        denied["failed"],
        denied["duration_ns"],
        denied["depth"],
        denied["write"],
    ) == (-1, True, None, 0, True)
    assert denied["error"] == {
        "code": 88,
        "name": "VIR_ERR_ACCESS_DENIED",
        "domain": "VIR_FROM_ACCESS",
        "message": "access denied: ask the on-call engineer",
    }
    assert (denied["action"], denied["rule"], denied["message"]) == (
        "deny",
        "keep-test",
        "ask the on-call engineer",
    )
    assert found["time"] < denied["time"] < rebooted["time"]
    # a running domain is not resumed
    assert (result.end["calls"], result.end["denied"], result.end["failed"]) == (6, 1, 1)


def test_text_form(policy_file):
    words = (
        "-f",
        "virDomainSuspend",
        "-f",
        "virDomainReboot",
        "--",
        *COMMAND,
        "enforce",
        "--policy",
        str(policy_file),
        "--",
    )
    done = subprocess.run(
        [*COMMAND, *words, *VIRSH, ("suspend test; reboot test")],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    shown = without_sessions(done.stdout).splitlines()
    lines = [line.split(" root ", 1)[1] for line in shown if " root " in line]
    assert lines[0] == 'virDomainSuspend(domain=test) = -1 DENIED by rule "keep-test"'
    assert lines[1].startswith("virDomainReboot(domain=test, flags=0) = 0 <") and lines[1].endswith(
        '> AUDITED by rule "look"'
    )
    assert "2 calls, 0 failed, 1 denied, 0 lost" in done.stderr


def test_filters_apply_to_verdicts(trace, policy_file):
    command = (*COMMAND, "enforce", "--policy", str(policy_file), "--", *VIRSH, "suspend test")
    for options, expected in (
        (("-x",), 1),
        (("--object", "te*"), 1),
        (("--object", "web*"), 0),
        (("-f", "virNetwork*"), 0),
        (("-w",), 1),
    ):
        result = trace(*options, "--", *command, attached=False).finish()
        assert result.end["denied"] == expected, options


def test_call_past_the_enforcer_is_marked(trace, policy_file, tmp_path):
    """A client that finds libvirt's functions itself, in a way that isn't led to the library,
    and has never met a stub.
    """
    put(tmp_path / "policy.bin", policy_file.read_text())
    tracer = trace("-f", "virDomainSuspend")
    environment = enforced_environment(tmp_path / "policy.bin")
    client = subprocess.Popen(
        [PYTHON, "-c", BYPASS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert client.stdin and client.stdout
    assert client.stdout.readline() == "0\n"
    call = tracer.wait_for(lambda event: event["type"] == "call" and event["pid"] == client.pid)
    client.stdin.close()
    client.wait()
    client.stdout.close()
    tracer.stop()
    assert call["verdict"] == {"action": "not enforced", "rule": None}


def test_policy_that_cannot_be_read_is_told(trace, tmp_path):
    broken = tmp_path / "policy.bin"
    broken.write_bytes(b"x" * 500)
    tracer = trace("-f", "virConnectOpenAuth", "-f", "virDomainSuspend")
    client = subprocess.Popen(
        [*VIRSH, "suspend", "test"], env=enforced_environment(broken), stdout=subprocess.DEVNULL
    )
    assert client.wait() == 0
    opened, suspended = tracer.stop().calls(pid=client.pid)
    said = {"action": "not enforced", "rule": None, "note": f"{broken}: it is no compiled policy"}
    assert opened["verdict"] == suspended["verdict"] == said


@pytest.mark.parametrize("traced", [False, True])
def test_verdicts_are_the_same_with_and_without_a_tracer(caller, trace, tmp_path, traced):
    """Under return probes a call returns to the kernel's page: neither a callback's tail call
    nor libvirt's own may be mistaken.
    """
    policy = put(
        tmp_path / "policy.bin",
        '[[rule]]\nname = "linux"\naction = "allow"\nfunction = "virDomainCreateLinux"\n'
        '[[rule]]\nname = "resume"\naction = "deny"\nfunction = ["virDomainResume", '
        '"virDomainCreateXML"]\n',
    )
    if traced:
        tracer = trace()
    pids = {}
    for program, expected in (("event_denied", "denied\n"), ("tail_inside", "")):
        with subprocess.Popen(
            [caller(program)], env=enforced_environment(policy), stdout=-1, stderr=-1, text=True
        ) as client:
            assert client.communicate() == (expected, "")
        assert client.returncode == 0
        pids[program] = client.pid
    if traced:
        result = tracer.stop()
        assert len(result.calls("virDomainCreateLinux", pids["tail_inside"])) == 23
        assert result.calls("virDomainCreateXML", pids["tail_inside"]) == []
        assert [call["type"] for call in result.calls("virDomainResume", pids["event_denied"])] == [
            "verdict"
        ]


DENIED = """
import libvirt
connection = libvirt.open("test:///default")
domain = connection.lookupByName("test")
xml = "<domain type='test'><name>%s</name></domain>" % ("x" * 3000)
limits = {"hard_limit": 1 << 30, "soft_limit": 77}
limit = lambda: domain.setMemoryParameters(limits)
for call in (limit, lambda: connection.defineXML(xml), domain.shutdown):
    try:
        call()
    except libvirt.libvirtError as error:
        assert error.get_error_code() == libvirt.VIR_ERR_ACCESS_DENIED
"""


def test_lists_and_long_documents_of_denied_calls_are_whole(trace, policy_file):
    policy_file.write_text('[[rule]]\nname = "none"\naction = "deny"\nclass = "write"\n')
    command = (*COMMAND, "enforce", "--policy", str(policy_file), "--", PYTHON, "-c", DENIED)
    calls = trace("-s", "4096", "-w", "--", *command, attached=False).finish().calls()
    assert [(call["type"], call["function"]) for call in calls] == [
        ("verdict", "virDomainSetMemoryParameters"),
        ("verdict", "virDomainDefineXML"),
        ("verdict", "virDomainShutdown"),
    ]
    parameters, defined, _ = (call["args"] for call in calls)
    assert parameters["params"] == {"hard_limit": 1 << 30, "soft_limit": 77}
    assert defined["xml"] == f"<domain type='test'><name>{'x' * 3000}</name></domain>"


# a library of libvirt's name for the host's libvirt-qemu.so.0, with a function that a later release
# might bring
LATER = "int virDomainLater(void) { return 23; }\nint virDomainLaterFree(void) { return 0; }\n"
CALL_LATER = """
import ctypes, libvirt, sys
connection = libvirt.open("test:///default")
library = ctypes.CDLL(sys.argv[1])
print(library.virDomainLater(), library.virDomainLaterFree(), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ('class = "write"', {"action": ("not enforced"), "rule": None}),
        ('function = "virDomainSuspend"', None),
    ],
    ids=["whatever changes something", "one function"],
)
def test_function_that_the_enforcer_has_no_stub_for_is_marked_where_everything_is_meant(
    trace, tmp_path, rule, verdict
):
    (tmp_path / "later.c").write_text(LATER)
    (tmp_path / "later.map").write_text("LIBVIRT_QEMU_99.0.0 { global: virDomain*; };\n")
    later = tmp_path / "libvirt-qemu.so.0"
    link = [
        "-shared",
        "-fPIC",
        "-Wl,-soname,libvirt-qemu.so.0",
        f"-Wl,--version-script={tmp_path}/later.map",
    ]
    subprocess.run(["gcc", *link, "-o", later, tmp_path / "later.c"], check=True)
    put(tmp_path / "policy.bin", f'[[rule]]\nname = "a"\naction = "deny"\n{rule}\n')
    tracer = trace("--all", "-n", "python3", "--library", str(later))
    environment = enforced_environment(tmp_path / "policy.bin")
    client = subprocess.Popen(
        [PYTHON, "-c", CALL_LATER, later],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert client.stdin and client.stdout
    assert client.stdout.readline() == "23 0\n"
    call = tracer.wait_for(
        lambda event: event.get("function") == "virDomainLater" and event["pid"] == client.pid
    )
    client.stdin.close()
    client.wait()
    client.stdout.close()
    assert call["verdict"] == verdict
    assert [free["verdict"] for free in tracer.stop().calls("virDomainLaterFree", client.pid)] == [
        None
    ]
