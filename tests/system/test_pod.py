# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirtd and QEMU in a pod, as KubeVirt's virt-launcher has them, traced from the host: numbers
of processes are the host's, also of clients that have gone; the container is named; a client that
the daemon can't know has no number.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cgroups import remove, root_of_all
from tests.daemon import Daemon
from tests.needs import PATIENCE, PYTHON, ROOT

ID = os.urandom(32).hex()
POD = f"kubepods-burstable-pod{os.getpid()}.slice"
PLACE = f"kubepods-test-{os.getpid()}.slice/{POD}/cri-containerd-{ID}.scope"
JOIN = ("sh", "-eu", "-c", 'echo $$ >"$0/cgroup.procs"; exec "$@"')
NAMESPACES = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
# as init it waits for all: a QEMU that nobody waits for is one that does not go away
LAUNCHER = """
import os, subprocess, sys
daemon = subprocess.Popen(sys.argv[1:])
while os.wait()[0] != daemon.pid:
    pass
"""


class Pod(Daemon):
    """A daemon in a pid namespace and a cgroup of its own, below an init."""

    def __init__(self, cgroup: Path) -> None:
        self._cgroup = cgroup
        super().__init__()

    def _start(self, *command: str, fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        before = (*JOIN, str(self._cgroup), *NAMESPACES, PYTHON, "-c", LAUNCHER)
        return super()._start(*before, *command, fds=fds)

    def _find_pid(self) -> int:
        (init,) = children(self._process.pid)
        return children(init)[0]

    def stop(self) -> None:
        """unshare heeds no SIGTERM; with it all in the pod end."""
        self._process.kill()
        super().stop()

    def inside(self, *command: str) -> None:
        """Runs the command in the pod."""
        enter = ("nsenter", f"--target={self.pid}", "--pid", "--mount")
        subprocess.run(
            [*JOIN, str(self._cgroup), *enter, *command],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60 * PATIENCE,
        )


def children(pid: int) -> list[int]:
    """Of its main thread, the oldest first."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def pod() -> Iterator[Pod]:
    """The pod's daemon."""
    cgroup = root_of_all() / PLACE
    cgroup.mkdir(parents=True)
    try:
        with Pod(cgroup) as daemon:
            yield daemon
    finally:
        remove(cgroup)
        for folder in list(cgroup.parents)[:2]:
            folder.rmdir()


def test_daemon_and_guest_in_a_pod_are_seen_from_the_host(pod, trace):
    functions = ("virDomainSuspend", "virDomainResume", "virDomainDestroy")
    name = f"in-a-pod-{os.getpid()}"  # others have guests meanwhile
    guest = pod.create(name)
    tracer = trace("--both", "-w", "--object", name)
    pod.inside("virsh", "-q", "-c", pod.uri, "suspend", name)
    pod.virsh("resume", name)  # from outside: the kernel gives the daemon no number for it
    pod.inside("virsh", "-q", "-c", pod.uri, "destroy", name)
    result = tracer.stop()
    for function in functions:
        made, served = sorted(result.calls(function), key=lambda call: call["pid"] == pod.pid)
        assert (made["comm"], served["pid"], served["container"]) == ("virsh", pod.pid, ID)
        is_inside = function != "virDomainResume"
        assert made["container"] == (ID if is_inside else None)
        assert served["parent"] == (made["id"] if is_inside else None)
        assert served["client"]["peer"]["pid"] == (made["pid"] if is_inside else None)
        assert served["client"]["user"] == "root"
    (stopped,) = (event for event in result.events if event.get("event") == "stopped")
    assert (stopped["container"], stopped["qemu_pid"]) == (ID, guest.pid)
    assert stopped["parent"] == result.calls("virDomainDestroy", pod.pid)[0]["id"]


def test_ps_names_the_pod_and_the_host_s_numbers(pod):
    command = (PYTHON, "-E", "-s", str(ROOT / "tracer.py"), "ps", "--json")
    rows = map(json.loads, subprocess.check_output(command, timeout=60 * PATIENCE).splitlines())
    (row,) = (row for row in rows if row.get("pid") == pod.pid)
    assert (row["comm"], row["container"]) == ("libvirtd", ID)
