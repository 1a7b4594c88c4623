# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that the loader would not preload into are refused, and others' preloads stay."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from enforcer.launch import command
from log.errors import TraceError

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/libvirt.so.0")  # any of this host's


def test_other_preloaded_libraries_stay_behind_the_enforcer(monkeypatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", f"/a.so {LIBRARY}:/b.so")
    found = command.environment(LIBRARY, Path("/p.bin"), "deny")
    assert found == {
        "LD_PRELOAD": f"{LIBRARY}:/a.so:/b.so",
        "LIBVIRT_TRACE_POLICY": "/p.bin",
        "LIBVIRT_TRACE_ON_ERROR": "deny",
    }
    assert "LIBVIRT_TRACE_POLICY" not in command.environment(LIBRARY, None, "allow")


@pytest.fixture
def program(tmp_path) -> Path:
    return Path(shutil.copy("/usr/bin/true", tmp_path / "program"))


def test_a_dynamic_program_is_taken_and_a_script_by_its_interpreter(program, tmp_path) -> None:
    script, plain = tmp_path / "script", tmp_path / "plain"
    script.write_bytes(b"#!%b -x\n" % os.fsencode(program))
    plain.write_text("echo hi\n")
    for path in (program, script, plain):
        command.check_program(path, LIBRARY)
    program.chmod(0o4755)
    with pytest.raises(TraceError, match="set-uid or set-gid"):
        command.check_program(script, LIBRARY)


def test_a_static_program_is_refused(tmp_path) -> None:
    source, path = tmp_path / "x.c", tmp_path / "static"
    source.write_text("int main(void) { return 0; }")
    subprocess.run(["gcc", "-static", "-o", path, source], check=True)
    with pytest.raises(TraceError, match="it is static"):
        command.check_program(path, LIBRARY)


def test_what_is_not_there_can_not_be_started(tmp_path) -> None:
    with pytest.raises(TraceError, match=r"can't start .*: No such file"):
        command.check_program(tmp_path / "nothing", LIBRARY)
    with pytest.raises(TraceError, match="can't start libvirt-trace-nosuch"):
        command.run(["libvirt-trace-nosuch"], None, "allow")


def test_a_library_that_the_loader_refuses_is_refused(tmp_path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    with pytest.raises(TraceError, match="can't be preloaded here"):
        command.check_library(broken)
    command.check_library(LIBRARY)
