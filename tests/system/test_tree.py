# SPDX-License-Identifier: LGPL-2.1-or-later
"""The start of a QEMU guest on the screen: what its monitor was asked hundreds of times is one
line; JSON has it all.
"""

from __future__ import annotations

import collections
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from log.filters.asking import only_asks
from tests.daemon import DOMAIN
from tests.needs import PATIENCE, PYTHON, ROOT

_told = re.compile(
    r"    monitor (?:(?P<all>\{.*\}) <\S+>|(?P<name>[a-z-]+), (?P<count>[0-9]+) "
    r"times <[0-9.]+[mu]?s>)$"
)


@pytest.mark.parametrize(
    "options", [["--tree"], ["--tree", "full"], ["--tree", "-w"]], ids=" ".join
)
def test_start_of_a_guest_as_a_tree(libvirtd, tmp_path: Path, options: list[str]) -> None:
    name, log = f"tree-{os.getpid()}", tmp_path / "log.json"
    description = tmp_path / "domain.xml"
    description.write_text(DOMAIN.format(name=name))
    command = ["virsh", "-q", "-c", libvirtd.uri, f"create {description}; destroy {name}"]
    tracer = [
        PYTHON,
        "-E",
        "-s",
        ROOT / "tracer.py",
        "-s",
        "4096",
        "-o",
        log,
        *options,
        "--",
        *command,
    ]
    done = subprocess.run(
        tracer, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60 * PATIENCE
    )
    assert done.returncode == 0 and ", 0 lost in " in done.stderr, done.stderr
    events = [json.loads(line) for line in log.read_text().splitlines()]
    in_json = collections.Counter(
        json.loads(event["text"])["execute"] for event in events if event["type"] == "monitor"
    )
    on_screen: collections.Counter[str] = collections.Counter()
    lines = [line for line in done.stdout.splitlines() if "    monitor " in line]
    for line in lines:
        told = _told.search(line)
        assert told, line
        on_screen[told["name"] or json.loads(told["all"])["execute"]] += int(told["count"] or 1)
    assert on_screen == in_json
    changing = [
        text
        for event in events
        if event["type"] == "monitor" and not only_asks(text := event["text"])
    ]
    assert all(any(text in line for line in lines) for text in changing) and len(changing) >= 1
    # up to libvirt 11 qom-get, hundreds of times; later only what a new QEMU is asked
    most = max(in_json.values())
    if options == ["--tree"]:
        assert most <= 20 or len(lines) < in_json.total() - most + 10, (in_json, lines)
    elif options == ["--tree", "full"]:
        assert len(lines) == in_json.total()
    else:
        assert "qom-get" not in in_json and len(lines) == in_json.total()
