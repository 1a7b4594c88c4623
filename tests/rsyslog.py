# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's rsyslog, unpacked and not installed: with the configuration that is shipped, but for
its places, it listens on ports of this host.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.needs import PATIENCE, ROOT
from tests.unpacked import LIBRARIES, free_port, unpacked

CONFIG = ROOT / "integrations" / "rsyslog" / "libvirt-trace.conf"


class Rsyslog:
    """It runs; `port` and `tls` are where it listens."""

    def __init__(self, port: int, tls: int, out: Path) -> None:
        self.port, self.tls, self._out = port, tls, out

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """What it has written, when there is so much."""
        deadline = time.monotonic() + 20 * PATIENCE
        lines: list[str] = []
        while len(lines) < count and time.monotonic() < deadline:
            time.sleep(0.02)
            lines = self._out.read_text().splitlines() if self._out.exists() else []
        assert len(lines) == count, lines
        return [json.loads(line) for line in lines]


@contextmanager
def rsyslog(folder: Path, certificate: Path, key: Path, tag: str = "unit") -> Iterator[Rsyslog]:
    """A server, for as long as it takes."""
    port, tls = free_port(), free_port()
    config = folder / "rsyslog.conf"
    text = CONFIG.read_text()
    for place, ours in {
        "/etc/ssl/certs/ca-certificates.crt": certificate,
        "/etc/rsyslog.d/server.pem": certificate,
        "/etc/rsyslog.d/server.key": key,
        "/var/log/libvirt-trace.json": folder / "out",
        'port="601"': f'address="127.0.0.1" port="{port}"',
        'port="6514"': f'address="127.0.0.1" port="{tls}"',
    }.items():
        assert text.count(place) == 1
        text = text.replace(place, str(ours))
    config.write_text(f'global(workDirectory="{folder}")\n{text}')
    process = subprocess.Popen(
        [unpacked("usr/sbin/rsyslogd", tag), "-n", "-f", config, "-i", folder / "pid",
         "-M", LIBRARIES / "rsyslog"],
        env={**os.environ, "LD_LIBRARY_PATH": str(LIBRARIES)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 20 * PATIENCE
        for each in (port, tls):
            while True:
                assert process.poll() is None, process.communicate()[1]
                try:
                    socket.create_connection(("127.0.0.1", each), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
        yield Rsyslog(port, tls, folder / "out")
    finally:
        process.terminate()
        process.communicate()
