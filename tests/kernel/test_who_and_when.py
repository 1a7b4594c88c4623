# SPDX-License-Identifier: LGPL-2.1-or-later
"""A directory of users that does not answer, and a clock that is set, while calls are made."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

from tests.kernel.conftest import CALLS, Steps
from tests.neighbours import Neighbour
from tests.tracing import Event, Tracer

HOUR = 3600
CAROL = 70000  # a user that this host's own list does not have
MADE_UP = """
import os, time
from probes.host import clock, users
from probes import session

def find(uid):
    while not os.path.exists({answer!r}):
        time.sleep(0.01)
    return "carol" if uid == {carol} else None

session.Users = lambda: users.Users(find)
session.Clock = lambda: clock.Clock(lambda: time.time_ns() + ({hour} * 10**9 if os.path.exists({later!r}) else 0))
"""


def seconds(event: Event) -> float:
    text = event["time"]
    return datetime.fromisoformat(text[:26] + "+00:00").timestamp()


def test_names_come_later_and_times_follow_the_clock(caller, steps, tmp_path: Path) -> None:
    answer, later = tmp_path / "answer", tmp_path / "later"
    with Neighbour(CAROL) as neighbour:
        program = neighbour.file("steps", caller("steps").read_bytes())
        carol = Steps(program, before=("setpriv", "--reuid", str(CAROL), "--regid", str(CAROL), "--clear-groups"))
        root = steps()
        before = MADE_UP.format(answer=str(answer), later=str(later), carol=CAROL, hour=HOUR)
        tracer = Tracer("-p", str(carol.pid), "-p", str(root.pid), "-f", "virDomainGetName", before=before)
        try:
            tracer.wait_attached()

            def call(step: Steps, times: int) -> list[Event]:
                step.call()
                tracer.wait_for(lambda event: event["type"] == "call" and event["pid"] == step.pid, count=times * CALLS)
                return tracer.calls("virDomainGetName", step.pid)[-CALLS:]

            # nobody waits for the directory
            assert {(event["uid"], event["user"]) for event in call(carol, 1)} == {(CAROL, None)}
            assert {(event["uid"], event["user"]) for event in call(root, 1)} == {(0, "root")}
            answer.touch()
            times = 2
            while call(carol, times)[-1]["user"] is None:  # its answer is on the way
                times += 1
            assert {(event["uid"], event["user"]) for event in call(carol, times + 1)} == {(CAROL, "carol")}

            begin, old = time.time(), call(root, 2)
            later.touch()
            told = tracer.wait_for(lambda event: event["type"] == "clock")
            assert abs(told["step_ns"] - HOUR * 10**9) < 10**6
            new, end = call(root, 3), time.time()
            assert all(begin <= seconds(event) <= end for event in old)
            assert all(begin + HOUR <= seconds(event) <= end + HOUR for event in new)
            tracer.stop()
        finally:
            tracer.kill()
            carol.end()
