# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many events a second each export sends to a receiver of this host that takes all, and what
that costs the tracer: the time that its own thread spends, and the processor time of all.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from log.events import Event
from log.exports.exporters import open_exporters
from log.sinks.exporter import Exporter
from log.sinks.files.sink import Sink
from log.values import Handle, Values
from probes.host.libraries.library import Target
from tests.bench.runs import Programs, Rounds
from tests.bench.table import Row
from tests.needs import PYTHON
from tests.unit.log_samples import DESTROY

PART = "exports"
EVENTS, QUICK_EVENTS = 20_000, 1_000
BATCH = 200  # events
# what takes everything, in a process of its own
JOURNAL = """
import socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
    one.bind(sys.argv[1])
    print(flush=True)
    while True:
        one.recv(1 << 20)
"""
STREAM = """
import socketserver, sys
class Take(socketserver.StreamRequestHandler):
    def handle(self):
        while self.request.recv(1 << 20):
            pass
with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Take) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""
COLLECTOR = """
import http.server
class Take(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Take) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""


def rows(programs: Programs, target: Target, rounds: Rounds) -> list[Row]:
    """The median of each."""
    count = QUICK_EVENTS if rounds.quick else EVENTS
    table: list[Row] = []
    for name, receiver in (
        ("journal", _journal),
        ("syslog", _syslog),
        ("otlp", _otlp),
        ("prometheus", _prometheus),
    ):
        with receiver(programs.folder) as words:
            found = [_measure(words, _events(count)) for _ in range(rounds.number)]
        each, own, processor = (statistics.median(column) for column in zip(*found, strict=True))
        table += [
            Row(PART, f"{name}: events a second", each, "events"),
            Row(PART, "  an event, of the tracer's own thread", own, "ns"),
            Row(PART, "  an event, processor time in all", processor, "ns"),
        ]
    return table


def _events(count: int) -> list[Event]:
    """Writes, on 100 domains."""
    about = [
        Values({"domain": Handle("domain", {"name": f"vm{at}", "uuid": f"{at:032x}"})})
        for at in range(100)
    ]
    return [
        DESTROY._replace(time=DESTROY.time + at * 1000, args=about[at % 100]) for at in range(count)
    ]


def _measure(words: str, events: list[Event]) -> tuple[float, float, float]:
    """Events a second; ns an event of the thread that hands them over, and of all threads."""
    said: list[str] = []
    (sink,) = open_exporters([words], said.append)
    begun, processor, own = time.perf_counter(), time.process_time(), 0.0
    for at in range(0, len(events), BATCH):
        batch = events[at : at + BATCH]
        before = time.thread_time()
        sink.write(batch)
        own += time.thread_time() - before
    if isinstance(sink, Exporter):
        dropped = sink.finish(time.monotonic() + 120)
        assert not dropped and not said, said
    spent = time.perf_counter() - begun
    processor = time.process_time() - processor
    _close(sink)
    count = len(events)
    return count / spent, own / count * 1e9, processor / count * 1e9


def _close(sink: Sink) -> None:
    sink.close(lambda idle: True)


@contextlib.contextmanager
def _receiver(program: str, *words: str) -> Iterator[str]:
    """It runs; what it has printed first."""
    process = subprocess.Popen([PYTHON, "-c", program, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def _journal(folder: Path) -> Iterator[str]:
    path = folder / "journal"
    path.unlink(missing_ok=True)
    with _receiver(JOURNAL, str(path)):
        yield f"journal={path}"


@contextlib.contextmanager
def _syslog(folder: Path) -> Iterator[str]:
    with _receiver(STREAM) as port:
        yield f"syslog=tcp://127.0.0.1:{port}"


@contextlib.contextmanager
def _otlp(folder: Path) -> Iterator[str]:
    with _receiver(COLLECTOR) as port:
        yield f"otlp=http://127.0.0.1:{port}"


@contextlib.contextmanager
def _prometheus(folder: Path) -> Iterator[str]:
    yield f"prometheus={folder / 'x.prom'}"
