# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a call caused is shown if the call is."""

from __future__ import annotations

import pytest

from log.events import BY_CALL, Call, Command, DomainEvent, Event, call_id
from log.filters.shown import Shown
from tests.unit.log_samples import CALLER, DESTROY, LOST, START, WEB1

ID = call_id(DESTROY.tid, START)
TOLD = Command(START + 1, 5, 9, "rpc", CALLER, "{}", ID)
STOPPED = DomainEvent(START + 2, 9, "rpc", CALLER, WEB1, "stopped", "destroyed", ID)
FAILED = DESTROY._replace(failed=True)


def failed(event: Event) -> bool:
    return type(event) is not Call or bool(event.failed)


def test_without_a_choice_all_is_shown_at_once() -> None:
    assert Shown(None).of([TOLD, DESTROY, LOST]) == [TOLD, DESTROY, LOST]


@pytest.mark.parametrize(
    ("call", "shown"), [(FAILED, [LOST, FAILED, TOLD, STOPPED]), (DESTROY, [LOST])]
)
def test_what_waits_for_its_call_is_shown_or_left_out_with_it(call, shown) -> None:
    view = Shown(failed)
    first = view.of([TOLD, STOPPED, LOST])
    assert first == [LOST]
    assert sorted(map(str, first + view.of([call]))) == sorted(map(str, shown))


def test_endings_by_calls_that_are_left_out_are_shown_if_asked_for() -> None:
    (found,) = Shown(failed, orphans=True).of([STOPPED, DESTROY])
    assert found == STOPPED._replace(parent=None, one_of=(), cause=BY_CALL)


def test_no_more_wait_than_there_is_room_for(monkeypatch) -> None:
    monkeypatch.setattr("log.filters.shown.MOST_HELD", 2)
    view = Shown(failed)
    told = [TOLD._replace(parent=f"9-{number}") for number in range(5)]
    assert view.of([*told]) == told[2:], "rather too much than too little"
    assert len(view.rest()) == 2
