# SPDX-License-Identifier: LGPL-2.1-or-later
"""Detaching, which may take the kernel seconds: another process waits for that, and not we."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from functools import partial

import pytest

from log.errors import TraceError
from probes.kernel import bpf, links
from probes.kernel.links import MOST_TOGETHER, Links, Probe, close_together


def test_another_process_is_the_last_to_let_go(monkeypatch) -> None:
    helpers: list[subprocess.Popen[bytes]] = []
    start, close = subprocess.Popen, os.close

    def started(*arguments, **options):
        helpers.append(start(*arguments, **options))
        return helpers[-1]

    links = Links("/nowhere", [], 0, 0, multi=True)
    assert links.fds == []
    ours, theirs = os.pipe()
    links.fds, links._waits = [theirs], True
    monkeypatch.setattr(subprocess, "Popen", started)

    def closed(fd: int) -> None:
        if fd == theirs:
            with pytest.raises(subprocess.TimeoutExpired):
                helpers[0].wait(0.2)  # however late we are
        close(fd)

    monkeypatch.setattr(os, "close", closed)
    links.close()
    assert links.fds == []
    (helper,) = helpers
    helper.wait()
    assert os.read(ours, 1) == b"", "nobody has it any more"
    close(ours)


def test_all_are_closed_and_together() -> None:
    close_together([])
    others = threading.Barrier(MOST_TOGETHER)
    closed = []

    def close() -> None:
        others.wait(60)
        closed.append(1)

    close_together([close] * 3 * MOST_TOGETHER)
    assert len(closed) == 3 * MOST_TOGETHER


def test_without_room_for_threads_they_are_closed_one_after_the_other(monkeypatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    closed: list[int] = []
    close_together([partial(closed.append, number) for number in range(40)])
    assert closed == [*range(40)]


@pytest.mark.parametrize(("seconds", "tries"), [(0.0, links.MOST_TRIES), (1.0, 6), (10.0, 1)])
def test_search_for_what_cannot_be_probed_ends(monkeypatch, seconds: float, tries: int) -> None:
    """After so many tries, or when it takes too long; what was not found is left out."""
    now, tried = [0.0], []

    def refuse(program: int, path: str, offsets: list[int], *rest: object, **more: object) -> int:
        tried.append(len(offsets))
        now[0] += seconds
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(bpf, "link_uprobes", refuse)
    probes = [Probe(offset, 0, at_return=False) for offset in range(512)]
    with pytest.raises(TraceError, match="can't probe the instruction"):
        Links("/nowhere", probes, 0, 0, multi=True)
    # each half of what was split is asked for once more
    assert tries <= len(tried) <= tries + 16
