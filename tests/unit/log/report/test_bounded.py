# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a page keeps: limits that nobody can use up for others, counts of which none gets lost."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from log.report.bounded import Fair, Grid, Scale, fair_share

ROOM = 8
owners = st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"))


@given(st.lists(owners, max_size=60))
def test_newest_of_everybody_are_kept_in_fair_shares(made) -> None:
    fair: Fair[tuple[tuple[str, str], int]] = Fair(ROOM)
    for number, owner in enumerate(made):
        fair.add(owner[0], owner[1], (owner, number))
    kept = list(fair)

    assert len(kept) <= ROOM and len(kept) + fair.left_out == len(made)
    for owner in set(made):
        mine = [number for whose, number in kept if whose == owner]
        every = [number for number, whose in enumerate(made) if whose == owner]
        assert mine == every[len(every) - len(mine) :], "the oldest go first"
    if len(made) <= ROOM:
        assert len(kept) == len(made)
    brought = Counter(user for user, _ in made)
    for user, count in brought.items():
        least = min(count, ROOM // len(brought) // 3)  # its programs share that
        assert sum(whose[0] == user for whose, _ in kept) >= least


def test_flood_of_one_user_under_many_names_leaves_others_alone() -> None:
    fair: Fair[str] = Fair(100)
    fair.add("root", "virsh", "destroyed")
    for number in range(5000):
        fair.add("mallory", f"tool{number}", "noise")
    assert "destroyed" in fair and sum(1 for _ in fair) <= 100


@given(st.lists(st.integers(0, 50), min_size=1, max_size=9), st.integers(1, 60))
def test_fair_share_fits_and_is_as_much_as_fits(sizes, room) -> None:
    share = fair_share(sizes, room)
    assert sum(min(size, share) for size in sizes) <= room
    if share < max(sizes):
        assert sum(min(size, share + 1) for size in sizes) > room


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 3), st.integers(1, 9))))
def test_counts_are_complete_however_long_the_time_is(made) -> None:
    scale = Scale(16)
    grid, other = Grid(scale), Grid(scale)
    for ns, number, count in made:
        grid.add(ns, number, count)
        other.add(ns, 0)
    cells = grid.cells()

    sums: Counter[tuple[int, int]] = Counter()
    for ns, number, count in made:
        sums[ns // scale.width, number] += count
    assert {(slot, number): count for slot, number, count in cells} == sums
    assert len({slot for slot, _, _ in cells}) <= 16
    assert sum(count for _, _, count in other.cells()) == len(made)


def test_owners_without_number_are_one(monkeypatch) -> None:
    monkeypatch.setattr("log.report.bounded.MOST_OWNERS", 3)
    fair: Fair[int] = Fair(100)
    for number in range(20):
        fair.add("mallory", f"program {number}", number)
    assert sorted(fair) == list(range(20))
    assert len(fair._kept) == 4
