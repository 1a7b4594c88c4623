# SPDX-License-Identifier: LGPL-2.1-or-later
"""`make install` makes a command that works from anywhere, and `make uninstall` leaves no file behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

from probes.maps import ENFORCER
from tests.needs import ROOT


def make(*words: str) -> None:
    # nothing is installed with apt by a test
    subprocess.run(["make", "--no-print-directory", *words, "RUN_PACKAGES=", "BUILD_PACKAGES="], cwd=ROOT, check=True, capture_output=True)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_installed_command_runs_anywhere_and_uninstall_leaves_nothing(tmp_path):
    prefix, elsewhere = tmp_path / "prefix", tmp_path / "elsewhere"
    elsewhere.mkdir()

    make("install", f"PREFIX={prefix}")
    command = [prefix / "bin" / "libvirt-trace", "list", "virDomainSuspend"]
    printed = subprocess.check_output(command, cwd=elsewhere, text=True)
    (prefix / "lib" / "libvirt-trace" / "__pycache__").mkdir()  # as running it as root may leave behind
    make("uninstall", f"PREFIX={prefix}")

    assert printed == "write       virDomainSuspend(domain) = int\n"
    assert files_in(prefix) == set()


def test_everything_that_runs_is_installed(tmp_path):
    make("install", f"DESTDIR={tmp_path}")

    library = tmp_path / "usr/local/lib/libvirt-trace"
    sources = {f"{folder}/{name}" for folder in ("log", "probes") for name in files_in(ROOT / folder) if "__pycache__" not in name}
    enforcer = {f"enforcer/{path.name}" for path in (ROOT / "enforcer").glob("*.py")} | {f"enforcer/{ENFORCER}"}
    assert files_in(library) == {"tracer.py", *sources, *enforcer}
    assert files_in(tmp_path) - {f"usr/local/lib/libvirt-trace/{name}" for name in files_in(library)} == {
        "usr/local/bin/libvirt-trace",
        "usr/local/share/man/man8/libvirt-trace.8",
    }
