# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory that never comes: a user's own file system keeps back the page that an argument points
to.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import TRACER
from tests.needs import PATIENCE, PYTHON
from tests.neighbours import NOBODY, Neighbour, made_up
from tests.tracing import Tracer

PROGRAM = Path(__file__).with_name("withheld_page.py")
LIMIT = 30  # s


@contextlib.contextmanager
def withholding(tmp_path: Path, *library: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The running program, and the process id of its child."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse")
    mountpoint = Path(f"/tmp/{tmp_path.parent.name}-{tmp_path.name}")
    mountpoint.mkdir()
    os.chown(mountpoint, NOBODY, NOBODY)
    script = PROGRAM.read_text()  # its folder may be closed to others
    with subprocess.Popen(
        [PYTHON, "-c", script, str(mountpoint), *map(str, library)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, user=NOBODY, group=NOBODY,
        extra_groups=[], cwd="/",
    ) as program:  # fmt: skip
        assert program.stdin and program.stdout
        pid = int(program.stdout.readline())
        try:
            yield program, pid
        finally:
            program.kill()  # which ends all waiting
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            mountpoint.rmdir()


def go(program: subprocess.Popen[str]) -> None:
    """From now on somebody waits for the page."""
    assert program.stdin and program.stdout
    program.stdin.write("go\n")
    program.stdin.flush()
    assert program.stdout.readline() == "asked\n"


def test_a_page_that_is_kept_back_stops_no_tracer(tmp_path: Path) -> None:
    """Nor does another one wait for it that starts meanwhile."""
    with withholding(tmp_path) as (program, pid):
        tracer = Tracer("-p", str(pid))
        tracer.wait_attached()
        go(program)
        other = subprocess.Popen(
            [*TRACER, "-p", "1", "-d", "0.1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        others_end = _ends(other)
        tracer.process.send_signal(signal.SIGINT)
        end = _ends(tracer.process)
    assert others_end and other.returncode == 0
    assert end
    run = tracer.finish()
    (call,) = run.calls("virDomainDefineXML")
    assert (call["type"], call["reason"], call["uid"]) == ("unfinished", "still running", NOBODY)
    assert set(call["args"]["xml"]) == {"unreadable"}


def is_locked(pid: int) -> bool:
    """Whether who looks into its memory has to wait; only a kill ends that."""
    look = subprocess.Popen(["cat", f"/proc/{pid}/cmdline"], stdout=subprocess.DEVNULL)
    try:
        look.wait(1)
    except subprocess.TimeoutExpired:
        return True
    finally:
        look.kill()
        look.wait()
    return False


def test_a_process_whose_memory_is_locked_stops_nobody(tmp_path: Path) -> None:
    """What only its memory tells is not known, which is said."""
    with Neighbour() as neighbour:
        library = neighbour.file("libvirt.so.0", made_up(tmp_path, ["virDomainSuspend"]))
        with withholding(tmp_path, library) as (program, pid):
            go(program)
            deadline = time.monotonic() + LIMIT * PATIENCE
            while not is_locked(pid):
                assert time.monotonic() < deadline
            with subprocess.Popen(
                [*TRACER, "ps", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as ps:
                ended = _ends(ps)
                still_locked = is_locked(pid)
                program.kill()
                rows, said = ps.communicate()
    assert ended and still_locked
    (row,) = [row for line in rows.splitlines() if (row := json.loads(line))["pid"] == pid]
    assert (row["user"], row["files"]) == ("nobody", [str(library)])
    assert (
        f"libvirt-trace: process {pid}: it keeps whoever looks into its memory waiting; what is "
        "only there is not known"
    ) in said.splitlines()


def _ends(process: subprocess.Popen[Any]) -> bool:
    """Whether it ends by itself; one that waits for the page can't be killed, so nothing else
    may wait for it.
    """
    try:
        process.wait(LIMIT * PATIENCE)
    except subprocess.TimeoutExpired:
        return False
    return True
