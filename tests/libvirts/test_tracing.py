# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host tracer sees programs of another libvirt, in a mount namespace of their own, and
decodes what they do.
"""

import json

import pytest

from tests.needs import PATIENCE, ROOT

FAILURES = ROOT / "tests" / "kernel" / "failures.py"
LIBRARY = "libvirt.so.0.11003.0"
DOMAIN = {"type": "domain", "name": "test", "driver": "Test"}


def of_trixie(event):
    return event["type"] == "attached" and any(
        target["path"].endswith(LIBRARY) for target in event["targets"]
    )


@pytest.fixture
def noticed(trace, trixie):
    """A tracer that has attached to the other root's library, because a process there loaded it
    and stays.
    """
    tracer = trace("--json")
    process = trixie.start("python3", "-c", "import libvirt, time; time.sleep(600)")
    try:
        event = tracer.wait_for(of_trixie)
    finally:
        process.kill()
        process.communicate()
    assert [
        target["libvirt"] for target in event["targets"] if target["path"].endswith(LIBRARY)
    ] == ["11.3.0"]
    assert all(target.get("note") is None for target in event["targets"]), "its objects can be read"
    return tracer


def test_virsh_of_another_release_is_decoded(noticed, trixie):
    done = trixie.run("virsh", "-c", "test:///default", "suspend test; resume test; destroy nosuch")
    assert "Domain 'test' suspended" in done.stdout
    noticed.wait_for(
        lambda event: event.get("function") == "virDomainLookupByName" and event["failed"]
    )
    result = noticed.stop()

    suspend, resume = result.calls("virDomainSuspend")[-1], result.calls("virDomainResume")[-1]
    for call in (suspend, resume):
        assert call["args"]["domain"].items() >= DOMAIN.items()
        assert (call["ret"], call["failed"], call["comm"], call["exe"]) == (
            0,
            False,
            "virsh",
            "/usr/bin/virsh",
        )
    failed = result.calls("virDomainLookupByName")[-1]
    assert (failed["args"]["name"], failed["ret"], failed["error"]["name"]) == (
        "nosuch",
        None,
        "VIR_ERR_NO_DOMAIN",
    )
    assert failed["error"]["message"].startswith("Domain not found")


def test_python_of_another_release_is_decoded(noticed, trixie):
    program = """
import libvirt
connection = libvirt.open("test:///default")
domain = connection.lookupByName("test")
for _ in range(23):
    domain.info()
print(domain.UUIDString(), connection.getURI())
"""
    done = trixie.run("python3", "-c", program)
    uuid, uri = done.stdout.split()
    noticed.wait_for(lambda event: event.get("function") == "virDomainGetInfo", count=23)
    result = noticed.stop()

    calls = result.calls("virDomainGetInfo")
    assert len(calls) == 23
    assert {call["args"]["domain"]["uuid"] for call in calls} == {uuid}
    opened = result.calls("virConnectOpen")[-1]
    assert (opened["ret"]["uri"], opened["ret"]["driver"]) == (uri, "Test")


def test_errors_are_those_that_the_program_is_told_of(trace, trixie):
    """Word for word: libvirt's formats have positions there, "Domain not found: %1$s"."""
    tracer = trace("--no-redact", "-x", "-s", "4096")
    first = trixie.start("python3", "-c", "import libvirt, time; time.sleep(600)")
    try:
        tracer.wait_for(of_trixie)
        process = trixie.start("python3", "-c", FAILURES.read_text())
        told, _ = process.communicate(timeout=60 * PATIENCE)
    finally:
        first.kill()
        first.communicate()
    expected = [tuple(json.loads(line)) for line in told.splitlines()]
    assert len(expected) > 100
    result = tracer.stop(lost=None)
    seen = [
        (call["error"]["code"], call["error"]["message"])
        for call in result.calls(pid=process.pid)
        if call["error"]
    ]
    assert seen == expected
