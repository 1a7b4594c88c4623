# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the kernel tells of processes is read as far as it has been told by then."""

from __future__ import annotations

import pytest

from probes.kernel.rings import tracepoints
from probes.kernel.rings.ring import Ring
from tests.unit.probes.kernel.rings.test_ring import BUSY, SIZE, Written


@pytest.mark.parametrize("waits", [1, tracepoints.MOST_WAITS])
def test_a_record_that_is_being_written_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, waits: int
) -> None:
    written = Written()
    waited: list[float] = []
    written.write(b"first")
    busy = written.position
    written.write(b"second", BUSY)
    written.write(b"third")

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == waits:
            written.commit(busy)

    monkeypatch.setattr("time.sleep", wait)
    told = tracepoints.Tracepoints()
    told._rings.append(Ring(written, SIZE, SIZE))
    assert told.read() == [b"first", b"second", b"third"]
    assert len(waited) == waits


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written()
    waited: list[float] = []
    written.write(b"first")
    written.write(b"second", BUSY)
    monkeypatch.setattr("time.sleep", waited.append)
    told = tracepoints.Tracepoints()
    told._rings.append(Ring(written, SIZE, SIZE))
    assert told.read() == [b"first"]
    assert sum(waited) == pytest.approx(tracepoints.WAIT * tracepoints.MOST_WAITS)
    written.write(b"third")
    assert told.read() == []
