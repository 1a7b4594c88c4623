# SPDX-License-Identifier: LGPL-2.1-or-later
"""What keeps a process from tracing is said in a line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from log.errors import TraceError
from probes.host import allowed


@pytest.fixture
def proc(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "self" / "ns").mkdir(parents=True)
    (tmp_path / "self" / "ns" / "pid").symlink_to(allowed.FIRST_PID_NAMESPACE)
    (tmp_path / "self" / "ns" / "user").symlink_to(allowed.FIRST_USER_NAMESPACE)
    may(tmp_path, allowed.SYS_ADMIN)
    return tmp_path


def may(proc: Path, *capabilities: int) -> None:
    bits = sum(1 << bit for bit in capabilities)
    (proc / "self" / "status").write_text(f"Name:\tx\nCapEff:\t{bits:016x}\n")


def test_root_of_the_host_may(proc) -> None:
    allowed.check_tracing(proc)
    may(proc, allowed.BPF, allowed.PERFMON)
    allowed.check_tracing(proc)
    (proc / "self" / "ns" / "pid").unlink()  # a kernel without such namespaces
    assert allowed.is_in_first_pid_namespace(proc)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ((allowed.BPF,), "CAP_PERFMON is missing"),
        ((allowed.SYS_PTRACE,), "CAP_BPF and CAP_PERFMON are missing"),
    ],
)
def test_missing_capabilities_are_named(proc, held, said) -> None:
    may(proc, *held)
    with pytest.raises(TraceError, match=said):
        allowed.check_tracing(proc)


@pytest.mark.parametrize(("kind", "said"), [("user", "user namespace"), ("pid", "--pid=host")])
def test_other_namespaces_are_refused(proc, kind, said) -> None:
    place = proc / "self" / "ns" / kind
    place.unlink()
    place.symlink_to(f"{kind}:[4026532000]")
    with pytest.raises(TraceError, match=said):
        allowed.check_tracing(proc)


def test_others_than_root_are_refused(proc, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(TraceError, match="tracing needs root"):
        allowed.check_tracing(proc)


def test_processes_that_may_not_be_looked_into_are_counted(proc, monkeypatch) -> None:
    monkeypatch.setattr(allowed, "_may_be_read", lambda process: process.name != "7")
    for pid in ("7", "8"):
        (proc / pid).mkdir()
    said = allowed.unseen(proc)
    assert said and "1 of 2 processes" in said and "CAP_SYS_PTRACE is missing" in said
    may(proc, allowed.SYS_PTRACE, allowed.CHECKPOINT_RESTORE)
    assert allowed.unseen(proc) is None
