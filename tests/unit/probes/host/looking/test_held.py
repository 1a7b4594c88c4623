# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who keeps us waiting has so many threads of ours, and so many lines."""

from __future__ import annotations

import pytest

from probes.host.looking import held
from probes.host.looking.held import HOLDS, MOST_STUCK, MOST_TOLD, Looking


def test_of_an_account_that_holds_so_many_threads_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(held, "account_of_process", lambda pid, proc: 1000)
    looking, asked = Looking(), []
    looking._stuck[1000] = MOST_STUCK
    assert looking.ask(7, lambda: asked.append(7), None, only_reads=True) is None
    assert not asked
    (said,) = looking.take()
    assert said.startswith("process 7: ") and HOLDS in said


def test_of_many_processes_that_hold_us_few_are_named() -> None:
    looking = Looking()
    for pid in [*range(1, 50), *range(1, 50)]:
        looking._tell(pid)
    said = looking.take()
    assert len(said) == MOST_TOLD + 1 and said[-1].startswith("more processes")
    assert looking.take() == []
