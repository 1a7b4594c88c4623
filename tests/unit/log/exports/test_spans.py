# SPDX-License-Identifier: LGPL-2.1-or-later
"""Spans and logs as a collector gets them: true to OpenTelemetry's own definitions, in the right
trace, the same when sent twice, and none missing whatever the collector answers.
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from log.client import Client
from log.errors import TraceError
from log.events import (
    Caller,
    CallError,
    Command,
    DomainEvent,
    Event,
    Gap,
    VerdictInfo,
    call_id,
)
from log.exports import endpoint, spans
from log.exports.spans import Otlp
from log.render import otlp
from log.render.otlp import ARGS_MAX, span_id, trace_id
from log.sinks import exporter
from log.sinks.exporter import Exporter, Refused, Unsent
from log.values import Values
from tests.collector import OK, Collector, answer
from tests.needs import PATIENCE, ROOT
from tests.recorded import TRACER
from tests.unit.log_samples import (
    CALLER,
    DESTROY,
    END,
    HOSTILE,
    LOST,
    START,
    UNATTACHED,
    WEB1,
    any_text,
    any_values,
    call_on,
)

MS = 1_000_000
SOON = 20 * PATIENCE  # s
DAEMON = Caller(900, "/usr/sbin/libvirtd", ("libvirtd",), 0, "root", None, "libvirtd.service", None)
CLIENT = DESTROY
CLIENT_ID = call_id(CLIENT.tid, CLIENT.time)
SERVED = DESTROY._replace(
    time=START + MS,
    duration_ns=2 * MS,
    tid=901,
    comm="rpc-libvirtd",
    caller=DAEMON,
    parent=CLIENT_ID,
    client=Client(pid=41207, uid=0, user="root", exe="/usr/bin/virsh"),
)
SERVED_ID = call_id(SERVED.tid, SERVED.time)
QMP = Command(START + 2 * MS, 500_000, 901, "rpc-libvirtd", DAEMON, '{"execute":"quit"}', SERVED_ID)
STOPPED = DomainEvent(
    START + 2 * MS, 901, "libvirtd", DAEMON, WEB1, "stopped", "destroyed", SERVED_ID
)
STORY: list[Event] = [QMP, STOPPED, SERVED, CLIENT]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def send(url: str, *batches: Sequence[Event], host: str = "here") -> Otlp:
    target = Otlp(url, live=False)
    for batch in batches:
        target.send(host, batch)
    target.flush()
    target.close()
    return target


def by_name(found: list[dict]) -> dict[str, dict]:  # type: ignore[type-arg]
    return {each["resource"]["service.name"]: each for each in found}


def test_client_daemon_and_monitor_are_one_trace(collector: Collector):
    send(collector.url, STORY)
    collector.judge()
    services = by_name(collector.spans())
    virsh, daemon, qemu = services["virsh"], services["libvirtd"], services["qemu"]
    assert {span["traceId"] for span in (virsh, daemon, qemu)} == {trace_id("here", CLIENT_ID)}
    assert "parentSpanId" not in virsh
    assert daemon["parentSpanId"] == virsh["spanId"] == span_id("here", CLIENT_ID)
    assert qemu["parentSpanId"] == daemon["spanId"] == span_id("here", SERVED_ID)
    assert (virsh["kind"], daemon["kind"], qemu["kind"]) == (3, 2, 2)
    assert virsh["name"] == "virDomainDestroyFlags" and qemu["name"] == "quit"
    times = [(int(s["startTimeUnixNano"]), int(s["endTimeUnixNano"])) for s in (virsh, qemu)]
    assert times == [(START, START + 4_100_000), (START + 2 * MS, START + 2 * MS + 500_000)]
    assert virsh["attributes"]["rpc.system.name"] == "libvirt"
    assert virsh["attributes"]["rpc.response.status_code"] == "VIR_ERR_OK"
    assert virsh["attributes"]["libvirt.object.name"] == "web1"
    assert json.loads(virsh["attributes"]["libvirt.args"])["domain"]["name"] == "web1"
    assert daemon["attributes"]["libvirt.client.user"] == "root"
    assert virsh["resource"]["process.command_args"] == ["virsh", "destroy", "web1"]
    assert virsh["resource"]["host.name"] == "here"
    assert daemon["resource"]["libvirt.unit"] == "libvirtd.service"
    (log,) = collector.logs()
    assert log["traceId"] == virsh["traceId"] and log["spanId"] == daemon["spanId"]
    assert log["eventName"] == "libvirt.domain" and "web1 stopped" in log["body"]["stringValue"]


def test_it_does_not_matter_how_events_are_batched(collector: Collector):
    other = Collector()
    send(collector.url, STORY)
    send(other.url, *([event] for event in STORY))
    key = "spanId"
    assert sorted(collector.spans(), key=lambda s: str(s[key])) == sorted(
        other.spans(), key=lambda s: str(s[key])
    )
    other.close()


def test_what_is_sent_twice_is_the_same(collector: Collector):
    send(collector.url, STORY)
    send(collector.url, STORY)
    first, second = collector.spans()[:3], collector.spans()[3:]
    assert first == second
    ids = {log["attributes"]["log.record.uid"] for log in collector.logs()}
    assert len(ids) == 1 and len(collector.logs()) == 2


def test_hosts_have_other_ids(collector: Collector):
    target = Otlp(collector.url, live=False)
    for host in ("a", "b"):
        target.send(host, [CLIENT])
    target.flush()
    assert len({span["spanId"] for span in collector.spans()}) == 2
    assert {span["resource"]["host.name"] for span in collector.spans()} == {"a", "b"}
    target.close()


def test_failed_denied_and_unfinished_calls_say_so(collector: Collector):
    error = CallError(42, "VIR_ERR_NO_DOMAIN", "VIR_FROM_QEMU", "Domain not found")
    at = [START + number for number in range(4)]
    events = [
        DESTROY._replace(time=at[0], failed=True, error=error),
        DESTROY._replace(
            time=at[1], failed=True, duration_ns=None, verdict=VerdictInfo("deny", "keep", "no")
        ),
        DESTROY._replace(time=at[2], duration_ns=None, unfinished="process exited"),
        DESTROY._replace(time=at[3], failed=None),
    ]
    send(collector.url, events)
    collector.judge()
    found = sorted(collector.spans(), key=lambda span: int(span["startTimeUnixNano"]))
    kinds = ["VIR_ERR_NO_DOMAIN", "denied", "unfinished"]
    assert [span["attributes"].get("error.type") for span in found] == [*kinds, None]
    assert [span.get("status", {}).get("code") for span in found] == [2, 2, 2, None]
    assert found[0]["status"]["message"] == "Domain not found"
    assert "rpc.response.status_code" not in found[3]["attributes"]
    (denial,) = collector.logs()
    assert denial["eventName"] == "libvirt.denied" and denial["severityText"] == "WARN"
    assert denial["attributes"]["libvirt.rule"] == "keep"
    assert denial["spanId"] == found[1]["spanId"] and denial["traceId"] == found[1]["traceId"]


def test_losses_are_logs(collector: Collector):
    send(collector.url, [LOST, Gap(START, START + 1, "killed"), UNATTACHED])
    collector.judge()
    kinds = ["libvirt.lost", "libvirt.gap", "libvirt.unattached"]
    assert [log["eventName"] for log in collector.logs()] == kinds
    assert collector.logs()[0]["attributes"]["libvirt.lost.count"] == 12
    assert len({log["attributes"]["log.record.uid"] for log in collector.logs()}) == 3


def test_causes_that_cant_be_told_apart_are_links(collector: Collector):
    send(collector.url, [SERVED._replace(parent=None, one_of=("1-2", "3-4"))])
    collector.judge()
    (span,) = collector.spans()
    assert span["links"] == [
        {"traceId": trace_id("here", id), "spanId": span_id("here", id)} for id in ("1-2", "3-4")
    ]


def test_inner_calls_are_below_the_outer_one(collector: Collector):
    inner = [CLIENT._replace(time=START + at, depth=1, function=f"inner{at}") for at in (1, 2)]
    send(collector.url, [*inner, CLIENT])
    found = {span["name"]: span for span in collector.spans()}
    for one in ("inner1", "inner2"):
        assert found[one]["parentSpanId"] == found["virDomainDestroyFlags"]["spanId"]
        assert found[one]["traceId"] == found["virDomainDestroyFlags"]["traceId"]
        assert found[one]["kind"] == 1


def test_call_whose_cause_is_never_seen_waits_only_so_long(collector: Collector):
    target = Otlp(collector.url, live=False)
    target.send("here", [QMP, SERVED])
    assert target.holds() == 2 and not collector.spans()
    target.send("here", [call_on("db1")._replace(time=START + 11_000 * MS)])
    found = by_name(collector.spans())
    assert target.holds() == 0
    # the trace that it would be in, if the call is seen later
    assert found["libvirtd"]["traceId"] == trace_id("here", CLIENT_ID)
    assert found["qemu"]["traceId"] == trace_id("here", CLIENT_ID)
    target.close()


def test_live_events_that_wait_are_sent_when_nothing_comes(collector: Collector):
    target = Otlp(collector.url, live=True)
    target.send("here", [SERVED])
    assert target.holds() == 1
    target.send("here", [])  # now is long after it
    assert target.holds() == 0 and len(collector.spans()) == 1
    target.close()


def test_what_waits_has_a_limit(collector: Collector, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spans, "MOST_HELD", 10)
    target = Otlp(collector.url, live=False)
    for at in range(30):
        target.send("here", [SERVED._replace(time=START + at, parent=f"5-{at}")])
        assert target.holds() <= 10
    target.flush()
    assert len(collector.spans()) == 30
    monkeypatch.setattr(spans, "ROOM", 100_000)
    for at in range(30):
        target.send("here", [call_on("x" * 15_000)._replace(time=START + at, parent=f"6-{at}")])
        assert target.holds() < 7
    target.flush()
    assert target.holds() == target._size == 0 and len(collector.spans()) == 60
    target.close()


def test_long_arguments_are_cut(collector: Collector):
    send(collector.url, [call_on("x" * 100_000)])
    (span,) = collector.spans()
    args = span["attributes"]["libvirt.args"]
    assert len(args) == ARGS_MAX + 3 and args.endswith("...")


@settings(max_examples=25)
@given(calls=st.lists(st.tuples(any_text, any_values, any_text), min_size=1, max_size=4))
def test_hostile_text_is_valid(calls: list[tuple[str, Values, str]]):
    collector = Collector()
    events = [
        DESTROY._replace(
            time=START + at,
            function=function or "f",
            args=args,
            comm=comm,
            caller=CALLER._replace(exe=comm, user=HOSTILE, cmdline=(comm, function)),
        )
        for at, (function, args, comm) in enumerate(calls)
    ]
    send(collector.url, events)
    assert len(collector.spans()) == len(events)
    for _, _, body in collector.requests:
        # halves of surrogates can't be encoded
        assert json.dumps(json.loads(body), ensure_ascii=False).encode()
    collector.close()


def test_retried_until_taken_and_nothing_is_missing_or_doubled(collector: Collector):
    later = formatdate(time.time() - 5, usegmt=True)
    made = Collector([
        answer("429 Too Many Requests", "Retry-After: 0"),
        answer("503 Service Unavailable", f"Retry-After: {later}"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{...",
        b"...",
        answer("502 Bad Gateway"),
    ])  # fmt: skip
    target = Otlp(made.url, live=False)
    batch = [call_on("web1")._replace(time=START + at) for at in range(100)]
    for why in ("HTTP 429", "HTTP 503", "cut off", "cut off", "HTTP 502"):
        with pytest.raises(Unsent, match=why) as caught:
            target.send("here", batch)
        assert caught.value.taken == 0
        assert (caught.value.after == 0) == (why in ("HTTP 429", "HTTP 503"))
    target.send("here", batch)
    bodies = {body for _, _, body in made.requests}
    assert len(made.requests) == 6 and len(bodies) == 1
    target.close()
    made.close()


def test_silent_collector_is_left_after_a_while(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(endpoint, "_PATIENCE", 0.2)
    made = Collector([None])
    target = Otlp(made.url, live=False)
    with pytest.raises(Unsent, match="it does not answer"):
        target.send("here", [DESTROY])
    target.close()
    made.close()
    with pytest.raises(Unsent, match="connection refused"):
        send(made.url, [DESTROY])


def test_endless_answer_is_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(endpoint, "_WHOLE", 0.3)
    made = Collector([b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100, None])
    target = Otlp(made.url, live=False)
    with pytest.raises(Unsent):
        target.send("here", [DESTROY])
    target.close()
    made.close()


def test_long_answer_is_not_read():
    made = Collector([answer("200 OK", body=b" " * (1 << 20))])
    send(made.url, [DESTROY], [call_on("db1")])
    assert len(made.spans()) == 2
    made.close()


@pytest.mark.parametrize("place", ["file:///etc/shadow", "http://127.0.0.1:9/", "/elsewhere"])
def test_redirects_are_not_followed(place: str):
    made = Collector([answer("307 Temporary Redirect", f"Location: {place}")])
    with pytest.raises(Refused, match="HTTP 307: it names another place, which is not followed"):
        send(made.url, [DESTROY])
    assert len(made.requests) == 1
    made.close()


def test_rejected_spans_are_counted(collector: Collector):
    told = b'{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old\\u001b[31m"}}'
    made = Collector([answer("200 OK", body=told), answer("200 OK", body=b"[[["), OK])
    target = Otlp(made.url, live=False)
    with pytest.raises(Refused, match="it has taken not all: too old") as caught:
        target.send("here", [call_on("a"), call_on("b"), call_on("c")])
    assert caught.value.count == 2
    target.send("here", [DESTROY])
    target.close()
    made.close()


def test_exporter_counts_what_a_collector_refuses(monkeypatch: pytest.MonkeyPatch):
    made = Collector([answer("400 Bad Request"), answer("503 Busy", "Retry-After: 0")])
    said: list[str] = []
    sink = Exporter("otlp", Otlp(made.url, live=True), said.append, "here")
    sink.write([DESTROY] * 3)
    assert sink.finish(time.monotonic() + SOON) == 3
    sink.write([call_on("db1")])
    assert sink.finish(time.monotonic() + SOON) == 3
    sink.close()
    assert len(made.spans()) == 1
    assert said[-1].startswith(f"{made.url}: 3 events were not sent (HTTP ")
    made.close()


def test_down_collector_costs_the_events_and_not_the_tracing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exporter, "PATIENCE", 0.2)
    sink = Exporter("otlp", Otlp("http://127.0.0.1:1", live=True), lambda line: None, "here")
    begun = time.monotonic()
    for _ in range(100):
        sink.write([DESTROY] * 10)
    assert sink.finish(time.monotonic()) == 1000
    sink.close()
    assert time.monotonic() - begun < SOON


def test_secrets_are_sent_and_not_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-token=s%20ecret, other=1")
    made = Collector()
    url = made.url.replace("//", "//me:pass%40word@") + "/base/?key=secret"
    target = Otlp(url, live=False)
    target.send("here", [DESTROY])
    target.close()
    path, headers, _ = made.requests[0]
    assert path == "/base/v1/traces?key=secret"
    assert headers["authorization"] == "Basic bWU6cGFzc0B3b3Jk"
    assert headers["x-token"] == "s ecret" and headers["content-encoding"] == "gzip"
    assert target.label == made.url
    made.close()


@pytest.mark.parametrize(
    "url",
    ["", "collector:4318", "ftp://h", "http://", "http://h:x", "http://h/\r\nX: y", "file:///x"],
)
def test_no_url_is_said_without_showing_it(url: str):
    with pytest.raises(TraceError, match="that is no URL of a collector") as caught:
        Otlp(url, live=True)
    assert not url or url not in str(caught.value)


def test_certificate_has_to_fit(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    made = Collector(context=context)
    with pytest.raises(Unsent, match="its certificate does not fit: self-signed certificate"):
        send(made.url, [DESTROY])
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(certificate[0]))
    send(made.url, [DESTROY])
    assert len(made.spans()) == 1
    with pytest.raises(Unsent, match=r"its certificate does not fit: .*mismatch"):
        send(made.url.replace("127.0.0.1", "localhost"), [DESTROY])
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent")
    with pytest.raises(TraceError, match="/nonexistent: can't be read: no such file"):
        Otlp(made.url, live=True)
    made.close()


def test_own_attributes_are_in_the_manual(collector: Collector):
    error = CallError(42, None, None, None)
    everything = SERVED._replace(
        parent=None, depth=1, error=error, failed=True, verdict=VerdictInfo("audit", "r")
    )
    send(collector.url, [*STORY, everything, everything._replace(unfinished="x"), LOST])
    used = {
        key
        for item in (*collector.spans(), *collector.logs())
        for key in (*item["attributes"], *item["resource"], item.get("eventName", ""))
        if key.startswith("libvirt.")
    }
    manual = (ROOT / "tracer.8").read_text().partition(".Sh EXPORTS")[2].partition("\n.Sh ")[0]
    named = set(re.findall(r"libvirt\.[a-z_.]*[a-z]", manual))
    source = set(re.findall(r'"(libvirt\.[a-z_.]+)"', Path(otlp.__file__).read_text()))
    assert used <= named and source <= named


def test_command_sends_a_file_of_lines(collector: Collector):
    """What libvirtd did for virsh, which was not recorded: each call is a span, in the trace of
    the one that is not there.
    """
    file = ROOT / "tests" / "example.jsonl"
    done = subprocess.run(
        [*TRACER, "export", "--to", f"otlp={collector.url}", str(file)],
        capture_output=True,
        text=True,
        timeout=SOON,
    )
    assert done.returncode == 0, done.stderr
    collector.judge()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    ids = {line["id"] for line in lines if line["type"] in ("call", "unfinished", "verdict",
                                                            "monitor", "agent")}  # fmt: skip
    found = {span["attributes"]["libvirt.id"]: span for span in collector.spans()}
    assert set(found) == ids and len(collector.spans()) == len(ids)
    for line in lines:
        assert found[line["id"]]["traceId"] == trace_id(None, line["parent"] or line["id"])


def test_event_is_wanted_or_not():
    target = Otlp("http://127.0.0.1:1", live=True)
    assert [target.wants(event) for event in (DESTROY, QMP, STOPPED, LOST)] == [True] * 4
    assert not target.wants(END)
