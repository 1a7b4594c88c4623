# SPDX-License-Identifier: LGPL-2.1-or-later
"""How programs are loaded while the caller goes on, with a kernel that takes them or does not."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from log.errors import TraceError
from probes.kernel import bpf
from probes.kernel.loading import program
from probes.kernel.loading.features import PAIR, SESSION
from probes.kernel.loading.program import Program
from tests.unit.probes.kernel.loading.test_shared import RING_BYTES, Maps, maps

__all__ = ["maps"]


class Kernel:
    """What was loaded, by its descriptor; `refuses`: the program that is not taken."""

    def __init__(self, refuses: str, why: int) -> None:
        self.refuses, self.why = refuses, why
        self.loaded: dict[int, str] = {}
        self.defines: dict[str, int] = {}
        self.attached: list[str] = []

    def load(self, code: bytes, name: str, **kind: object) -> int:
        if name == self.refuses:
            raise OSError(self.why, "no\nunbounded loop\nprocessed 9 insns")
        assert code == name.encode()
        fd = os.memfd_create(name)
        self.loaded[fd] = name
        return fd

    def compilation(self, defines: dict[str, int], *, sleepable: bool) -> SimpleNamespace:
        self.defines = defines
        names = ("on_call", "on_verdict") if "SESSION" in defines else ("on_entry", "on_return")
        code = {name: name.encode() for name in (*names, "on_verdict")}
        return SimpleNamespace(result=lambda: code)

    def tasks(self) -> SimpleNamespace:
        return SimpleNamespace(
            maps={"FD_TASKS": 99},
            wakers=[99],
            create_maps=lambda: None,
            attach=self.attached.extend,
            close=self.attached.clear,
        )


@pytest.fixture
def kernel(maps: Maps, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Kernel:
    refuses, why = getattr(request, "param", ("", 0))
    made = Kernel(refuses, why)
    monkeypatch.setattr(bpf, "load_program", made.load)
    monkeypatch.setattr(program, "Compilation", made.compilation)
    monkeypatch.setattr(program, "Tracepoints", made.tasks)
    monkeypatch.setattr(program, "with_maps", lambda code, maps: code)
    monkeypatch.setattr("probes.kernel.loading.offsets.defines", lambda members: {"TASK_PID": 8})
    monkeypatch.setattr(program, "LATER", 0)
    for name in ("uprobe_multi", "session", "sleepable", "may_goto", "tai"):
        monkeypatch.setattr(program, f"has_{name}", lambda: True)
    return made


@pytest.mark.parametrize("way", [SESSION, PAIR])
def test_programs_are_loaded_and_given_back(kernel: Kernel, maps: Maps, way: str) -> None:
    made = Program(RING_BYTES, way, counts=True)
    made.load()
    entry, ret, verdict = (made.of(what) for what in ("on_entry", "on_return", "on_verdict"))
    assert (entry == ret) == (way == SESSION) == made.session
    assert kernel.loaded[verdict] == "on_verdict" and kernel.attached
    places = {name: kernel.defines[name] for name in made.shared.maps}
    assert list(places.values()) == list(range(len(places)))
    assert kernel.defines["FD_TASKS"] == len(places)
    # a pair of return probes tells of calls inside of others, too
    assert ("COUNTING" in kernel.defines) == (way == SESSION) == (made.shared.counts is not None)
    assert len(made.wakers) == 1 + len(made.shared.rings)
    assert len(maps.put) == len(made.shared.rings)
    made.close()
    assert maps.left() == [] and kernel.attached == []
    assert not any(os.path.exists(f"/proc/self/fd/{fd}") for fd in kernel.loaded)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (("on_entry", 1), "not allowed to load BPF programs: .*CAP_BPF"),
        (("on_entry", 22), "refused the BPF program .unbounded loop; processed 9 insns.: Linux"),
        (("on_return", 24), "raise the limit"),
    ],
    indirect=["kernel"],
    ids=["lockdown", "verifier", "descriptors"],
)
def test_what_the_kernel_does_not_take_is_told_when_it_is_wanted(
    kernel: Kernel, maps: Maps, message: str
) -> None:
    made = Program(RING_BYTES, PAIR)
    with pytest.raises(TraceError, match=message):
        made.load()
    made.close()
    assert maps.left() == []


@pytest.mark.parametrize("kernel", [("on_verdict", 1)], indirect=True)
def test_only_who_wants_verdicts_is_told_that_there_are_none(kernel: Kernel, maps: Maps) -> None:
    made = Program(RING_BYTES, PAIR)
    made.load()
    with pytest.raises(TraceError, match="not allowed"):
        made.of("on_verdict")
    made.close()


def test_maps_that_are_refused_are_told_at_once(
    kernel: Kernel, maps: Maps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(value_size: int, name: str) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(bpf, "create_task_storage", refuse)
    with pytest.raises(TraceError, match="not allowed"):
        Program(RING_BYTES, PAIR)
    assert maps.left() == []
