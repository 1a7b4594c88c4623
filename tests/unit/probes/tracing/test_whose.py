# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who does what is traced, and whether that is wanted."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from log.events import Caller
from probes.calls.serving.tasks import Task
from probes.host.daemons.programs import Daemons
from probes.tracing.filters import Filters
from probes.tracing.whose import Whose

GONE = 1 << 22  # never given to a process


def whose(filters: Filters) -> Whose:
    before: Any = None  # is asked for records of dispatchers only
    return Whose(filters, [], Daemons(), before, full_cmdlines=False)


def task(pid: int) -> Task:
    return Task(Caller(pid, None, None, 0, "root", None, None, None), "virsh")


def test_descendants_of_the_tracer_are_wanted() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        found = whose(Filters(tree=True))
        assert [found.passes(False, task(pid)) for pid in (child.pid, 1, GONE)] == [
            True,
            False,
            False,
        ]
        assert found.passes(True, task(1))  # the kernel says so


@pytest.mark.parametrize(("pid", "passes"), [(5, True), (6, False)])
def test_without_a_command_it_is_the_choice_alone(pid: int, passes: bool) -> None:
    found = whose(Filters(pids=(5,)))
    assert found.tree is None
    assert found.passes(False, task(pid)) == passes


def test_who_sent_a_signal_may_have_gone_but_its_user_is_known() -> None:
    found = whose(Filters())
    assert found.sender(os.getpid(), None, 0).uid == os.geteuid()
    gone = found.sender(GONE, 0, 0)
    assert (gone.pid, gone.uid, gone.user) == (GONE, 0, "root")
