# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is asked for is used: it stays, and what nobody asks for goes."""

from __future__ import annotations

import gc
import weakref
from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from log.recent import Recent, by_identity


def test_what_is_asked_for_again_and_again_is_kept():
    recent: Recent[str, int] = Recent(10)
    recent.put("worker", 1)
    for number in range(1000):
        recent.put(f"call {number}", number)
        assert recent.get("worker") == 1
    assert len(recent) == 10


def test_none_is_a_value():
    recent: Recent[int, None] = Recent(10)
    asked: list[int] = []
    for _ in range(3):
        assert recent.learn(7, asked.append) is None
    assert asked == [7]


steps = st.lists(
    st.tuples(st.sampled_from(["get", "put", "learn", "pop"]), st.integers(0, 5), st.integers())
)


@given(st.integers(1, 4), steps)
def test_the_last_used_are_kept(most, steps):
    recent: Recent[int, int] = Recent(most)
    model: OrderedDict[int, int] = OrderedDict()
    for what, key, value in steps:
        if what == "get":
            assert recent.get(key, value) == model.get(key, value)
        elif what == "pop":
            assert recent.pop(key) == model.pop(key, None)
            continue
        elif what == "put" or key not in model:
            model[key] = value
            assert (
                recent.put(key, value)
                if what == "put"
                else recent.learn(key, dict.fromkeys([key], value).__getitem__)
            ) == value
        else:
            assert recent.learn(key, lambda _: 0) == model[key]
        if key in model:
            model.move_to_end(key)
        while len(model) > most:
            model.popitem(last=False)
        assert list(recent) == list(model)


def test_what_is_made_of_an_object_is_made_once_and_no_other_object_gets_it():
    made: list[list[int]] = []

    @by_identity(4)
    def total(numbers: tuple[int, ...], more: int) -> int:
        made.append([*numbers, more])
        return sum(numbers) + more

    for number in range(1000):
        one, other = (number, 1), tuple(iter((number, 1)))  # equal
        assert total(one, 5) == total(one, 5) == total(other, 5) == number + 6
        assert total(one, 6) == number + 7
    assert 2000 <= len(made) <= 3000


def test_what_was_made_of_objects_is_forgotten_at_the_limit():
    held: list[weakref.ref[Thing]] = []

    class Thing:
        pass

    size = by_identity(10)(lambda thing: len(held))
    for _ in range(1000):
        thing = Thing()
        held.append(weakref.ref(thing))
        size(thing)
    gc.collect()
    assert sum(ref() is not None for ref in held) <= 11
