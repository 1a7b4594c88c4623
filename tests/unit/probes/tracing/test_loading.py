# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes wrong early is told when the program is wanted: the kernel is made up."""

from __future__ import annotations

import pytest

from log.errors import TraceError
from probes.tracing import loading, ways
from probes.tracing.loading import Loading
from probes.tracing.ways import Way


def test_the_program_and_its_way_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "check_tracing", lambda: None)
    monkeypatch.setattr(ways, "choose", lambda asked: Way(f"of {asked}"))
    monkeypatch.setattr(
        loading, "Program", lambda size, way, counts, spill: f"{size} {way} {counts}"
    )
    program, way = Loading(4096, "ret").take()
    assert (str(program), way) == ("4096 of ret False", Way("of ret"))


@pytest.mark.parametrize("error", [TraceError("no way"), OSError(12, "no memory")])
def test_what_failed_is_told_to_who_takes_it(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(asked: str) -> Way:
        raise error

    monkeypatch.setattr(loading, "check_tracing", lambda: None)
    monkeypatch.setattr(ways, "choose", fail)
    begun = Loading()
    with pytest.raises(type(error)) as told:
        begun.take()
    assert told.value is error


def test_who_may_not_trace_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise TraceError("tracing needs root")

    monkeypatch.setattr(loading, "check_tracing", refuse)
    with pytest.raises(TraceError):
        Loading()
