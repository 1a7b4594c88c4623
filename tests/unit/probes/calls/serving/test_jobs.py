# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who has a domain's job, and who waits for it."""

from __future__ import annotations

import pytest

from log.values import Value
from probes.calls.parts.open import Open
from probes.calls.serving.jobs import Holder, Jobs
from probes.internals.waiting import AGENT_JOB, JOB, LONG_JOB

PID, DOMAIN, OTHER = 7, 0x7F00, 0x7F80
END = {JOB: "virDomainObjEndJob", AGENT_JOB: "virDomainObjEndAgentJob"}
END[LONG_JOB] = "virDomainObjEndAsyncJob"
WANTED = {JOB: (3, 0, 0), AGENT_JOB: (0, 1, 0), LONG_JOB: (8, 0, 2)}


def fields(kind: str, domain: int = DOMAIN) -> dict[str, Value]:
    job, agent, long = WANTED[kind]
    return {"arg0": domain, "arg2": job, "arg3": agent, "arg4": long}


def begins(jobs: Jobs, tid: int, kind: str = JOB, domain: int = DOMAIN) -> None:
    jobs.begins(Open(None, 0, 10 * tid, 0, 0, PID, 0), tid, fields(kind, domain), 5)


@pytest.mark.parametrize("kind", [JOB, AGENT_JOB, LONG_JOB])
def test_call_waits_for_the_one_that_has_the_job(kind: str):
    jobs = Jobs()
    begins(jobs, 1, kind)
    jobs.begun(1, 6)
    assert jobs.waiting(1) is None
    begins(jobs, 2, kind)
    waiting = jobs.waiting(2)
    assert waiting and waiting.since == 5 and jobs.holder(waiting) == Holder(1, 10, 6)
    assert jobs.all_waiting() == [(2, waiting)]
    assert jobs.gave_up(2) == waiting and jobs.all_waiting() == []
    jobs.ends(PID, END[kind], fields(kind))
    assert jobs.holder(waiting) is None


def test_jobs_of_other_domains_and_with_the_agent_keep_nobody_waiting():
    jobs = Jobs()
    for tid, kind, domain in ((1, JOB, OTHER), (2, AGENT_JOB, DOMAIN)):
        begins(jobs, tid, kind, domain)
        jobs.begun(tid, 6)
    begins(jobs, 3)
    waiting = jobs.waiting(3)
    assert waiting and jobs.holder(waiting) is None


def test_long_job_keeps_others_waiting():
    jobs = Jobs()
    begins(jobs, 1, LONG_JOB)
    jobs.begun(1, 6)
    begins(jobs, 2)
    waiting = jobs.gave_up(2)
    assert waiting and jobs.holder(waiting) == Holder(1, 10, 6)


def test_what_was_not_seen_to_begin_is_nothing():
    jobs = Jobs()
    jobs.ends(PID, END[JOB], fields(JOB))
    jobs.begun(1, 6)
    assert jobs.gave_up(1) is None
    begins(jobs, 1)
    jobs.forget(1)
    assert jobs.waiting(1) is None
