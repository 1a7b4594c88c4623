# SPDX-License-Identifier: LGPL-2.1-or-later
"""A libvirtd of another release, in a root of its own: whom it makes calls for, and what caused
them, is known all the same.
"""

import os
import subprocess
from pathlib import Path

# libvirtd 7.0 dies where there is no user for its guests, whom no package of its has added here
BEGIN = r"""
grep -q ^libvirt-qemu: /etc/passwd || {
    echo libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin >>/etc/passwd
    echo libvirt-qemu:x:64055: >>/etc/group
}
mkdir /tmp/sockets
cat >/tmp/sockets/libvirtd.conf <<END
unix_sock_dir = "/tmp/sockets"
auth_unix_rw = "none"
auth_unix_ro = "none"
END
libvirtd --config /tmp/sockets/libvirtd.conf --pid-file /tmp/sockets/pid -d 2>/dev/null
trap 'kill $(cat /tmp/sockets/pid)' EXIT
until [ -S /tmp/sockets/libvirt-sock ]; do sleep 0.1; done
"""
SERVE = (
    BEGIN
    + r"""
HOME=/tmp setpriv --reuid=65534 --clear-groups \
    virsh -r -c 'test+unix:///default?socket=/tmp/sockets/libvirt-sock-ro' domstate test
virsh -c 'test+unix:///default?socket=/tmp/sockets/libvirt-sock' 'suspend test; destroy nosuch'
"""
)
# as a package does it; the daemon goes on with the file that has gone
UPGRADED = (
    BEGIN
    + r"""
file=$(readlink -f /usr/lib/*/libvirt.so.0)
cp -p "$file" "$file.new"
mv "$file.new" "$file"
echo $(cat /tmp/sockets/pid)
read -r line
virsh -c 'test+unix:///default?socket=/tmp/sockets/libvirt-sock' 'suspend test; destroy nosuch'
"""
)


OPENED = ("virConnectOpen", "virConnectOpenAuth")  # what 7.0 makes of the latter


def test_calls_of_a_daemon_are_linked(trace, release):
    result = trace(
        *("--both", "--library", str(release.installed), "--"),
        *(*release.entering, "sh", "-euc", SERVE),
        attached=False,
    ).finish(60)
    assert "Domain 'test' suspended" in result.output
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
    } == {(0, "root", None if release.version == "7.0.0" else False)}
    origins = {call["id"]: call for call in result.calls() if call["pid"] == suspend["pid"]}
    names = [(call["function"], origins[call["parent"]]["function"]) for call in served]
    others = {pair for pair in names if pair[0] != pair[1]}
    assert others == ({OPENED} if release.version == "7.0.0" else set())
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
    readonly = None if release.version == "7.0.0" else True  # it keeps that elsewhere
    assert (state["client"]["readonly"], state["client"]["address"]) == (readonly, None)


def test_a_daemon_that_was_upgraded_while_it_runs(trace, release):
    with subprocess.Popen(
        [*release.entering, "sh", "-euc", UPGRADED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as shell:
        assert shell.stdin and shell.stdout
        pid = int(shell.stdout.readline())
        library = os.path.realpath(release.installed)
        mapped = Path(f"/proc/{pid}/maps").read_text()
        assert f"{os.path.basename(library)} (deleted)" in mapped
        tracer = trace("-p", str(pid))
        shell.stdin.write("\n")
        shell.stdin.close()
        assert "Domain 'test' suspended" in shell.stdout.read()
    calls = [call for call in tracer.stop().calls() if "Domain" in call["function"]]
    assert [(call["function"], call["failed"]) for call in calls] == [
        ("virDomainLookupByName", False),
        ("virDomainSuspend", False),
        ("virDomainLookupByName", True),
    ]
    assert calls[1]["args"]["domain"]["name"] == "test"
    assert {call["client"]["user"] for call in calls} == {"root"}
