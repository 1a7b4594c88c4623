# SPDX-License-Identifier: LGPL-2.1-or-later
"""rsyslog, really: one reads the file and sends, another receives and writes a file a host."""

import os
import re
import signal
import subprocess
import time

import pytest

from log.render.siem import cef
from tests.needs import PATIENCE, ROOT
from tests.unit.log.render.siem.samples import EVERY, HOST, hostile
from tests.unpacked import LIBRARIES, free_port, unpacked

RSYSLOG = ROOT / "integrations" / "rsyslog"


def prepared(name, folder, **instead):
    """The configuration with places of this test in it, and what starts rsyslogd with it."""
    text = (RSYSLOG / f"{name}.conf").read_text()
    for old, new in instead.items():
        place = {"port": '"6514"', "target": '"siem.example.org"', "log": "/var/log/libvirt-trace"}
        assert place[old] in text
        text = text.replace(place[old], new)
    file = folder / f"{name}.conf"
    file.write_text(f'global(workDirectory="{folder}")\n{text}')
    # modules lie where the package was unpacked
    argv = [unpacked("usr/sbin/rsyslogd", "integrations"), "-f", str(file)]
    argv += ["-M", str(LIBRARIES / "rsyslog")]
    return argv, {**os.environ, "LD_LIBRARY_PATH": str(LIBRARIES)}


@pytest.fixture
def started():
    running: list[subprocess.Popen[bytes]] = []

    def start(argv, env, folder):
        more = ["-n", "-i", str(folder / f"{len(running)}.pid")]
        running.append(subprocess.Popen([*argv, *more], env=env))

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
        process.wait(30 * PATIENCE)


@pytest.mark.parametrize("name", ["sender", "receiver"])
def test_rsyslog_finds_nothing_wrong(name, tmp_path):
    argv, env = prepared(name, tmp_path)
    done = subprocess.run([*argv, "-N1"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not re.search("error|warning", done.stderr, re.I), done.stderr


def test_lines_arrive_whole_whatever_the_names_are(tmp_path, started):
    port = f'"{free_port()}"'
    events = [*EVERY, hostile("web|1=\n\x1b[31m \\'\"%n"), hostile("=|" * 3000)]
    lines = [cef.line(event, HOST) for event in events]
    received = tmp_path / "received"
    received.mkdir()
    sent = tmp_path / "sent"
    started(*prepared("receiver", tmp_path, port=port, log=str(received)), tmp_path)
    argv = prepared("sender", tmp_path, port=port, target='"127.0.0.1"', log=str(sent))
    (tmp_path / "sent.cef").write_text("".join(lines))
    started(*argv, tmp_path)
    until = time.monotonic() + 30 * PATIENCE
    while time.monotonic() < until:
        files = list(received.glob("*.log"))
        found = files[0].read_text().splitlines() if files else []
        if len(found) >= len(lines):
            break
        time.sleep(0.05)
    (file,) = files
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert [line[line.index("CEF:") :] + "\n" for line in found] == lines
