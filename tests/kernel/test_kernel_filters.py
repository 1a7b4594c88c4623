# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls that a filter leaves out cost no record: a tracer that does not read loses none of
them, though its buffers hold few.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.kernel.conftest import CALLS, Run, Steps
from tests.needs import PYTHON
from tests.tracing import Result, Tracer

MANY = 20_000  # some 3 MiB of records
STRANGER = 471147  # a user that nobody is, whatever else runs here


def flood(trace: Callable[..., Tracer], steps: Callable[[], Steps], *options: str) -> Result:
    """Many calls while the tracer sleeps."""
    step = steps()
    tracer = trace(
        "--buffer-size",
        "1",
        *(option.format(pid=step.pid, other=os.getpid(), stranger=STRANGER) for option in options),
    )
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
        ("-u", "{stranger}"),
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
    assert (result.calls("virDomainGetName"), result.lost) == ([], 0)


def test_wanted_calls_do(trace, steps) -> None:
    """The same with nothing to leave out: the buffers run over, and each call is seen or
    counted as lost.
    """
    result = flood(trace, steps, "-p", "{pid}", "--object", "test", "-n", "steps*")
    assert result.lost > 0
    assert len(result.calls("virDomainGetName")) + result.lost == MANY


@pytest.mark.parametrize("keep", ["0", "3"])
def test_an_object_is_found_however_little_is_shown(
    caller, traced: Callable[..., Run], keep: str
) -> None:
    run = traced(
        caller("writer"),
        CALLS,
        options=("-s", keep, "--object", "te?t", "-f", "virDomainSetMemory"),
    )
    names = [call["args"]["domain"]["name"] for call in run.calls()]
    assert names == [{"text": "test"[: int(keep)], "length": 4, "cut": True}] * CALLS


# libvirt refuses to begin so
OTHER_REAL_USER = """
import libvirt, os
domain = libvirt.open("test:///default").lookupByName("test")
os.setresuid(65534, 0, 0)
for _ in range(23):
    domain.info()
"""


def test_the_effective_user_counts_and_the_real_one_is_told(traced: Callable[..., Run]) -> None:
    for user, made in ("root", CALLS), ("nobody", 0):
        run = traced(PYTHON, "-c", OTHER_REAL_USER, options=("-u", user, "-f", "virDomainGetInfo"))
        assert [(call["uid"], call["user"], call["real_uid"]) for call in run.calls()] == [
            (0, "root", 65534)
        ] * made
