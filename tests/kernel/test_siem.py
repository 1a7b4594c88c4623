# SPDX-License-Identifier: LGPL-2.1-or-later
"""The forms for security programs, live: on the screen and in the file."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.kernel.conftest import TRACER
from tests.needs import PATIENCE

SCRIPT = "suspend test; resume test; dominfo no|such=web"


def test_screen_and_file_have_the_same_lines_with_this_host(tmp_path: Path) -> None:
    file = tmp_path / "calls.ocsf"
    virsh = ["virsh", "-c", "test:///default", SCRIPT]
    argv = [*TRACER, "--format", "ocsf", "--cmdline", "full", "-o", str(file), "--", *virsh]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60 * PATIENCE)
    assert " 0 lost in " in done.stderr
    lines = file.read_text().splitlines()
    assert set(lines) <= set(done.stdout.splitlines())
    events = [json.loads(line) for line in lines]
    calls = [event for event in events if event["class_name"] == "API Activity"]
    assert {event["device"]["hostname"] for event in events} == {os.uname().nodename}
    assert {event["actor"]["process"]["cmd_line"] for event in calls} == {
        f"virsh -c test:///default '{SCRIPT}'"
    }
    told = {event["api"]["operation"]: event for event in calls}
    assert told["virDomainSuspend"]["status"] == "Success"
    assert told["virDomainSuspend"]["resources"][0]["name"] == "test"
    missed = [event for event in calls if event["status"] == "Failure"]
    assert {event["status_code"] for event in missed} >= {"VIR_ERR_NO_DOMAIN"}
    assert "no|such=web" in {thing["name"] for e in missed for thing in e.get("resources", ())}
