# SPDX-License-Identifier: LGPL-2.1-or-later
"""A libvirtd of another release, in a root of its own: whom it makes calls for, and what caused
them, is known all the same.
"""

SERVE = r"""
mkdir /tmp/sockets
cat >/tmp/sockets/libvirtd.conf <<END
unix_sock_dir = "/tmp/sockets"
auth_unix_rw = "none"
auth_unix_ro = "none"
END
libvirtd --config /tmp/sockets/libvirtd.conf --pid-file /tmp/sockets/pid -d 2>/dev/null
trap 'kill $(cat /tmp/sockets/pid)' EXIT
until [ -S /tmp/sockets/libvirt-sock ]; do sleep 0.1; done
setpriv --reuid=65534 --clear-groups \\
    virsh -r -c 'test+unix:///default?socket=/tmp/sockets/libvirt-sock-ro' domstate test
virsh -c 'test+unix:///default?socket=/tmp/sockets/libvirt-sock' 'suspend test; destroy nosuch'
"""


def test_calls_of_a_daemon_are_linked(trace, trixie):
    tracer = trace(
        "-n",
        "virsh",
        "-n",
        "libvirtd",
        "--library",
        str(trixie.path / "usr/lib/x86_64-linux-gnu/libvirt.so.0"),
    )
    done = trixie.run("sh", "-euc", SERVE)
    assert "Domain 'test' suspended" in done.stdout
    result = tracer.stop()
    (suspend,) = (
        call
        for call in result.calls("virDomainSuspend")
        if call["comm"] == "virsh" and call["client"] is None
    )
    served = [
        call
        for call in result.calls()
        if call["client"] and call["client"].get("pid") == suspend["pid"]
    ]
    assert {
        (call["client"]["uid"], call["client"]["user"], call["client"]["readonly"])
        for call in served
    } == {(0, "root", False)}
    origins = {call["id"]: call for call in result.calls() if call["pid"] == suspend["pid"]}
    names = [(call["function"], origins[call["parent"]]["function"]) for call in served]
    assert all(mine == theirs for mine, theirs in names)
    assert [mine for mine, _ in names if "Domain" in mine] == [
        "virDomainLookupByName",
        "virDomainSuspend",
        "virDomainLookupByName",
    ]
    (paused,) = (
        event
        for event in result.events
        if event["type"] == "domain" and event["parent"] in {call["id"] for call in served}
    )
    assert (paused["event"], paused["detail"], paused["domain"]["name"]) == (
        "suspended",
        "paused",
        "test",
    )
    (state,) = (
        call
        for call in result.calls("virDomainGetState")
        if call["client"] and call["client"].get("uid") == 65534
    )
    assert (state["client"]["readonly"], state["client"]["address"]) == (True, None)
