# SPDX-License-Identifier: LGPL-2.1-or-later
"""The calls under way, held to a plain list of them: what is asked of one process does not look
at others.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from probes.calls.parts.open import MOST_LOOKED_AT, Open, OpenCalls
from probes.kernel import records

PROCESSES = 3


def began(time: int, pid: int, number: int) -> Open:
    return Open(
        records.HEAD.pack(records.REC_ENTRY, 0, 0, 0, time, 0, 0, number, 0, pid),
        0,
        number,
        0,
        0,
        pid,
        0,
    )


steps = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "return", "exit", "idle"]),
        st.integers(1, PROCESSES),
        st.integers(1, 4),
    ),
    max_size=50,
)


@given(steps)
def test_calls_are_found_by_process_as_long_as_they_are_under_way(steps):
    """A thread's number may be another process's by and by, once its thread has ended."""
    calls = OpenCalls(lambda when: when)
    model: dict[int, list[tuple[int, int]]] = {}  # process and number of each call, by thread
    for time, (what, pid, tid) in enumerate(steps, 1):
        stack = calls.stacks[tid]
        if what == "begin" and (not stack or stack[0].tgid == pid):
            calls.begin(began(time, pid, time), tid, stack)
            model.setdefault(tid, []).append((pid, time))
        elif what == "return" and stack:
            assert (stack.pop().seq) == model[tid].pop()[1]
        elif what == "exit":
            assert [(call.tgid, call.seq) for call in calls.forget(tid)] == model.pop(tid, [])[::-1]
        elif what == "idle":
            calls.forget_idle()
        under_way = {tid: stack for tid, stack in model.items() if stack}
        assert sorted(calls.threads()) == sorted(
            (stack[0][0], tid) for tid, stack in under_way.items()
        )
        assert len(calls) == sum(map(len, under_way.values()))
        for tid in range(1, 5):
            innermost = calls.innermost(tid)
            assert (innermost and innermost.seq) == (
                under_way[tid][-1][1] if tid in under_way else None
            )
        for pid in range(1, PROCESSES + 1):
            found = calls.outermost(pid)
            assert found is not None
            assert {(tid, call.seq) for tid, call in found} == {
                (tid, stack[0][1]) for tid, stack in under_way.items() if stack[0][0] == pid
            }
            before = {
                tid: [call.seq for call in stack] for tid, stack in calls.began_before(time, pid)
            }
            assert before == {
                tid: [number for _, number in stack]
                for tid, stack in under_way.items()
                if stack[0][0] == pid and stack[0][1] < time
            }
    for tid in range(1, 5):
        calls.forget(tid)
    assert not calls.stacks and not calls._process and not calls._threads


class NotLookedAt(list[Open]):
    """A stack that nobody may ask for."""

    def __getitem__(self, index):
        raise AssertionError("another process's calls were looked at")


def test_other_processes_cost_nothing_where_one_is_asked_for():
    calls = OpenCalls(lambda when: when)
    for tid in range(1000):
        calls.begin(began(1, 2, 1), tid, calls.stacks[tid])
        calls.stacks[tid] = NotLookedAt(calls.stacks[tid])
    calls.begin(began(1, 1, 1), 5000, calls.stacks[5000])
    found = calls.outermost(1)
    assert found is not None and [tid for tid, _ in found] == [5000]
    assert [tid for tid, _ in calls.began_before(2, 1)] == [5000]


def test_of_a_crowd_none_is_looked_at():
    calls = OpenCalls(lambda when: when)
    for tid in range(MOST_LOOKED_AT):
        calls.begin(began(1, 1, 1), tid, calls.stacks[tid])
    assert len(calls.outermost(1) or ()) == MOST_LOOKED_AT
    calls.begin(began(1, 1, 1), MOST_LOOKED_AT, calls.stacks[MOST_LOOKED_AT])
    assert calls.outermost(1) is None
    calls.forget(7)
    assert len(calls.outermost(1) or ()) == MOST_LOOKED_AT


def test_what_a_call_has_beside_its_record_ends_with_it():
    calls = OpenCalls(lambda when: when + 1000)
    call = began(5, 1, 9)
    calls.begin(call, 3, calls.stacks[3])
    assert (calls.id(call, 3), calls.extra_of(3, 9), calls.is_hidden(3, 9)) == (
        "3-1005",
        None,
        False,
    )
    extra = calls.extra(3, call)
    extra.hidden = True
    assert calls.extra(3, call) is calls.extra_of(3, 9) is extra and calls.is_hidden(3, 9)
    assert calls.take_extra(3, 9) is extra and calls.take_extra(3, 9) is None
    assert not calls.is_hidden(3, 9) and not calls._extras
