# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a daemon is: the enforcer and the tracer say the same, going by the program's imports,
not by its name or its modules.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from probes.host.daemons.programs import Daemons
from tests.enforced import enforced_environment, put

POLICY = '[[rule]]\nname = "none"\naction = "deny"\nclass = "write"\n'


@pytest.mark.parametrize(
    "flags", [(), ("-Wl,--hash-style=sysv",), ("-no-pie", "-Wl,-z,lazy"), ("-Wl,-z,now", "-O0")]
)
@pytest.mark.parametrize(("name", "imports"), [("libvirtd", False), ("anything", True)])
def test_enforcer_and_tracer_agree_also_after_an_upgrade(caller, tmp_path, flags, name, imports):
    program = tmp_path / name
    shutil.copy(caller("daemon", *(("-DDAEMON",) if imports else ()), *flags), program)
    policy = put(tmp_path / "policy.bin", POLICY)
    running = subprocess.Popen(
        [program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=enforced_environment(policy),
    )
    assert running.stdin and running.stdout
    try:
        assert running.stdout.readline() == ("daemon\n" if imports else "program\n")
        daemons = Daemons()
        assert daemons.is_daemon(running.pid) is imports
        program.unlink()
        assert os.readlink(f"/proc/{running.pid}/exe").endswith(" (deleted)")
        assert daemons.is_daemon(running.pid) is Daemons().is_daemon(running.pid) is imports
    finally:
        running.stdin.close()
        assert running.wait() == 0
        running.stdout.close()


def test_programs_of_libvirt(tmp_path):
    expected = {
        "libvirtd": True,
        "virtlogd": True,
        "virtlockd": True,
        "virsh": False,
        "virt-admin": False,
        "virt-qemu-run": False,
    }
    found = {}
    for number, name in enumerate(expected):
        if path := shutil.which(name):  # newer releases have packages of their own for some
            (tmp_path / str(number)).mkdir()
            (tmp_path / str(number) / "exe").symlink_to(Path(path).resolve())
            found[name] = Daemons(tmp_path).is_daemon(number)
    assert found.items() <= expected.items() and {"libvirtd", "virsh"} <= found.keys()


def test_nothing_is_read_twice(tmp_path, monkeypatch):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "exe").symlink_to("/bin/true")
    daemons = Daemons(tmp_path)
    assert daemons.is_daemon(7) is False
    monkeypatch.setattr(
        "probes.host.daemons.programs.imports", lambda *_: pytest.fail("read again")
    )
    assert daemons.is_daemon(7) is False
    assert daemons.is_daemon(8) is False
