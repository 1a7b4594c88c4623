# SPDX-License-Identifier: LGPL-2.1-or-later
"""`make install` makes a command that works from anywhere, and `make uninstall` leaves no file
behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from probes.host.looking.maps import ENFORCER
from tests.needs import PYTHON, ROOT, lack


def make(*words: str, umask: int = 0o022) -> None:
    # nothing is installed with apt by a test
    subprocess.run(
        ["make", "--no-print-directory", *words, "RUN_PACKAGES=", "BUILD_PACKAGES="],
        cwd=ROOT,
        check=True,
        capture_output=True,
        umask=umask,
    )


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_installed_command_runs_anywhere_and_uninstall_leaves_nothing(tmp_path):
    prefix, elsewhere = tmp_path / "prefix", tmp_path / "elsewhere"
    elsewhere.mkdir()

    make("install", f"PREFIX={prefix}")
    command = [prefix / "bin" / "libvirt-trace", "list", "virDomainSuspend"]
    printed = subprocess.check_output(command, cwd=elsewhere, text=True)
    # as running it as root may leave behind
    (prefix / "lib" / "libvirt-trace" / "__pycache__").mkdir()
    make("uninstall", f"PREFIX={prefix}")

    assert printed == "write       virDomainSuspend(domain) = int\n"
    assert files_in(prefix) == set()


def test_everything_that_runs_is_installed(tmp_path):
    make("install", f"DESTDIR={tmp_path}")

    library = tmp_path / "usr/local/lib/libvirt-trace"
    sources = {
        f"{folder}/{name}"
        for folder in ("log", "probes", "enforcer")
        for name in files_in(ROOT / folder)
        if "__pycache__" not in name
    }
    built = {name for name in sources if name.startswith(("enforcer/build/", "enforcer/library/"))}
    assert files_in(library) == {"tracer.py", f"enforcer/{ENFORCER}", *(sources - built)}
    assert files_in(tmp_path) - {
        f"usr/local/lib/libvirt-trace/{name}" for name in files_in(library)
    } == {
        "usr/local/bin/libvirt-trace",
        "usr/local/lib/systemd/catalog/libvirt-trace.catalog",
        "usr/local/lib/systemd/system/libvirt-trace.service",
        "usr/local/share/bash-completion/completions/libvirt-trace",
        "usr/local/share/fish/vendor_completions.d/libvirt-trace.fish",
        "usr/local/share/zsh/site-functions/_libvirt-trace",
        "usr/local/share/man/man8/libvirt-trace.8",
    }


def test_a_service_is_not_left_unguarded(tmp_path):
    prefix = tmp_path / "prefix"
    make("install", f"PREFIX={prefix}", f"DESTDIR={tmp_path}/root")
    folder = tmp_path / "root/etc/systemd/system/libvirtd.service.d"
    folder.mkdir(parents=True)
    drop_in = folder / "libvirt-trace.conf"
    drop_in.write_text(
        f"[Service]\nEnvironment=LD_PRELOAD={prefix}/lib/libvirt-trace/enforcer/{ENFORCER}\n"
    )
    (tmp_path / "root/etc/libvirt-trace").mkdir()
    command = [
        "make",
        "--no-print-directory",
        "-s",
        "uninstall",
        f"PREFIX={prefix}",
        f"DESTDIR={tmp_path}/root",
    ]

    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode != 0
    assert refused.stdout == (
        "libvirtd.service would run unguarded: first libvirt-trace enforce --service "
        "libvirtd.service --remove, and restart it\n"
    )
    assert (tmp_path / f"root{prefix}/bin/libvirt-trace").exists()
    drop_in.unlink()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"kept: policies in {tmp_path}/root/etc/libvirt-trace\n" in done.stdout
    assert files_in(tmp_path / "root") == set()


def test_service_runs_what_was_installed_and_a_running_one_is_not_left_without(tmp_path):
    make("install", "PREFIX=/opt/x", f"DESTDIR={tmp_path}")
    unit = (tmp_path / "opt/x/lib/systemd/system/libvirt-trace.service").read_text()
    assert "\nExecStart=/opt/x/bin/libvirt-trace record\n" in unit
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    assert not wants.exists(), "it is not enabled"
    wants.mkdir(parents=True)
    (wants / "libvirt-trace.service").symlink_to("/opt/x/lib/systemd/system/libvirt-trace.service")
    command = [
        "make",
        "--no-print-directory",
        "-s",
        "uninstall",
        "PREFIX=/opt/x",
        f"DESTDIR={tmp_path}",
    ]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (
        refused.returncode != 0
        and ("first systemctl disable --now libvirt-trace") in refused.stdout
    )
    (wants / "libvirt-trace.service").unlink()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert files_in(tmp_path) == set()


def test_service_is_hardened():
    """As systemd itself counts: 10 is worst."""
    if not shutil.which("systemd-analyze"):
        lack("unit", "systemd-analyze is not installed")
    command = [
        "systemd-analyze",
        "security",
        "--offline=true",
        "--no-pager",
        str(ROOT / "libvirt-trace.service"),
    ]
    last = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()[-1]
    assert float(last.split()[-3]) <= 3.0, last


def test_others_may_use_what_a_careful_root_installs(tmp_path):
    make("install", f"DESTDIR={tmp_path}", umask=0o077)

    for path in tmp_path.rglob("*"):
        runs = path.is_dir() or path.suffix == ".so" or path.parent.name == "bin"
        wanted = 0o555 if runs else 0o444
        assert path.stat().st_mode & wanted == wanted, path


def test_make_says_that_sudo_is_missing(tmp_path):
    command = [
        "make",
        "--no-print-directory",
        "deps-run",
        "SUDO=no-such-sudo",
        "RUN_PACKAGES=no-such-package",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stdout == (
        "missing: no-such-package\nthere is no sudo: run make as root, or "
        "install these packages first\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_no_files_in_a_user_s_clone(tmp_path):
    for name in ("tracer.py", "log", "probes", "enforcer"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    for cache in [*tmp_path.rglob("__pycache__")]:
        shutil.rmtree(cache)
    os.chown(tmp_path / "tracer.py", 65534, 65534)
    subprocess.run(
        [PYTHON, tmp_path / "tracer.py", "list", "virDomainSuspend"],
        check=True,
        capture_output=True,
    )
    assert not [*tmp_path.rglob("__pycache__")]
