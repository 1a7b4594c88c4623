# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernels and machines that refuse: one line that says what and why."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from log.errors import TraceError
from probes.kernel import abi, bpf, links
from probes.kernel.loading import compiling, confined, kept


@pytest.mark.parametrize("machine", ["s390x", "ppc64le", "riscv64", "i686", ""])
def test_machines_whose_system_calls_are_unknown_are_refused(machine: str) -> None:
    if machine:
        with pytest.raises(TraceError, match=f"this machine is {machine}"):
            abi.check_machine(machine)
    with pytest.raises(TraceError, match="big-endian"):
        abi.check_machine("x86_64", "big")
    abi.check_machine("x86_64", "little")


def ended(action: str) -> int:
    child = os.fork()
    if child == 0:
        if action.isdigit():
            os._exit(int(action))
        number = getattr(signal, action)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("SIGSYS", True),
        (str(confined.HARMLESS), False),
        ("0", None),
        ("1", None),
        ("SIGILL", None),
        ("SIGSEGV", None),
        ("SIGKILL", None),
    ],
)
def test_only_the_filters_own_signal_is_a_yes(action: str, expected: bool | None) -> None:
    assert confined.meaning(ended(action)) is expected


def test_other_machines_have_no_such_system_call(monkeypatch) -> None:
    monkeypatch.setattr(abi, "HERE", abi.HERE._replace(uretprobe=None))
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("tried"))
    assert confined.try_confined() is False


def test_where_perf_is_refused_it_cannot_be_told(monkeypatch) -> None:
    def refuse(*arguments: object, **options: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(confined, "uprobe_pmu", lambda: 8)
    monkeypatch.setattr(bpf, "open_perf_uprobe", refuse)
    before = os.listdir("/proc/self/fd")
    assert confined.try_confined() is None
    assert os.listdir("/proc/self/fd") == before


def test_a_kernel_without_uprobes(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(links, "UPROBE_PMU", tmp_path / "type")
    with pytest.raises(TraceError, match="no uprobes"):
        links.uprobe_pmu()


@pytest.mark.parametrize(
    ("compile_it", "message"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by signal 9 .*memory"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "killed by signal 15"),
        (lambda: os._exit(1), "python3-bpfcc"),
        (lambda: dict[str, int]()["x"], "the BPF compiler failed: KeyError: 'x'"),
        (lambda: open("/proc/nowhere"), "the BPF compiler failed: FileNotFoundError"),  # noqa: SIM115
    ],
    ids=["killed", "crashed", "exited", "error", "system call"],
)
def test_a_compiler_that_fails(monkeypatch, compile_it, message: str) -> None:
    monkeypatch.setattr(kept, "read", lambda key: None)
    monkeypatch.setattr(compiling, "_compile", lambda defines, sleepable: compile_it())
    with pytest.raises(TraceError, match=message):
        compiling.Compilation({}, sleepable=False).result()
