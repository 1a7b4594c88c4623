# SPDX-License-Identifier: LGPL-2.1-or-later
"""A 32-bit program: its calls, results and durations are shown, its arguments are said to be
unreadable, and nothing is misread.
"""

from __future__ import annotations

NOTE = "it is a 32-bit library, whose arguments and objects can't be read"
COMMANDS = "list; suspend test; destroy nosuch; dumpxml test"
ADDRESS = "an address"
# what virsh calls for these, and what comes of it
CALLS = [
    ("virConnectListAllDomains", 1),
    ("virDomainGetID", 1),
    ("virDomainGetState", 0),
    ("virDomainGetName", ADDRESS),
    ("virDomainLookupByName", ADDRESS),
    ("virDomainSuspend", 0),
    ("virDomainLookupByName", None),
    ("virDomainLookupByName", ADDRESS),
    ("virDomainGetXMLDesc", ADDRESS),
]


def is_attached(event) -> bool:
    return event["type"] == "attached" and any(
        "i386-linux-gnu/libvirt.so" in target["path"] for target in event["targets"]
    )


def test_calls_of_a_32bit_program(trace, i386):
    tracer = trace("-n", "virsh")
    process = i386.start("virsh", "-c", "test:///default", "event --all --loop --timeout 600")
    try:
        event = tracer.wait_for(is_attached)
    finally:
        process.kill()
        process.communicate()
    assert [target["note"] for target in event["targets"]] == [NOTE]
    done = i386.run("virsh", "-c", "test:///default", COMMANDS)
    assert "Domain 'test' suspended" in done.stdout
    calls = [call for call in tracer.stop().calls() if COMMANDS in (call["cmdline"] or ())]
    assert {(call["type"], str(call["args"]), call["depth"], call["uid"]) for call in calls} == {
        ("call", "{}", 0, 0)
    }
    assert all(call["duration_ns"] > 0 for call in calls)
    domain = [call for call in calls if "Domain" in call["function"]]
    assert [
        (call["function"], ADDRESS if isinstance(call["ret"], dict) else call["ret"])
        for call in domain
    ] == CALLS
    assert [call["failed"] for call in domain] == [result is None for _, result in CALLS]
