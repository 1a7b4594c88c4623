# SPDX-License-Identifier: LGPL-2.1-or-later
"""What real programs do arrives in a real journal and a real Prometheus, live and from a record,
and a target that is bad holds nobody up.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from log.exports.told import MESSAGE_IDS
from tests.collector import Collector, answer
from tests.journald import JOURNALD, Journald, journald
from tests.needs import PATIENCE, PYTHON, ROOT, lack
from tests.recorded import ask, run_record
from tests.tracing import Tracer
from tests.unpacked import free_port, unpacked

WORK = """
import libvirt, sys
libvirt.registerErrorHandler(lambda *_: None, None)
input()
connection = libvirt.open("test:///default")
domain = connection.lookupByName("test")
for number in range(23):
    domain.setMemory(1024 + number)
    domain.info()
try:
    domain.resume()
except libvirt.libvirtError:
    pass
domain.suspend()
print("done", flush=True)
input()
"""
SOON = 60 * PATIENCE  # s


@pytest.fixture(scope="module")
def journal() -> Iterator[Journald]:
    """A real one."""
    if not os.path.exists(JOURNALD):
        lack("kernel", "systemd-journald is not installed")
    with journald() as found:
        yield found


@pytest.fixture
def program() -> Iterator[subprocess.Popen[str]]:
    """It waits for two lines: one begins its work, one ends it."""
    made = subprocess.Popen(
        [PYTHON, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield made
    made.kill()
    made.communicate()


def work(program: subprocess.Popen[str]) -> None:
    """Have it done."""
    assert program.stdin and program.stdout
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "done\n"


@contextmanager
def prometheus(
    port: int, folder: Path
) -> Iterator[Callable[[str], list[tuple[dict[str, str], str]]]]:
    """Debian's, which scrapes that port of this host; yields what answers a query."""
    program = unpacked("usr/bin/prometheus", "kernel")
    config = (ROOT / "integrations/prometheus/prometheus.yml").read_text()
    config = config.replace("9179", str(port)).replace("30s", "250ms").replace("127.0.0.1:9179", "")
    (folder / "prometheus.yml").write_text(config)
    (folder / "alerts.yml").write_bytes((ROOT / "integrations/prometheus/alerts.yml").read_bytes())
    own = free_port()
    process = subprocess.Popen(
        [
            program,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{own}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )

    def ask(query: str) -> list[tuple[dict[str, str], str]]:
        url = f"http://127.0.0.1:{own}/api/v1/query?query={urllib.parse.quote(query)}"
        try:
            with urllib.request.urlopen(url, timeout=SOON) as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:
            return []
        return [(sample["metric"], sample["value"][1]) for sample in found]

    try:
        yield ask
    finally:
        process.terminate()
        process.communicate()


def until(ask: Callable[[], object], wanted: object) -> None:
    """It answers that, soon."""
    deadline = time.monotonic() + SOON
    while (found := ask()) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_real_prometheus_and_journal_get_what_happens(
    journal: Journald, program: subprocess.Popen[str], tmp_path: Path
):
    port = free_port()
    tracer = Tracer(
        *("-p", str(program.pid), "--metrics", f"127.0.0.1:{port}"),
        *("--export", f"journal={journal.socket}"),
    )
    tracer.wait_attached()
    with prometheus(port, tmp_path) as ask:
        work(program)
        until(
            lambda: [
                value for _, value in ask('libvirt_calls_total{function="virDomainSetMemory"}')
            ],
            ["23"],
        )
        until(lambda: ask('sum(libvirt_failed_calls_total{driver="Test"})'), [({}, "1")])
        assert ask("sum(libvirt_clients)") == [({}, "1")]
        assert float(ask("sum(libvirt_trace_lost_calls_total)")[0][1]) == 0
        assert ask('up{job="libvirt-trace"}')[0][1] == "1"
        assert ask("libvirt_open_call_age_seconds")
        assert ask("sum(libvirt_owed)") == [({}, "1")]  # the domain is paused
    found = journal.wait_for(23, "LIBVIRT_FUNCTION=virDomainSetMemory")
    result = tracer.stop()
    made = {call["id"] for call in result.calls("virDomainSetMemory")}
    assert {entry["LIBVIRT_ID"] for entry in found} == made and len(made) == 23
    for entry in found:
        assert entry["OBJECT_PID"] == str(program.pid)
        # what the journal has found out by itself
        assert entry["OBJECT_COMM"] == "python3" and entry["OBJECT_UID"] == "0"
        assert os.path.samefile(entry["OBJECT_EXE"], PYTHON)
        assert entry["MESSAGE_ID"] == MESSAGE_IDS["write"] and entry["PRIORITY"] == "6"
    (failed,) = journal.entries("LIBVIRT_FUNCTION=virDomainResume")
    assert failed["LIBVIRT_OUTCOME"] == "failed" and failed["PRIORITY"] == "5"
    assert not journal.entries("LIBVIRT_FUNCTION=virDomainGetInfo")
    assert len(journal.entries(f"MESSAGE_ID={MESSAGE_IDS['end']}")) == 1
    assert "not_exported" not in result.end


def test_record_goes_to_the_journal_with_its_anchor(journal: Journald, tmp_path: Path):
    folder = tmp_path / "record"
    code = WORK.replace("input()", "")
    done = run_record(folder, "--export", f"journal={journal.socket}", "--", PYTHON, "-c", code)
    assert done.returncode == 0, done.stderr
    (segment,) = folder.glob("*.zst")
    anchors = journal.wait_for(2, f"MESSAGE_ID={MESSAGE_IDS['anchor']}")
    assert all(segment.name in entry["MESSAGE"] for entry in anchors)
    lines = "".join(entry["MESSAGE"] + "\n" for entry in anchors)
    verdict = ask("verify", folder, "--anchor", "-", stdin=lines.encode())
    assert verdict.returncode == 0 and b"2 in the system's log agree" in verdict.stdout, verdict


def test_spans_of_real_calls_are_the_same_live_and_from_the_record(tmp_path: Path):
    live, again = Collector([answer("503 Busy", "Retry-After: 0")]), Collector()
    folder = tmp_path / "record"
    code = WORK.replace("input()", "")
    words = ("--reads", "full", "--otlp", live.url, "--", PYTHON, "-c", code)
    done = run_record(folder, *words)
    assert done.returncode == 0 and "not exported" not in done.stderr, done.stderr
    live.judge()
    assert [span["name"] for span in live.spans()].count("virDomainSetMemory") == 23
    for _ in range(2):
        sent = ask("export", folder, "--to", f"otlp={again.url}")
        assert sent.returncode == 0, sent.stderr
    key = str
    assert sorted(again.spans(), key=key) == sorted(live.spans(), key=key)
    live.close()
    again.close()


def test_target_that_is_bad_holds_nobody_up(program: subprocess.Popen[str], tmp_path: Path):
    place = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(place))  # and never reads
        tracer = Tracer("-p", str(program.pid), "--export", f"journal={place}")
        tracer.wait_attached()
        work(program)
        tracer.wait_for(lambda event: event.get("function") == "virDomainResume")
        result = tracer.stop()
    assert len(result.calls("virDomainSetMemory")) == 23
    assert result.end["not_exported"] > 0
    assert f"{place}: " in result.stderr and "events were not sent (" in result.stderr
    assert f"; {result.end['not_exported']} events not exported" in result.stderr
