# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counts events: batches come in, numbers for Prometheus go out.

No process, user or domain is a label, and what callers can choose has a limit: there are at most
MOST_SERIES time series, whatever is called.
"""

from __future__ import annotations

import bisect
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from log import VERSION
from log.events import Call, Event, Lost, Reads
from log.filters.about import is_denied, object_of
from log.quote import well_formed
from log.sinks.exporter import Exporter, Gauge
from log.values import Handle

if TYPE_CHECKING:
    from prometheus_client import Metric

MOST_SERIES = 500
MOST_FUNCTIONS = 50  # of functions and drivers, each for calls that change something and others
MOST_RULES = 30
OTHER, UNKNOWN = "other", "unknown"  # what is beyond that; what was not learnt
DRIVERS = ("QEMU", "Test", "LXC", "Xen", "bhyve", "VBOX", "ESX", "VMware", "OPENVZ", "PARALLELS",
           "Hyper-V", "PHYP", "CH", "vz", "remote")  # fmt: skip
# s: from 10 us to a minute
BOUNDS = (
    *(1e-05, 2.5e-05, 5e-05, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
CLIENT_SECONDS = 300  # that a process counts as a client after its last call
MOST_CLIENTS = 4096
_BOUNDS_NS = tuple(round(bound * 1e9) for bound in BOUNDS)
_RINGS = ("write", "read", "processes", "mappings")
_ACTIONS = ("deny", "audit", "allow", "not enforced")
Kind = tuple[str, str]  # function, driver


class Histogram:
    """Durations by BOUNDS."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0  # ns

    def add(self, ns: int, times: int = 1) -> None:
        """Count so many of that duration."""
        self.counts[bisect.bisect_left(_BOUNDS_NS, ns)] += times
        self.total += ns * times

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus has them, each with those before it."""
        found, count = [], 0
        for bound, inside in zip((*map(str, BOUNDS), "+Inf"), self.counts, strict=True):
            count += inside
            found.append((bound, float(count)))
        return found


class Metering:
    """All that is counted. One thread counts, others read."""

    def __init__(self) -> None:
        self._calls: Counter[Kind] = Counter()
        self._failed: Counter[Kind] = Counter()
        self._denied: Counter[Kind] = Counter()
        self._kinds: tuple[dict[Kind, Kind], dict[Kind, Kind]] = ({}, {})  # of reads, of writes
        self._durations = {False: Histogram(), True: Histogram()}  # by whether it is a write
        self._queue = Histogram()
        self._rules: Counter[tuple[str, str]] = Counter()
        self._lost: Counter[str] = Counter(dict.fromkeys((*_RINGS, OTHER), 0))
        self._details_lost = 0
        self._clients: dict[tuple[int, str | None], float] = {}  # when they called last
        self.open_calls = 0
        self.exporters: Sequence[Exporter] = ()
        self.of_others: list[tuple[Gauge, float]] = []

    def add(self, events: Sequence[Event]) -> None:
        """Count a batch."""
        now = time.monotonic()
        for event in events:
            if type(event) is Call:
                self._add_call(event, now)
            elif type(event) is Reads:
                self._add_reads(event)
            elif type(event) is Lost:
                self._lost[event.ring if event.ring in _RINGS else OTHER] += event.count
                self._details_lost += event.details

    def _add_call(self, call: Call, now: float) -> None:
        denied = is_denied(call)
        if call.verdict is not None and call.verdict.rule:
            self._rules[self._rule(call.verdict.rule, call.verdict.action)] += 1
        if call.parent is not None:
            # its id tells when the client made the call
            begun = call.parent.rpartition("-")[2]
            if begun.isdecimal() and (waited := call.time - int(begun)) >= 0:
                self._queue.add(waited)
            if not denied:
                return
        kind = self._kind(call)
        self._calls[kind] += 1
        if denied:
            self._denied[kind] += 1
        elif call.failed:
            self._failed[kind] += 1
        if call.duration_ns is not None and call.unfinished is None:
            self._durations[call.write].add(call.duration_ns)
        client = (call.caller.pid, call.caller.exe)
        if client in self._clients or len(self._clients) < MOST_CLIENTS:
            self._clients[client] = now

    def _add_reads(self, event: Reads) -> None:
        if event.caused or not event.calls:
            return
        kind = self._known(False, (event.function, _driver(event.object)))
        self._calls[kind] += event.calls
        if event.failed:
            self._failed[kind] += event.failed
        self._durations[False].add(event.total_ns // event.calls, event.calls)

    def _kind(self, call: Call) -> Kind:
        alike = call.alike
        if alike is None:
            return self._known(call.write, (call.function, _driver_of(call)))
        kind: Kind | None = alike.get("metric")
        if kind is None:
            kind = alike["metric"] = self._known(call.write, (call.function, _driver_of(call)))
        return kind

    def _known(self, write: bool, kind: Kind) -> Kind:
        known = self._kinds[write]
        found = known.get(kind)
        if found is None:
            if len(known) >= MOST_FUNCTIONS:
                return OTHER, OTHER
            found = known[kind] = kind
        return found

    def _rule(self, rule: str, action: str) -> tuple[str, str]:
        found = (rule, action if action in _ACTIONS else OTHER)
        return found if found in self._rules or len(self._rules) < MOST_RULES else (OTHER, OTHER)

    def clients(self) -> int:
        """Processes that have called lately."""
        since = time.monotonic() - CLIENT_SECONDS
        clients = list(self._clients.items())
        for client, when in clients:
            if when < since:
                self._clients.pop(client, None)
        return len(self._clients)

    def collect(self) -> Iterable[Metric]:
        """What prometheus_client asks of a collector."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
            InfoMetricFamily,
        )

        def counter(name: str, text: str, labels: Sequence[str], counts: Counter[Any]) -> Metric:
            made = CounterMetricFamily(f"libvirt_{name}", text, labels=labels)
            for key, count in sorted(counts.copy().items()):
                values = (key,) if isinstance(key, str) else key
                made.add_metric([well_formed(value) for value in values], count)
            return made

        def histogram(name: str, text: str, by: dict[str, Histogram], label: str = "") -> Metric:
            labels = [label] if label else []
            made = HistogramMetricFamily(f"libvirt_{name}", text, labels=labels)
            for value, found in by.items():
                made.add_metric(
                    [value] if label else [], found.buckets(), sum_value=found.total / 1e9
                )
            return made

        kind = ("function", "driver")
        yield InfoMetricFamily("libvirt_trace", "The tracer.", value={"version": VERSION})
        yield counter("calls", "Calls that programs made.", kind, self._calls)
        yield counter("failed_calls", "Calls that failed.", kind, self._failed)
        yield counter("denied_calls", "Calls that a policy denied.", kind, self._denied)
        yield counter(
            "rule_verdicts", "Decisions by rules of policies.", ("rule", "action"), self._rules
        )
        yield histogram(
            "call_duration_seconds",
            "How long calls took.",
            {"write": self._durations[True], "read": self._durations[False]},
            "access",
        )
        yield histogram(
            "daemon_queue_seconds",
            "How long it took until a daemon began with a client's call.",
            {"": self._queue},
        )
        yield counter("trace_lost_calls", "Calls of which nothing is left.", ("ring",), self._lost)
        yield CounterMetricFamily(
            "libvirt_trace_lost_details",
            "Records of details that are missing.",
            value=self._details_lost,
        )
        yield GaugeMetricFamily(
            "libvirt_clients",
            f"Processes that made a call in the last {CLIENT_SECONDS} seconds.",
            value=self.clients(),
        )
        yield GaugeMetricFamily(
            "libvirt_open_calls", "Calls that are under way.", value=self.open_calls
        )
        for gauge, value in self.of_others:
            family = CounterMetricFamily if gauge.counts else GaugeMetricFamily
            yield family(f"libvirt_{gauge.name}", gauge.text, value=value)
        yield from self._of_exporters()

    def _of_exporters(self) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        healths = [exporter.health() for exporter in self.exporters]
        for family, name, text, values in (
            (CounterMetricFamily, "sent_events", "That were taken.", [h.sent for h in healths]),
            (CounterMetricFamily, "dropped_events", "Not sent.", [h.dropped for h in healths]),
            (GaugeMetricFamily, "waiting_events", "That wait.", [h.waiting for h in healths]),
            (GaugeMetricFamily, "failing", "Whether it fails now.", [h.fails for h in healths]),
        ):
            made = family(f"libvirt_trace_export_{name}", text, labels=["exporter"])
            for health, value in zip(healths, values, strict=True):
                made.add_metric([health.name], value)
            yield made

    def text(self) -> bytes:
        """In the exposition format."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)  # type: ignore[arg-type]  # is not derived from its Collector
        return generate_latest(registry)


def _driver_of(call: Call) -> str:
    if call.args is None:
        return UNKNOWN
    known: str | None = call.args.rendered.get("driver")
    if known is None:
        handle = object_of(call) or next(
            (it for it in (*call.args.values.values(), call.ret) if isinstance(it, Handle)), None
        )
        known = call.args.rendered["driver"] = _driver(handle)
    return known


def _driver(handle: Handle | None) -> str:
    driver = handle.fields.get("driver") if handle else None
    if driver is None:
        return UNKNOWN
    return driver if isinstance(driver, str) and driver in DRIVERS else OTHER
