# SPDX-License-Identifier: LGPL-2.1-or-later
"""A session from its first poll to its end, on a kernel that is none: no process is traced."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from log.events import Call, UnderWay
from probes.host.libraries.mapwatch import Record
from probes.host.processes.lives import Exited
from probes.kernel import records
from probes.kernel.loading.features import SESSION
from probes.kernel.loading.program import Program
from probes.kernel.rings.reader import Reader
from probes.plans.meaning.captured import Limits
from probes.tracing import session as sessions
from probes.tracing.attachments import Attachments
from probes.tracing.filters import Filters
from probes.tracing.session import Options, Session
from probes.tracing.ways import Way
from tests.unit.probes.kernel.loading.test_program import Kernel, kernel, maps
from tests.unit.probes.kernel.loading.test_shared import RING_BYTES, Maps
from tests.unit.probes.tracing.recorders import Recorder
from tests.unit.probes.tracing.test_rows import target

__all__ = ["kernel", "maps"]
GONE = 1 << 22  # never given to a process


class Traced:
    """The session, with what the kernel tells next."""

    def __init__(self) -> None:
        program = Program(RING_BYTES, SESSION)
        program.load()
        self.happened: list[Record] = []
        coverage: Any = Recorder("coverage", [], {"covered_for": lambda pid: frozenset()})
        coverage.covers = True
        guard: Any = SimpleNamespace(covering=lambda daemons: coverage, libraries=list)
        loading: Any = SimpleNamespace(take=lambda: (program, Way(SESSION, believes=True)))
        self.session = Session(Options(Filters(), Limits(256, True), (), "1"), guard, loading)

    def poll(self) -> list[Record]:
        told, self.happened = self.happened, []
        return told


@pytest.fixture
def traced(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Traced:
    watch = SimpleNamespace(poll=list, wakers=list, close=lambda: None, is_settled=lambda: True)
    monkeypatch.setattr(sessions, "watch_maps", lambda tasks, symbols: watch)
    monkeypatch.setattr(sessions, "hold_little", lambda: None)
    monkeypatch.setattr("probes.host.looking.maps.scan", list)
    monkeypatch.setattr("os.setpriority", lambda *of: None)
    monkeypatch.setattr(Attachments, "start", lambda attachments, say: [])
    made = Traced()
    watch.poll = made.poll
    return made


def entry(time: int, row: int) -> bytes:
    head = records.HEAD.pack(records.REC_ENTRY, 0, records.REC_WANTED, row, time, 0, 7, 1, 0, GONE)
    return head.ljust(4096, b"\0")


def test_a_call_is_under_way_until_its_process_ends(
    traced: Traced, maps: Maps, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, settings = traced.session, traced.session._program.shared.settings
    assert session.start() == [] and settings[0] == 1
    session._rows.probes(target(["virDomainSuspend"]))
    row = [one.function and one.function.name for one in session._rows.rows].index(
        "virDomainSuspend"
    )
    batch = SimpleNamespace(tasks=[], calls=[entry(10, row)], upto=20)
    monkeypatch.setattr(Reader, "read", lambda reader, settled: batch)
    assert session.poll() == []
    assert (session.open_calls(), session.daemons()) == (1, [])
    (standing,) = session.standing.under_way()
    assert isinstance(standing, UnderWay) and standing.function == "virDomainSuspend"
    traced.happened = [Exited(15, GONE, 7, True)]
    batch.calls = []
    (call,) = session.poll()
    assert isinstance(call, Call) and call.unfinished == "process exited"
    assert session.standing.oldest_call() == session.standing.count_owed() == 0
    assert session.stop() == session.stop() == [] and settings[0] == 0
    assert maps.left() == []
