# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the time of a call went adds up to what it took."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from log.events import Command
from log.report.spent import Shares, spent
from tests.unit.log_samples import CALLER, DESTROY


def child(time: int, took: int | None, *asked: int) -> object:
    commands = tuple(Command(time, ns, 9, "rpc", CALLER, "{}", None) for ns in asked)
    return DESTROY._replace(time=time, duration_ns=took, children=commands)


def test_client_waits_for_the_queue_the_daemon_and_the_monitor() -> None:
    call = DESTROY._replace(time=1000, duration_ns=100, children=(child(1010, 60, 25),))
    assert spent(call) == (30, 10, 35, 25)
    shares = Shares()
    shares.add(call, denied=False)
    assert {place: kept.total for place, kept in shares.spent.items()} == {
        "client": 30, "daemon queue": 10, "daemon": 35, "monitor": 25,
    }  # fmt: skip


def test_nothing_is_told_of_what_is_not_known() -> None:
    assert spent(DESTROY) is None
    assert spent(DESTROY._replace(duration_ns=None, children=(child(1, 2),))) is None


spans = st.lists(
    st.tuples(st.integers(900, 1300), st.none() | st.integers(0, 300), st.integers(0, 400)),
    min_size=1,
    max_size=5,
)


@given(spans, st.integers(0, 200))
def test_whatever_daemons_say_the_whole_is_the_sum(children, took) -> None:
    made = tuple(child(*one) for one in children)
    found = spent(DESTROY._replace(time=1000, duration_ns=took, children=made))
    assert found and sum(found) == took and min(found) >= 0
