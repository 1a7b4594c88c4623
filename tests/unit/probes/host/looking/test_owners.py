# SPDX-License-Identifier: LGPL-2.1-or-later
"""On whose account a process is: as its status says, however it calls itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.host.looking.owners import NOBODY_KNOWS, SUB_UID_BLOCK, SUB_UIDS, Owners, account_of


def running(proc: Path, pid: int, real: int, effective: int) -> None:
    (proc / str(pid)).mkdir(exist_ok=True)
    (proc / str(pid) / "status").write_text(
        f"Name:\tvirsh\nPid:\t{pid}\nUid:\t{real}\t{effective}\t7\t7\nGid:\t8\t8\t8\t8\n"
    )


@given(st.integers(0, (1 << 32) - 1))
def test_who_has_a_block_of_numbers_counts_once(uid: int) -> None:
    account = account_of(uid)
    if uid < SUB_UIDS:
        assert account == uid
    else:
        assert account <= uid < account + SUB_UID_BLOCK
        assert {account_of(account), account_of(account + SUB_UID_BLOCK - 1)} == {account}
        assert account_of(account + SUB_UID_BLOCK) == account + SUB_UID_BLOCK


@pytest.mark.parametrize(
    ("real", "effective", "account"),
    [
        (0, 0, 0),
        (1000, 1000, 1000),
        (1000, 0, 1000),
        (0, 64055, 64055),
        (1000, 64055, 64055),
        (165537, 165537, 165536),
    ],
)
def test_a_program_works_for_its_effective_user_and_a_set_uid_one_for_who_runs_it(
    tmp_path: Path, real: int, effective: int, account: int
) -> None:
    running(tmp_path, 5, real, effective)
    assert Owners(tmp_path).of(5) == account


@pytest.fixture
def named_as_a_line() -> Iterator[None]:
    """A process that puts a line of its own into its name."""
    comm = Path("/proc/self/comm")
    before = comm.read_bytes()
    comm.write_bytes(b"x\nUid:\t77\t77")
    yield
    comm.write_bytes(before.rstrip(b"\n"))


@pytest.mark.usefixtures("named_as_a_line")
def test_names_of_processes_are_no_lines() -> None:
    assert Owners().of(os.getpid()) == account_of(os.geteuid() or os.getuid())


def test_who_has_gone_was_of_its_parents_account(tmp_path: Path) -> None:
    running(tmp_path, 5, 1000, 1000)
    owners = Owners(tmp_path)
    owners.forked(6, 5)
    owners.forked(7, 6)
    assert [owners.of(pid) for pid in (5, 6, 7, 8)] == [1000, 1000, NOBODY_KNOWS, NOBODY_KNOWS]


def test_an_answer_holds_until_all_are_looked_at_again(tmp_path: Path) -> None:
    running(tmp_path, 5, 1000, 1000)
    owners = Owners(tmp_path)
    assert owners.of(5) == 1000
    running(tmp_path, 5, 1001, 1001)
    assert owners.of(5) == 1000
    owners.refresh()
    assert owners.of(5) == 1001


@pytest.mark.parametrize(
    "status",
    ["", "Name:\tx\n", "Name:\tx\nUid:", "Name:\tx\nUid:\t5", "Name:\tx\nUid:\t-1\t-1\t0\t0\n"],
)
def test_a_status_without_users_is_nobodys(tmp_path: Path, status: str) -> None:
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "status").write_text(status)
    assert Owners(tmp_path).of(5) == NOBODY_KNOWS
