# SPDX-License-Identifier: LGPL-2.1-or-later
"""When the tracer looks again: what wakes it is made up, the waiting is real."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from probes.verbs import looks
from probes.verbs.looks import Looks

NEVER = 1e6  # s


class Told:
    """In place of a session: pipes that wake, and whether there is more to look at."""

    def __init__(self) -> None:
        self.waker, self.wakes = os.pipe2(os.O_NONBLOCK)
        self.settled = True

    def wakers(self) -> list[int]:
        """One."""
        return [self.waker]

    def is_settled(self) -> bool:
        """As it was set."""
        return self.settled

    def open_calls(self) -> int:
        """None."""
        return 0


class Asked(NamedTuple):
    """The pipe of signals."""

    waker: int
    wakes: int


@pytest.fixture
def told() -> Iterator[Told]:
    session = Told()
    yield session
    os.close(session.waker)
    os.close(session.wakes)


@pytest.fixture
def asked() -> Iterator[Asked]:
    waker, wakes = os.pipe2(os.O_NONBLOCK)
    yield Asked(waker, wakes)
    os.close(waker)
    os.close(wakes)


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch, told: Told, asked: Asked) -> Iterator[Looks]:
    monkeypatch.setattr(looks, "CALM", -1)
    monkeypatch.setattr(looks, "ASLEEP", NEVER)
    made = Looks(told, asked.waker)
    yield made
    made.close()


def test_what_comes_wakes(calm, told):
    os.write(told.wakes, b"1")
    calm.rest(0, NEVER)
    os.write(told.wakes, b"2")  # though the first was not read
    calm.rest(0, NEVER)


def test_a_signal_wakes_at_once_and_once(calm, asked):
    os.write(asked.wakes, b"1")
    calm.rest(0, NEVER)
    with pytest.raises(BlockingIOError):
        os.read(asked.waker, 1)


@pytest.mark.parametrize(
    "why", [pytest.param("more", id="there is more"), pytest.param("come", id="much comes")]
)
def test_nobody_is_waited_for_while_there_is_more(calm, told, monkeypatch, why):
    if why == "more":
        told.settled = False
    else:
        monkeypatch.setattr(looks, "CALM", NEVER)
    calm.rest(0, NEVER)


def test_a_signal_ends_every_rest(calm, told, asked, monkeypatch):
    monkeypatch.setattr(looks, "IDLE", NEVER)
    told.settled = False
    os.write(asked.wakes, b"1")
    calm.rest(0, NEVER)


def test_no_rest_is_longer_than_asked_for(calm):
    calm.rest(0, 0)
    calm.rest(0, -1)
