# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls that were made before are told as if they had not been, whatever comes between their
records.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.events import BEGUN, Call, Event
from probes.calls import again
from probes.calls.calls import Calls
from probes.kernel import records
from tests.unit.probes.calls.test_calls import calls_of, new_calls, row

FUNCTION = "virEventRemoveTimeout"
STEPS = st.lists(
    st.tuples(
        st.integers(1, 3),  # thread
        st.sampled_from(["enter", "leave", "leave", "jump"]),
        st.sampled_from([False] * 5 + [True]),  # whether the record is lost
        st.integers(0, 1),  # argument and result
        st.sampled_from([0, records.REC_WANTED, records.REC_INNER_LOST]),
    ),
    max_size=60,
)


def head(kind: int, depth: int, flags: int, time: int, tid: int, seq: int) -> bytes:
    return records.HEAD.pack(kind, depth, flags, 0, time, 0, tid, seq, 0, 1)


def entry(time: int, tid: int, seq: int, number: int, depth: int = 0, flags: int = 0) -> bytes:
    """The registers behind the argument are whatever they are."""
    return head(records.REC_ENTRY, depth, flags, time, tid, seq) + struct.pack(
        "<Q6Q", 0, number, time, 0, 0, 0, 0
    )


def end(
    time: int, tid: int, seq: int, number: int, began: int, depth: int = 0, flags: int = 0
) -> bytes:
    return head(records.REC_RETURN, depth, flags, time, tid, seq) + struct.pack(
        "<QQ", began, number
    )


def pair(time: int, tid: int, seq: int, number: int) -> list[bytes]:
    return [entry(time, tid, seq, number), end(time + 7, tid, seq, number, time)]


def known() -> list[bytes]:
    """Makes everything known: all threads have made both calls twice."""
    return [
        raw
        for seq in range(1, 5)
        for tid in (1, 2, 3)
        for raw in pair(100 * seq, tid, seq, seq % 2)
    ]


def told(calls: Calls, raws: list[bytes], batch: int) -> list[Call]:
    events = [
        event for at in range(0, len(raws), batch) for event in calls.feed(raws[at : at + batch])
    ]
    return [call._replace(alike=None) for call in calls_of([*events, *calls.close()])]


def fresh(*, follows_all: bool) -> Calls:
    calls = new_calls([row(FUNCTION)])
    calls.covering = follows_all
    return calls


@given(STEPS, st.integers(1, 100))
def test_what_is_known_is_told_as_if_it_were_not(
    steps: list[tuple[int, str, bool, int, int]], batch: int
) -> None:
    raws, time = known(), 10_000
    stacks: dict[int, list[tuple[int, int]]] = {1: [], 2: [], 3: []}
    seqs = dict.fromkeys(stacks, 10)
    for tid, what, lost, number, flags in steps:
        time += 1
        stack = stacks[tid]
        if what == "enter":
            seqs[tid] += 1
            raw = entry(time, tid, seqs[tid], number, len(stack), flags)
            stack.append((seqs[tid], time))
        elif not stack:
            continue
        elif what == "jump":
            stack.pop()
            continue
        else:
            seq, began = stack.pop()
            raw = end(time, tid, seq, number, began, len(stack), flags)
        raws += [] if lost else [raw]
    assert told(fresh(follows_all=False), raws, batch) == told(fresh(follows_all=True), raws, batch)


def test_most_of_a_poll_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fresh(follows_all=False)
    calls.feed(known())
    followed: list[bytes] = []
    monkeypatch.setattr(calls._following, "follow", lambda raws, ended: followed.extend(raws))
    raws = [raw for n in range(500) for raw in pair(1000 * n, 1 + n % 3, 10 + n, n % 2)]
    ended = calls_of(calls.feed(raws))
    assert not followed
    assert [(call.time, call.duration_ns, call.tid, call.ret) for call in ended] == [
        (1000 * n, 7, 1 + n % 3, n % 2) for n in range(500)
    ]


def test_results_that_are_others_each_time_are_not_followed_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They differ in the call's result alone, also where one comes again or the call fails."""
    quick, slow = fresh(follows_all=False), fresh(follows_all=True)
    results = [*range(40), 7, 7, 7, -1, 8, 9, 9, 9]
    raws = [raw for n, result in enumerate(results) for raw in changing(1000 * n, n, result)]
    followed: list[bytes] = []
    follow = quick._following.follow

    def counted(raws: Iterable[bytes], ended: list[Event]) -> None:
        raws = list(raws)
        followed.extend(raws)
        follow(raws, ended)

    monkeypatch.setattr(quick._following, "follow", counted)
    fast = [
        call for at in range(0, len(raws), 6) for call in calls_of(quick.feed(raws[at : at + 6]))
    ]
    told = calls_of(slow.feed(raws))
    assert [call._replace(alike=None) for call in fast] == [
        call._replace(alike=None) for call in told
    ]
    assert [call.ret for call in fast] == results
    begun = {id(call.alike.get(BEGUN, call.alike)) for call in fast if call.alike is not None}
    assert len(begun) == 1 and len(followed) == 6 + 2  # the first batch, and the call that fails


def changing(time: int, seq: int, result: int) -> list[bytes]:
    """A call with the same argument."""
    return [entry(time, 1, seq, 1), end(time + 7, 1, seq, result & 0xFFFFFFFFFFFFFFFF, time)]


def test_what_was_sent_once_and_is_another_now_is_not_told_again() -> None:
    calls = fresh(follows_all=False)
    calls.feed(known())
    threads = calls._building.again.threads
    (before,) = {thread.version for thread in threads.values()}
    calls.process_exited(1)  # another program has its number, and even its thread's
    assert {thread.constants.version for thread in threads.values()} != {before}
    again = calls_of(calls.feed([raw for seq in (8, 9, 10) for raw in pair(seq, 1, seq, 1)]))
    assert [call.ret for call in again] == [1, 1, 1]
    assert calls._building.again.threads[entry(8, 1, 8, 1)[16:28]].version != before


def test_what_is_known_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "MOST", 10)
    calls = fresh(follows_all=False)
    for number in range(1, 40):
        for seq in range(3):
            (call,) = calls_of(calls.feed(pair(100 * number, 1, 3 * number + seq, number)))
            assert call.ret == number
        threads = calls._building.again.threads.values()
        assert sum(len(begins.known) for t in threads for begins in t.calls.values()) <= 10
    calls.forget_decoded()
    assert not calls._building.again.threads
