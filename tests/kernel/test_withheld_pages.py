# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory that never comes: a user's own file system keeps back the page that an argument points
to.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.kernel.conftest import TRACER
from tests.needs import PATIENCE, PYTHON
from tests.neighbours import NOBODY
from tests.tracing import Tracer

PROGRAM = Path(__file__).with_name("withheld_page.py")
LIMIT = 30  # s


def test_a_page_that_is_kept_back_stops_no_tracer(tmp_path: Path) -> None:
    """Nor does another one wait for it that starts meanwhile."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse")
    mountpoint = Path(f"/tmp/{tmp_path.parent.name}-{tmp_path.name}")
    mountpoint.mkdir()
    os.chown(mountpoint, NOBODY, NOBODY)
    script = PROGRAM.read_text()  # its folder may be closed to others
    with subprocess.Popen(
        [PYTHON, "-c", script, str(mountpoint)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, user=NOBODY, group=NOBODY,
        extra_groups=[], cwd="/",
    ) as program:  # fmt: skip
        assert program.stdin and program.stdout
        try:
            pid = int(program.stdout.readline())
            tracer = Tracer("-p", str(pid))
            tracer.wait_attached()
            program.stdin.write("go\n")
            program.stdin.flush()
            assert program.stdout.readline() == "asked\n"
            other = subprocess.Popen(
                [*TRACER, "-p", "1", "-d", "0.1"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            others_end = _ends(other)
            tracer.process.send_signal(signal.SIGINT)
            end = _ends(tracer.process)
        finally:
            program.kill()  # which ends all waiting
            mountpoint.rmdir()
    assert others_end and other.returncode == 0
    assert end
    run = tracer.finish()
    (call,) = run.calls("virDomainDefineXML")
    assert (call["type"], call["reason"], call["uid"]) == ("unfinished", "still running", NOBODY)
    assert set(call["args"]["xml"]) == {"unreadable"}


def _ends(process: subprocess.Popen[bytes]) -> bool:
    """Whether it ends by itself; one that waits for the page can't be killed, so nothing else
    may wait for it.
    """
    try:
        process.wait(LIMIT * PATIENCE)
    except subprocess.TimeoutExpired:
        return False
    return True
