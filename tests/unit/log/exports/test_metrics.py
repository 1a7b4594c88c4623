# SPDX-License-Identifier: LGPL-2.1-or-later
"""Metering for Prometheus: exact, few, true to its format by its own tools, and shown whatever
clients do.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from log.errors import TraceError
from log.events import Event, Lost, Reads, VerdictInfo
from log.exports import exposition
from log.exports.metering import MOST_SERIES, Metering
from log.exports.metrics import Metrics, MetricsOfRecord
from log.sinks.exporter import Gauge
from log.values import Handle, Values
from tests.needs import PATIENCE, ROOT
from tests.unit.log_samples import CALLER, DESTROY, HOSTILE, LOST, START, WEB1, any_text
from tests.unpacked import free_port, unpacked

RULES = ROOT / "integrations" / "prometheus"
SOON = 20 * PATIENCE  # s
QEMU = Values({"domain": Handle("domain", {"name": "web1", "driver": "QEMU"})})
WRITE = DESTROY._replace(args=QEMU)
READ = WRITE._replace(function="virDomainGetInfo", write=False, duration_ns=9_000)
DENIED = WRITE._replace(duration_ns=None, verdict=VerdictInfo("deny", "keep-web"))


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, *(sample.labels[label] for label in sorted(sample.labels)))
            assert key not in found
            found[key] = sample.value
    return found


def numbers_of(*events: Event) -> dict[tuple[str, ...], float]:
    numbers = Metering()
    numbers.add(events)
    return samples(numbers.text().decode())


def test_calls_are_counted_by_function_and_driver():
    found = numbers_of(
        *[WRITE] * 23, *[WRITE._replace(failed=True)] * 7, *[DENIED] * 5, *[READ] * 11
    )
    write, read = ("QEMU", "virDomainDestroyFlags"), ("QEMU", "virDomainGetInfo")
    assert found["libvirt_calls_total", *write] == 35
    assert found["libvirt_failed_calls_total", *write] == 7
    assert found["libvirt_denied_calls_total", *write] == 5
    assert found["libvirt_calls_total", *read] == 11
    assert found["libvirt_rule_verdicts_total", "deny", "keep-web"] == 5
    assert found["libvirt_clients",] == 1


def test_durations_reach_from_10_us_to_a_minute():
    times = {10_000: "1e-05", 10_001: "2.5e-05", 4_100_000: "0.005", 60 * 10**9: "60.0"}
    for ns, bound in times.items():
        found = numbers_of(WRITE._replace(duration_ns=ns))
        buckets = {
            key[2]: count
            for key, count in found.items()
            if key[:2] == ("libvirt_call_duration_seconds_bucket", "write")
        }
        assert next(le for le, count in buckets.items() if count) == bound
        assert buckets["+Inf"] == found["libvirt_call_duration_seconds_count", "write"] == 1
        assert found["libvirt_call_duration_seconds_sum", "write"] == ns / 1e9
    long = numbers_of(WRITE._replace(duration_ns=61 * 10**9))
    assert long["libvirt_call_duration_seconds_bucket", "write", "60.0"] == 0
    assert long["libvirt_call_duration_seconds_bucket", "write", "+Inf"] == 1


def test_daemons_calls_tell_how_long_they_waited_and_count_once():
    child = WRITE._replace(parent=f"77-{START - 30_000}", time=START)
    found = numbers_of(WRITE, child, DENIED._replace(parent=f"77-{START - 1}"))
    assert found["libvirt_calls_total", "QEMU", "virDomainDestroyFlags"] == 2
    assert found["libvirt_daemon_queue_seconds_count",] == 2
    assert found["libvirt_daemon_queue_seconds_sum",] == pytest.approx(30_001e-9)


def test_losses_and_counted_reads_are_numbers():
    reads = Reads(START, START, CALLER, "virsh", None, "virDomainGetInfo", WEB1, 100, 3, 10**9, 9)
    lost = Lost(START, 5, "processes", "no memory", details=2)
    found = numbers_of(LOST, lost, reads, reads._replace(caused=True))
    assert found["libvirt_trace_lost_calls_total", "read"] == 12
    assert found["libvirt_trace_lost_calls_total", "write"] == 0
    assert found["libvirt_trace_lost_calls_total", "processes"] == 5
    assert found["libvirt_trace_lost_details_total",] == 2
    assert found["libvirt_calls_total", "unknown", "virDomainGetInfo"] == 100
    assert found["libvirt_failed_calls_total", "unknown", "virDomainGetInfo"] == 3
    assert found["libvirt_call_duration_seconds_sum", "read"] == pytest.approx(1.0)


def worst() -> list[Event]:
    """Everything that a caller can choose, and more of it than fits."""
    events: list[Event] = []
    for at in range(2000):
        driver = Values({"domain": Handle("domain", {"driver": f"{HOSTILE}{at}"})})
        call = WRITE._replace(
            function=f"f{at}",
            args=driver if at % 2 else QEMU,
            write=bool(at & 2),
            failed=True,
            verdict=VerdictInfo("deny" if at & 1 else f"a{at}", f"{HOSTILE}{at}"),
            caller=CALLER._replace(pid=at, exe=f"/{at}"),
        )
        events += [call, call._replace(verdict=None), LOST._replace(ring=f"r{at}")]
    return events


def test_there_are_few_series_whatever_clients_do(tmp_path: Path):
    found = Metrics(str(tmp_path / "x.prom"))
    found.numbers.exporters = [Waiting()] * 4  # type: ignore[list-item]
    found.know([Gauge(f"gauge{at}", "Of others.", lambda: 1.0) for at in range(20)])
    found.tick(3)
    events = worst()
    found.write(events)
    text = found.numbers.text().decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert 350 < len(lines) <= MOST_SERIES
    assert check(text) == ""
    total = sum(value for key, value in samples(text).items() if key[0] == "libvirt_calls_total")
    assert total == 4000
    assert samples(text)["libvirt_clients",] == 2000
    found.close()


class Waiting:
    """An exporter; each has another name."""

    made = 0

    def health(self) -> tuple[str, int, int, int, bool]:
        from log.sinks.exporter import Health

        Waiting.made += 1
        return Health(f"e{Waiting.made}", 1, 2, 3, True)


def check(text: str) -> str:
    """What promtool complains of."""
    done = subprocess.run(
        [unpacked("usr/bin/promtool", "unit"), "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        timeout=SOON,
    )
    return done.stdout + done.stderr


@settings(max_examples=50)
@given(st.lists(st.tuples(any_text, any_text, any_text, st.booleans()), max_size=8))
def test_hostile_names_are_one_label(names: list[tuple[str, str, str, bool]]):
    events = [
        WRITE._replace(function=function, write=write, verdict=VerdictInfo(action, rule))
        for function, rule, action, write in names
    ]
    found = numbers_of(*events)
    assert sum(count for key, count in found.items() if key[0] == "libvirt_calls_total") == len(
        events
    )


def test_rules_for_alerts_hold():
    promtool = unpacked("usr/bin/promtool", "unit")
    for words in (("test", "rules", "alerts_test.yml"), ("check", "config", "prometheus.yml")):
        done = subprocess.run(
            [promtool, *words], cwd=RULES, capture_output=True, text=True, timeout=SOON
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_file_for_node_exporter_is_whole_and_readable(tmp_path: Path):
    path = tmp_path / "libvirt.prom"
    before = os.umask(0o077)
    try:
        metrics = Metrics(str(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    metrics.write([WRITE] * 3)
    metrics.close()
    found = samples(path.read_text())
    assert found["libvirt_calls_total", "QEMU", "virDomainDestroyFlags"] == 3
    assert [each.name for each in tmp_path.iterdir()] == ["libvirt.prom"]


def test_record_is_counted_as_a_whole(tmp_path: Path):
    target = MetricsOfRecord(str(tmp_path / "x.prom"))
    target.send(None, [WRITE] * 5)
    target.flush()
    assert "5.0" in (tmp_path / "x.prom").read_text()
    with pytest.raises(TraceError, match="go to a file"):
        MetricsOfRecord("127.0.0.1:9179")


@pytest.mark.parametrize("where", ["", "9179", "localhost:9179", "127.0.0.1:", "127.0.0.1:99999"])
def test_address_that_is_none_is_said(where: str):
    with pytest.raises(TraceError, match="is no address and port: say 127"):
        Metrics(where)


def test_address_in_use_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(TraceError, match=f"{where}: can't listen there: address already in"):
            Metrics(where)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)  # type: ignore[misc]
    with pytest.raises(TraceError, match="install the package python3-prometheus-client"):
        Metrics("127.0.0.1:0")


def get(port: int, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=SOON) as answer:
        text: str = answer.read().decode()
        return text


def test_page_is_answered_beside_clients_that_stall(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exposition, "_REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(exposition, "_LOOK_AGAIN", 0.05)
    port = free_port()
    metrics = Metrics(f"127.0.0.1:{port}")
    metrics.write([WRITE])
    assert "libvirt_calls_total" in get(port)
    for path in ("/", "/metrics/../etc/passwd"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(port, path)
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", b"x", timeout=SOON)
    stalled = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    for one in stalled[:8]:
        one.send(b"GET /metrics HT")
    # each is ended, by its limit or as one too many; then there is room again
    for one in stalled:
        one.settimeout(SOON)
        try:
            while one.recv(1 << 16):
                pass
        except ConnectionError:
            pass
        one.close()
    assert "libvirt_calls_total" in get(port)
    metrics.close()
    with pytest.raises(OSError):
        get(port)


def test_ipv6_is_listened_on():
    port = free_port()
    metrics = Metrics(f"[::1]:{port}")
    metrics.write([WRITE])
    with socket.create_connection(("::1", port), timeout=SOON) as one:
        one.send(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert one.recv(12) == b"HTTP/1.0 200"
    metrics.close()


def test_what_names_series_has_room_for_so_many(monkeypatch: pytest.MonkeyPatch):
    for name, most in {"MOST_FUNCTIONS": 3, "MOST_RULES": 2, "MOST_CLIENTS": 4}.items():
        monkeypatch.setattr(f"log.exports.metering.{name}", most)
    metering = Metering()
    for number in range(9):
        metering.add(
            [
                DESTROY._replace(
                    function=f"virDomain{number}",
                    caller=CALLER._replace(pid=number),
                    verdict=VerdictInfo("deny", f"rule {number}"),
                )
            ]
        )
    assert metering.clients() == 4
    found = [metric for family in metering.collect() for metric in family.samples]
    calls = {one.labels["function"]: one.value for one in found if "function" in one.labels}
    rules = {one.labels["rule"] for one in found if "rule" in one.labels}
    assert len(calls) == 4 and len(rules) == 3, "the rest is counted together"


def test_so_many_connections_are_open_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exposition, "_MOST_CONNECTIONS", 2)
    monkeypatch.setattr(exposition, "_REQUEST_SECONDS", 1000.0)
    port = free_port()
    metrics = Metrics(f"127.0.0.1:{port}")
    metrics.write([WRITE])  # begins
    waiting = [socket.create_connection(("127.0.0.1", port), timeout=SOON) for _ in range(4)]
    for one in waiting[2:]:
        assert one.recv(1) == b"", "it is one too many"
    for one in waiting[:2]:  # these are heard
        one.send(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert one.recv(12) == b"HTTP/1.0 200"
    for one in waiting:
        one.close()
    metrics.close()
