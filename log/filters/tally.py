# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counts events: batches come in, the last event goes out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from log.counted import Counted
from log.events import Call, End, Event, Lost, VerdictInfo
from log.filters.about import is_denied
from log.values import Value

MOST_RULES = 256


class Tally:
    """What the last line reports."""

    def __init__(self) -> None:
        self.calls = self.failed = self.denied = self.lost = self.details_lost = 0
        # calls by rule and what it did; what is beyond MOST_RULES has no rule's name
        self.rules: Counter[tuple[str | None, str]] = Counter()
        self.started = time.monotonic()

    def count(self, counted: Sequence[Counted]) -> None:
        """Adds calls that were only counted."""
        self.calls += sum(one.calls for one in counted)
        self.failed += sum(one.failed for one in counted)

    def add(self, events: Sequence[Event]) -> None:
        """Counts a batch."""
        calls = failed = 0
        for event in events:
            if type(event) is Call:
                calls += 1
                if event.verdict is None:
                    failed += event.failed or 0
                    continue
                if event.verdict.rule:
                    self._add_verdict(event.verdict)
                if is_denied(event):
                    self.denied += 1
                else:
                    failed += event.failed or 0
            elif type(event) is Lost:
                self.lost += event.count
                self.details_lost += event.details
        self.calls += calls
        self.failed += failed

    def _add_verdict(self, verdict: VerdictInfo) -> None:
        key = verdict.rule, verdict.action
        if key in self.rules or len(self.rules) < MOST_RULES:
            self.rules[key] += 1
        else:
            self.rules[None, verdict.action] += 1

    def _by_rule(self) -> Iterator[Mapping[str, Value]]:
        for (rule, action), calls in sorted(
            self.rules.items(), key=lambda item: (-item[1], str(item[0]))
        ):
            yield {"rule": rule, "action": action, "calls": calls}

    def end(self, not_exported: int = 0) -> End:
        """The last event."""
        seconds = round(time.monotonic() - self.started, 3)
        return End(
            time.time_ns(),
            self.calls,
            self.failed,
            self.denied,
            self.lost,
            seconds,
            self.details_lost,
            not_exported,
            rules=tuple(self._by_rule()),
        )
