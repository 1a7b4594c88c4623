# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is told of what happens to processes and libraries."""

from __future__ import annotations

from typing import Any

import pytest

from probes.host.libraries.mapwatch import Dropped, Mapped, Online, Record
from probes.host.processes.lives import Exec, Exited, Forked, Missed, OutOfMemory, Signalled
from probes.tracing.noticing import Noticing
from tests.unit.probes.tracing.recorders import Recorder, Told

MAPPED = Mapped(1, 5, 6, 0, 4096, 0, 0, 0, "/usr/lib/libvirt.so.0")
EXEC, FORKED = Exec(2, 5, "virsh"), Forked(3, 8, 5)
SIGNALLED = Signalled(4, 5, 5, 9, 0, None, None, None)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            MAPPED,
            [
                ("modules.changed", 5),
                ("owners.of", 5),
                ("attachments.mapped", MAPPED),
                ("symbols.remember", 5),
            ],
        ),
        (EXEC, [("modules.changed", 5), ("processes.noticed", EXEC)]),
        (
            FORKED,
            [("processes.noticed", FORKED), ("owners.forked", 8, 5), ("tree.forked", FORKED)],
        ),
        (SIGNALLED, []),
        (OutOfMemory(5, 5), []),
        (Exited(6, 5, 5, True), []),
        (Missed(3), [("processes.noticed", Missed(3)), ("losses.dropped", 3)]),
        (Dropped(4), [("losses.unseen", 4), ("attachments.missed",)]),
        (Online(2), [("warn", "CPU 2"), ("attachments.missed",)]),
    ],
    ids=lambda it: type(it).__name__ if isinstance(it, tuple) else "",
)
def test_each_is_told_what_concerns_it(record: Record, expected: Told) -> None:
    told: Told = []
    parts: list[Any] = [
        Recorder(name, told, {"of": lambda pid: 1000})
        for name in (
            *("attachments", "modules", "symbols", "owners", "processes", "tree", "losses"),
        )
    ]
    parts.append(lambda text: told.append(("warn", text[:5])))
    noticing = Noticing(*parts)
    happened = noticing.notice([record])
    assert told == [("owners.refresh",), *expected]
    # the others have no place among the calls
    assert happened == ([] if isinstance(record, Missed | Dropped | Online) else [record])
    assert noticing.is_settled()
