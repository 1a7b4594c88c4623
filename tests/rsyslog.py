# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's rsyslog, unpacked and not installed: it listens on ports of this host and writes what
it has understood of each message as a line of JSON.
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

from tests.needs import PATIENCE
from tests.unpacked import LIBRARIES, free_port, unpacked

CONFIG = """
global(workDirectory="{folder}" defaultNetstreamDriverCAFile="{certificate}"
       defaultNetstreamDriverCertFile="{certificate}" defaultNetstreamDriverKeyFile="{key}"
       maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off")
module(load="mmpstrucdata")
module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="in")
input(type="imtcp" address="127.0.0.1" port="{tls}" ruleset="in" streamDriver.name="gtls"
      streamDriver.mode="1" streamDriver.authMode="anon")
template(name="line" type="list" option.jsonf="on") {{
  property(outname="message" name="msg" format="jsonf")
  property(outname="host" name="hostname" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="msgid" name="msgid" format="jsonf")
  property(outname="severity" name="syslogseverity" format="jsonf")
  property(outname="facility" name="syslogfacility-text" format="jsonf")
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="data" name="$!rfc5424-sd" format="jsonf")
}}
ruleset(name="in") {{
  action(type="mmpstrucdata")
  action(type="omfile" file="{folder}/out" template="line")
}}
"""


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
    config.write_text(
        CONFIG.format(folder=folder, certificate=certificate, key=key, port=port, tls=tls)
    )
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
