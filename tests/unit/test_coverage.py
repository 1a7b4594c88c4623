# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which calls a policy covers, process by process."""

from __future__ import annotations

import os

import pytest

from probes import coverage
from probes.coverage import Coverage
from probes.daemons import Daemons
from tests.enforced import put

POLICY = '[[rule]]\nname = "none"\naction = "deny"\nfunction = ["virDomainSuspend", "virDomainResume"]\n'


class Every(Daemons):
    """Every process is a daemon, or none."""

    def __init__(self, answer: bool) -> None:
        super().__init__()
        self.answer = answer

    def is_daemon(self, pid: int) -> bool:
        return self.answer


@pytest.fixture
def system(tmp_path, monkeypatch):
    monkeypatch.setattr(coverage, "SYSTEM_POLICY", put(tmp_path / "policy.bin", POLICY))


def test_the_hosts_policy_covers_everybody_until_it_is_taken_away(system, tmp_path):
    covered = Coverage(Every(False))
    assert len(covered.covered_for(os.getpid())) == 2
    (tmp_path / "policy.bin").unlink()
    covered.refresh()
    assert covered.covered_for(os.getpid()) == frozenset()


def test_a_daemon_that_is_enforced_has_no_gaps(system):
    """Threads of its drivers make calls that nobody is asked about."""
    covered = Coverage(Every(True))
    assert len(covered.covered_for(os.getpid())) == 2
    covered.enforced(os.getpid())
    assert covered.covered_for(os.getpid()) == frozenset()


def test_a_child_is_enforced_until_it_becomes_another_program(system):
    covered = Coverage(Every(True))
    covered.enforced(100)
    covered.forked(101, 100)
    assert covered.covered_for(101) == frozenset()
    covered.forget(101)
    assert len(covered.covered_for(101)) == 2
