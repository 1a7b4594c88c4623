# SPDX-License-Identifier: LGPL-2.1-or-later
"""Behind it there are no calls, but everything else."""

from collections.abc import Sequence

from log.events import Event
from log.sinks.files.sink import GivenUp
from log.sinks.quiet import Quiet
from tests.unit.log_samples import ATTACHED, DESTROY, END, LOST


class Seen:
    """What a sink is asked."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Event]] = []
        self.asked: list[object] = []

    def write(self, events: Sequence[Event]) -> None:
        self.batches.append(events)

    def tick(self, open_calls: int) -> None:
        self.asked.append(open_calls)

    def reopen(self) -> None:
        self.asked.append("reopen")

    def close(self, given_up: GivenUp = lambda idle: False) -> None:
        self.asked.append("close")


def test_calls_are_left_out():
    seen = Seen()
    quiet = Quiet(seen)
    batches: list[list[Event]] = [[ATTACHED, DESTROY], [DESTROY], [LOST, DESTROY, END]]
    for events in batches:
        quiet.write(events)
    quiet.tick(3)
    quiet.reopen()
    quiet.close()
    assert seen.batches == [[ATTACHED], [LOST, END]]
    assert seen.asked == [3, "reopen", "close"]
