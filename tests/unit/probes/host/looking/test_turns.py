# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is served when: nobody waits behind another's flood, and a flood takes no more than a
share of the time.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from probes.host.looking import turns
from probes.host.looking.owners import NOBODY_KNOWS, SUB_UIDS, Owners, account_of
from probes.host.looking.pace import OTHERS_BURST, OTHERS_SHARE
from probes.host.looking.turns import ROOT, Turns

FLOOD, HONEST = 65534, 1000


class Bench:
    """Turns in made-up time, and who was served."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.turns: Turns[float] = Turns(lambda: self.now)
        self.served: list[int] = []
        self.time: dict[int, float] = {}

    def put(self, account: int, key: object, takes: float = 0.001) -> bool:
        return self.turns.put(account, key, takes)

    def run(self, seconds: float = 0.05) -> None:
        self.turns.run(self._do, seconds)

    def _do(self, account: int, takes: float) -> None:
        self.now += takes
        self.served.append(account)
        self.time[account] = self.time.get(account, 0) + takes


def test_a_flood_takes_its_share_and_others_go_first() -> None:
    bench = Bench()
    began, late = bench.now, 0
    for poll in range(2000):
        for number in range(200):
            bench.put(FLOOD, (poll, number))
        if poll % 10 == 0:
            bench.put(HONEST, poll)
            bench.put(ROOT, poll)
        before = len(bench.served)
        bench.run()
        if poll % 10 == 0:
            late += {ROOT, HONEST} - set(bench.served[before : before + 3]) != set()
        bench.now += 0.05
    spent = bench.now - began
    assert bench.time[FLOOD] <= OTHERS_SHARE * spent + 2 * OTHERS_BURST
    assert bench.time[FLOOD] >= OTHERS_SHARE * spent / 2, "time that nobody else wants is used"
    assert late <= 1
    assert bench.served.count(ROOT) == bench.served.count(HONEST) == 200


def test_one_that_takes_long_holds_only_its_own_user_up() -> None:
    bench = Bench()
    bench.put(FLOOD, "long", 0.2)
    bench.put(FLOOD, "next")
    bench.run(0.01)
    assert bench.served == [FLOOD], "the records are read in between"
    bench.put(HONEST, "mine")
    bench.run(0.01)
    assert bench.served == [FLOOD, HONEST, FLOOD]


def test_a_key_waits_once_and_an_account_has_a_limit() -> None:
    bench = Bench()
    assert all(bench.put(FLOOD, "same") for _ in range(10 * turns.MOST_WAITING))
    assert [bench.put(FLOOD, number) for number in range(turns.MOST_WAITING)] == [True] * (
        turns.MOST_WAITING - 1
    ) + [False]
    assert bench.put(HONEST, "mine")
    rest = bench.turns.rest()
    assert len(rest) == turns.MOST_WAITING + 1
    assert bench.turns.rest() == []


def test_accounts_have_a_limit() -> None:
    bench = Bench()
    for account in range(1, 10 * turns.MOST_ACCOUNTS):
        bench.put(account, account)
    assert bench.put(ROOT, "root")
    assert len({account for account, _ in bench.turns.rest()}) <= turns.MOST_ACCOUNTS + 2


@pytest.mark.parametrize(
    ("uid", "account"),
    [
        (0, 0),
        (1000, 1000),
        (65534, 65534),
        (SUB_UIDS, SUB_UIDS),
        (SUB_UIDS + 65535, SUB_UIDS),
        (SUB_UIDS + 65536, SUB_UIDS + 65536),
    ],
)
def test_who_has_many_numbers_has_one_account(uid: int, account: int) -> None:
    assert account_of(uid) == account


def status(proc: Path, pid: int, *ids: int) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "status").write_text("Name:\tx\nUid:\t" + "\t".join(map(str, ids)) + "\n")


def test_whose_a_process_is(tmp_path: Path) -> None:
    status(tmp_path, 10, 1000, 1000, 1000, 1000)
    status(tmp_path, 11, 1000, 0, 0, 0)  # a set-uid program
    status(tmp_path, 12, 0, 33, 33, 33)
    status(tmp_path, 13, 0, 0, 0, 0)
    owners = Owners(tmp_path)
    assert [owners.of(pid) for pid in (10, 11, 12, 13)] == [1000, 1000, 33, 0]
    owners.forked(20, 10)
    assert [owners.of(20), owners.of(21), owners.of(99)] == [1000, NOBODY_KNOWS, NOBODY_KNOWS]
    status(tmp_path, 20, 5, 5, 5, 5)
    assert owners.of(20) == 1000  # until it is looked at again
    owners.refresh()
    assert owners.of(20) == 5
    assert Owners().of(os.getpid()) == account_of(os.geteuid() or os.getuid())
