# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls that a filter leaves out cost no record: a tracer that does not read loses none of them, though its buffers hold few."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.kernel.conftest import Steps
from tests.tracing import Result, Tracer

MANY = 20_000  # some 3 MiB of records


def flood(trace: Callable[..., Tracer], steps: Callable[[], Steps], *options: str) -> Result:
    """Many calls while the tracer sleeps."""
    step = steps()
    tracer = trace("--buffer-size", "1", *(option.format(pid=step.pid, other=os.getpid()) for option in options))
    tracer.process.send_signal(signal.SIGSTOP)
    step.call(MANY)
    tracer.process.send_signal(signal.SIGCONT)
    result = tracer.stop(lost=None)
    assert result.status == 0
    return result


@pytest.mark.parametrize(
    "options",
    [
        ("-p", "{other}"),
        ("-u", "nobody"),
        ("-n", "nosuch"),
        ("-f", "virDomainSuspend", "-p", "{pid}"),
        ("-f", "!virDomainGetName", "-p", "{pid}"),
        ("-w", "-p", "{pid}"),
        ("--object", "web*", "-p", "{pid}"),
        ("--object", "tes", "--object", "?test", "-p", "{pid}"),
    ],
    ids=" ".join,
)
def test_calls_that_are_not_wanted_leave_no_record(trace, steps, options: tuple[str, ...]) -> None:
    result = flood(trace, steps, *options)
    assert (result.calls("virDomainGetName"), result.end["lost"]) == ([], 0)


def test_wanted_calls_do(trace, steps) -> None:
    """The same with nothing to leave out: the buffers run over, and each call is seen or counted as lost."""
    result = flood(trace, steps, "-p", "{pid}", "--object", "test", "-n", "steps*")
    assert result.end["lost"] > 0
    assert len(result.calls("virDomainGetName")) + result.end["lost"] == MANY
