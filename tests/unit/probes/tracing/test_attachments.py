# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that are attached to while others go on: the files are made up."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, NamedTuple

from probes.host.looking.owners import Owners
from probes.tracing.attachments import Attachments, Done, Job


class Made(NamedTuple):
    """In place of a Target."""

    path: str
    owner: int


def test_a_thread_that_has_nothing_to_do_is_not_waited_for(monkeypatch) -> None:
    nothing: Any = SimpleNamespace(refused=[], take=list)
    program: Any = SimpleNamespace(multi=True)
    held = Attachments(program, nothing, nothing, list, "1.0", Owners())
    closed: list[int] = []
    links: Any = SimpleNamespace(close=lambda: closed.append(1))
    monkeypatch.setattr(held, "_try", lambda job, mapped: Done(job, links, None, "", 0, mapped))
    target: Any = Made("/libvirt.so.0", 1000)
    held._later([Job(target, [], [])], None)
    while held._done.empty():
        time.sleep(0)  # lets the thread go on
    held.detach()
    assert held._thread and not held._thread.is_alive()
    assert closed == [1]
    # it was not traced, and that is told
    assert [getattr(event, "path", None) for event in held.last()] == ["/libvirt.so.0"]
