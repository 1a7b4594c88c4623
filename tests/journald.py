# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd's journal, run by itself in a mount namespace of its own: it takes what is sent to its
socket and nothing of this host's.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.needs import PATIENCE

JOURNALD = "/lib/systemd/systemd-journald"
# /run and what would keep the journal are empty there
BEGIN = f"""
set -e
for folder in /run /var/log; do mount -t tmpfs tmpfs $folder; done
mkdir -p /run/systemd/journal /run/log/journal
exec {JOURNALD}
"""
Entry = dict[str, Any]


class Journald:
    """It runs; `socket` is where this process reaches it."""

    def __init__(self, pid: int) -> None:
        self._root = Path(f"/proc/{pid}/root")
        self.socket = str(self._root / "run/systemd/journal/socket")

    def entries(self, *matches: str) -> list[Entry]:
        """What it has, as journalctl reads it; FIELD=VALUE."""
        argv = ["journalctl", "-D", str(self._root / "run/log/journal"), "-o", "json", "--all"]
        done = subprocess.run([*argv, *matches], capture_output=True, text=True, timeout=60)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def wait_for(self, count: int, *matches: str) -> list[Entry]:
        """The entries, when there are so many: it writes after it has answered."""
        deadline = time.monotonic() + 20 * PATIENCE
        while len(found := self.entries(*matches)) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(found) == count, found
        return found


@contextmanager
def journald() -> Iterator[Journald]:
    """A journal, for as long as it takes."""
    process = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", BEGIN],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        found = Journald(process.pid)
        deadline = time.monotonic() + 20 * PATIENCE
        # before it has a root of its own, this is the host's
        host = os.stat("/run").st_dev
        while os.stat(f"/proc/{process.pid}/root/run").st_dev == host or not os.path.exists(
            found.socket
        ):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        yield found
    finally:
        process.terminate()
        process.wait()
