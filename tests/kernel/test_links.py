# SPDX-License-Identifier: LGPL-2.1-or-later
"""One program for entries and returns tells of ordinary programs what two do, and what probes on
the instructions that return do: no call, result, error or duration less.
"""

from __future__ import annotations

from collections import Counter

import pytest

from probes.kernel.loading.features import TWO_LINKS, has_session
from tests.kernel.conftest import CALLS, Run
from tests.needs import PYTHON

# calls from the callbacks of events and timers, in the loop of libvirt's own
EVENTS = """
import libvirt, sys
libvirt.virEventRegisterDefaultImpl()
calls = int(sys.argv[1])
connection, seen = libvirt.open("test:///default"), []
domain = connection.lookupByName("test")
def changed(connection, domain, *_):
    seen.append((domain.name(), domain.info(), connection.numOfDomains()))
def later(timer, _):
    seen.append(connection.getHostname())
    libvirt.virEventRemoveTimeout(timer)
connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, changed, None)
for _ in range(calls):
    domain.suspend()
    domain.resume()
    libvirt.virEventAddTimeout(0, later, None)
while len(seen) < 3 * calls:
    libvirt.virEventRunDefaultImpl()
print(len(seen))
"""
COMMANDS = (
    "list --all; domstats; dumpxml test; suspend test; resume test; dominfo nosuch; net-list; "
    "pool-list --details; vol-list default-pool"
)
MADE = {
    "virDomainGetInfo": 2 * CALLS,
    "virConnectNumOfDomains": 2 * CALLS,
    "virConnectGetHostname": CALLS,
    "virDomainSuspend": CALLS,
}

pytestmark = pytest.mark.skipif(not has_session(), reason="before Linux 6.13 there are two links")


def told(run: Run) -> Counter[tuple[object, ...]]:
    """How often which functions were called, at which depth, and how that ended."""
    for call in run.calls():
        assert call["type"] != "call" or call["duration_ns"] > 0
    return Counter(
        (call["function"], call["depth"], call.get("reason"), (call.get("error") or {}).get("name"))
        for call in run.calls()
    )


def made(run: Run) -> Counter[str]:
    """How often which functions were called."""
    return Counter(call["function"] for call in run.calls())


@pytest.mark.parametrize(
    ("program", "options"),
    # virsh calls its plumbing from its error handler
    [("events", ()), ("events", ("-a", "--nested")), ("virsh", ())],
    ids=["events", "events-all", "virsh"],
)
def test_all_kinds_tell_the_same(
    traced, monkeypatch: pytest.MonkeyPatch, program: str, options: tuple[str, ...]
) -> None:
    events = (PYTHON, "-c", EVENTS, CALLS)
    command = (
        events
        if program == "events"
        else ("sh", "-c", 'virsh -q -c test:///default "$0" >&2; true', COMMANDS)
    )
    session = traced(*command, options=options)
    monkeypatch.setenv(TWO_LINKS, "1")
    pair = traced(*command, options=("--returns", *options))  # whatever else runs here
    instructions = traced(*command, options=options)
    links = [
        next(event["link"] for event in run.result.events if event["type"] == "attached")
        for run in (session, pair, instructions)
    ]
    assert links[0] == "uprobe_session" and set(links[1:]) <= {"uprobe_multi", "perf_event"}
    assert told(session) == told(pair)
    if "-a" in options:  # some of the plumbing goes on in other functions, and returns there
        assert made(session) == made(instructions)
    else:
        assert told(session) == told(instructions)
    if program == "events":
        done = Counter(
            call["function"]
            for call in session.calls()
            if call["depth"] == 0 and call["type"] == "call"
        )
        assert {name: done[name] for name in MADE} == MADE
    else:
        assert {call["function"] for call in session.calls()} >= {
            "virDomainLookupByName",
            "virDomainGetXMLDesc",
            "virDomainSuspend",
        }
