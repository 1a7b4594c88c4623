# SPDX-License-Identifier: LGPL-2.1-or-later
"""`python3 -m tests.bench.soak [--minutes M] [--times N]`: a recorder on a host with 100 domains
that three exporters poll every 10 s, N times as often; whether its memory and processor time stay
as they are, and whether each call is written, counted or told as lost. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.needs import PATIENCE, PYTHON
from tests.recorded import TRACER, ask, lines_of

DOMAINS, EXPORTERS, EVERY = 100, 3, 10.0
MOST_CORE, MOST_RESIDENT = 0.005, 100  # of a core, at a rate of 1; MB
MOST_GROWTH = 1.03  # in the last quarter of the time
TICK = os.sysconf("SC_CLK_TCK")
POLL = """
import json, libvirt, signal, sys, time
path, every = sys.argv[1], float(sys.argv[2])
ends = []
signal.signal(signal.SIGTERM, lambda *_: ends.append(1))
connection = libvirt.open("test://" + path)
print("ready", flush=True)
sys.stdin.readline()
calls, due = 0, time.monotonic()
while not ends:
    domains = connection.listAllDomains()
    calls += 1
    for domain in domains:
        domain.name(); domain.info(); domain.state(); domain.maxMemory(); domain.isActive()
        domain.autostart(); domain.isPersistent(); domain.vcpusFlags(0)
        calls += 8
    due = max(due + every, time.monotonic())
    while not ends and (left := due - time.monotonic()) > 0:
        time.sleep(min(left, 0.2))
print(json.dumps(calls), flush=True)
sys.stdin.readline()
"""


class Sample(NamedTuple):
    """What the recorder has used."""

    time: float  # s
    processor: float  # s
    own: float  # MB: resident, and nobody else's
    buffers: float  # MB: of the kernel's that it looks into


def main() -> None:
    """Polls, watches, and counts afterwards."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench.soak")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--times", type=float, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="libvirt-trace-soak-") as name:
        _soak(Path(name), options.minutes, options.times)


def _soak(folder: Path, minutes: float, times: float) -> None:
    host = folder / "host.xml"
    host.write_text(f"<node>{''.join(map(_domain, range(DOMAINS)))}</node>")
    exporters = [
        subprocess.Popen(
            [PYTHON, "-c", POLL, host, str(EVERY / times)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(EXPORTERS)
    ]
    record = folder / "record"
    which = [word for one in exporters for word in ("-p", str(one.pid))]
    recorder: subprocess.Popen[bytes] | None = None
    try:
        for one in exporters:
            assert one.stdout and one.stdout.readline() == "ready\n"
        recorder = subprocess.Popen([*TRACER, "record", record, *which])
        deadline = time.monotonic() + 60 * PATIENCE
        while not (record.exists() and b"attached to" in ask("log", record).stdout):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        for one in exporters:
            assert one.stdin
            one.stdin.write("\n")
            one.stdin.flush()
        samples = _watch(recorder.pid, minutes * 60)
        made = 0
        for one in exporters:
            one.terminate()
        for one in exporters:
            assert one.stdout
            made += json.loads(one.stdout.readline())
        recorder.send_signal(signal.SIGTERM)
        recorder.wait(60 * PATIENCE)
    finally:
        for process in exporters:
            process.kill()
            process.wait()
        if recorder:
            recorder.kill()
            recorder.wait()
    _tell(record, made, samples, times)


def _domain(number: int) -> str:
    return (
        f"<domain type='test'><name>vm{number}</name><memory>65536</memory>"
        "<os><type>hvm</type></os></domain>"
    )


def _watch(pid: int, seconds: float) -> list[Sample]:
    samples, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used = (int(fields[11]) + int(fields[12])) / TICK
        samples.append(Sample(time.monotonic(), used, *_memory(pid)))
        time.sleep(min(seconds / 100, 10))
    return samples


def _memory(pid: int) -> tuple[float, float]:
    """A ring is mapped twice, one behind the other, and is there once."""
    resident, rings, label = 0, 0, ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if words[0] == "Rss:":
            if label == "anon_inode:bpf-map":
                rings += int(words[1])
            else:
                resident += int(words[1])
        elif not words[0].endswith(":"):
            label = words[-1]
    return resident / 1e3, rings / 2e3


def _median(samples: list[Sample], first: float, last: float) -> float:
    """Of what it had for itself in that part of the time (MB)."""
    part = samples[int(first * len(samples)) : max(int(last * len(samples)), 1)]
    return median(sample.own for sample in part or samples[-1:])


def _tell(record: Path, made: int, samples: list[Sample], times: float) -> None:
    lines = lines_of(record)
    written = sum(line["type"] in ("call", "unfinished") for line in lines)
    counted = sum(line["calls"] for line in lines if line["type"] == "reads")
    lost = sum(line["count"] for line in lines if line["type"] == "lost")
    size = sum(file.stat().st_size for file in record.glob("*.zst"))
    half = samples[len(samples) // 2 :]
    span = half[-1].time - half[0].time
    core = (half[-1].processor - half[0].processor) / span
    tenths = [_median(samples, tenth / 10, (tenth + 1) / 10) for tenth in range(10)]
    before, after = _median(half, 0, 0.5), _median(half, 0.5, 1)
    took = samples[-1].time - samples[0].time
    print(f"{made} calls made in {took:.0f} s, {made / took:.0f} a second")
    print(f"{written} written + {counted} counted + {lost} lost = {written + counted + lost}")
    print(f"processor: {100 * core:.2f} % of a core")
    print(
        f"resident: {', '.join(f'{own:.1f}' for own in tenths)} MB in each tenth of the time, "
        f"and {samples[-1].buffers:.1f} MB of buffers"
    )
    print(f"record: {size} bytes, {size / took * 86400 / 1e6:.1f} MB a day")
    print(ask("verify", record).stdout.decode(), end="")
    faults = []
    if written + counted + lost < made:  # of those lost, some may be others
        faults.append("calls are missing that nothing tells of")
    if samples[-1].own > MOST_RESIDENT:
        faults.append(f"more than {MOST_RESIDENT} MB")
    if times == 1 and core > MOST_CORE:
        faults.append(f"more than {100 * MOST_CORE} % of a core")
    # until then its caches fill, and what it knows of the host's processes
    if after > MOST_GROWTH * before:
        faults.append(f"its memory grows: {before:.1f} MB in the third quarter, {after:.1f} then")
    if faults:
        sys.exit(f"soak: {'; '.join(faults)}")


main()
