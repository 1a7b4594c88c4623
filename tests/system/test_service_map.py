# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a collector of OpenTelemetry gets of virsh, libvirtd and QEMU: one trace, from which any
backend draws who asks whom.
"""

from __future__ import annotations

import itertools

from tests.collector import Collector
from tests.daemon import Daemon, Guest
from tests.tracing import Tracer


def test_virsh_libvirtd_and_qemu_are_one_trace(libvirtd: Daemon, guest: Guest):
    collector = Collector()
    result = Tracer(
        *("--both", "-w", "--otlp", collector.url, "--"),
        *("virsh", "-q", "-c", libvirtd.uri, "suspend", guest.name),
    ).finish()
    assert result.status == 0 and "not_exported" not in result.end, result.stderr
    collector.judge()
    found = {span["attributes"]["libvirt.id"]: span for span in collector.spans()}
    by_span = {span["spanId"]: span for span in found.values()}
    client, served = result.calls("virDomainSuspend")[::-1]
    assert served["parent"] == client["id"]
    assert len({span["traceId"] for span in found.values()}) == 1
    edges = {
        (
            by_span[span["parentSpanId"]]["resource"]["service.name"],
            span["resource"]["service.name"],
        )
        for span in found.values()
        if "parentSpanId" in span
    }
    assert edges == {("virsh", "libvirtd"), ("libvirtd", "qemu")}
    for span in found.values():
        if "parentSpanId" in span:  # inside, by the times that were measured
            above = by_span[span["parentSpanId"]]
            times = [int(above["startTimeUnixNano"]), int(span["startTimeUnixNano"])]
            times += [int(span["endTimeUnixNano"]), int(above["endTimeUnixNano"])]
            assert all(one <= other for one, other in itertools.pairwise(times)), span
    pids = {span["resource"].get("process.pid") for span in found.values()}
    assert {client["pid"], served["pid"]} <= pids
    stopped = [log for log in collector.logs() if log["eventName"] == "libvirt.domain"]
    assert [log["attributes"]["libvirt.domain.event"] for log in stopped] == ["suspended"]
    assert stopped[0]["traceId"] == found[client["id"]]["traceId"]
    collector.close()
