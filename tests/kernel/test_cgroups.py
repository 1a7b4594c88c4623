# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cgroups by number, on the real file system of version 2."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.host.processes import cgroups
from probes.host.processes.callers import Captured, Processes
from tests.cgroups import root_of_all

ID = os.urandom(32).hex()  # of this run alone


@pytest.fixture
def folder() -> Iterator[Path]:
    """The cgroup of a made-up container."""
    path = root_of_all() / f"docker-{ID}.scope"
    path.mkdir()
    yield path
    if path.exists():
        path.rmdir()


def test_cgroup_is_found_by_its_number(folder):
    numbers = cgroups.Numbers()
    number = folder.stat().st_ino
    assert numbers.path(number) == f"/{folder.name}"
    folder.rmdir()
    assert numbers.path(number) is None
    assert numbers.path(0) is None
    assert numbers.path(1 << 63) is None
    before = set(os.listdir("/proc/self/fd"))
    numbers.close()
    assert len(set(os.listdir("/proc/self/fd"))) == len(before) - 1


def test_container_of_a_process_that_has_gone(folder):
    child = subprocess.Popen(["sleep", "60"])
    (folder / "cgroup.procs").write_text(str(child.pid))
    who = Processes()
    captured = Captured(
        child.pid, 1, 0, 0, None, folder.stat().st_ino, 0, b"sleep\0" + b"60\0", "sleep", None
    )
    assert who.lookup(child.pid, None, captured).container == ID
    child.kill()
    child.wait()
    assert who.lookup(child.pid, None, captured).container == ID
    folder.rmdir()
    assert who.lookup(child.pid, None, captured).container == ID  # it was asked for before
    assert Processes().lookup(child.pid, None, captured).container is None


JOIN = ("sh", "-eu", "-c", 'echo $$ >"$0/cgroup.procs"; exec "$@"')
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def test_a_user_can_not_say_that_he_is_a_service_or_a_container(steps, trace):
    """systemd gives each user a cgroup, below which he makes what he likes; the first two names
    are those of others.
    """
    own = root_of_all() / f"user@{os.getpid()}.service"
    own.mkdir()
    os.chown(own, 65534, 65534)
    made = [own / "libvirtd.service", own / f"docker-{ID}.scope", own]
    callers = []
    try:
        subprocess.run([*AS_NOBODY, "mkdir", *made[:2]], check=True)
        callers = [steps(before=(*JOIN, str(path))) for path in made]
        tracer = trace(*[word for caller in callers for word in ("-p", str(caller.pid))])
        for caller in callers:
            caller.call(1)
        calls = tracer.stop().calls("virDomainGetName")
    finally:
        for caller in callers:
            caller.end()
        for path in made:
            path.rmdir()
    said = {call["pid"]: (call["unit"], call["container"]) for call in calls}
    assert said == {caller.pid: (own.name, None) for caller in callers}
