# SPDX-License-Identifier: LGPL-2.1-or-later
"""A directory of users that does not answer, and a clock that is set, while calls are made."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tests.kernel.conftest import CALLS, Steps
from tests.neighbours import Neighbour
from tests.tracing import Event, Tracer

HOUR = 3600
CAROL = 70000  # a user that this host's own list does not have
MADE_UP = """
import os, time
from probes.host import clock
from probes.host.processes import users
from probes.tracing import session, whose

assert whose.Users is users.Users and session.WallClock is clock.WallClock

def find(uid):
    while not os.path.exists({answer!r}):
        time.sleep(0.01)
    return "carol" if uid == {carol} else None

whose.Users = lambda: users.Users(find)
set_on = lambda: {hour} * 10**9 if os.path.exists({later!r}) else 0

def tai():  # as the programs in the kernel see it only when the clock has been set
    return time.clock_gettime_ns(time.CLOCK_TAI) + set_on() - {hour} * 10**9

session.WallClock = lambda seen: clock.WallClock(
    lambda: time.time_ns() + set_on(), tai=tai, seen=seen
)
"""

# the tracer sees another /etc/nsswitch.conf than all others
WITH_DIRECTORY = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0  # CLONE_NEWNS
assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE
assert libc.mount({conf!r}, b"/etc/nsswitch.conf", None, 0x1000, None) == 0  # MS_BIND
"""


def seconds(event: Event) -> float:
    text = event["time"]
    return datetime.fromisoformat(text[:26] + "+00:00").timestamp()


def call_of(pid: int) -> Callable[[Event], bool]:
    return lambda event: event["type"] == "call" and event["pid"] == pid


def test_names_come_later_and_times_follow_the_clock(caller, steps, tmp_path: Path) -> None:
    answer, later = tmp_path / "answer", tmp_path / "later"
    with Neighbour(CAROL) as neighbour:
        program = neighbour.file("steps", caller("steps").read_bytes())
        carol = Steps(
            program,
            before=("setpriv", "--reuid", str(CAROL), "--regid", str(CAROL), "--clear-groups"),
        )
        root = steps()
        before = MADE_UP.format(answer=str(answer), later=str(later), carol=CAROL, hour=HOUR)
        tracer = Tracer(
            "-p", str(carol.pid), "-p", str(root.pid), "-f", "virDomainGetName", before=before
        )
        try:
            tracer.wait_attached()

            def call(step: Steps, times: int) -> list[Event]:
                step.call()
                tracer.wait_for(
                    lambda event: event["type"] == "call" and event["pid"] == step.pid,
                    count=times * CALLS,
                )
                return tracer.calls("virDomainGetName", step.pid)[-CALLS:]

            # nobody waits for the directory
            assert {(event["uid"], event["user"]) for event in call(carol, 1)} == {(CAROL, None)}
            assert {(event["uid"], event["user"]) for event in call(root, 1)} == {(0, "root")}
            answer.touch()
            times = 2
            while call(carol, times)[-1]["user"] is None:  # its answer is on the way
                times += 1
            assert {(event["uid"], event["user"]) for event in call(carol, times + 1)} == {
                (CAROL, "carol")
            }

            begin, old = time.time(), call(root, 2)
            between = time.time()
            os.kill(tracer.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, tracer.pid, os.WSTOPPED)
            later.touch()
            root.call()  # the reader has not been told
            os.kill(tracer.pid, signal.SIGCONT)
            told = tracer.wait_for(lambda event: event["type"] == "clock")
            assert abs(told["step_ns"] - HOUR * 10**9) < 10**6
            new, end = call(root, 4), time.time()
            assert all(begin <= seconds(event) <= between for event in old)
            after = tracer.calls("virDomainGetName", root.pid)[-2 * CALLS :]
            assert after[CALLS:] == new
            assert all(between + HOUR <= seconds(event) <= end + HOUR for event in after)
            tracer.stop()
        finally:
            tracer.kill()
            carol.end()


def test_directory_that_is_down_stops_nobody(caller, steps, tmp_path: Path) -> None:
    """A real one, as libc asks it: calls of its users are shown by their number meanwhile, and
    other users have their names.
    """
    shutil.copy(caller("nss_slow", "-shared", "-fPIC"), tmp_path / "libnss_slow.so.2")
    conf, answers = tmp_path / "nsswitch.conf", tmp_path / "answers"
    conf.write_text("passwd: files slow\n")
    env = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "NSS_SLOW": str(answers)}
    with Neighbour(CAROL) as neighbour:
        program = neighbour.file("steps", caller("steps").read_bytes())
        identity = ("--reuid", str(CAROL), "--regid", str(CAROL), "--clear-groups")
        carol, root = Steps(program, before=("setpriv", *identity)), steps()
        before = WITH_DIRECTORY.format(conf=os.fsencode(conf))
        tracer = Tracer(
            "-p",
            str(carol.pid),
            "-p",
            str(root.pid),
            "-f",
            "virDomainGetName",
            env=env,
            before=before,
        )
        try:
            tracer.wait_attached()
            for times in range(1, 4):
                for step, user in ((carol, None), (root, "root")):
                    step.call()
                    tracer.wait_for(call_of(step.pid), count=times * CALLS)
                    made = tracer.calls(pid=step.pid)
                    assert {(event["uid"], event["user"]) for event in made} == {
                        (CAROL if step is carol else 0, user)
                    }
            answers.touch()
            while tracer.calls(pid=carol.pid)[-1]["user"] is None:
                carol.call()
                times += 1
                tracer.wait_for(call_of(carol.pid), count=times * CALLS)
            assert tracer.calls(pid=carol.pid)[-1]["user"] == "carol"
            answers.unlink()
            assert tracer.stop().status == 0
        finally:
            tracer.kill()
            carol.end()
