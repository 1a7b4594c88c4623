# SPDX-License-Identifier: LGPL-2.1-or-later
"""Somebody without rights who causes as much work as they can: what others do is seen
meanwhile, or it is told that it was not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import CALLS
from tests.kernel.test_neighbours import count
from tests.kernel.test_shares import as_user
from tests.kernel.test_targets import LIBVIRT
from tests.needs import PATIENCE
from tests.neighbours import NOBODY, Neighbour, readable
from tests.tracing import Event, Result

OTHER = NOBODY - 1
MADE = 809


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    with Neighbour() as someone:
        yield someone


def storm(neighbour: Neighbour, program: Path, kind: str) -> None:
    """Two processes of theirs, for the two CPUs of a small machine."""
    for number in range(2):
        file = neighbour.file(f"{number}/libvirt.so.0.x", b"no library")
        os.chown(file.parent, neighbour.user, neighbour.user)
        if kind == "programs":
            shutil.copyfile("/bin/true", file)
        words = {
            "a file": ("1 FILE"),
            "many names": ("1000 FILE"),
            "files that vanish": "FILE",
            "programs": "FILE exec",
        }[kind]
        neighbour.run([str(readable(program)), *words.replace("FILE", str(file)).split()], "ready")


def is_told(events: list[Event], path: Path) -> bool:
    """Whether the log says that calls through that file may be missing, or through any."""
    return any(
        (event["type"] == "lost" and event["ring"] == "mappings")
        or (
            event["type"] == "attached"
            and event.get("mapped_ms")
            and str(path) in [target["path"] for target in event["targets"]]
        )
        or (
            event["type"] == "unattached"
            and (event["path"] == str(path) or (" other files") in event["reason"])
        )
        for event in events
    )


def seen_or_told(result: Result, pid: int, path: Path) -> None:
    seen = len(result.calls("virDomainSetMemory", pid))
    assert seen == MADE or is_told(result.events, path), (
        f"{seen} of {MADE} calls, and nothing is said of the others"
    )


@pytest.mark.parametrize("kind", ["a file", "many names", "files that vanish", "programs"])
def test_a_new_library_is_noticed_in_a_storm(
    caller, trace, steps, neighbour: Neighbour, tmp_path: Path, kind: str
) -> None:
    """Each mapping of a file that is called like libvirt has to be looked at."""
    writer, stepping = readable(caller("writer")), readable(caller("steps"))
    tracer = trace(
        "-n", writer.name, "-n", stepping.name, "-f", "virDomainSetMemory", "-f", "virDomainGetName"
    )
    storm(
        neighbour,
        caller("mapping_storm" if kind in ("a file", "many names") else "process_storm"),
        kind,
    )
    copies = [readable(tmp_path) / f"{number}" / "libvirt.so.0" for number in range(2)]
    for copy in copies:
        copy.parent.mkdir(mode=0o755)
        shutil.copy(LIBVIRT, copy)
    # one that lives until it is attached to
    step = steps(before=tuple(as_user(OTHER)), env={"LD_LIBRARY_PATH": str(copies[0].parent)})
    tracer.wait_for(
        lambda event: event["type"] == "attached" and event["targets"][0]["path"] == str(copies[0])
    )
    count(tracer, step)
    # and one that does not wait
    environment = {**os.environ, "LD_LIBRARY_PATH": str(copies[1].parent)}
    out = subprocess.check_output(
        as_user(OTHER, writer, MADE), env=environment, timeout=60 * PATIENCE
    )
    result = tracer.stop(lost=None)
    assert len(result.calls("virDomainGetName", step.pid)) == CALLS
    seen_or_told(result, json.loads(out)["pid"], copies[1])
    theirs = [
        event
        for event in result.events
        if event["type"] == "unattached" and event["path"].startswith(str(neighbour.folder))
    ]
    # a program is no library, which is nothing to tell
    assert (0 if kind == "programs" else 1) <= len(theirs) <= 30
