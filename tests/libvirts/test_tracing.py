# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host tracer sees programs of another libvirt, in a mount namespace of their own, and
decodes what they do.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needs import ROOT

FAILURES = ROOT / "tests" / "kernel" / "failures.py"
DOMAIN = {"type": "domain", "name": "test", "driver": "Test"}
# of libvirt 7.0
NO_PLACES = "clients' addresses, and which are read-only, can't be told"
CALLS = """
import libvirt
connection = libvirt.open("test:///default")
domain = connection.lookupByName("test")
for _ in range(23):
    domain.info()
print(domain.UUIDString(), connection.getURI())
"""


@pytest.fixture
def traced(trace, release):
    """traced(COMMAND...): runs it in the other root as the tracer's command; what it loads there
    is attached to before.
    """

    def run(*command: str, options: tuple[str, ...] = ()):
        before = ("--library", str(release.installed), "--", *release.entering)
        result = trace(*options, *before, *command, attached=False).finish(60, lost=None)
        (target,) = (
            target
            for event in result.events
            if event["type"] == "attached"
            for target in event["targets"]
            if target["path"] == str(release.installed)
        )
        note = NO_PLACES if release.version == "7.0.0" else None
        assert (target["libvirt"], target.get("note")) == (release.version, note)
        assert result.end["lost"] == 0
        return result

    return run


def test_virsh_of_another_release_is_decoded(traced):
    result = traced("virsh", "-c", "test:///default", "suspend test; resume test; destroy nosuch")
    assert "Domain 'test' suspended" in result.output
    (suspend,), (resume,) = map(result.calls, ("virDomainSuspend", "virDomainResume"))
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


def test_python_of_another_release_is_decoded(traced):
    result = traced("python3", "-c", CALLS)
    ((uuid, uri),) = (line.split() for line in result.output)
    calls = result.calls("virDomainGetInfo")
    assert len(calls) == 23
    assert {call["args"]["domain"]["uuid"] for call in calls} == {uuid}
    (opened,) = result.calls("virConnectOpen")
    assert (opened["ret"]["uri"], opened["ret"]["driver"]) == (uri, "Test")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A file that has the same name in every root."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        yield Path(file.name)


def test_errors_are_those_that_the_program_is_told_of(traced, shared):
    """Word for word: newer formats have positions, "Domain not found: %1$s"."""
    result = traced(
        *("sh", "-c", 'exec python3 -c "$0" >"$1"', FAILURES.read_text(), str(shared)),
        options=("--no-redact", "-x", "-s", "4096"),
    )
    expected = [tuple(json.loads(line)) for line in shared.read_text().splitlines()]
    assert len(expected) > 100
    seen = [
        (call["error"]["code"], call["error"]["message"])
        for call in result.calls()
        if call["error"]
    ]
    assert seen == expected
